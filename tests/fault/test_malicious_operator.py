"""An operator with the command line, the database, the disk, the backups, the settings, the lent keys and the broker's socket reads nothing.

A server of its own, whose root key is not on its disk. What opens for the customer, and for an operator whom an approver has let in, is tried beside
it with the same hands: each attempt that fails could have come to something. SECURITY.md says what this operator is not: root on the machine.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import signal
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import requests
from joserfc.jwk import RSAKey

from stockade.broker.floors import FILE_NAME as FLOORS
from stockade.identity.issuers import document_id as issuer_document
from stockade.kernel.evidence import ArmToken, CallerKey, CallerToken, JobGrant, OperatorGrant
from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.principal import KeyCredential
from stockade.kernel.secret import Secret
from stockade.keys.broker import JobScope
from stockade.keys.lockbox import Lent
from stockade.keys.session_token import SessionTokens
from stockade.keys.stored import DATA_KEYS, LOCKBOX, data_keys_of, statement_form, statement_of
from stockade.keys.subscription import DIGEST_PURPOSE, KeyDigester
from stockade.lockbox import statement as statements
from stockade.lockbox.approval import BREAK_GLASS, Approval, Operator
from stockade.lockbox.signature import Signature, Signed
from stockade.lockbox.statement import BreakGlass, Callers, PinnedIssuer, digest
from stockade.lockbox.strict import base64url
from stockade.services.session_tokens.service import PURPOSE as SESSIONS
from tests.factories.jose import sign
from tests.factories.lockbox import Signer, a_statement, an_approval, signed
from tests.factories.malicious import READ, Insider
from tests.factories.oidc import Provider
from tests.fault.test_broker import broker_of
from tests.live import Live, finish, start, wait_for

BEFORE = b"canary-before-4c1f6e8a"
AFTER = b"canary-after-9b2d7c30"
FILES = "demo-openai/openai/files"
VERSION = {"api-version": "2024-10-21"}


class Case:
    """A customer's account, protected while it already kept something; who may read it, and the backup from before."""

    def __init__(self, folder: Path, live: Live, provider: Provider) -> None:
        self.live, self.provider = live, provider
        self.account = live.account_id("demo-openai")
        self.insider = Insider(live, self.account.lower())
        sealed = base64.b64decode(self.insider.document().private["keys"]["Key1"]["sealed"])
        bound = f"subscription-key|{self.account.lower()}|Key1"
        self.old_key = self.insider.keys.unseal(sealed, bound).reveal_text()
        self.before = self.upload(BEFORE, {"api-key": self.old_key})
        self.backup = folder / "backup"
        shutil.copytree(live.data_dir, self.backup, ignore=shutil.ignore_patterns("run"))
        self.private_before = dict(self.insider.document().private)
        made = live.request("POST", f"{self.account}/regenerateKey", {"keyName": "Key1", "forget": True, "force": True})
        self.key = made.json()["key1"]
        self.subject = str(uuid.uuid4())
        with self.insider.database.write() as writer:
            self.insider.directory.register_external(writer, self.subject, "Ann", "User", provider.issuer)
        self.insider.assign("Cognitive Services OpenAI Contributor", self.subject)
        owner = object_id(live._kept_token())
        self.alice = Signer("alice", owner)
        self.bob = Signer("bob", self.insider.application("bob")[0].object_id)
        self.engineer, self.secret = self.insider.application("engineer")
        self._token = ("", 0.0)
        self.insider.assign("Stockade Support Engineer", self.engineer.object_id)
        self.insider.assign("Owner", owner, "/")
        opt_in = "/providers/Microsoft.CustomerLockbox/enableLockbox"
        assert live.request("POST", opt_in, version="2018-02-28-preview").status_code == 200
        pinned = PinnedIssuer(provider.issuer, (provider.key.thumbprint(),), audiences=("stockade",), claim="sub")
        sha = hashlib.sha256(self.key.encode()).hexdigest()
        self.callers = Callers(issuers=(pinned,), keys=(sha,))
        self.statement = b""
        self.protect()
        self.after = self.upload(AFTER, {"api-key": self.key})

    def protect(self, **changes: Any) -> None:
        """Put the next statement, as `stockade lockbox protect` does."""
        held = statements.read(self.statement) if self.statement else None
        guid = self.insider.document().body["properties"]["internalId"]
        values = {
            "account": self.account.lower(),
            "account_guid": guid,
            "sequence": held.sequence + 1 if held else 1,
            "previous": digest(self.statement) if held else "",
            "callers": self.callers,
            "issued_at": self.insider.clock.now(),
            **changes,
        }
        whole = signed(a_statement(self.alice.approver, self.bob.approver, **values), self.alice)
        body = {"payload": base64url(whole.payload), "signatures": msgspec.to_builtins(whole.signatures)}
        path = f"{self.account}/providers/Stockade.Lockbox/policies/default"
        reply = self.live.request("PUT", path, {"properties": body}, version="2026-11-01")
        assert reply.status_code in {200, 201}, reply.text
        self.statement = whole.payload

    def upload(self, content: bytes, headers: dict[str, str]) -> str:
        reply = requests.post(
            f"{self.live.data}/{FILES}",
            params=VERSION,
            headers=headers,
            files={"file": ("x.jsonl", content)},
            data={"purpose": "batch"},
            verify=str(self.live.bundle),
            timeout=10,
        )
        assert reply.status_code == 200, reply.text
        return str(reply.json()["id"])

    def downloads(self, item: str, headers: dict[str, str]) -> requests.Response:
        url = f"{self.live.data}/{FILES}/{item}/content"
        return requests.get(url, params=VERSION, headers=headers, verify=str(self.live.bundle), timeout=10)

    def customers_token(self, **changes: Any) -> str:
        now = int(self.insider.clock.now())
        return self.provider.token(self.subject, iat=now, nbf=now, exp=now + 600, **changes)

    # The engineer, who is a real one.

    def arm(self) -> ArmToken:
        """Sign in, unless that was a minute ago."""
        now = self.insider.clock.now()
        if not 0 <= now - self._token[1] < 60:
            form = {
                "grant_type": "client_credentials",
                "client_id": self.engineer.app_id,
                "client_secret": self.secret.reveal_text(),
                "scope": "https://management.azure.com/.default",
            }
            url = f"{self.live.authority}/{self.live.tenant}/oauth2/v2.0/token"
            found = requests.post(url, data=form, verify=str(self.live.bundle), timeout=10).json()
            self._token = (found["access_token"], now)
        return ArmToken(Secret(self._token[0]))

    def request(self, **changes: Any) -> Approval:
        name, now = str(uuid.uuid4()), self.insider.clock.now()
        challenge = self.insider.broker.open_request(self.account, name, self.arm())
        values = {
            "request": name,
            "account": self.account.lower(),
            "statement": challenge.statement,
            "scope": (f"files/{self.after}",),
            "operator": Operator(self.engineer.object_id, self.live.tenant),
            "not_before": now,
            "not_after": now + 3600,
            "nonce": challenge.nonce,
            **changes,
        }
        return an_approval(**values)

    def grant(self, said: Approval, *signers: Signer) -> Lent:
        lent: Lent = self.insider.broker.grant_access(
            said.request, signed(said, *(signers or (self.alice,))), self.arm()
        )
        return lent

    def reads(self, lent: Lent, item: str = "") -> bytes:
        return self.insider.opens(item or self.after, OperatorGrant(lent.grant, self.arm().token))


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Case]:
    folder = tmp_path_factory.mktemp("malicious")
    provider = Provider(folder / "customer", "customer")
    settings = f"""
[keys]
root = "environment"
root_name = "TEST_ROOT_KEY"
lease_s = 1.0

[lockbox]
break_glass = true

[[issuers]]
issuer = "{provider.issuer}"
audiences = ["stockade"]
object_id_claim = "sub"
app_id_claim = "azp"
ca_file = "{provider.authority}"
"""
    root = base64.b64encode(os.urandom(32)).decode()
    flags = ("--workers", "1", "--simulation")
    live = start(folder / "data", *flags, settings=settings, variables={"TEST_ROOT_KEY": root})
    found = Case(folder, live, provider)
    yield found
    found.insider.close()
    finish(live)
    provider.stop()


