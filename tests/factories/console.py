"""The console over a directory of its own, and ARM as far as its pages ask for it: canned, stateful, and without authorisation."""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import httpx
import msgspec

from stockade.console.app import Console, ConsoleFirst
from stockade.console.arm import Answer, Question
from stockade.kernel.clock import Clock, iso
from stockade.kernel.faults import Fault
from stockade.lockbox import signature, statement
from stockade.lockbox.signature import Signature, Signed
from stockade.lockbox.statement import Approver
from stockade.lockbox.strict import base64url, from_base64url
from stockade.settings import Names, Settings
from tests.factories.identity import World
from tests.factories.lockbox import Authenticator, a_statement

SUB = "11111111-1111-4111-8111-111111111111"
ACCOUNT = f"/subscriptions/{SUB}/resourceGroups/Group1/providers/Microsoft.CognitiveServices/accounts/Letters"
REQUEST = "22222222-2222-4222-8222-222222222222"
OPERATOR = {"objectId": "99999999-9999-4999-8999-999999999999", "tenant": "t1", "name": "Olga Operator"}
LOCKBOX = f"/subscriptions/{SUB}/providers/Microsoft.CustomerLockbox/requests"


def _signed(payload: bytes, signatures: Any) -> Signed:
    return Signed(payload, msgspec.convert(signatures, tuple[Signature, ...]))


