"""Whose calls open what a protected account keeps, in each of the statement's ways to say it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from stockade.broker.at_once import NotAtOnce
from stockade.identity.external_ids import object_id_of
from stockade.kernel.evidence import CallerKey, CallerToken, Evidence, JobGrant
from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.principal import KeyCredential
from stockade.kernel.secret import Secret
from stockade.keys.broker import JobScope
from stockade.keys.session_token import SessionTokens
from stockade.keys.subscription import DIGEST_PURPOSE, KeyDigester
from stockade.lockbox.statement import Callers, PinnedIssuer
from stockade.policy.builtin_roles import roles
from stockade.policy.snapshot import PrincipalPolicy, RoleAssignment
from stockade.services.session_tokens.service import PURPOSE
from tests.factories import jose
from tests.factories.broker import ref
from tests.factories.data_plane import GROUP
from tests.factories.protected import READ, Protected

OURS = PinnedIssuer(jose.ISSUER, (jose.RSA.thumbprint(),))
CUSTOMER = object_id_of(jose.ISSUER, jose.OBJECT_ID)
NOT_NAMED = "LockboxCallerNotNamed"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[Protected]:
    found = Protected(tmp_path)
    trust(found)
    yield found
    found.close()


def trust(world: Protected, **policy: Any) -> None:
    """Let policy admit an external issuer's principal: what whoever writes the database can do too."""
    role = next(role.name for role in roles().values() if role.role_name == "Cognitive Services OpenAI Contributor")
    known = PrincipalPolicy(CUSTOMER, "User", None, "A customer", enabled=True, issuer=jose.ISSUER)
    given = RoleAssignment("ra", GROUP.lower(), role, CUSTOMER)
    policy.setdefault("keys_expire_at", world.clock.now() + 86_400)
    world.policy["external"] = (
        *jose.entries(**policy),
        ("principal", CUSTOMER, known),
        ("assignment", GROUP.lower(), given),
    )


def token(key: Any = jose.RSA, *, header: dict[str, Any] | None = None, **claims: Any) -> CallerToken:
    return CallerToken(Secret(jose.sign(jose.header(**(header or {})), jose.claims(**claims), key)))


def refused(call: Callable[[], object], code: str | None = NOT_NAMED) -> str:
    with pytest.raises(Fault) as caught:
        call()
    assert caught.value.code == code, caught.value.message
    return caught.value.message


def reads(world: Protected, evidence: Evidence) -> Any:
    return world.ask(evidence=evidence, access="read", data_action=READ)


def test_platform_is_whoever_policy_admits(world: Protected) -> None:
    world.protect(callers=Callers(platform=True))
    reads(world, world.customer)
    reads(world, token())
    reads(world, CallerToken(Secret(world.plane.caller("reader", "Cognitive Services OpenAI User")[1])))


def test_a_pinned_issuer_is_the_key_that_signs_and_not_its_name(world: Protected) -> None:
    world.protect(callers=Callers(issuers=(OURS,)))
    reads(world, token())
    assert "subscription key is not among" in refused(lambda: reads(world, world.customer))
    local = CallerToken(Secret(world.plane.caller("reader", "Cognitive Services OpenAI User")[1]))
    assert "An approver can sign it into the next statement" in refused(lambda: reads(world, local))
    # The operator's own key, published under the issuer's name as its own.
    external = list(world.policy["external"])
    own = dataclasses.replace(external[1][2], jwk=jose.RSA_OTHER.as_dict(private=False))
    world.policy["external"] = (external[0], (external[1][0], external[1][1], own), *external[2:])
    assert "is not the one that was pinned" in refused(lambda: reads(world, token(jose.RSA_OTHER)))
    with pytest.raises(Fault) as caught:
        reads(world, token())
    assert caught.value.kind is FaultKind.UNAUTHENTICATED
    world.policy["external"] = tuple(external)
    reads(world, token())


def test_a_pinned_issuers_token_is_still_asked_for_its_role(world: Protected) -> None:
    world.protect(callers=Callers(issuers=(OURS,)))
    nobody = token(oid="0f0f0f0f-0000-4000-8000-0000000000ff")
    refused(lambda: reads(world, nobody), None)
    with pytest.raises(Fault) as caught:
        reads(world, token(exp=jose.NOW - 60))
    assert caught.value.kind is FaultKind.UNAUTHENTICATED


def test_audiences_are_the_statements_and_not_the_settings(world: Protected) -> None:
    trust(world, audiences=frozenset({"another-program", "https://cognitiveservices.azure.com"}))
    world.protect(callers=Callers(issuers=(OURS,)))
    reads(world, token())
    assert "audiences" in refused(lambda: reads(world, token(aud="another-program")))
    named = PinnedIssuer(OURS.issuer, OURS.keys, audiences=("another-program",))
    world.bind(world.statement(callers=Callers(issuers=(named,))))
    reads(world, token(aud="another-program"))
    refused(lambda: reads(world, token()))