def shut(call: Callable[[], object], *kinds: FaultKind) -> Fault:
    with pytest.raises(Fault) as caught:
        call()
    assert not kinds or caught.value.kind in kinds, caught.value.message
    return caught.value


def test_the_customer_reads_and_the_same_hands_open_what_the_customer_shows(case: Case) -> None:
    """The control: what the insider tries below comes to plaintext where the evidence is the customer's."""
    for item, wanted in ((case.before, BEFORE), (case.after, AFTER)):
        for headers in ({"api-key": case.key}, {"Authorization": f"Bearer {case.customers_token()}"}):
            found = case.downloads(item, headers)
            assert (found.status_code, found.content) == (200, wanted), found.text
        assert case.insider.opens(item, CallerKey(Secret(case.key))) == wanted
        assert case.insider.opens(item, CallerToken(Secret(case.customers_token()))) == wanted
    refused = case.downloads(case.after, {"api-key": "x" * 84})
    assert refused.status_code == 401
    token = case.insider.token("https://cognitiveservices.azure.com")
    case.insider.assign("Cognitive Services OpenAI Contributor", case.insider.principal.object_id)
    refused = case.downloads(case.after, {"Authorization": f"Bearer {token}"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "LockboxCallerNotNamed")
    assert "An approver can" in refused.json()["error"]["message"]


def test_nothing_on_the_disk_in_the_database_or_in_backups_says_it(case: Case) -> None:
    for canary in (BEFORE, AFTER):
        assert case.insider.holds(canary, case.backup) == []
        assert case.insider.holds(base64.b64encode(canary), case.backup) == []
    assert case.insider.holds(case.key.encode(), case.backup) == []
    assert not (case.live.data_dir / "root.key").exists()


def test_the_clients_own_listkeys_has_nothing_to_show(case: Case) -> None:
    reply = case.live.request("POST", f"{case.account}/listKeys", {})
    assert (reply.status_code, reply.json()["error"]["code"]) == (409, "KeysNotKept")
    sealed = case.private_before["keys"]["Key1"]["sealed"]
    bound = f"subscription-key|{case.account.lower()}|Key1"
    assert case.insider.keys.unseal(base64.b64decode(sealed), bound).reveal_text() == case.old_key, (
        "the backup's key opens"
    )
    shut(lambda: case.insider.opens(case.after, CallerKey(Secret(case.old_key))), FaultKind.KEY_REJECTED)
    case.insider.write(lambda _, private: private["keys"].update(Key2=case.private_before["keys"]["Key1"]))
    fault = shut(lambda: case.insider.opens(case.after, CallerKey(Secret(case.old_key))), FaultKind.LOCKBOX_DENIED)
    assert fault.code == "LockboxCallerNotNamed"


def test_an_own_key_role_token_or_issuer_opens_another_account_and_not_this_one(case: Case) -> None:
    insider = case.insider
    insider.assign("Cognitive Services OpenAI Contributor", insider.principal.object_id)
    own = b"an-own-key-of-the-operator"
    keyed = KeyDigester(insider.broker.purpose_key(DIGEST_PURPOSE)).digest(own)
    insider.write(lambda _, private: private["keys"]["Key2"].update(digest=keyed.hex()))
    by_key = CallerKey(Secret(own))
    sessions = SessionTokens(insider.broker.purpose_key(SESSIONS))
    theirs = bytes.fromhex(insider.document().private["keys"]["Key1"]["digest"])
    made = sessions.issue(KeyCredential(case.account.lower(), "Key1", theirs), "local", insider.clock.now())
    session = CallerToken(Secret(made))
    # An own key in the name of the issuer that the customer trusts: the document that the platform keeps of its keys.
    forged = RSAKey.generate_key(2048)
    public = {**forged.as_dict(private=False)}
    public.pop("kid", None)
    document = issuer_document(case.provider.issuer)
    honest = dict(insider.document(document).body)
    entry = {"kid": "mine", "alg": "RS256", "jwk": {name: public[name] for name in ("kty", "n", "e")}}
    insider.write(lambda body, _: body.update(keys=[*body["keys"], entry]), document)
    said = case.provider.claims(case.subject, iat=int(insider.clock.now()), exp=int(insider.clock.now()) + 600)
    by_issuer = CallerToken(Secret(sign({"alg": "RS256", "typ": "JWT", "kid": "mine"}, said, forged)))
    for evidence in (by_key, session, insider.caller(), by_issuer):
        assert shut(lambda evidence=evidence: insider.opens(case.after, evidence)).code == "LockboxCallerNotNamed"  # type: ignore[misc]
        shut(lambda evidence=evidence: insider.opens(case.before, evidence))  # type: ignore[misc]
    shut(lambda: insider.opens(case.after, insider.arm()))
    insider.write(lambda body, _: body.update(keys=honest["keys"]), document)
    assert case.downloads(case.after, {"api-key": case.key}).content == AFTER


def test_what_refuses_here_is_the_statement(case: Case) -> None:
    """The control of the last test: on an account that nothing protects, each of its four ways works."""
    insider = case.insider
    path = f"{case.live.group_id}/providers/Microsoft.CognitiveServices/accounts/bare"
    body = {
        "kind": "OpenAI",
        "sku": {"name": "S0"},
        "location": case.live.location,
        "properties": {"customSubDomainName": "bare"},
    }
    assert case.live.request("PUT", path, body).status_code in {200, 201}
    key = case.live.request("POST", f"{path}/listKeys", {}).json()["key1"]
    url = f"{case.live.data}/bare/openai/files"
    files = {"file": ("x.jsonl", b"canary-bare")}
    made = requests.post(
        url,
        params=VERSION,
        headers={"api-key": key},
        files=files,
        data={"purpose": "batch"},
        verify=str(case.live.bundle),
        timeout=10,
    )
    item, account = made.json()["id"], path.lower()
    assert insider.opens(item, insider.caller(), account_id=account) == b"canary-bare"
    digest_of = bytes.fromhex(insider.document(account).private["keys"]["Key1"]["digest"])
    sessions = SessionTokens(insider.broker.purpose_key(SESSIONS))
    session = sessions.issue(KeyCredential(account, "Key1", digest_of), "local", insider.clock.now())
    assert insider.opens(item, CallerToken(Secret(session)), account_id=account) == b"canary-bare"
    keyed = KeyDigester(insider.broker.purpose_key(DIGEST_PURPOSE)).digest(b"own-of-bare")
    insider.write(lambda _, private: private["keys"]["Key2"].update(digest=keyed.hex()), account)
    assert insider.opens(item, CallerKey(Secret("own-of-bare")), account_id=account) == b"canary-bare"


def test_jobs_and_their_grants_open_nothing(case: Case) -> None:
    insider = case.insider
    scope = JobScope((f"files/{case.after}",), (), insider.clock.now() + 600)
    for evidence in (insider.caller(), insider.arm(), CallerKey(Secret(case.old_key)), JobGrant(Secret(b"x" * 80))):
        shut(lambda evidence=evidence: insider.broker.job_grant(case.account, "j", scope, READ, evidence))  # type: ignore[misc]
    key = CallerKey(Secret(case.key))
    fault = shut(lambda: insider.broker.job_grant(case.account, "j", scope, READ, key), FaultKind.LOCKBOX_DENIED)
    assert "jobs are not among its callers" in fault.message


def test_a_statement_is_forged_taken_away_or_put_back_in_vain(case: Case) -> None:
    insider, good = case.insider, dict(case.insider.document().private)
    own = Signer("alice", insider.principal.object_id)
    guid = insider.document().body["properties"]["internalId"]
    forged = a_statement(
        own.approver,
        account=case.account.lower(),
        account_guid=guid,
        callers=Callers(platform=True),
        issued_at=insider.clock.now(),
    )
    whole = signed(forged, own)
    name = digest(whole.payload)
    bare = [{**one, "statement": ""} for one in good[DATA_KEYS]]
    renamed = [{**one, "statement": name} for one in good[DATA_KEYS]]
    without = {part: value for part, value in good.items() if part != LOCKBOX}
    before = case.private_before
    everybody = (insider.caller(), CallerKey(Secret(case.old_key)), CallerKey(Secret(case.key)))
    for private in (
        without,
        {**without, DATA_KEYS: []},
        {**without, DATA_KEYS: bare},
        {**good, LOCKBOX: statement_form(whole)},
        {**good, LOCKBOX: statement_form(whole), DATA_KEYS: renamed},
        {**without, DATA_KEYS: before[DATA_KEYS]},
        before,
        {**before, DATA_KEYS: [*before[DATA_KEYS], *bare]},
    ):
        insider.put_private({**private, "keys": {**good["keys"], "Key2": before["keys"]["Key1"]}})
        for evidence in everybody:
            for item in (case.before, case.after):
                shut(lambda item=item, evidence=evidence: insider.opens(item, evidence))  # type: ignore[misc]
    for private in (good, before):
        insider.put_private(private)
        shut(lambda: insider.broker.bind_statement(case.account, whole, insider.arm()))
        insider.assign("Owner", insider.principal.object_id)
        shut(lambda: insider.broker.bind_statement(case.account, whole, insider.arm()))
    insider.put_private(good)
    assert case.downloads(case.after, {"api-key": case.key}).content == AFTER


def test_wrapping_anew_unbinds_nothing(case: Case) -> None:
    insider = case.insider
    insider.assign("Owner", insider.principal.object_id)
    good = dict(insider.document().private)
    for held in data_keys_of(good):
        stripped = msgspec.structs.replace(held, statement="")
        shut(lambda stripped=stripped: insider.broker.rewrap(case.account, stripped, None, None, insider.arm()))  # type: ignore[misc]
        again = insider.broker.rewrap(case.account, held, None, None, insider.arm())
        assert again.statement == held.statement
    own = insider.broker.new_data_key(case.account, None, insider.arm())
    insider.put_private({**good, DATA_KEYS: [*good[DATA_KEYS], msgspec.to_builtins(own)]})
    shut(
        lambda: insider.broker.object_keys(
            case.account, [insider.ref(case.after)], "write", "OpenAI/files/write", CallerKey(Secret(case.key)), "x"
        )
    )
    insider.put_private(good)


def test_the_approved_operator_reads_what_was_approved_for_as_long_as_it_was(case: Case) -> None:
    lent = case.grant(case.request())
    assert case.reads(lent) == AFTER
    shut(lambda: case.reads(lent, case.before), FaultKind.PERMISSION_DENIED)
    insider = OperatorGrant(lent.grant, case.insider.arm().token)
    case.insider.assign("Stockade Support Engineer", case.insider.principal.object_id)
    shut(lambda: case.insider.opens(case.after, insider), FaultKind.PERMISSION_DENIED)
    value = lent.grant.reveal()
    for place in range(0, len(value), 7):
        changed = Secret(value[:place] + bytes([value[place] ^ 1]) + value[place + 1 :])
        shut(lambda changed=changed: case.reads(Lent(changed, 0.0)), FaultKind.UNAUTHENTICATED)  # type: ignore[misc]
    case.insider.broker.revoke_access(case.request().request)
    assert case.reads(lent) == AFTER


def test_what_was_approved_is_not_widened_lent_or_taken_over(case: Case) -> None:
    insider, said = case.insider, case.request()
    whole = signed(said, case.alice)
    for changes in (
        {"scope": ("files/*",)},
        {"scope": (f"files/{case.before}",)},
        {"duration_s": 28_800.0},
        {"not_after": said.not_after + 86_400},
        {"operator": Operator(insider.principal.object_id, case.live.tenant)},
        {"nonce": case.request().nonce},
    ):
        edited = msgspec.json.encode(msgspec.structs.replace(said, **changes))  # type: ignore[arg-type]
        shut(
            lambda edited=edited: insider.broker.grant_access(
                said.request, Signed(edited, whole.signatures), case.arm()
            )
        )  # type: ignore[misc]
    other = case.request(scope=("files/*",))
    shut(lambda: insider.broker.grant_access(other.request, whole, case.arm()), FaultKind.PERMISSION_DENIED)
    shut(lambda: insider.broker.grant_access(said.request, whole, insider.arm()), FaultKind.PERMISSION_DENIED)
    own = Signer("alice", case.alice.principal)
    shut(lambda: case.grant(other, own), FaultKind.PERMISSION_DENIED)
    # What the platform signs for anybody is no approver's signature.
    payload = msgspec.json.encode(other)
    head = base64url(json.dumps({"alg": "Ed25519", "kid": "alice", "typ": "stockade-lockbox"}).encode())
    by_platform = insider.broker.sign(f"{head}.{base64url(payload)}".encode())
    jws = Signature("alice", jws=f"{head}..{base64url(by_platform)}")
    shut(lambda: insider.broker.grant_access(other.request, Signed(payload, (jws,)), case.arm()))
    none = base64url(json.dumps({"alg": "none", "kid": "alice", "typ": "stockade-lockbox"}).encode())
    shut(
        lambda: insider.broker.grant_access(
            other.request, Signed(payload, (Signature("alice", jws=f"{none}.."),)), case.arm()
        )
    )


def test_the_request_that_management_keeps_is_edited_in_vain(case: Case) -> None:
    """By way of ARM, as engineer and approver do it; what was signed is what counts, whatever the database says was asked."""
    live, name = case.live, str(uuid.uuid4())
    below = f"/subscriptions/{live.subscription}/providers"
    asked = {"account": case.account, "scope": [f"files/{case.after}"], "reason": "case 7", "durationHours": 1}
    engineer = case.arm().token.reveal_text()
    place = f"{below}/Stockade.Lockbox/requests/{name}"
    filed = live.request("PUT", place, {"properties": asked}, token=engineer, version="2026-11-01")
    assert filed.status_code == 201, filed.text
    decide = f"{below}/Microsoft.CustomerLockbox/requests/{name}/updateApproval"
    unsigned = live.request("POST", decide, {"status": "Approve"}, version="2018-02-28-preview")
    error = unsigned.json()["error"]
    assert error["code"] == "SignatureRequired", error
    payload = error["additionalInfo"][0]["info"]["payload"]
    made = case.alice.sign(base64.urlsafe_b64decode(payload + "=="))
    signed_for = {"status": "Approve", "payload": payload, "signatures": [msgspec.to_builtins(made)]}
    assert live.request("POST", decide, signed_for, version="2018-02-28-preview").status_code == 200

    def read(item: str, token: str) -> requests.Response:
        url = f"{live.arm}/lockbox/v1/requests/{live.subscription}/{name}/content/files/{item}"
        headers = {"Authorization": f"Bearer {token}"}
        return requests.get(url, headers=headers, verify=str(live.bundle), timeout=10)

    assert read(case.after, engineer).content == AFTER
    insider = case.insider
    mine = {"object_id": insider.principal.object_id, "tenant": live.tenant}
    own = insider.token("https://management.azure.com")
    for changes in (
        {"scope": ["files/*"]},
        {"scope": [f"files/{case.before}"]},
        {"scope": ["files/*"], "operator": mine},
    ):
        insider.write(lambda body, _, changes=changes: body["asked"].update(changes), place.lower())  # type: ignore[misc]
        for token in (engineer, own):
            found = read(case.before, token)
            assert found.status_code in {403, 404, 409}, found.text
            assert BEFORE not in found.content
    assert read(case.after, own).status_code in {403, 404, 409}


def test_the_glass_is_not_broken_where_nobody_agreed_to_it(case: Case) -> None:
    said = case.request(type=BREAK_GLASS)
    two = (Signer("one", case.engineer.object_id), Signer("two", case.insider.principal.object_id))
    shut(lambda: case.grant(said, *two), FaultKind.PERMISSION_DENIED)
    case.insider.write(lambda _, private: private.update(breakGlass=True))
    clause = BreakGlass(tuple(one.approver for one in two))
    assert clause.threshold == 2
    shut(lambda: case.grant(said, case.alice), FaultKind.PERMISSION_DENIED)


def test_time_set_back_and_what_is_over(case: Case) -> None:
    insider = case.insider
    clock: Any = insider.clock
    said = case.request(duration_s=60.0)
    lent = case.grant(said)
    assert case.reads(lent) == AFTER
    kept = signed(said, case.alice)
    ahead = clock.ahead_s
    clock.advance(61)
    shut(lambda: case.reads(lent), FaultKind.PERMISSION_DENIED)
    clock._set(ahead)  # every process's clock, as it was when the grant was good
    shut(lambda: case.reads(lent))
    shut(lambda: insider.broker.grant_access(said.request, kept, case.arm()))
    clock.advance(62)


def test_floors_and_clock_put_back_and_the_broker_killed(case: Case) -> None:
    """The strongest rollback: everything on the disk as it was, time as it was, a new process of the broker."""
    insider, live = case.insider, case.live
    clock: Any = insider.clock
    said = case.request(scope=("files/*",))
    whole, ahead = signed(said, case.alice), clock.ahead_s
    lent = case.grant(said)
    assert case.reads(lent) == AFTER
    floors = live.data_dir / FLOORS
    old = floors.read_bytes()
    insider.broker.revoke_access(said.request)
    shut(lambda: case.reads(lent), FaultKind.PERMISSION_DENIED)
    good = dict(insider.document().private)

    def again(content: bytes | None) -> None:
        pid = broker_of(live)
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        if content is None:
            floors.unlink()
        else:
            floors.write_bytes(content)
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda: broker_of(live) not in {None, pid}, "there is a new broker")
        wait_for(lambda: answers(insider), "the new broker answers")

    for content in (old, None):
        again(content)
        clock._set(ahead)
        shut(lambda: case.reads(lent), FaultKind.UNAUTHENTICATED)
        fault = shut(lambda: insider.broker.grant_access(said.request, whole, case.arm()), FaultKind.CONFLICT)
        assert fault.code == "ChallengeOver"
        for private in (case.private_before, {part: value for part, value in good.items() if part != LOCKBOX}):
            insider.put_private(private)
            for evidence in (insider.caller(), CallerKey(Secret(case.old_key))):
                shut(lambda evidence=evidence: insider.opens(case.after, evidence))  # type: ignore[misc]
        insider.put_private(good)
        assert insider.opens(case.after, CallerKey(Secret(case.key))) == AFTER


