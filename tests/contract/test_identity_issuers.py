"""Further issuers, with a real OpenID Connect provider on loopback: rotation, and every way a provider can misbehave."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from joserfc.jwk import RSAKey
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from stockade.identity import compilation, issuers
from stockade.identity.issuers import (
    MAX_BYTES,
    MAX_KEYS,
    FetchFailed,
    IssuerKeys,
    KeysWanted,
    fetch_keys,
    usable_keys,
)
from stockade.identity.verify import verify
from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.principal import RejectedCredential
from stockade.policy.compile import Compiler
from stockade.policy.snapshot import Snapshot
from stockade.settings import Issuer, Settings
from tests.factories.identity import AI, World, listener, server_certificate, serving
from tests.factories.jose import OBJECT_ID, P256, RSA, claims, sign

REFRESH_S, TRUST_S = Issuer("").refresh_s, Issuer("").keys_max_age_s


class Provider:
    """A small OpenID Connect provider whose behaviour a test can change while it runs."""

    def __init__(self, base: str) -> None:
        self.base = base
        self.keys: list[dict[str, Any]] = []
        self.discovery: dict[str, Any] = {"issuer": base, "jwks_uri": f"{base}/keys"}
        self.answer: Callable[[], Response] | None = None
        self.asked = 0
        self.stop = threading.Event()
        self.app = Starlette(
            routes=[Route("/.well-known/openid-configuration", self._discovery), Route("/keys", self._keys)]
        )
        self.signing = self.rotate("one")

    def rotate(self, kid: str) -> RSAKey:
        self.signing = RSAKey.generate_key(2048, auto_kid=False)
        self.keys.append({**self.signing.as_dict(private=False), "kid": kid, "use": "sig"})
        return self.signing

    def token(self, kid: str, now: float) -> str:
        said = claims(iss=self.base, iat=now, nbf=now, exp=now + 300)
        return sign({"alg": "RS256", "kid": kid}, said, self.signing)

    async def _discovery(self, request: Request) -> Response:
        return JSONResponse(self.discovery)

    async def _keys(self, request: Request) -> Response:
        self.asked += 1
        return self.answer() if self.answer is not None else JSONResponse({"keys": self.keys})


@pytest.fixture
def provider(tmp_path: Path) -> Iterator[tuple[Provider, Path]]:
    bound = listener()
    certificate, key = server_certificate(tmp_path)
    made = Provider(f"https://localhost:{bound.getsockname()[1]}")
    with serving(made.app, bound, (certificate, key)):
        yield made, certificate
        made.stop.set()


class Platform:
    def __init__(self, folder: Path, *configured: Issuer) -> None:
        self.world = World(folder, Settings(data_dir=folder, issuers=configured))
        self.keys = IssuerKeys(self.world.services)
        self.wanted = KeysWanted(self.world.settings.run_dir)

    def outcome(self, token: str) -> str:
        found = verify(self.world.snapshot(), token, self.world.clock.now(), frozenset({AI}))
        if isinstance(found, RejectedCredential):
            self.wanted.note(found, self.world.clock.now())
            return found.reason
        assert (found.object_id, found.tenant_id) == (OBJECT_ID, self.world.tenant_id)
        return "accepted"


@pytest.fixture
def idp(provider: tuple[Provider, Path]) -> Provider:
    return provider[0]


@pytest.fixture
def configured(provider: tuple[Provider, Path]) -> Issuer:
    return Issuer(issuer=provider[0].base, ca_file=str(provider[1]))


@pytest.fixture
def platform(tmp_path: Path, configured: Issuer) -> Platform:
    return Platform(tmp_path, configured)


async def test_tokens_are_accepted_once_the_keys_are_there(platform: Platform, idp: Provider) -> None:
    token = idp.token("one", platform.world.clock.now())
    assert platform.outcome(token) == "unknown_issuer"
    await platform.keys.refresh_due()
    assert platform.outcome(token) == "accepted"


async def test_a_rotation_is_noticed_when_the_new_key_is_first_used(platform: Platform, idp: Provider) -> None:
    await platform.keys.refresh_due()
    idp.rotate("two")
    token = idp.token("two", platform.world.clock.now())
    assert platform.outcome(token) == "unknown_key"
    await platform.keys.refresh_due()
    assert idp.asked == 1, "not before the minimum interval"
    platform.world.manual.advance(issuers.MIN_INTERVAL_S)
    await platform.keys.refresh_due()
    assert platform.outcome(token) == "accepted"


async def test_a_flood_of_unknown_keys_costs_one_fetch_per_interval(platform: Platform, idp: Provider) -> None:
    await platform.keys.refresh_due()
    for second in range(65):
        assert platform.outcome(idp.token(f"made-up-{second}", platform.world.clock.now())) == "unknown_key"
        await platform.keys.refresh_due()
        platform.world.manual.advance(1)
    assert idp.asked == 3


async def test_a_key_the_provider_takes_back_is_refused(platform: Platform, idp: Provider) -> None:
    await platform.keys.refresh_due()
    token = idp.token("one", platform.world.clock.now())
    assert platform.outcome(token) == "accepted"
    idp.keys.clear()
    idp.rotate("two")
    platform.world.manual.advance(REFRESH_S)
    await platform.keys.refresh_due()
    assert platform.outcome(token) == "unknown_key"


async def test_unconfirmed_keys_are_trusted_for_a_day_and_no_longer(platform: Platform, idp: Provider) -> None:
    await platform.keys.refresh_due()
    idp.answer = lambda: Response(status_code=500)
    for _ in range(30):
        platform.world.manual.advance(TRUST_S / 30 - 1)
        await platform.keys.refresh_due()
    assert platform.outcome(idp.token("one", platform.world.clock.now())) == "accepted"
    platform.world.manual.advance(60)
    assert platform.outcome(idp.token("one", platform.world.clock.now())) == "issuer_keys_expired"
    idp.answer = None
    platform.world.manual.advance(issuers.MAX_BACK_OFF_S)
    await platform.keys.refresh_due()
    assert platform.outcome(idp.token("one", platform.world.clock.now())) == "accepted"


async def test_a_failing_provider_is_asked_less_and_less_often(platform: Platform, idp: Provider) -> None:
    idp.answer = lambda: Response(status_code=503)
    asked = []
    for _ in range(3600):
        await platform.keys.refresh_due()
        asked.append(idp.asked)
        platform.world.manual.advance(1)
    # 0, 30, 90, 210, 450, 930, 1830, 2730 seconds: doubling up to a quarter of an hour.
    assert [second for second in range(1, 3600) if asked[second] > asked[second - 1]] == [
        30,
        90,
        210,
        450,
        930,
        1830,
        2730,
    ]


async def test_unchanged_keys_are_not_written_again_each_time(platform: Platform) -> None:
    def generation() -> int:
        with platform.world.database.read() as reader:
            return reader.generation()

    await platform.keys.refresh_due()
    before = generation()
    for _ in range(11):
        platform.world.manual.advance(REFRESH_S)
        await platform.keys.refresh_due()
    assert generation() == before
    platform.world.manual.advance(REFRESH_S)
    await platform.keys.refresh_due()
    platform.world.manual.advance(REFRESH_S)
    await platform.keys.refresh_due()
    assert generation() == before + 1


async def test_an_issuer_taken_out_of_the_settings_is_forgotten(platform: Platform, idp: Provider) -> None:
    await platform.keys.refresh_due()
    token = idp.token("one", platform.world.clock.now())
    assert platform.outcome(token) == "accepted"
    from dataclasses import replace

    restarted = IssuerKeys(
        replace(platform.world.services, settings=Settings(data_dir=platform.world.settings.data_dir))
    )
    await restarted.run()
    assert platform.outcome(token) == "unknown_issuer"


async def test_settings_are_in_force_while_the_issuer_is_away(
    platform: Platform, idp: Provider, configured: Issuer
) -> None:
    await platform.keys.refresh_due()
    now = platform.world.clock.now()
    token = idp.token("one", now)
    with platform.world.database.read() as reader:
        everything = list(reader.changed_since(0))
    for change, reason in (
        ({}, "accepted"),
        ({"audiences": ("another",)}, "wrong_audience"),
        ({"object_id_claim": "nothing"}, "no_object_id"),
        ({"issuer": "https://elsewhere.example"}, "unknown_issuer"),
    ):
        settings = Settings(issuers=(msgspec.structs.replace(configured, **change),))
        restarted = Compiler(compilation.compilers(settings)).apply(Snapshot(), 1, everything)
        found = verify(restarted, token, now, frozenset({AI}))
        assert (found.reason if isinstance(found, RejectedCredential) else "accepted") == reason


async def test_the_task_survives_a_database_that_is_away_at_start(
    platform: Platform, idp: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(issuers, "POLL_S", 0.0)
    forget, failures = platform.keys.forget_others, [Fault(FaultKind.UNAVAILABLE, "gone")] * 2
    fetch, fetched = platform.keys.refresh_due, asyncio.Event()

    async def noting() -> None:
        await fetch()
        fetched.set()

    def away() -> None:
        if failures:
            raise failures.pop()
        forget()

    monkeypatch.setattr(platform.keys, "forget_others", away)
    monkeypatch.setattr(platform.keys, "refresh_due", noting)
    task = asyncio.create_task(platform.keys.run())
    await asyncio.wait_for(fetched.wait(), 10)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert not failures
    assert platform.outcome(idp.token("one", platform.world.clock.now())) == "accepted"


async def test_our_own_issuer_cannot_be_replaced_by_a_setting(
    tmp_path: Path, idp: Provider, configured: Issuer
) -> None:
    platform = Platform(
        tmp_path, Issuer(issuer="https://idp.example", jwks_url=f"{idp.base}/keys", ca_file=configured.ca_file)
    )
    own = Issuer(issuer=platform.world.issuer, jwks_url=f"{idp.base}/keys", ca_file=configured.ca_file)
    with pytest.raises(FetchFailed):
        platform.keys._store(own, usable_keys({"keys": idp.keys}))
    principal, _ = platform.world.application()
    found = verify(
        platform.world.snapshot(), platform.world.token(principal), platform.world.clock.now(), frozenset({AI})
    )
    assert not isinstance(found, RejectedCredential)


# Misbehaviour


async def failure_of(issuer: Issuer) -> str:
    with pytest.raises(FetchFailed) as failure:
        await fetch_keys(issuer)
    return str(failure.value)


async def test_a_huge_answer_is_cut_off(idp: Provider, configured: Issuer) -> None:
    async def endless() -> AsyncIterator[bytes]:
        while not idp.stop.is_set():
            yield b" " * 65_536
            await asyncio.sleep(0)

    idp.answer = lambda: StreamingResponse(endless(), media_type="application/json")
    assert str(MAX_BYTES) in await failure_of(configured)


async def test_a_slow_answer_is_given_up(idp: Provider, configured: Issuer, monkeypatch: pytest.MonkeyPatch) -> None:
    async def dripping() -> AsyncIterator[bytes]:
        # A byte now and then keeps every read alive; only the deadline for the whole answer ends it.
        while not idp.stop.is_set():
            yield b" "
            await asyncio.sleep(0.02)

    monkeypatch.setattr(issuers, "TIMEOUT_S", 0.3)
    idp.answer = lambda: StreamingResponse(dripping(), media_type="application/json")
    assert "did not answer within" in await failure_of(configured)


async def test_redirects_are_not_followed(idp: Provider, configured: Issuer) -> None:
    idp.answer = lambda: RedirectResponse(f"{idp.base}/.well-known/openid-configuration")
    assert "307" in await failure_of(configured)


async def test_an_untrusted_certificate_is_refused(configured: Issuer) -> None:
    assert "cannot be reached" in await failure_of(Issuer(issuer=configured.issuer))
    assert "ca_file" in await failure_of(Issuer(issuer=configured.issuer, ca_file="/nonexistent"))


async def test_a_provider_that_is_down(tmp_path: Path) -> None:
    bound = listener()
    port = bound.getsockname()[1]
    bound.close()
    assert "cannot be reached" in await failure_of(Issuer(issuer=f"https://localhost:{port}"))


async def test_a_discovery_document_must_name_its_issuer(idp: Provider, configured: Issuer) -> None:
    idp.discovery["issuer"] = idp.base + "/"
    assert "another issuer" in await failure_of(configured)


@pytest.mark.parametrize(
    "url", ["http://localhost:1/keys", "ftp://localhost/keys", "", "file:///etc/passwd", "http://[::1"]
)
async def test_discovery_cannot_lead_away_from_https(idp: Provider, configured: Issuer, url: str) -> None:
    idp.discovery["jwks_uri"] = url
    assert "https" in await failure_of(configured)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b"[" * 100_000, b'{"keys": {}}', b'{"keys": []}'])
async def test_answers_that_are_no_key_set(idp: Provider, configured: Issuer, content: bytes) -> None:
    idp.answer = lambda: Response(content, media_type="application/json")
    assert "it " in await failure_of(configured) or "its key set" in await failure_of(configured)


async def test_plain_http_is_for_loopback_alone(tmp_path: Path) -> None:
    bound = listener()
    plain = Provider(f"http://127.0.0.1:{bound.getsockname()[1]}")
    with serving(plain.app, bound):
        assert [key["kid"] for key in await fetch_keys(Issuer(issuer=plain.base))] == ["one"]
    assert "https" in await failure_of(Issuer(issuer="http://idp.example"))


def test_which_keys_are_usable() -> None:
    public, curve = RSA.as_dict(private=False), P256.as_dict(private=False)
    found = usable_keys(
        {
            "keys": [
                {**public, "kid": "rsa"},
                {**public, "kid": "pss", "alg": "PS256", "use": "sig"},
                {**curve, "kid": "ec"},
                {**public, "kid": "encryption", "use": "enc"},
                {**public, "kid": "oaep", "alg": "RSA-OAEP"},
                {**public, "kid": "mismatch", "alg": "ES256"},
                {**public},
                {**public, "kid": "twice"},
                {**curve, "kid": "twice"},
                {**public, "kid": "e1", "e": "AQ"},
                {**public, "kid": "huge", "n": "_" * 100_000},
                {"kty": "oct", "k": "c2VjcmV0", "kid": "shared", "alg": "HS256"},
                {"kty": "RSA", "kid": "empty"},
                {"kty": ["RSA"], "kid": "odd", "crv": {}},
                "nonsense",
                None,
            ]
        }
    )
    assert [(key["kid"], key["alg"]) for key in found] == [("ec", "ES256"), ("pss", "PS256"), ("rsa", "RS256")]
    assert all(set(key["jwk"]) <= {"kty", "n", "e", "crv", "x", "y"} for key in found)


def test_private_parts_of_a_careless_provider_are_not_stored() -> None:
    [key] = usable_keys({"keys": [{**RSA.as_dict(private=True), "kid": "a"}]})
    assert set(key["jwk"]) == {"kty", "n", "e"}


def test_a_key_set_is_bounded() -> None:
    many = [{**RSA.as_dict(private=False), "kid": str(number)} for number in range(MAX_KEYS + 1)]
    assert len(usable_keys({"keys": many[:-1]})) == MAX_KEYS
    with pytest.raises(FetchFailed):
        usable_keys({"keys": many})
