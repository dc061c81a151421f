"""`stockade audit search|prove` and `stockade receipt` as they are typed: through ARM as it is, and in the data directory."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from stockade.audit.checkpoint import HeadKey
from stockade.audit.proof import read, verify_proof
from stockade.cli import audit_search, outcome, receipt
from stockade.cli.arm import Account, Arm, _fault
from stockade.cli.root import run
from stockade.kernel.record import AuditRecord
from stockade.kernel.secret import Secret
from stockade.keys import receipts, request_receipts
from stockade.keys.request_receipts import Receipt, bound_to, jwk, request_hash
from stockade.settings import DATA_DIR_VARIABLE
from tests.factories.control_plane import OTHER_SUB, READER, SUB, ControlPlane, S
from tests.shelves.test_resource_types import ACCOUNT, ACCOUNT_BODY

KEY = Ed25519PrivateKey.from_private_bytes(b"k" * 32)
PUBLIC = KEY.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
RECEIPT = Receipt(
    iss="https://arm", iat=1_800_000_000, jti="d1", method="POST", path="/a", request=request_hash("POST", "/a", "q=1", sha256(b"body").digest()),
    body=True, status=200, outcome="success", account="/x", policy=1, stored=("files/f1",),
)  # fmt: skip


class PlaneArm(Arm):
    """ARM as a control plane in this process answers."""

    def __init__(self, plane: ControlPlane, by: Any = None) -> None:
        self.plane, self.settings, self.by = plane, plane.settings, by

    @property
    def subscription(self) -> str:
        return S

    def call(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, api_version: str = "2025-09-01"
    ) -> Any:
        reply = self.plane.send(method, path, body, version=api_version, by=self.by)
        if reply.status_code >= 400:
            raise _fault(reply.status_code, reply.json())
        return reply.json()

    def account(self, reference: str) -> Account:
        return Account(ACCOUNT, reference, "OpenAI", "local", "https://x", {}, local_auth=True)


@pytest.fixture
def plane(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ControlPlane]:
    plane = ControlPlane(tmp_path)
    monkeypatch.setenv(DATA_DIR_VARIABLE, str(tmp_path))
    reader = plane.principal("reader", (READER, S))
    for module in (audit_search, receipt):
        monkeypatch.setattr(module, "speaking", lambda _: PlaneArm(plane, reader))
    for name in ("PAUSE_S", "RECORDED_WITHIN_S"):
        monkeypatch.setattr(audit_search, name, 0.0)
    yield plane
    plane.close()


def called(plane: ControlPlane, number: int, **more: Any) -> str:
    decision = f"{number:08d}-1111-4111-8111-111111111111"
    named: dict[str, Any] = {"resource": ACCOUNT, "decision": "allow", "status": 200, "outcome": "success", **more}
    when = plane.clock.now() - 1000 + number
    plane.audit.record(
        AuditRecord(
            time=when,
            id=decision,
            category="RequestResponse",
            phase="decision",
            operation="Chat_Create",
            credential="Key1",
            **named,
        )
    )
    return decision


@pytest.fixture(params=["arm", "local"])
def searched(
    request: pytest.FixtureRequest, plane: ControlPlane, capsys: pytest.CaptureFixture[str]
) -> Callable[..., list[dict[str, Any]]]:
    """Searches, and returns the records."""

    def search(**options: Any) -> list[dict[str, Any]]:
        if request.param == "local":
            plane.platform.logs.reader(SUB)
            options |= {"local": True, "log": SUB}
        audit_search.search(form="json", **options)
        return [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    return search


def test_search(plane: ControlPlane, searched: Callable[..., list[dict[str, Any]]]) -> None:
    first = called(plane, 1)
    second = called(plane, 2, decision="deny", status=403, outcome="failed:KeyRejected", principal="p1")
    third = called(plane, 3, resource=f"{S}/resourceGroups/other")

    def ids(**options: Any) -> list[str]:
        return [one["record"]["id"] for one in searched(category="RequestResponse", **options)]

    assert ids() == [third, second, first]
    assert ids(count=1) == [third]
    assert ids(account=ACCOUNT.upper()) == [second, first]
    assert ids(principal="p1") == ids(decision="deny") == ids(status="400-499") == ids(status="403") == [second]
    assert ids(outcome="failed*") == ids(operation="chat*", outcome="failed:keyrejected") == [second]
    assert ids(operation="Nothing") == []
    assert [one["index"] for one in searched(account=ACCOUNT, count=2)] == [1, 0]


def test_times(
    plane: ControlPlane, searched: Callable[..., list[dict[str, Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_search, "moment", lambda _: datetime.fromtimestamp(plane.clock.now(), UTC))
    old, new = called(plane, -9000), called(plane, 1)
    between = datetime.fromtimestamp(plane.clock.now() - 5000, UTC).isoformat()
    for options, wanted in (({"since": "1h"}, new), ({"until": "1h"}, old), ({"since": between}, new)):
        assert [one["record"]["id"] for one in searched(operation="Chat_Create", **options)] == [wanted]


def test_an_account_is_named_as_people_name_it(plane: ControlPlane, capsys: pytest.CaptureFixture[str]) -> None:
    decision = called(plane, 1)
    assert run(["audit", "search", "-a", "account1", "--category", "RequestResponse"]) == outcome.OK
    line = capsys.readouterr().out.splitlines()[1]
    assert line.split() == ["0", *line.split()[1:3], "allow", "200", "Chat_Create", "Account1", "Key1", "-", decision]
    assert run(["audit", "search", "-a", "account1", "--local"]) == outcome.USAGE


def test_nothing_and_more_than_shown(plane: ControlPlane, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["audit", "search", "--principal", "nobody"]) == outcome.OK
    assert "There are none." in capsys.readouterr().err
    for number in range(3):
        called(plane, number)
    assert run(["audit", "search", "-n", "2"]) == outcome.OK
    assert "-n shows more" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments", [["--status", "4xx"], ["--since", "soon"], ["--status", "40"], ["-n", "0"]], ids=str
)
def test_what_cannot_be_meant_is_refused(plane: ControlPlane, arguments: list[str]) -> None:
    assert run(["audit", "search", *arguments]) == outcome.USAGE


def test_other_logs_are_closed(plane: ControlPlane) -> None:
    for log in ("platform", OTHER_SUB):
        assert run(["audit", "search", "--log", log]) == outcome.REFUSED
        assert run(["audit", "prove", "d1", "--log", log]) == outcome.REFUSED


@pytest.mark.parametrize("local", [[], ["--local", "--log", SUB]], ids=["arm", "local"])
def test_prove(plane: ControlPlane, tmp_path: Path, local: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    plane_key = HeadKey(plane.platform.broker.tree_head_key())
    called(plane, 1)
    decision = plane.send("PUT", ACCOUNT, ACCOUNT_BODY).headers["x-ms-request-id"]
    plane.platform.logs.reader(SUB)
    file = tmp_path / "proof.json"
    assert run(["audit", "prove", decision, "-o", str(file), *local]) == outcome.OK
    assert "--index chooses another: 1" in capsys.readouterr().err
    last = verify_proof(read(file.read_bytes()), [plane_key])
    assert (last.index, json.loads(last.line)["phase"]) == (2, "outcome")
    assert run(["audit", "prove", decision.upper(), "--index", "1", *local]) == outcome.OK
    first = verify_proof(read(capsys.readouterr().out.encode()), [plane_key])
    assert json.loads(first.line)["phase"] == "intent"
    assert run(["audit", "prove", decision, "--index", "0", *local]) == outcome.NOT_FOUND
    assert run(["audit", "prove", "nothing", *local]) == outcome.NOT_FOUND
    assert run(["audit", "verify", str(file), "--key", plane_key.text(last.head.origin)]) == outcome.OK


def signed(folder: Path, text: str = "") -> Path:
    file = folder / "receipt"
    file.write_text(
        text or f"HTTP/1.1 200 OK\nx-stockade-receipt: {request_receipts.sign(RECEIPT, PUBLIC, KEY.sign)}\n"
    )
    return file


def test_receipt_verifies_without_the_platform(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(DATA_DIR_VARIABLE, "/proc/none")
    file, body, keys = signed(tmp_path), tmp_path / "body", tmp_path / "keys"
    body.write_bytes(b"body")
    keys.write_text(json.dumps({"keys": [jwk(PUBLIC)]}))
    for key in (receipts.to_text(PUBLIC), str(keys), json.dumps(jwk(PUBLIC))):
        assert run(["receipt", "verify", str(file), "--key", key]) == outcome.OK
    printed = capsys.readouterr().out
    assert "files/f1" in printed
    assert "give --body" in printed
    assert (
        run(["receipt", "verify", str(file), "--key", str(keys), "--body", str(body), "--query", "q=1"]) == outcome.OK
    )
    assert "the same request" in capsys.readouterr().out
    assert run(["receipt", "verify", str(file), "--key", str(keys), "--body", str(body)]) == outcome.INVALID
    assert run(["receipt", "verify", str(file), "--key", str(keys), "--format", "json"]) == outcome.OK
    assert json.loads(capsys.readouterr().out)["stored"] == ["files/f1"]


def test_receipts_that_are_none(tmp_path: Path) -> None:
    good = request_receipts.sign(RECEIPT, PUBLIC, KEY.sign)
    key = ["--key", receipts.to_text(PUBLIC)]
    header, payload, signature = good.split(".")
    for text in ("nothing", f"{header}.{payload[:-2]}AA.{signature}", f"{header}.{payload}.{signature[:-4]}AAAA"):
        assert run(["receipt", "verify", str(signed(tmp_path, text)), *key]) == outcome.INVALID
    assert (
        run(["receipt", "verify", str(signed(tmp_path, good)), "--key", receipts.to_text(b"x" * 32)]) == outcome.INVALID
    )
    assert run(["receipt", "verify", str(tmp_path / "missing"), *key]) == outcome.NOT_FOUND


def test_receipt_is_had_again_and_verified_with_the_published_key(
    plane: ControlPlane, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = plane.platform.broker.sign_receipt(RECEIPT)
    decision = f"{7:08d}-1111-4111-8111-111111111111"
    sealed = plane.platform.root_key.seal(Secret(text), bound_to(decision))
    called(plane, 7, receipt=b64encode(sealed).decode())
    assert run(["receipt", "show", decision]) == outcome.OK
    file = signed(tmp_path, capsys.readouterr().out)
    assert run(["receipt", "verify", str(file)]) == outcome.OK
    assert run(["receipt", "show", called(plane, 8)]) == outcome.NOT_FOUND
