"""Trees of any size: our proofs against the RFC's own recursive text, ours and its verdict on whatever is made of a proof, and a million records."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stockade.audit import tree
from stockade.audit.checkpoint import read_keys, read_note, verify
from stockade.audit.export import Header, HeadLine, export, key_name
from stockade.audit.heads import Heads
from stockade.audit.proof import read, verify_proof
from stockade.audit.verification import read_witness, verify_export, verify_log
from stockade.kernel.faults import Fault, FaultKind
from tests.factories import merkle
from tests.factories.cut_disk import in_memory
from tests.factories.logs import LOG, Signer, filled

SIGNER = Signer()
SIZES = st.integers(1, 200)
HASHES = st.binary(min_size=32, max_size=32)


def leaves(size: int) -> list[bytes]:
    return [b"%d" % number for number in range(size)]


def nodes(lines: list[bytes]) -> tree.Node:
    stored = tree.Growing().append(lines)
    return lambda level, index: stored[tree.position(level, index)]


@st.composite
def tampered(draw: st.DrawFn, path: list[bytes]) -> list[bytes]:
    """Return a proof as it is, or shortened, lengthened, with hashes exchanged or moved."""
    found = list(path)
    for _ in range(draw(st.integers(0, 2))):
        at = draw(st.integers(0, len(found)))
        match draw(st.sampled_from(["drop", "add", "replace", "move", "none"])):
            case "drop":
                del found[at : at + 1]
            case "add":
                found.insert(at, draw(HASHES))
            case "replace":
                found[at : at + 1] = [draw(HASHES)]
            case "move":
                found[at : at + 2] = reversed(found[at : at + 2])
    return found


@given(SIZES, st.data())
def test_inclusion_is_the_rfcs(size: int, data: st.DataObject) -> None:
    lines = leaves(size)
    index = data.draw(st.integers(0, size - 1))
    node, root = nodes(lines), merkle.mth(lines)
    assert tree.root(size, node) == root
    path = tree.inclusion(index, size, node)
    assert path == merkle.path(index, lines)
    shown = data.draw(tampered(path))
    for claimed in {index, data.draw(st.integers(0, size - 1))}:
        ours = tree.includes(tree.leaf_hash(lines[index]), claimed, size, shown, root)
        assert ours == merkle.is_included(claimed, size, lines[index], shown, root)
        if ours:
            assert (claimed, shown) == (index, path), "there is one path for each record"


@given(SIZES, st.data())
def test_consistency_is_the_rfcs(size: int, data: st.DataObject) -> None:
    lines = leaves(size)
    first = data.draw(st.integers(1, size))
    node, root = nodes(lines), merkle.mth(lines)
    proof = tree.consistency(first, size, node)
    if first < size:
        assert proof == merkle.proof(first, lines)
    shown = data.draw(tampered(proof))
    for old in (merkle.mth(lines[:first]), merkle.mth([*lines[: first - 1], b"other"])):
        ours = tree.continues(first, size, old, root, shown)
        assert ours == merkle.is_consistent(first, size, old, root, shown)
        assert ours is (old == merkle.mth(lines[:first]) and shown == proof)


@given(st.lists(st.integers(1, 60), min_size=1, max_size=6), st.integers(1, 3000), st.data())
@settings(max_examples=15)
def test_a_log_on_disk_says_the_same_however_it_was_written(
    batches: list[int], segment_bytes: int, data: st.DataObject
) -> None:
    with in_memory() as folder:
        check_log(folder, batches, segment_bytes, data)


def check_log(folder: Path, batches: list[int], segment_bytes: int, data: st.DataObject) -> None:
    sizes = [sum(batches[: count + 1]) for count in range(len(batches))]
    logs = filled(folder, sizes, segment_bytes)
    writer, reader = logs.writer(LOG), logs.reader(LOG)
    lines = [line for _, line in reader.records(0)]
    before = data.draw(st.integers(0, sizes[-1]))
    writer.prune(before)
    assert [line for _, line in reader.records(0)] == lines[before:]
    size = data.draw(st.integers(1, sizes[-1]))
    index, first = data.draw(st.integers(0, size - 1)), data.draw(st.integers(1, size))
    assert reader.root(size) == merkle.mth(lines[:size])
    assert merkle.is_included(index, size, lines[index], reader.inclusion(index, size), merkle.mth(lines[:size]))
    assert reader.consistency(first, size) == ([] if first == size else merkle.proof(first, lines[:size]))
    assert verify_log(reader, [SIGNER.key]).start == before
    logs.close()


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    reader, to = filled(tmp_path_factory.mktemp("audit"), [4, 9, 16, 30]).reader(LOG), io.BytesIO()
    export(reader, Heads(reader.folder), to, start=6, end=28)
    return to.getvalue()


@given(st.data())
def test_no_edit_of_an_export_goes_unseen(exported: bytes, data: st.DataObject) -> None:
    """Lines dropped, doubled, moved and changed, as many as one likes."""
    lines = exported.splitlines(keepends=True)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(lines) - 1))
        match data.draw(st.sampled_from(["drop", "double", "move", "change"])):
            case "drop" if len(lines) > 1:
                del lines[at]
            case "double":
                lines.insert(data.draw(st.integers(0, len(lines))), lines[at])
            case "move":
                lines.insert(data.draw(st.integers(0, len(lines) - 1)), lines.pop(at))
            case _:
                line = bytearray(lines[at])
                line[data.draw(st.integers(0, len(line) - 1))] = data.draw(st.integers(0, 255))
                lines[at] = bytes(line)
    changed = b"".join(lines)
    if changed == exported:
        verify_export(io.BytesIO(changed), [SIGNER.key])
        return
    with pytest.raises(Fault) as raised:
        verify_export(io.BytesIO(changed), [SIGNER.key])
    assert raised.value.kind is FaultKind.INVALID


def test_a_million_records_are_verified() -> None:
    count = 1_000_000
    lines = [b'{"id":"%d"}' % number for number in range(count)]
    growing = tree.Growing()
    growing.append(lines)
    note = SIGNER.sign(LOG, count, growing.root(), 1000.0, [])
    origin = read_note(note).head.origin
    header = Header(1, origin, key_name(SIGNER.key, origin), 1, 0, count, (), ())
    told = [msgspec.json.encode(line) for line in (header, HeadLine(note.decode(), ()))]
    found = verify_export(io.BytesIO(b"\n".join([*told, *lines, b""])), [SIGNER.key])
    assert (found.end, found.heads, found.missing_before, found.missing_after) == (count, 1, False, False)


NOTE = SIGNER.sign(LOG, 30, b"r" * 32, 1000.0, []).decode()
STRANGE = st.text() | st.sampled_from(
    [NOTE, NOTE.replace("30", "31"), SIGNER.key.text("n"), SIGNER.key.pem(), "\ud800"]
)


@given(STRANGE | st.lists(STRANGE, max_size=4).map("\n".join), st.integers(0, 2**70), st.lists(STRANGE, max_size=3))
def test_nothing_that_is_given_does_more_than_be_refused(text: str, number: int, texts: list[str]) -> None:
    """Whatever stands in a file of a proof, an export, keys or heads: it is taken, or it is Fault(INVALID)."""
    data = text.encode(errors="surrogatepass")
    bundle = {"stockadeAuditProof": 1, "index": number, "record": text, "path": texts, "checkpoint": NOTE}
    written = json.dumps(bundle).encode()
    head = json.dumps({"checkpoint": text, "consistency": texts}, separators=(",", ":")).encode()
    origin = read_note(NOTE.encode()).head.origin
    header = Header(1, origin, key_name(SIGNER.key, origin), 1, 3, 5, tuple(texts[:2]), ())
    first = json.dumps(msgspec.to_builtins(header), separators=(",", ":")).encode() + b"\n"
    for attempt in (
        lambda: read_keys(text),
        lambda: verify(read_note(data), [SIGNER.key]),
        lambda: read_witness(data),
        lambda: verify_proof(read(data), [SIGNER.key]),
        lambda: verify_proof(read(written), [SIGNER.key]),
        lambda: verify_export(io.BytesIO(data), [SIGNER.key]),
        lambda: verify_export(io.BytesIO(first + head + b"\n"), [SIGNER.key]),
    ):
        assert outcome_of(attempt) in {None, FaultKind.INVALID}


def outcome_of(attempt: Callable[[], object]) -> FaultKind | None:
    try:
        attempt()
    except Fault as fault:
        return fault.kind
    return None