class PretendArm:
    """Answers what the console asks. `replies` come first: by method and path, an Answer or what makes one of the question."""

    def __init__(self, now: float) -> None:
        self.now = now
        self.asked: list[Question] = []
        self.replies: dict[tuple[str, str], Any] = {}
        self.requests: dict[str, dict[str, Any]] = {}
        self.statement: dict[str, Any] | None = None
        self.policy: dict[str, Any] | None = None
        self.decisions: list[dict[str, Any]] = []

    def __call__(self, question: Question) -> Answer:
        self.asked.append(question)
        parts = urlsplit(question.path)
        path, query = unquote(parts.path), {name: values[0] for name, values in parse_qs(parts.query).items()}
        body = json.loads(question.body) if question.body else {}
        given = self.replies.get((question.method, path))
        if given is not None:
            return given(question) if callable(given) else given
        for method, pattern, handler in _ROUTES:
            found = re.fullmatch(pattern, path)
            if found is not None and method == question.method:
                try:
                    answer = handler(self, body, query, *found.groups())
                except Fault as fault:
                    return refusal(403, "NotSigned", fault.message)
                return answer if isinstance(answer, Answer) else Answer(200, answer)
        return refusal(404, "ResourceNotFound", "There is no such thing.")

    def add_request(self, **changes: Any) -> dict[str, Any]:
        """File a request; return its properties. changes: of the request's own details."""
        details = {
            "account": ACCOUNT.lower(),
            "scope": ["files/file-4f2a", "responses/*"],
            "breakGlass": False,
            "operator": OPERATOR,
            "reason": "Answers are cut off since Tuesday",
            "case": "https://support.example/cases/4711",
            "durationHours": 2.0,
            "history": [
                {"event": "CreateLockboxRequest", "status": "Pending", "at": iso(self.now - 600), "by": OPERATOR}
            ],
            **changes,
        }
        what = {
            "requestId": REQUEST,
            "justification": details["reason"],
            "status": "Pending",
            "createdDateTime": iso(self.now - 600),
            "expirationDateTime": iso(self.now + 4 * 86_400 - 600),
            "duration": "2",
            "resourceIds": ACCOUNT,
            "resourceType": "Microsoft.CognitiveServices/accounts",
            "supportCaseUrl": details["case"],
            "subscriptionId": SUB,
            "stockade": details,
        }
        self.requests[REQUEST] = what
        self.offer(what)
        return what

    def offer(self, what: dict[str, Any]) -> None:
        """Give out what is to be signed, by the approvers of the statement in force."""
        details, approvers = what["stockade"], self.statement["approvers"] if self.statement else []
        approval = {
            "type": "stockade-lockbox-approval/1",
            "request": REQUEST,
            "account": ACCOUNT.lower(),
            "statement": self.policy["digest"] if self.policy else "0" * 64,
            "scope": details["scope"],
            "operator": {"object_id": details["operator"]["objectId"], "tenant": details["operator"]["tenant"]},
            "purpose": details["reason"],
            "case": details["case"],
            "duration_s": 7200.0,
            "not_before": self.now - 600,
            "not_after": self.now + 8 * 3600,
            "nonce": "bm9uY2U",
        }
        details["approval"] = {
            "payload": base64url(json.dumps(approval).encode()),
            "decoded": approval,
            "threshold": (self.statement or {}).get("threshold", 1),
            "signed": [],
            "approvers": [one["id"] for one in approvers],
            "passkeys": [
                {
                    "key": one["id"],
                    "credentialId": one["passkey"]["credential_id"],
                    "rpId": one["passkey"]["rp_id"],
                    "principal": one["principal"],
                }
                for one in approvers
                if "passkey" in one
            ],
        }

    def put_in_force(self, payload: bytes, signatures: list[Any]) -> None:
        self.statement = json.loads(payload)
        self.policy = {
            "state": "Protected",
            "digest": sha256(payload).hexdigest(),
            "sequence": self.statement["sequence"],
            "payload": base64url(payload),
            "statement": self.statement,
            "signatures": signatures,
            "contacts": [],
        }

    # Routes

    def _subscriptions(self, body: Any, query: Any) -> Any:
        return {"value": [{"subscriptionId": SUB, "displayName": "Production", "id": f"/subscriptions/{SUB}"}]}

    def _accounts(self, body: Any, query: Any) -> Any:
        return {"value": [_ACCOUNT]}

    def _account(self, body: Any, query: Any) -> Any:
        return _ACCOUNT

    def _get_policy(self, body: Any, query: Any) -> Any:
        if self.policy is None:
            return refusal(404, "ResourceNotFound", "There is no statement.")
        return {"id": "x", "name": "default", "properties": self.policy}

    def _draft(self, body: Any, query: Any) -> Any:
        before = self.statement or {"sequence": 0, "approvers": [], "threshold": 1, "callers": {}}
        statement = {
            "type": "stockade-lockbox-statement/1",
            "account": ACCOUNT.lower(),
            "account_guid": "4" * 32,
            "sequence": before["sequence"] + 1,
            **({"previous": self.policy["digest"]} if self.policy else {}),
            "approvers": body.get("approvers", before["approvers"]),
            "threshold": body.get("threshold", before.get("threshold", 1)),
            "callers": body.get("callers", before["callers"]),
            "issued_at": self.now,
        }
        payload = json.dumps(statement).encode()
        signers = (self.statement or statement)["approvers"]
        return {
            "payload": base64url(payload),
            "statement": statement,
            "digest": sha256(payload).hexdigest(),
            "signers": {"approvers": [one["id"] for one in signers], "threshold": before.get("threshold", 1)},
        }

    def _put_policy(self, body: Any, query: Any) -> Any:
        sent = body["properties"]
        payload = from_base64url(sent["payload"])
        stated = statement.read(payload)
        before = statement.read(from_base64url(self.policy["payload"])) if self.policy else stated
        signature.require(_signed(payload, sent["signatures"]), before.approvers, before.threshold)
        self.put_in_force(payload, sent["signatures"])
        return {"properties": self.policy}

    def _requests(self, body: Any, query: Any) -> Any:
        wanted = re.fullmatch(r"properties/status eq '(\w+)'", query.get("$filter", ""))
        found = [one for one in self.requests.values() if wanted is None or one["status"] == wanted.group(1)]
        return {"value": [{"id": f"{LOCKBOX}/{one['requestId']}", "properties": one} for one in found]}

    def _request(self, body: Any, query: Any, name: str) -> Any:
        if name not in self.requests:
            return refusal(404, "ResourceNotFound", f"There is no request '{name}'.")
        return {"id": f"{LOCKBOX}/{name}", "name": f"LockboxRequest_{name}", "properties": self.requests[name]}

    def _decide(self, body: Any, query: Any, name: str) -> Any:
        what = self.requests[name]
        if what["status"] not in ("Pending", "Approving"):
            return refusal(409, "RequestNotDecidable", f"The request is {what['status']}.")
        self.decisions.append(body)
        details = what["stockade"]
        if body["status"] == "Approve":
            by = statement.read(from_base64url(self.policy["payload"])).approvers
            signature.verified(_signed(from_base64url(body["payload"]), body["signatures"]), by)
            details["approval"]["signed"] += [one["key"] for one in body["signatures"]]
            if len(details["approval"]["signed"]) < details["approval"]["threshold"]:
                what["status"] = "Approving"
                return body
        what["status"] = "Approved" if body["status"] == "Approve" else "Denied"
        details.pop("approval", None)
        entry = {"event": f"{body['status']}LockboxRequest", "at": iso(self.now), "comment": body["reason"]}
        details["history"].append({**entry, "by": {"name": "approver"}})
        return body

    def _revoke(self, body: Any, query: Any, name: str) -> Any:
        self.requests[name]["status"] = "Revoked"
        return {"properties": self.requests[name]}


