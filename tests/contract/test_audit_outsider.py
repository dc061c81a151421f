"""An outsider with a running platform's export and its public key, and none of our code: RFC 9162 and C2SP's texts, read again here."""

from __future__ import annotations

import base64
import json
import time
from hashlib import sha256
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

from stockade.cli import outcome
from tests.factories import merkle
from tests.live import Live

HEADS_WITHIN_S = 30.0


@pytest.fixture(scope="module")
def exported(live: Live, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The subscription's log, once there are two heads of it."""
    file = tmp_path_factory.mktemp("outsider") / "log.jsonl"
    heads = live.data_dir / "audit" / "logs" / live.subscription / "heads"
    deadline = time.monotonic() + HEADS_WITHIN_S
    while not heads.exists() or heads.read_bytes().count(b"\ntime ") < 2:
        assert time.monotonic() < deadline, "no heads are signed"
        live.request("GET", live.group_id)
        time.sleep(0.5)
    live.stockade("audit", "export", "--log", live.subscription, "-o", str(file))
    return file


def test_what_was_exported_is_what_was_signed(live: Live, exported: Path) -> None:
    key = load_pem_public_key(live.stockade("audit", "keys", "--pem").encode())
    assert isinstance(key, Ed25519PublicKey)
    first, *lines = exported.read_bytes().removesuffix(b"\n").split(b"\n")
    header = json.loads(first)
    heads, records = lines[: header["heads"]], lines[header["heads"] :]
    origin = f"stockade/{live.tenant}/{live.subscription}"
    key_id = sha256(origin.encode() + b"\n\x01" + key.public_bytes(Encoding.Raw, PublicFormat.Raw)).digest()[:4]
    assert header["origin"] == origin
    assert (header["start"], header["records"]) == (0, len(records))
    sizes = []
    for line in heads:
        text, _, signature = json.loads(line)["checkpoint"].partition("\n\n")
        named, size, root, when = text.split("\n")
        dash, name, encoded = signature.removesuffix("\n").split(" ")
        signed = base64.b64decode(encoded)
        assert (named, dash, name, signed[:4]) == (origin, "—", origin, key_id)
        key.verify(signed[4:], text.encode() + b"\n")
        assert when.startswith("time 20")
        assert merkle.mth(records[: int(size)]) == base64.b64decode(root)
        sizes.append(int(size))
    assert sizes == sorted(sizes)
    assert sizes[-1] == len(records)
    assert all("operation" in json.loads(line) for line in records)


def test_the_platforms_own_logs_are_verified_while_it_runs(live: Live, exported: Path) -> None:
    printed = live.stockade("audit", "verify")
    assert printed.count("Verified: ") >= 2
    assert f"of stockade/{live.tenant}/platform." in printed
    changed = exported.with_name("changed.jsonl")
    changed.write_bytes(exported.read_bytes()[:-3] + b" }\n")
    live.stockade("audit", "verify", str(changed), "--key", live.stockade("audit", "keys"), fails=outcome.INVALID)
