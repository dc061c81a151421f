"""Records through ARM: found, shown, proven; each caller in the log of a subscription that is theirs to read, and in no other."""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from threading import BoundedSemaphore
from typing import Any
from urllib.parse import quote

import msgspec
import pytest

from stockade.audit import proof, search
from stockade.audit.checkpoint import read_keys
from stockade.kernel.clock import iso
from stockade.kernel.record import AuditRecord
from stockade.kernel.secret import Secret
from stockade.keys.request_receipts import bound_to
from stockade.management.audit import reading
from tests.factories import merkle
from tests.factories.control_plane import AI_USER, CONTRIBUTOR, OTHER_SUB, READER, RG, ControlPlane, S
from tests.shelves.test_resource_types import ACCOUNT, ACCOUNT_BODY

HERE = "/providers/Stockade.Audit"
OTHER = f"/subscriptions/{OTHER_SUB}"


@pytest.fixture
def plane(tmp_path: Path) -> Iterator[ControlPlane]:
    plane = ControlPlane(tmp_path)
    yield plane
    plane.close()


def call(plane: ControlPlane, number: int, **more: Any) -> AuditRecord:
    """Record a data-plane request."""
    named = {"resource": ACCOUNT, "decision": "allow", "status": 200, "outcome": "success", **more}
    record = AuditRecord(
        time=plane.clock.now() - 100 + number,
        id=f"0000000{number}-1111-4111-8111-111111111111",
        category="RequestResponse",
        phase="decision",
        operation="ChatCompletions_Create",
        credential="Key1",
        **named,
    )
    plane.audit.record(record)
    return record


def found(plane: ControlPlane, text: str = "", scope: str = S, **options: Any) -> list[str]:
    answer = plane.ok("GET", f"{scope}{HERE}/records?$filter={quote(text)}", **options)
    assert "nextLink" not in answer
    return [str(one["name"]) for one in answer["value"]]


def test_what_is_shown_is_the_record_and_its_place(plane: ControlPlane) -> None:
    record = call(plane, 1)
    (shown,) = plane.ok("GET", f"{S}{HERE}/records")["value"]
    line = msgspec.json.encode(record)
    assert shown["properties"] == {
        "log": S.rpartition("/")[2],
        "index": 0,
        "leafHash": sha256(b"\0" + line).hexdigest(),
        "record": msgspec.json.decode(line),
    }
    assert (shown["name"], shown["id"]) == (record.id, f"{S}{HERE}/records/{record.id}")


def test_filters(plane: ControlPlane) -> None:
    first, second = (
        call(plane, 1),
        call(plane, 2, decision="deny", status=403, outcome="failed:KeyRejected", resource=RG),
    )
    third = call(plane, 3, principal="p1", status=503, outcome="failed:Unavailable")
    assert found(plane) == [third.id, second.id, first.id]
    for text, wanted in (
        (f"account eq '{ACCOUNT.upper()}'", [third, first]),
        (f"resource eq '{RG}/'", [third, second, first]),
        ("decision eq 'DENY'", [second]),
        ("principal eq 'P1'", [third]),
        ("principal eq 'key1'", [second, first]),
        ("operation eq 'chat*' and outcome eq 'failed*'", [third, second]),
        ("outcome eq 'failed:keyrejected'", [second]),
        ("status ge 400", [third, second]),
        ("status ge 400 and status le 499", [second]),
        ("status eq 503", [third]),
        ("category eq 'audit' and operation eq 'chat*'", []),
        (f"id eq '{first.id.upper()}'", [first]),
        (f"time ge {iso(second.time)} and time le '{iso(second.time)}'", [second]),
    ):
        assert found(plane, text) == [record.id for record in wanted], text


@pytest.mark.parametrize(
    "text",
    [
        "decision eq 'maybe'", "category eq 'Trace'", "status eq 'many'", "status eq 9999", "time ge 'soon'", "time eq '2026-01-01'",
        "account eq 'a1'", "body eq 'x'", "principal ge 'x'", "principal eq ''", "principal eq 'a' and principal eq 'b'",
        "principal eq 'a' or principal eq 'b'", "principal", "'", "principal eq 'a",
    ],
    ids=str,
)  # fmt: skip
def test_other_filters_are_refused(plane: ControlPlane, text: str) -> None:
    reply = plane.send("GET", f"{S}{HERE}/records?$filter={quote(text)}")
    assert reply.status_code == 400, reply.text


