"""The activity log, a record and its proof, and what was read under a request."""

from __future__ import annotations

import json
from urllib.parse import parse_qs, urlsplit

import pytest

from stockade.console.arm import Answer
from stockade.kernel.clock import iso
from tests.factories.console import ACCOUNT, LOCKBOX, REQUEST, SUB, ConsoleWorld, refusal

PAGE = f"/console/subscriptions/{SUB}/activity"
EVENTS = f"/subscriptions/{SUB}/providers/Microsoft.Insights/eventtypes/management/values"
RECORDS = f"/subscriptions/{SUB}/providers/Stockade.Audit/records"
ID = "55555555-5555-4555-8555-555555555555"


def record(**more: object) -> dict[str, object]:
    body = {
        "time": 1_800_000_000.0,
        "id": ID,
        "operation": "Microsoft.X/y/write",
        "principal": "p",
        "callerAddress": "192.0.2.7",
    }
    return {"properties": {"log": SUB, "index": 7, "leafHash": "ab" * 32, "record": {**body, **more}}}


def asked(world: ConsoleWorld) -> dict[str, str]:
    query = parse_qs(urlsplit(world.arm.asked[-1].path).query)
    return {name: values[0] for name, values in query.items()}


def test_events_are_asked_for_by_time_status_and_caller_and_go_on_where_they_end(world: ConsoleWorld) -> None:
    event = {
        "eventTimestamp": iso(world.arm.now - 60),
        "operationName": {"value": "x", "localizedValue": "Approve <Lockbox> Request"},
        "status": {"value": "Succeeded"},
        "resourceId": ACCOUNT,
        "caller": world.person.object_id,
        "properties": {"decisionId": ID},
    }
    read = {"operationName": {"value": "Stockade.Lockbox/requests/content/read/action", "localizedValue": "Read"}}
    world.arm.replies["GET", EVENTS] = Answer(
        200, {"value": [event, read, {}], "nextLink": f"https://x{EVENTS}?$skiptoken=a%26b"}
    )
    browser = world.signed_in()
    text = browser.get(f"{PAGE}?span=week&status=Succeeded&caller={ID}").text
    wanted = asked(world)["$filter"]
    assert wanted.startswith(f"eventTimestamp ge '{iso(world.arm.now - 7 * 86_400)[:16]}")
    assert wanted.endswith(f" and status eq 'Succeeded' and caller eq '{ID}'")
    assert "Approve &lt;Lockbox&gt; Request" in text
    assert f'href="{PAGE}/{ID}"' in text
    assert "you</td>" in text
    assert "Read (Stockade.Lockbox/requests/content)" in text
    older = f"{PAGE}?span=week&amp;status=Succeeded&amp;caller={ID}&amp;from=a%26b"
    assert f'href="{older}"' in text
    browser.get(older.replace("&amp;", "&"))
    assert asked(world)["$skiptoken"] == "a&b"


@pytest.mark.parametrize("query", ["span=x", "status=x' or 1", "caller=a' or 'b' eq 'b"])
def test_a_filter_holds_only_what_it_is_meant_to(world: ConsoleWorld, query: str) -> None:
    world.arm.replies["GET", EVENTS] = Answer(200, {"value": []})
    assert "Nothing like that" in world.signed_in().get(f"{PAGE}?{query}").text
    assert " and " not in asked(world)["$filter"]


def test_a_refused_filter_is_said_on_the_page(world: ConsoleWorld) -> None:
    world.arm.replies["GET", EVENTS] = refusal(400, "BadRequest", "Not that far back.")
    reply = world.signed_in().get(f"{PAGE}?span=quarter")
    assert reply.status_code == 400
    assert "Not that far back." in reply.text


def test_a_record_is_shown_in_full_with_its_proof(world: ConsoleWorld) -> None:
    hostile = record(because={"<b>": "<script>"}, client="\u202eevil")
    world.arm.replies["GET", f"{RECORDS}/{ID}"] = Answer(200, {"value": [record(phase="intent"), hostile]})
    world.arm.replies["GET", f"{RECORDS}/{ID}/proof"] = Answer(200, {"stockadeAuditProof": 1, "record": '{"ü":1}'})
    browser = world.signed_in()
    text = browser.get(f"{PAGE}/{ID}").text
    assert "<script>" not in text
    assert "&lt;script&gt;" in text
    assert "\u202e" not in text
    assert "ab" * 32 in text
    assert f'href="{PAGE}/{ID}/proof?index=7"' in text
    reply = browser.get(f"{PAGE}/{ID}/proof?index=7")
    assert asked(world)["index"] == "7"
    assert reply.headers["content-disposition"] == f'attachment; filename="stockade-proof-{ID}.json"'
    assert json.loads(reply.content) == {"stockadeAuditProof": 1, "record": '{"ü":1}'}


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (Answer(200, {"value": [record(because={"path": "files/file-4f2a"})]}), "files/file-4f2a"),
        (Answer(200, {"value": []}), "No read stands in the log yet."),
        (refusal(403, "AuthorizationFailed", "No."), "You may not read the audit log"),
    ],
    ids=["read", "nothing yet", "not allowed"],
)
def test_a_request_that_was_used_shows_what_was_read(world: ConsoleWorld, answer: Answer, said: str) -> None:
    what = world.arm.add_request(firstUsedAt=iso(world.arm.now - 30))
    what["status"] = "Approved"
    world.arm.replies["GET", RECORDS] = answer
    text = world.signed_in().get(f"/console/subscriptions/{SUB}/lockbox/{REQUEST}").text
    assert said in text
    wanted = asked(world)["$filter"]
    assert (
        wanted == f"resource eq '{LOCKBOX}/{REQUEST}' and operation eq 'Stockade.Lockbox/requests/content/read/action'"
    )
