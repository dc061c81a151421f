"""Asking for E0, deciding, queueing, and what an approval is worth."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stockade.management.access import upkeep
from stockade.policy.builtin_roles import ACCESS_APPROVER
from stockade.settings import Access, Mail, Notices, Settings
from tests.factories.access import ACCOUNTS, REQUESTS, Office, asked
from tests.factories.control_plane import CONTRIBUTOR, OTHER_SUB, READER, RG, ControlPlane, S

DAY = 86_400
# The manual clock begins at 2027-01-15T08:00:00Z, a Friday.


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    mail = Mail(host="mail.example.com", sender="stockade@example.com")
    notices = Notices(mail=mail, operators=("boss@example.com",), webhook="https://hooks.example.com/x")
    settings = Settings(data_dir=tmp_path, access=Access(e0_capacity=2), notices=notices)
    plane = ControlPlane(tmp_path, settings=settings)
    yield Office(plane)
    plane.close()


def keep_up(office: Office) -> None:
    """Do what the control plane does from time to time."""
    plane = office.plane
    with plane.database.read() as reader:
        due = upkeep.is_due(plane.settings, reader, plane.clock.now())
    if due:
        with plane.database.write() as writer:
            upkeep.keep_up(plane.settings, writer, plane.audit, plane.clock.now())


# Asking


def test_a_request_says_what_was_asked_by_whom_and_what_is_promised(office: Office) -> None:
    made = office.ask("r1", kind="face", location="Local")
    assert (made["kind"], made["sku"], made["location"], made["count"]) == ("Face", "E0", "local", 1)
    assert (made["state"], made["overdue"], made["remaining"]) == ("Submitted", False, 0)
    assert made["requestedBy"] == {
        "objectId": office.asker.object_id,
        "appId": office.asker.app_id,
        "name": "asker",
    }
    # Asked on a Friday; five business days later it is Friday again.
    assert made["dueBy"] == "2027-01-23T00:00:00.0000000Z"
    assert [(entry["state"], entry["by"]["name"]) for entry in made["history"]] == [("Submitted", "asker")]
    assert office.told() == [("submitted", "mailto:boss@example.com"), ("submitted", "webhook")]


BAD = [
    ("kind", None),
    ("kind", "Nonsense"),
    ("sku", "S0"),
    ("location", "atlantis"),
    ("location", None),
    ("location", "global"),
    ("reason", ""),
    ("reason", " \n "),
    ("reason", "x" * 2001),
    ("reason", "a\x1b[2Jb"),
    ("contact", None),
    ("contact", "nobody"),
    ("contact", "a@b.example\r\nBcc: c@d.example"),
    ("contact", "a@b.example, c@d.example"),
    ("contact", "<a@b.example>"),
    ("contact", "a@b..example"),
    ("contact", "a@-b.example"),
    ("count", 0),
    ("count", -1),
    ("count", 3),
]


def test_bad_requests_are_refused_by_name(office: Office) -> None:
    for target, value in BAD:
        reply = office.plane.send("PUT", f"{REQUESTS}/r1", asked(**{target: value}), by=office.asker)
        assert (reply.status_code, reply.json()["error"]["code"]) == (400, "InvalidSkuRequest"), (target, value)
        assert reply.json()["error"]["target"] == f"properties.{target}", value
    office.plane.fails(404, "ResourceNotFound", "GET", f"{REQUESTS}/r1")
    assert office.told() == []


def test_what_the_platform_writes_cannot_be_sent(office: Office) -> None:
    made = office.ask("r1", state="Approved", accounts=[], history=[], requestedBy={"objectId": "x"}, remaining=9)
    assert (made["state"], made["requestedBy"]["name"], len(made["history"])) == ("Submitted", "asker", 1)
    made = office.ask("r2", State="Approved", REQUESTEDBY={"objectId": "x"})
    assert made["state"] == "Submitted" and not {"State", "REQUESTEDBY"} & set(made)
    office.plane.fails(403, "SkuNotApproved", "PUT", f"{ACCOUNTS}/a1", _e0(), by=office.asker)


def test_what_was_asked_for_does_not_change(office: Office) -> None:
    office.ask("r1")
    office.ask("r1")
    for change in ({"kind": "LUIS"}, {"count": 2}, {"reason": "another"}, {"contact": "x@example.com"}):
        body = asked(**change)
        office.plane.fails(409, "SkuRequestNotChangeable", "PUT", f"{REQUESTS}/r1", body, by=office.asker)
        office.plane.fails(403, "SkuRequestOfAnother", "PUT", f"{REQUESTS}/r1", body)
    assert len(office.show("r1")["history"]) == 1


def test_open_requests_are_bounded(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stockade.management.resources.access_sku_requests.plugin.MAX_OPEN", 2)
    office.ask("r1")
    office.ask("r2")
    office.plane.fails(409, "TooManySkuRequests", "PUT", f"{REQUESTS}/r3", asked(), by=office.asker)
    office.act("r1", "withdraw", by=office.asker)
    office.ask("r3")


def test_nobody_sends_letters_without_end(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stockade.management.resources.access_sku_requests.plugin.MAX_TOLD_A_DAY", 4)
    office.ask("r1")
    office.plane.ok("DELETE", f"{REQUESTS}/r1", by=office.asker)
    reply = office.plane.send("PUT", f"{REQUESTS}/r2", asked(), by=office.asker)
    assert (reply.status_code, reply.json()["error"]["code"]) == (429, "TooManyNotices")
    office.plane.clock.advance(DAY)
    office.ask("r2")


# Deciding


def test_who_has_asked_already_is_told_how_it_stands(office: Office) -> None:
    office.ask("r1")
    said = office.plane.fails(403, "SkuNotApproved", "PUT", f"{ACCOUNTS}/a1", _e0(), by=office.asker)
    assert "Submitted and promised an answer" in said and "`stockade approvals list`" in said and "Make one" not in said


def test_approval_lets_the_subscription_create_so_many_accounts(office: Office) -> None:
    body = _e0()
    said = office.plane.fails(403, "SkuNotApproved", "PUT", f"{ACCOUNTS}/a1", body, by=office.asker)
    assert "stockade approvals request NAME --kind Face --location local" in said
    assert f"PUT {S}/providers/Stockade.Access/skuRequests/NAME" in said and "Make one" in said
    made = office.approve("r1", count=2)
    assert (made["state"], made["remaining"]) == ("Approved", 2)
    assert [office.account(name).status_code for name in ("a1", "a2")] == [201, 201]
    assert office.account("a1").status_code == 200  # the same again costs nothing
    said = office.plane.fails(403, "SkuNotApproved", "PUT", f"{ACCOUNTS}/a3", body, by=office.asker)
    assert "used up" in said
    shown = office.show("r1")
    assert (shown["remaining"], [one.rsplit("/", 1)[-1] for one in shown["accounts"]]) == (0, ["a1", "a2"])


def test_an_approval_is_for_its_kind_and_region_and_subscription(office: Office) -> None:
    office.approve("r1")
    assert office.account("a1", kind="LUIS").status_code == 403
    elsewhere = {**_e0(), "location": "eastus"}
    assert office.plane.send("PUT", f"{ACCOUNTS}/a1", elsewhere, by=office.asker).status_code == 403
    other = f"/subscriptions/{OTHER_SUB}/resourceGroups/g"
    owner = office.plane.principal("other", (CONTRIBUTOR, f"/subscriptions/{OTHER_SUB}"))
    office.plane.ok("PUT", other, {"location": "local"}, by=owner)
    path = f"{other}/providers/Microsoft.CognitiveServices/accounts/a1"
    office.plane.fails(403, "SkuNotApproved", "PUT", path, _e0(), by=owner)


def test_skus_say_what_the_subscription_may_use(office: Office) -> None:
    def told() -> tuple[str, Any]:
        skus = office.plane.ok("GET", f"{S}/providers/Microsoft.CognitiveServices/skus")["value"]
        (face,) = (one for one in skus if (one["kind"], one["name"]) == ("Face", "E0"))
        closed = {one["reasonCode"]: one["values"] for one in face["restrictions"]}
        path = f"{S}/providers/Microsoft.CognitiveServices/locations/local/checkSkuAvailability"
        question = {"skus": ["E0"], "kind": "Face", "type": "Microsoft.CognitiveServices/accounts"}
        (answer,) = office.plane.ok("POST", path, question)["value"]
        where = next((reason for reason, places in closed.items() if "LOCAL" in places), "")
        assert answer.get("reason", "") == where
        return where, answer["skuAvailable"]

    assert told() == ("NotAvailableForSubscription", False)
    office.ask("r1")
    assert told() == ("NotAvailableForSubscription", False)
    office.act("r1", "approve")
    assert told() == ("", True)
    assert office.account("a1").status_code == 201
    assert told() == ("QuotaId", False)
    listed = office.plane.ok("GET", f"{ACCOUNTS}/a1/skus")["value"]
    assert [one["sku"]["name"] for one in listed] == ["E0"]
    office.account("s1", sku="S0")
    listed = office.plane.ok("GET", f"{ACCOUNTS}/s1/skus")["value"]
    assert [one["sku"]["name"] for one in listed] == ["F0", "S0"]


def test_no_account_changes_to_or_from_e0(office: Office) -> None:
    office.approve("r1", count=2)
    assert office.account("a1").status_code == 201
    for sku in ("S0", "F0"):
        assert office.account(sku, sku=sku).status_code == 201
        for path, wanted in ((f"{ACCOUNTS}/{sku}", "E0"), (f"{ACCOUNTS}/a1", sku)):
            office.plane.fails(400, "InvalidSkuUpdate", "PATCH", path, {"sku": {"name": wanted}})
    assert office.show("r1")["remaining"] == 1


def test_an_e0_account_keeps_the_kind_it_was_approved_for(office: Office) -> None:
    office.approve("r1", kind="OpenAI")
    assert office.account("o1", kind="OpenAI").status_code == 201
    office.plane.fails(400, "PropertyChangeNotAllowed", "PATCH", f"{ACCOUNTS}/o1", {"kind": "AIServices"})


def test_requests_are_no_resources_of_a_group(office: Office) -> None:
    office.ask("r1")
    assert office.plane.ok("GET", f"{S}/resources")["value"] == []
    office.plane.fails(
        404, "NoRegisteredProviderFound", "PUT", f"{RG}/providers/Stockade.Access/skuRequests/r1", asked()
    )
    assert office.plane.ok("GET", f"{RG}/providers/Stockade.Access/skuRequests")["value"] == []


def test_deciding_takes_a_role_that_names_it(office: Office) -> None:
    """Owners and contributors have every action of the subscription, and this is no action of it."""
    office.ask("r1")
    for by in (office.plane.owner, office.plane.principal("c", (CONTRIBUTOR, S)), office.plane.principal("n")):
        for action in ("approve", "deny", "startReview"):
            reply = office.plane.send("POST", f"{REQUESTS}/r1/{action}", {}, by=by)
            assert reply.status_code == 403
            assert "Stockade Access Approver" in reply.text
    assert office.show("r1")["state"] == "Submitted"


def test_nobody_decides_on_a_request_of_their_own(office: Office) -> None:
    both = office.plane.principal("both", (CONTRIBUTOR, S), (ACCESS_APPROVER, S))
    office.plane.ok("PUT", f"{REQUESTS}/r1", asked(), by=both)
    for action in ("startReview", "approve", "deny"):
        body = {"comment": "fine"}
        said = office.plane.fails(403, "OwnSkuRequest", "POST", f"{REQUESTS}/r1/{action}", body, by=both)
        assert "stockade identity create approver" in said
        assert "stockade identity assign approver 'Stockade Access Approver'" in said
    assert office.act("r1", "approve")["state"] == "Approved"


def test_review_denial_and_what_cannot_be_done_twice(office: Office) -> None:
    office.ask("r1")
    assert office.act("r1", "startReview", "looking")["state"] == "UnderReview"
    office.plane.fails(400, "CommentRequired", "POST", f"{REQUESTS}/r1/deny", {}, by=office.decider)
    denied = office.act("r1", "deny", "not for tests")
    assert [(entry["state"], entry["by"]["name"], entry.get("comment")) for entry in denied["history"]] == [
        ("Submitted", "asker", None),
        ("UnderReview", "decider", "looking"),
        ("Denied", "decider", "not for tests"),
    ]
    for action in ("approve", "deny", "startReview"):
        body = {"comment": "x"}
        said = office.plane.fails(
            409, "SkuRequestStateConflict", "POST", f"{REQUESTS}/r1/{action}", body, by=office.decider
        )
        assert "Denied since 2027-01-15" in said and "by decider" in said
    office.plane.fails(409, "SkuRequestStateConflict", "POST", f"{REQUESTS}/r1/withdraw", {}, by=office.asker)
    assert office.told()[-2:] == [("denied", "mailto:ops@example.com"), ("denied", "webhook")]


def test_of_two_who_decide_at_once_one_does(office: Office) -> None:
    office.ask("r1")
    other = office.plane.principal("other", (ACCESS_APPROVER, S))
    start, codes = threading.Barrier(2), dict[str, int]()

    def decide(action: str, by: Any) -> None:
        start.wait()
        codes[action] = office.plane.send("POST", f"{REQUESTS}/r1/{action}", {"comment": "x"}, by=by).status_code

    threads = [threading.Thread(target=decide, args=pair) for pair in (("approve", office.decider), ("deny", other))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(codes.values()) == [200, 409]
    won = "Approved" if codes["approve"] == 200 else "Denied"
    assert [entry["state"] for entry in office.show("r1")["history"]] == ["Submitted", won]


def test_withdrawal_stops_new_accounts_and_leaves_those_there_are(office: Office) -> None:
    office.approve("r1", count=2)
    assert office.account("a1").status_code == 201
    assert office.act("r1", "withdraw", "enough", by=office.plane.owner)["state"] == "Withdrawn"
    assert office.account("a2").status_code == 403
    assert office.account("a1").status_code == 200
    assert office.told()[-3:] == [
        ("withdrawn", "mailto:ops@example.com"),
        ("withdrawn", "mailto:boss@example.com"),
        ("withdrawn", "webhook"),
    ]


def test_reading_takes_a_role_and_gives_no_other(office: Office) -> None:
    office.ask("r1")
    reader = office.plane.principal("reader", (READER, S))
    assert office.plane.ok("GET", REQUESTS, by=reader)["value"][0]["name"] == "r1"
    assert office.plane.ok("GET", f"{S}/providers/Stockade.Access/notices", by=reader)["value"]
    for action in ("approve", "withdraw"):
        assert office.plane.send("POST", f"{REQUESTS}/r1/{action}", {}, by=reader).status_code == 403


# The queue


def test_who_does_not_fit_waits_in_order_and_moves_up(office: Office) -> None:
    office.approve("r1", count=2)
    for name in ("r2", "r3", "r4"):
        assert office.approve(name)["state"] == "Queued"
    assert office.places("r1", "r2", "r3", "r4") == ["Approved", 1, 2, 3]
    assert office.account("a1").status_code == 201
    assert office.account("a2").status_code == 201
    assert office.account("a3").status_code == 403
    office.purge("a1")
    assert office.places("r1", "r2", "r3", "r4") == ["Approved", "Approved", 1, 2]
    assert office.show("r2")["history"][-1]["by"]["name"] == "Stockade"
    office.act("r3", "withdraw", by=office.asker)
    assert office.places("r4") == [1]
    assert [what for what, to in office.told() if to == "mailto:ops@example.com"] == [
        "approved", "queued", "queued", "queued", "approved", "moved", "moved", "withdrawn", "moved",
    ]  # fmt: skip


def test_a_deleted_account_keeps_its_place_until_it_is_gone_for_good(office: Office) -> None:
    office.approve("r1", count=2)
    office.account("a1")
    office.account("a2")
    office.approve("r2")
    office.plane.ok("DELETE", f"{ACCOUNTS}/a1")
    keep_up(office)
    assert office.places("r2") == [1]
    body = {**_e0(), "properties": {"restore": True}}
    office.plane.ok("PUT", f"{ACCOUNTS}/a1", body, by=office.asker)
    office.plane.ok("DELETE", f"{ACCOUNTS}/a1")
    office.plane.clock.advance(49 * 3600)
    keep_up(office)
    assert office.places("r2") == ["Approved"]


def test_nobody_overtakes_who_needs_more(office: Office) -> None:
    office.approve("r1", count=2)
    office.account("a1")
    office.account("a2")
    office.approve("large", count=2)
    office.approve("small")
    office.purge("a1")
    assert office.places("large", "small") == [1, 2]
    assert office.approve("late")["queuePosition"] == 3  # there is room for one, and others wait
    office.purge("a2")
    assert office.places("large", "small", "late") == ["Approved", 1, 2]


def test_more_room_moves_the_queue_up(office: Office) -> None:
    office.approve("r1", count=2)
    office.approve("r2", count=2)
    keep_up(office)
    assert office.places("r2") == [1]
    larger = Settings(data_dir=office.plane.settings.data_dir, access=Access(e0_capacity=4))
    now = office.plane.clock.now()
    with office.plane.database.write() as writer:
        assert upkeep.is_due(larger, writer, now)
        upkeep.keep_up(larger, writer, office.plane.audit, now)
        assert not upkeep.is_due(larger, writer, now)
    assert office.places("r2") == ["Approved"]


def test_regions_and_kinds_have_room_of_their_own(office: Office) -> None:
    office.approve("r1", count=2)
    assert office.approve("r2", location="eastus")["state"] == "Approved"
    assert office.approve("r3", kind="OpenAI", count=2)["state"] == "Approved"
    assert office.account("o1", kind="OpenAI").status_code == 201


def test_a_deleted_request_makes_way(office: Office) -> None:
    office.approve("r1", count=2)
    office.approve("r2")
    office.plane.ok("DELETE", f"{REQUESTS}/r1", by=office.asker)
    assert office.places("r2") == ["Approved"]
    assert ("withdrawn", "mailto:ops@example.com") in office.told()


# Promises


def test_what_nobody_answers_is_overdue_and_operators_hear_of_it_once(office: Office) -> None:
    office.ask("r1")
    office.ask("r2")
    office.act("r2", "deny", "no")
    office.plane.clock.advance(7 * DAY)
    keep_up(office)
    assert not office.show("r1")["overdue"]
    office.plane.clock.advance(DAY)
    assert office.show("r1")["overdue"]
    keep_up(office)
    keep_up(office)
    assert [told for told in office.told() if told[0] == "overdue"] == [
        ("overdue", "mailto:boss@example.com"),
        ("overdue", "webhook"),
    ]
    assert office.act("r1", "approve")["overdue"] is False


def test_the_operations_of_the_provider_tell_what_is_a_data_action(office: Office) -> None:
    told = office.plane.ok("GET", "/providers/Stockade.Access/operations")["value"]
    data = {one["name"] for one in told if one["isDataAction"]}
    expected = {f"Stockade.Access/skuRequests/{name}/action" for name in ("startReview", "approve", "deny")}
    assert data == expected | {f"Stockade.Access/roleRequests/{name}/action" for name in ("approve", "deny")}
    types = office.plane.ok("GET", "/providers/Microsoft.Authorization/providerOperations/Stockade.Access")[
        "resourceTypes"
    ]
    assert {one["name"] for type_ in types for one in type_["operations"] if one["isDataAction"]} == data


def _e0() -> Any:
    return {"kind": "Face", "location": "local", "sku": {"name": "E0"}, "properties": {}}