_ACCOUNT = {"id": ACCOUNT, "name": "Letters", "kind": "OpenAI", "location": "local", "sku": {"name": "S0"}}
_IN = f"/subscriptions/{SUB}"
_ROUTES = (
    ("GET", "/subscriptions", PretendArm._subscriptions),
    ("GET", f"{_IN}/providers/Microsoft.CognitiveServices/accounts", PretendArm._accounts),
    ("GET", ACCOUNT, PretendArm._account),
    ("GET", f"{ACCOUNT}/providers/Stockade.Lockbox/policies/default", PretendArm._get_policy),
    ("PUT", f"{ACCOUNT}/providers/Stockade.Lockbox/policies/default", PretendArm._put_policy),
    ("POST", f"{ACCOUNT}/providers/Stockade.Lockbox/policies/default/draft", PretendArm._draft),
    ("GET", LOCKBOX, PretendArm._requests),
    ("GET", f"{LOCKBOX}/([^/]+)", PretendArm._request),
    ("POST", f"{LOCKBOX}/([^/]+)/updateApproval", PretendArm._decide),
    ("POST", f"{_IN}/providers/Stockade.Lockbox/requests/([^/]+)/revoke", PretendArm._revoke),
)


def refusal(status: int, code: str, message: str, info: dict[str, Any] | None = None) -> Answer:
    error: dict[str, Any] = {"code": code, "message": message}
    if info is not None:
        error["additionalInfo"] = [{"type": "Stockade", "info": info}]
    return Answer(status, {"error": error})


def answer_of(authenticator: Authenticator, payload: bytes) -> str:
    """Return what the page's script fills in when a passkey has signed."""
    made = authenticator.sign(payload).assertion
    assert made is not None
    response = {
        "authenticatorData": made.authenticator_data,
        "clientDataJSON": made.client_data_json,
        "signature": made.signature,
    }
    return json.dumps({"id": made.credential_id, "response": response})


class Directory:
    """A directory with one person in it. Making one takes longer than everything that a test does with it."""

    def __init__(self, folder: Path, settings: Settings | None = None, clock: Clock | None = None) -> None:
        self.world = World(folder, settings, clock)
        self.person, self.secret = self.world.application("Ada Approver")
        self.loop = asyncio.new_event_loop()

    def close(self) -> None:
        self.loop.close()
        self.world.database.close()


class ConsoleWorld:
    """A console, its directory, the ARM that it asks, and a browser without JavaScript."""

    def __init__(self, directory: Directory, domain: str = "") -> None:
        self.identity, self.person, self.secret = directory.world, directory.person, directory.secret
        settings = msgspec.structs.replace(self.identity.settings, names=Names(domain=domain))
        self.origin = settings.console_endpoint
        self.loop = directory.loop
        self.identity.audit.records.clear()
        self.identity.audit.healthy = True
        self.arm = PretendArm(self.identity.clock.now())
        self.app = ConsoleFirst(Console(replace(self.identity.services, settings=settings), self.arm), _elsewhere)

    def browser(self, origin: str = "") -> Browser:
        return Browser(self, origin or self.origin)

    def put_in_force(self, *approvers: Approver, threshold: int = 1) -> None:
        """Have a statement of these approvers, and what waits offered to them."""
        told = a_statement(*approvers, account=ACCOUNT.lower(), threshold=threshold)
        self.arm.put_in_force(statement.encode(told), [])
        for what in self.arm.requests.values():
            self.arm.offer(what)

    def signed_in(self) -> Browser:
        browser = self.browser()
        reply = browser.sign_in()
        assert reply.status_code == 303, reply.text
        return browser


class Browser:
    """Follows no redirects, keeps cookies, and fills in forms as they stand on the page."""

    def __init__(self, world: ConsoleWorld, origin: str) -> None:
        self.world = world
        self.client = httpx.AsyncClient(transport=httpx.ASGITransport(world.app), base_url=origin)

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        # On one loop for all: a thread and a loop per request would be most of what a test takes.
        return self.world.loop.run_until_complete(self.client.request(method, path, **options))

    def get(self, path: str, **headers: str) -> httpx.Response:
        return self.request("GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()})

    def post(self, path: str, form: dict[str, str], **headers: str) -> httpx.Response:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.request("POST", path, data=form, headers=sent)

    def fields(self, path: str) -> dict[str, str]:
        """Return the hidden fields of a page; of several forms, the last one's of each name."""
        return dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', self.get(path).text))

    def send(self, page: str, action: str, **form: str) -> httpx.Response:
        """Fill in a page's form and send it."""
        return self.post(action, {**self.fields(page), **form})

    def sign_in(self, **changed: str) -> httpx.Response:
        person, secret = self.world.person, self.world.secret
        form = {"client_id": str(person.app_id), "client_secret": secret, **changed}
        return self.send("/console/sign-in", "/console/sign-in", **form)


async def _elsewhere(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 418, "headers": []})
    await send({"type": "http.response.body", "body": b"elsewhere"})