def test_the_honest_exception_is_what_was_kept_before_under_keys_from_before(case: Case) -> None:
    """Whoever kept the backup from before the protection, and puts all of the platform back to it, has what was kept before. SECURITY.md says so."""
    insider, good = case.insider, dict(case.insider.document().private)
    floors = case.live.data_dir / FLOORS
    pid = broker_of(case.live)
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    floors.unlink(missing_ok=True)
    insider.put_private(case.private_before)
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: broker_of(case.live) not in {None, pid} and answers(insider), "there is a new broker")
    assert insider.opens(case.before, CallerKey(Secret(case.old_key))) == BEFORE
    shut(lambda: insider.opens(case.after, CallerKey(Secret(case.old_key))), FaultKind.NOT_FOUND)
    insider.put_private(good)
    assert statement_of(insider.document().private) is not None
    wait_for(lambda: case.downloads(case.after, {"api-key": case.key}).content == AFTER, "the customer reads")
    fault = shut(lambda: insider.opens(case.before, CallerKey(Secret(case.old_key))))
    assert fault.code in {"LockboxCallerNotNamed", None}
    insider.put_private(case.private_before)
    shut(lambda: insider.opens(case.before, CallerKey(Secret(case.old_key))), FaultKind.LOCKBOX_DENIED)
    insider.put_private(good)


def object_id(token: str) -> str:
    return str(json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))["oid"])


def answers(insider: Insider) -> bool:
    try:
        return not insider.broker.status().sealed
    except Fault:
        return False