def test_pages(plane: ControlPlane) -> None:
    records = [call(plane, number) for number in range(5)]
    seen: list[str] = []
    link: str | None = f"{S}{HERE}/records?$top=2&$filter={quote('status eq 200')}"
    while link is not None:
        answer = plane.ok("GET", link, version=None if "api-version" in link else "2025-09-01")
        seen += [one["name"] for one in answer["value"]]
        link = answer.get("nextLink")
    assert seen == [record.id for record in records[::-1]]
    plane.fails(400, "BadRequest", "GET", f"{S}{HERE}/records?$skipToken=x")


def test_a_scan_has_an_end(plane: ControlPlane, monkeypatch: pytest.MonkeyPatch) -> None:
    call(plane, 1)
    monkeypatch.setattr(reading, "WITHIN_S", 0.0)
    reply = plane.send("GET", f"{S}{HERE}/records")
    assert (reply.status_code, reply.json()["error"]["code"]) == (503, "AuditIndexBehind")
    assert reply.headers["retry-after"] == "1"


def test_all_records_of_a_change(plane: ControlPlane) -> None:
    reply = plane.send("PUT", ACCOUNT, ACCOUNT_BODY)
    decision = reply.headers["x-ms-request-id"]
    shown = plane.ok("GET", f"{S}{HERE}/records/{decision.upper()}")["value"]
    assert [one["properties"]["record"]["phase"] for one in shown] == ["intent", "outcome"]
    plane.fails(404, "AuditRecordNotFound", "GET", f"{S}{HERE}/records/nothing")


def test_a_proof_verifies_with_the_published_key_and_from_the_rfc(plane: ControlPlane) -> None:
    for number in range(4):
        call(plane, number)
    decision = plane.send("PUT", ACCOUNT, ACCOUNT_BODY).headers["x-ms-request-id"]
    first = plane.ok("GET", f"{S}{HERE}/records/{decision}")["value"][0]["properties"]["index"]
    newest = plane.ok("GET", f"{S}{HERE}/treeHeads/latest")["properties"]
    keys = read_keys(newest["verifierKey"])
    for index, phase in (("", "outcome"), (f"?index={first}", "intent")):
        reply = plane.send("GET", f"{S}{HERE}/records/{decision}/proof{index}")
        assert reply.headers["x-stockade-records"] == "2"
        bundle = proof.read(reply.content)
        proven = proof.verify_proof(bundle, keys)
        assert msgspec.json.decode(proven.line)["phase"] == phase
        path = [b64decode(value) for value in bundle.path]
        head = bundle.checkpoint.split("\n")
        assert merkle.is_included(bundle.index, int(head[1]), bundle.record.encode(), path, b64decode(head[2]))
    plane.fails(404, "AuditRecordNotFound", "GET", f"{S}{HERE}/records/{decision}/proof?index=0")
    plane.fails(404, "AuditRecordNotFound", "GET", f"{S}{HERE}/records/other/proof")


def test_heads_and_what_lies_between_them(plane: ControlPlane) -> None:
    plane.fails(404, "AuditLogEmpty", "GET", f"{S}{HERE}/consistency?first=1")
    plane.audit.records.clear()
    plane.fails(404, "TreeHeadNotFound", "GET", f"{S}{HERE}/treeHeads/latest")
    plane.audit.records.clear()
    for number in range(7):
        call(plane, number)
        plane.platform.logs.reader(S.rpartition("/")[2])
    newest = plane.ok("GET", f"{S}{HERE}/treeHeads/latest")["properties"]
    link: str | None = f"{S}{HERE}/treeHeads?$top=3"
    seen = []
    while link is not None:
        answer = plane.ok("GET", link, version=None if "api-version" in link else "2025-09-01")
        seen += [one["properties"] for one in answer["value"]]
        link = answer.get("nextLink")
    assert [one["size"] for one in seen] == list(range(7, 0, -1))
    assert newest == seen[0]
    proven = plane.ok("GET", f"{S}{HERE}/consistency?first=3&second=6")
    assert (proven["firstRoot"], proven["secondRoot"]) == (seen[4]["root"], seen[1]["root"])
    path = [b64decode(value) for value in proven["proof"]]
    assert merkle.is_consistent(3, 6, b64decode(proven["firstRoot"]), b64decode(proven["secondRoot"]), path)
    assert plane.ok("GET", f"{S}{HERE}/consistency?first=7")["second"] >= 7
    for wrong in ("first=0", "first=999", "first=5&second=4", "first=-1", "first=x", "second=3", "first=1&second=99"):
        assert plane.send("GET", f"{S}{HERE}/consistency?{wrong}").status_code == 400


