"""The bundle that proves one record: verified here with the RFC's own text too, and by nothing else than it says."""

from __future__ import annotations

from base64 import b64decode, b64encode
from pathlib import Path

import msgspec
import pytest

from stockade.audit import proof
from stockade.audit.checkpoint import read_note
from stockade.audit.heads import Heads
from stockade.audit.store import Logs
from stockade.kernel.faults import Fault, FaultKind
from tests.factories import merkle
from tests.factories.logs import LOG, Signer, filled, lines

KEYS = [Signer().key]


def prove(logs: Logs, index: int) -> proof.Proof:
    reader = logs.reader(LOG)
    return proof.prove(reader, Heads(reader.folder), index)


def test_a_proof_is_what_the_rfc_calls_one(tmp_path: Path) -> None:
    logs = filled(tmp_path, [9, 30])
    written = proof.encoded(prove(logs, 12))
    bundle = msgspec.json.decode(written)
    root = b64decode(bundle["checkpoint"].split("\n")[2])
    path = [b64decode(value) for value in bundle["path"]]
    assert bundle["stockadeAuditProof"] == 1
    assert merkle.is_included(bundle["index"], 30, bundle["record"].encode(), path, root)
    proven = proof.verify_proof(proof.read(written), KEYS)
    assert (proven.index, proven.line, proven.head.size) == (12, lines(1, 12)[0], 30)


def test_every_record_is_proven_also_what_was_pruned_around_it(tmp_path: Path) -> None:
    logs = filled(tmp_path, [9, 30])
    logs.writer(LOG).prune(11)
    for index in range(11, 30):
        assert proof.verify_proof(prove(logs, index), KEYS).line == lines(1, index)[0]
    with pytest.raises(Fault, match="removed by retention") as raised:
        prove(logs, 10)
    assert raised.value.kind is FaultKind.NOT_FOUND


def test_what_is_not_there_and_what_no_head_has_yet(tmp_path: Path) -> None:
    logs = filled(tmp_path, [9])
    logs.writer(LOG).append(lines(1, 9))
    logs.writer(LOG).sync()
    for index, kind in ((10, FaultKind.NOT_FOUND), (-1, FaultKind.NOT_FOUND), (9, FaultKind.UNAVAILABLE)):
        with pytest.raises(Fault) as raised:
            prove(logs, index)
        assert raised.value.kind is kind


def test_nothing_else_is_proven(tmp_path: Path) -> None:
    logs = filled(tmp_path, [9, 30])
    good = prove(logs, 12)
    other = prove(logs, 13)
    old = read_note(Heads(logs.reader(LOG).folder).all()[0].note).note.decode()
    changed = [
        msgspec.structs.replace(good, index=13),
        msgspec.structs.replace(good, record=other.record),
        msgspec.structs.replace(good, record=good.record + " "),
        msgspec.structs.replace(good, path=good.path[:-1]),
        msgspec.structs.replace(good, path=(*good.path, b64encode(b"x" * 32).decode())),
        msgspec.structs.replace(good, path=other.path),
        msgspec.structs.replace(good, path=("!", *good.path[1:])),
        msgspec.structs.replace(good, checkpoint=old),
        msgspec.structs.replace(good, checkpoint=good.checkpoint.replace("\n30\n", "\n31\n")),
        msgspec.structs.replace(good, checkpoint=""),
    ]
    for one in changed:
        with pytest.raises(Fault) as raised:
            proof.verify_proof(one, KEYS)
        assert raised.value.kind is FaultKind.INVALID
    with pytest.raises(Fault, match="not signed with the given key"):
        proof.verify_proof(good, [Signer(b"o" * 32).key])


@pytest.mark.parametrize(
    "data", [b"", b"{}", b"[]", b'{"stockadeAuditProof":2}', b" " * (proof.MAX_BYTES + 1)], ids=range(5)
)
def test_what_is_no_proof(data: bytes) -> None:
    with pytest.raises(Fault) as raised:
        proof.read(data)
    assert raised.value.kind is FaultKind.INVALID