def test_principals_are_those_of_the_claim_that_was_signed(world: Protected) -> None:
    one = PinnedIssuer(OURS.issuer, OURS.keys, (CUSTOMER,))
    world.protect(callers=Callers(issuers=(one,)))
    reads(world, token())
    other = PinnedIssuer(OURS.issuer, OURS.keys, ("0f0f0f0f-0000-4000-8000-0000000000ff",))
    world.bind(world.statement(callers=Callers(issuers=(other,))))
    assert "not among those that were named" in refused(lambda: reads(world, token()))
    world.bind(world.statement(callers=Callers(issuers=(one,))))
    trust(world, object_id_claim="nickname")
    claimed = token(oid="x", nickname=jose.OBJECT_ID)
    assert "read from the claim `nickname`" in refused(lambda: reads(world, claimed))


def test_an_expired_token_is_not_made_valid_by_the_clock(world: Protected) -> None:
    world.protect(callers=Callers(issuers=(OURS,)))
    shown = token(exp=jose.NOW + 100)
    reads(world, shown)
    world.plane.world.manual.advance(200)
    with pytest.raises(Fault):
        reads(world, shown)
    world.plane.world.manual._now -= 150
    with pytest.raises(Fault) as caught:
        reads(world, shown)
    assert caught.value.kind is FaultKind.UNAUTHENTICATED


def test_a_named_key_is_the_key_itself_and_not_what_the_database_says_of_keys(world: Protected) -> None:
    world.protect(callers=Callers(keys=(world.forget(),)))
    reads(world, world.customer)
    refused(lambda: reads(world, token()))
    # The operator's own key in the customer's slot, by a digest that every process of the platform can make.
    digester = KeyDigester(world.broker.purpose_key(DIGEST_PURPOSE))
    keys = world.private()["keys"]
    world.store({"keys": {**keys, "Key2": {**keys["Key2"], "digest": digester.digest(b"operator").hex()}}})
    own = CallerKey(Secret("operator"))
    assert "is not among its callers" in refused(lambda: reads(world, own))
    reads(world, world.customer)


def test_a_token_that_stands_for_a_key_could_be_anybodys(world: Protected) -> None:
    sessions = SessionTokens(world.broker.purpose_key(PURPOSE))
    digest = bytes.fromhex(world.private()["keys"]["Key1"]["digest"])
    shown = CallerToken(Secret(sessions.issue(KeyCredential(world.account.id, "Key1", digest), "local", jose.NOW)))
    world.protect()
    reads(world, shown)
    world.bind(world.statement(callers=Callers(keys=(world.forget(),))))
    assert "the platform has made itself" in refused(lambda: reads(world, shown))


def test_jobs_go_on_where_the_statement_says_so(world: Protected) -> None:
    scope = JobScope(("files/file-1",), ("files/*",), world.clock.now() + 3600)
    action = "OpenAI/batches/write"

    def start() -> JobGrant:
        return JobGrant(world.broker.job_grant(world.account.id, "b1", scope, action, world.customer))

    def goes_on(grant: JobGrant) -> Any:
        return world.ask(evidence=grant, access="read", data_action=action)

    before = start()
    world.protect()
    goes_on(before)
    goes_on(start())
    sha = world.forget()
    world.bind(world.statement(callers=Callers(keys=(sha,))))
    assert "set `jobs`" in refused(start)
    refused(lambda: goes_on(before))
    world.bind(world.statement(callers=Callers(keys=(sha,), jobs=True)))
    assert "before the statement" in refused(lambda: goes_on(before))
    grant = start()
    goes_on(grant)
    own = world.broker
    with pytest.raises(Fault):
        own.job_grant(world.account.id, "b2", scope, action, CallerKey(Secret("x")))
    refused(lambda: own.job_grant(world.account.id, "b2", scope, action, token()))
    world.bind(world.statement(callers=Callers(keys=(sha,), jobs=True)))
    refused(lambda: goes_on(grant))


def test_what_is_known_already_is_answered_at_once_and_no_differently(world: Protected) -> None:
    world.protect(callers=Callers(keys=(world.forget(),)))
    reads(world, world.customer)
    found = world.broker.object_keys_at_once(world.account.id, [ref()], "read", READ, world.customer, "t")
    assert len(found.keys) == 1
    with pytest.raises(NotAtOnce):  # who is refused waits for the record, in a thread
        world.broker.object_keys_at_once(world.account.id, [ref()], "read", READ, token(), "t")
    refused(lambda: world.broker.object_keys(world.account.id, [ref()], "read", READ, token(), "t"))
    lent = world.grant(world.request())
    with pytest.raises(NotAtOnce):
        world.broker.object_keys_at_once(world.account.id, [ref()], "read", READ, world.evidence(lent), "t")