@pytest.mark.parametrize(
    "below",
    [
        "records",
        "records/x",
        "records/x/proof",
        "records/x/receipt",
        "treeHeads",
        "treeHeads/latest",
        "consistency?first=1",
    ],
)
def test_who_may_read(plane: ControlPlane, below: str) -> None:
    sealed = plane.platform.root_key.seal(Secret("a.b.c"), bound_to(f"{1:08d}-1111-4111-8111-111111111111"))
    record = call(plane, 1, receipt=b64encode(sealed).decode())
    below = below.replace("x", record.id)
    reader = plane.principal("reader", (READER, S))
    plane.ok("GET", f"{S}{HERE}/records", by=reader)
    stranger = plane.principal("stranger", (READER, OTHER), (AI_USER, S), (READER, RG))
    everywhere = plane.principal("everywhere", (READER, "/"))
    assert plane.send("GET", f"{S}{HERE}/{below}", by=reader).status_code == 200
    for scope, who in (
        (S, stranger),
        ("", reader),
        ("", stranger),
        ("", plane.principal("contributor", (CONTRIBUTOR, S))),
    ):
        plane.fails(403, "AuthorizationFailed", "GET", f"{scope}{HERE}/{below}", by=who)
    # A subscription's records are in no other log, also for whoever may read all logs.
    for scope, who in ((OTHER, stranger), (OTHER, everywhere), ("", everywhere)):
        reply = plane.send("GET", f"{scope}{HERE}/{below}", by=who)
        assert record.operation not in reply.text


def test_a_receipt_is_opened_for_whoever_may_read_the_record(plane: ControlPlane) -> None:
    without = call(plane, 1)
    plane.fails(404, "ReceiptNotFound", "GET", f"{S}{HERE}/records/{without.id}/receipt")
    decision = f"{2:08d}-1111-4111-8111-111111111111"
    sealed = plane.platform.root_key.seal(Secret("a.b.c"), bound_to(decision))
    given, moved = (
        call(plane, 2, receipt=b64encode(sealed).decode()),
        call(plane, 3, receipt=b64encode(sealed).decode()),
    )
    assert plane.ok("GET", f"{S}{HERE}/records/{given.id}/receipt") == {"decisionId": decision, "receipt": "a.b.c"}
    plane.fails(503, "ServiceUnavailable", "GET", f"{S}{HERE}/records/{moved.id}/receipt")


def test_the_platforms_own(plane: ControlPlane) -> None:
    plane.audit.record(
        AuditRecord(time=plane.clock.now(), id="t1", category="Audit", phase="decision", operation="Token")
    )
    call(plane, 1)
    everywhere = plane.principal("everywhere", (READER, "/"))
    assert found(plane, scope="", by=everywhere) == ["t1"]
    assert plane.ok("GET", f"{HERE}/treeHeads/latest", by=everywhere)["properties"]["log"] == "platform"


def test_keys_are_for_everybody(plane: ControlPlane) -> None:
    keys = plane.ok("GET", f"{HERE}/keys", by=plane.principal("anybody"))
    assert keys["receipts"]["keys"][0]["crv"] == "Ed25519"
    assert read_keys(keys["treeHeads"]["pem"])[0].public == plane.platform.broker.tree_head_key()
    assert plane.send("GET", f"{HERE}/keys", by="").status_code == 401


def test_the_index_lies_in_the_audit_folder(plane: ControlPlane) -> None:
    call(plane, 1)
    found(plane)
    assert [path.name for path in (plane.settings.audit_dir / search.FOLDER).glob("*.db")] == [
        f"{S.rpartition('/')[2]}.db"
    ]


def test_what_can_be_granted_is_listed(plane: ControlPlane) -> None:
    listed = {
        namespace: {
            one["name"]
            for one in plane.ok("GET", f"/providers/Microsoft.Authorization/providerOperations/{namespace}")[
                "operations"
            ]
        }
        for namespace in ("Stockade.Audit", "microsoft.insights")
    }
    assert {"Stockade.Audit/records/read", "Stockade.Audit/platformRecords/read"} <= listed["Stockade.Audit"]
    assert "Microsoft.Insights/eventtypes/values/read" in listed["microsoft.insights"]


def test_readers_of_logs_leave_threads_to_others(plane: ControlPlane, monkeypatch: pytest.MonkeyPatch) -> None:
    call(plane, 1)
    monkeypatch.setattr(reading, "TURN_WITHIN_S", 0.0)
    monkeypatch.setattr(reading, "_turns", BoundedSemaphore(1))
    with reading.turn():
        for below in ("records", "records/x", "treeHeads"):
            reply = plane.send("GET", f"{S}{HERE}/{below}")
            assert (reply.status_code, reply.headers["retry-after"]) == (429, "1")
    plane.ok("GET", f"{S}{HERE}/records")
