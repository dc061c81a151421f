import hmac
import json
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from joserfc.jwk import RSAKey

from stockade.identity.compact import MAX_TOKEN_BYTES
from stockade.identity.external_ids import object_id_of
from stockade.identity.verify import LEEWAY_S, TokenCache, verify
from stockade.kernel.principal import EVERYONE, RejectedCredential, TokenCredential
from stockade.policy.snapshot import PrincipalPolicy, Snapshot, VerificationKey
from tests.factories import jose
from tests.factories.identity import AI, World
from tests.factories.jose import NOW, OBJECT_ID, claims, encode, header, sign

AUDIENCES = frozenset({AI})
ARM = "https://management.azure.com"


def snapshot_of(**changes: Any) -> Snapshot:
    return Snapshot().with_changes(1, {"idp": jose.entries(**changes)})


SNAPSHOT = snapshot_of()


def outcome(token: str, snapshot: Snapshot = SNAPSHOT, now: float = NOW, audiences: frozenset[str] = AUDIENCES) -> str:
    """Say what came of it, three times over: without a cache, filling one, and served from one."""
    cache = TokenCache()
    found = [verify(snapshot, token, now, audiences, used) for used in (None, cache, cache)]
    assert found[0] == found[1] == found[2]
    return found[0].reason if isinstance(found[0], RejectedCredential) else "accepted"


# What is accepted


@pytest.mark.parametrize(
    ("kid", "algorithm", "key"),
    [
        ("rsa", "RS256", jose.RSA),
        ("rsa384", "RS384", jose.RSA),
        ("rsa512", "RS512", jose.RSA),
        ("pss", "PS256", jose.RSA),
        ("p256", "ES256", jose.P256),
        ("p384", "ES384", jose.P384),
    ],
)
def test_each_algorithm_with_its_own_key(kid: str, algorithm: str, key: Any) -> None:
    token = sign(header(alg=algorithm, kid=kid), claims(), key, algorithm)
    assert outcome(token) == "accepted"
    # The same token by another library: our reading of the algorithm is not our own invention.
    public = jwt.PyJWK(key.as_dict(private=False), algorithm=algorithm)
    jwt.decode(token, public, algorithms=[algorithm], audience=AI, options={"verify_iat": False, "verify_nbf": False})


def test_the_credential_says_what_the_token_said() -> None:
    found = verify(SNAPSHOT, sign(header(), claims(groups=["G1"], exp=NOW + 60.5)), NOW, AUDIENCES)
    assert found == TokenCredential(
        tenant_id=jose.TENANT,
        object_id=OBJECT_ID,
        app_id="0f0f0f0f-0000-4000-8000-000000000003",
        audience=AI,
        issuer=jose.ISSUER,
        expires_at=NOW + 60.5,
        groups=(object_id_of(jose.ISSUER, "G1", group=True),),
        scopes=(),
        identity_type="app",
        token_id="abc",
        signed_in_at=NOW - 10,
        key_id="rsa",
    )


@pytest.mark.parametrize(
    ("said", "signed_in_at", "methods"),
    [
        ({"auth_time": NOW - 500, "amr": ["pwd", "mfa"]}, NOW - 500, ("pwd", "mfa")),
        ({"auth_time": NOW - 500}, NOW - 500, None),
        ({"amr": []}, NOW - 10, ()),
        ({"iat": ...}, 0.0, None),
    ],
    ids=["both", "when", "no method", "nothing"],
)
def test_when_and_how_somebody_signed_in(
    said: dict[str, Any], signed_in_at: float, methods: tuple[str, ...] | None
) -> None:
    told = {name: value for name, value in claims(**said).items() if value is not ...}
    found = verify(SNAPSHOT, sign(header(), told), NOW, AUDIENCES)
    assert isinstance(found, TokenCredential)
    assert (found.signed_in_at, found.methods) == (signed_in_at, methods)


@pytest.mark.parametrize("amr", ["mfa", [1], ["x"] * 17])
def test_methods_are_a_short_list_of_words(amr: Any) -> None:
    assert outcome(sign(header(), claims(amr=amr))) == "malformed"


def test_scopes_make_a_user() -> None:
    found = verify(SNAPSHOT, sign(header(), claims(scp="one two")), NOW, AUDIENCES)
    assert isinstance(found, TokenCredential)
    assert (found.scopes, found.identity_type) == (("one", "two"), "user")


def test_an_issuer_may_call_the_object_id_otherwise() -> None:
    snapshot = snapshot_of(object_id_claim="sub", app_id_claim="azp")
    found = verify(snapshot, sign(header(), claims(sub="SOMEONE", oid=None, appid=None, azp="Client")), NOW, AUDIENCES)
    assert isinstance(found, TokenCredential)
    assert (found.object_id, found.app_id) == (object_id_of(jose.ISSUER, "SOMEONE"), "client")


@pytest.mark.parametrize("audience", [AI, AI + "/", [AI], ["https://example.com", AI + "/"]])
def test_audience_with_and_without_slash_and_among_several(audience: Any) -> None:
    assert outcome(sign(header(), claims(aud=audience))) == "accepted"


# What is refused


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"aud": "https://cognitiveservices.azure.com.evil.example"}, "wrong_audience"),
        ({"aud": AI + "//"}, "wrong_audience"),
        ({"aud": ARM}, "wrong_audience"),
        ({"aud": None}, "malformed"),
        ({"aud": 7}, "malformed"),
        ({"aud": [AI, 7]}, "malformed"),
        ({"aud": []}, "wrong_audience"),
        ({"aud": [AI] * 33}, "malformed"),
        ({"iss": jose.ISSUER + "/"}, "unknown_issuer"),
        ({"iss": jose.ISSUER.upper()}, "unknown_issuer"),
        ({"iss": None}, "unknown_issuer"),
        ({"iss": [jose.ISSUER]}, "unknown_issuer"),
        ({"iss": {"a": 1}}, "unknown_issuer"),
        ({"exp": None}, "no_expiry"),
        ({"exp": NOW - LEEWAY_S}, "expired"),
        ({"exp": str(int(NOW + 60))}, "malformed"),
        ({"exp": True}, "malformed"),
        ({"exp": 10**30}, "malformed"),
        ({"exp": -1}, "malformed"),
        ({"nbf": NOW + LEEWAY_S + 1}, "not_yet_valid"),
        ({"nbf": "soon"}, "malformed"),
        ({"iat": NOW + LEEWAY_S + 1}, "not_yet_valid"),
        ({"oid": None}, "no_object_id"),
        ({"oid": ""}, "malformed"),
        ({"oid": 7}, "malformed"),
        ({"oid": "a" * 513}, "malformed"),
        ({"oid": "line\nbreak"}, "malformed"),
        ({"oid": "\ud800"}, "malformed"),
        ({"oid": EVERYONE}, "no_object_id"),
        ({"groups": "g1"}, "malformed"),
        ({"groups": [1]}, "malformed"),
        ({"groups": ["g"] * 1001}, "malformed"),
    ],
)
def test_claims_that_do_not_hold(changes: Mapping[str, Any], reason: str) -> None:
    assert outcome(sign(header(), claims(**changes))) == reason


@pytest.mark.parametrize(("exp", "reason"), [(NOW - LEEWAY_S + 1, "accepted"), (NOW - LEEWAY_S, "expired")])
def test_leeway_is_small_and_exact(exp: float, reason: str) -> None:
    assert outcome(sign(header(), claims(exp=exp))) == reason


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"alg": None}, "bad_algorithm"),
        ({"alg": "none"}, "bad_algorithm"),
        ({"alg": "HS256"}, "bad_algorithm"),
        ({"alg": "RS257"}, "bad_algorithm"),
        ({"alg": ["RS256"]}, "bad_algorithm"),
        ({"alg": "RS384"}, "bad_algorithm"),
        ({"alg": "PS256"}, "bad_algorithm"),
        ({"alg": "rs256"}, "bad_algorithm"),
        ({"kid": None}, "no_key_id"),
        ({"kid": 7}, "no_key_id"),
        ({"kid": {"a": 1}}, "no_key_id"),
        ({"kid": "nobody"}, "unknown_key"),
        ({"crit": ["exp"]}, "critical_header"),
        ({"crit": []}, "critical_header"),
        ({"b64": True}, "critical_header"),
        ({"zip": "DEF"}, "critical_header"),
        ({"typ": "JOSE"}, "bad_header"),
        ({"typ": "dpop+jwt"}, "bad_header"),
        ({"cty": "JWT"}, "bad_header"),
    ],
)
def test_headers_that_do_not_hold(changes: Mapping[str, Any], reason: str) -> None:
    assert outcome(sign(header(**changes), claims())) == reason


def test_a_key_in_the_header_is_not_used() -> None:
    attacker = RSAKey.generate_key(2048)
    forged = header(jwk=attacker.as_dict(private=False), jku="https://evil.example/keys", x5u="https://evil.example/x")
    assert outcome(sign(forged, claims(), attacker)) == "bad_signature"


def test_the_public_key_is_no_shared_secret() -> None:
    pem = jose.RSA.as_pem(private=False)
    signing_input = f"{encode(json.dumps(header(alg='HS256')).encode())}.{encode(json.dumps(claims()).encode())}"
    mac = hmac.new(pem, signing_input.encode(), sha256).digest()
    assert outcome(f"{signing_input}.{encode(mac)}") == "bad_algorithm"


def test_an_algorithm_is_only_used_with_the_key_it_belongs_to() -> None:
    assert outcome(sign(header(alg="ES256", kid="rsa"), claims(), jose.P256, "ES256")) == "bad_algorithm"
    assert outcome(sign(header(alg="RS256", kid="p256"), claims())) == "bad_algorithm"
    assert outcome(sign(header(alg="RS512", kid="rsa"), claims(), jose.RSA, "RS512")) == "bad_algorithm"


def test_an_elliptic_signature_of_zeros() -> None:
    head, body, _ = sign(header(alg="ES256", kid="p256"), claims(), jose.P256, "ES256").split(".")
    assert outcome(f"{head}.{body}.{encode(bytes(64))}") == "bad_signature"
    assert outcome(f"{head}.{body}.{encode(bytes(63))}") == "bad_signature"


def test_another_key_of_the_same_kind() -> None:
    assert outcome(sign(header(), claims(), jose.RSA_OTHER)) == "bad_signature"


def test_a_key_speaks_for_its_own_issuer_only() -> None:
    other = jose.entries(issuer=jose.OTHER_ISSUER)
    stranger = VerificationKey(jose.OTHER_ISSUER, "theirs", "RS256", jose.RSA_OTHER.as_dict(private=False), None)
    snapshot = Snapshot().with_changes(
        1, {"a": jose.entries(), "b": (*other, ("verification-key", (jose.OTHER_ISSUER, "theirs"), stranger))}
    )
    assert outcome(sign(header(kid="theirs"), claims(iss=jose.OTHER_ISSUER), jose.RSA_OTHER), snapshot) == "accepted"
    assert outcome(sign(header(kid="theirs"), claims(), jose.RSA_OTHER), snapshot) == "unknown_key"


def test_two_documents_that_claim_one_issuer_verify_nothing() -> None:
    snapshot = Snapshot().with_changes(1, {"a": jose.entries(), "b": jose.entries()})
    assert outcome(sign(header(), claims()), snapshot) == "unknown_issuer"


def test_a_weak_key_verifies_nothing() -> None:
    public = rsa.generate_private_key(65537, 1024).public_key().public_numbers()
    jwk = {"kty": "RSA", "n": encode(public.n.to_bytes(128, "big")), "e": "AQAB"}
    weak = VerificationKey(jose.ISSUER, "weak", "RS256", jwk, None)
    snapshot = Snapshot().with_changes(1, {"a": (*jose.entries(), ("verification-key", (jose.ISSUER, "weak"), weak))})
    assert outcome(sign(header(kid="weak"), claims()), snapshot) == "bad_key"


GOOD = sign(header(), claims())
HEAD, BODY, SIGNATURE = GOOD.split(".")
NOT_UTF8 = b"{\xff}"
ENDLESS = b'{"exp":' + b"9" * 5000 + b"}"


@pytest.mark.parametrize(
    ("token", "reason"),
    [
        ("", "malformed"),
        (".", "malformed"),
        ("..", "malformed"),
        ("a.b", "malformed"),
        (f"{HEAD}.{BODY}", "malformed"),
        (f"{HEAD}.{BODY}.", "malformed"),
        (f"{GOOD}.", "malformed"),
        (f"{GOOD}.{SIGNATURE}.x", "encrypted"),
        (f"{GOOD}=", "malformed"),
        (f" {GOOD}", "malformed"),
        (f"{GOOD}\n", "malformed"),
        (f"{HEAD}.{BODY}.{SIGNATURE[:-1]}{chr(ord(SIGNATURE[-1]) + 1)}", "malformed"),
        (f"{HEAD}.{BODY}.{SIGNATURE[:-2]}", "bad_signature"),
        (f"{HEAD}\u00e9.{BODY}.{SIGNATURE}", "malformed"),
        (f"{HEAD}\ud800.{BODY}.{SIGNATURE}", "malformed"),
        ("a" * (MAX_TOKEN_BYTES + 1), "too_large"),
        (f"{HEAD}.{encode(b'[]')}.{SIGNATURE}", "malformed"),
        (f"{encode(b'null')}.{BODY}.{SIGNATURE}", "malformed"),
        (f"{HEAD}.{encode(NOT_UTF8)}.{SIGNATURE}", "malformed"),
        (f"{HEAD}.{encode(b'[' * 9000)}.{SIGNATURE}", "malformed"),
        (f"{HEAD}.{encode(ENDLESS)}.{SIGNATURE}", "malformed"),
    ],
    ids=map(str, range(21)),
)
def test_texts_that_are_no_token(token: str, reason: str) -> None:
    assert outcome(token) == reason


def test_a_signature_has_one_spelling() -> None:
    # 256 bytes leave four unused bits in the last character; any of them set decodes to the same signature.
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    last = alphabet.index(SIGNATURE[-1])
    for variant in range(last + 1, min(last + 16, 64)):
        assert outcome(f"{GOOD[:-1]}{alphabet[variant]}") == "malformed"


def test_repeated_members_are_refused_at_any_depth() -> None:
    good = json.dumps(claims())
    assert outcome(sign(header(), good[:-1] + f', "oid": "{OBJECT_ID}"}}')) == "duplicate_member"
    assert outcome(sign(header(), good[:-1] + ', "x": {"a": 1, "a": 2}}')) == "duplicate_member"
    assert outcome(sign(header(), good[:-1] + ', "o\\u0069d": "other"}')) == "duplicate_member"
    assert outcome(sign('{"alg": "none", "kid": "rsa", "alg": "RS256"}', claims())) == "duplicate_member"


def test_json_that_is_not_json_is_refused() -> None:
    good = json.dumps(claims())
    for tail in (', "x": NaN}', ', "x": Infinity}', ', "x": 1}}', ",}"):
        assert outcome(sign(header(), good[:-1] + tail)) == "malformed"


# Issuers and principals


def test_stale_keys_of_an_issuer_are_not_trusted() -> None:
    snapshot = snapshot_of(keys_expire_at=NOW + 100)
    assert outcome(GOOD, snapshot, NOW + 99) == "accepted"
    assert outcome(GOOD, snapshot, NOW + 100) == "issuer_keys_expired"


def test_an_issuer_with_audiences_of_its_own() -> None:
    snapshot = snapshot_of(audiences=frozenset({"my-app", ARM}))
    assert outcome(sign(header(), claims(aud="my-app")), snapshot) == "accepted"
    assert outcome(sign(header(), claims(aud=AI)), snapshot) == "wrong_audience"
    # Azure's audiences go on meaning one listener each.
    assert outcome(sign(header(), claims(aud=ARM)), snapshot) == "wrong_audience"
    assert outcome(sign(header(), claims(aud=ARM)), snapshot, audiences=frozenset({ARM})) == "accepted"


def known(
    object_id: str, issuer: str | None, enabled: bool = True, sort: str = "User"
) -> tuple[tuple[str, str, PrincipalPolicy], ...]:
    return (("principal", object_id, PrincipalPolicy(object_id, sort, None, "x", enabled, issuer)),)


@pytest.mark.parametrize(
    ("issuer", "enabled", "reason"),
    [
        (jose.ISSUER, True, "accepted"),
        (jose.ISSUER, False, "disabled_principal"),
        (None, True, "foreign_principal"),
        (jose.OTHER_ISSUER, True, "foreign_principal"),
    ],
)
def test_an_issuer_speaks_for_its_own_principals_only(issuer: str | None, enabled: bool, reason: str) -> None:
    assert outcome(GOOD, SNAPSHOT.with_changes(2, {"p": known(OBJECT_ID, issuer, enabled)})) == reason
    assert (
        outcome(
            sign(header(), claims(oid=OBJECT_ID.upper())),
            SNAPSHOT.with_changes(2, {"p": known(OBJECT_ID, issuer, enabled)}),
        )
        == reason
    )


def test_an_issuer_cannot_put_its_users_into_our_groups() -> None:
    ours, theirs, person, unregistered = (f"0f0f0f0f-0000-4000-8000-0000000000a{number}" for number in range(4))
    snapshot = SNAPSHOT.with_changes(
        2,
        {
            "ours": known(ours, None, sort="Group"),
            "theirs": known(theirs, jose.ISSUER, sort="Group"),
            "person": known(person, jose.ISSUER),
        },
    )
    said = [ours.upper(), theirs.upper(), person, unregistered]
    found = verify(snapshot, sign(header(), claims(groups=said)), NOW, AUDIENCES)
    assert isinstance(found, TokenCredential)
    assert found.groups == (theirs, unregistered)


def test_a_group_is_not_somebody() -> None:
    snapshot = SNAPSHOT.with_changes(2, {"group": known(OBJECT_ID, jose.ISSUER, sort="Group")})
    assert outcome(GOOD, snapshot) == "group_as_principal"


def test_names_that_are_no_guids_get_one() -> None:
    opaque = snapshot_of(object_id_claim="sub")
    found = verify(opaque, sign(header(), claims(sub="auth0|123", groups=["/engineers", "auth0|123"])), NOW, AUDIENCES)
    assert isinstance(found, TokenCredential)
    assert found.object_id == object_id_of(jose.ISSUER, "auth0|123")
    assert found.groups == tuple(object_id_of(jose.ISSUER, name, group=True) for name in ("/engineers", "auth0|123"))
    assert found.object_id not in found.groups
    assert outcome(sign(header(), claims(groups=["\ud800"]))) == "malformed"


# Our own tokens


def test_our_own_token_dies_with_its_principal_whatever_is_cached(world: World) -> None:
    principal, _ = world.application()
    token, cache, now = world.token(principal), TokenCache(), world.clock.now()

    def ask() -> str:
        found = verify(world.snapshot(), token, now, AUDIENCES, cache)
        return found.reason if isinstance(found, RejectedCredential) else "accepted"

    assert ask() == ask() == "accepted"
    with world.database.write() as writer:
        world.directory.set_enabled(writer, principal.object_id, False)
    assert ask() == "disabled_principal"
    with world.database.write() as writer:
        world.directory.set_enabled(writer, principal.object_id, True)
    assert ask() == "accepted"
    with world.database.write() as writer:
        world.directory.delete(writer, principal.object_id)
    assert ask() == "unknown_principal"
    assert len(cache) == 1


def test_group_membership_is_looked_up_not_believed(world: World) -> None:
    from stockade.identity import tokens

    principal, _ = world.application()
    with world.database.read() as reader:
        key = world.keys.current(reader)
    issued = tokens.issue(
        key,
        principal,
        authority=world.settings.authority,
        audience=AI,
        proof="secret",
        groups=["left-long-ago"],
        now=world.clock.now(),
    )
    found = verify(world.snapshot(), issued.token.reveal_text(), world.clock.now(), AUDIENCES)
    assert isinstance(found, TokenCredential)
    assert found.groups == ()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"tid": "another"}, "wrong_tenant"),
        ({"tid": None}, "wrong_tenant"),
        ({"appid": "another"}, "wrong_application"),
        ({"appid": None}, "wrong_application"),
        ({"oid": OBJECT_ID}, "unknown_principal"),
    ],
)
def test_our_own_tokens_must_agree_with_the_directory(world: World, changes: dict[str, Any], reason: str) -> None:
    principal, _ = world.application()
    with world.database.read() as reader:
        key = world.keys.current(reader)
    now = world.clock.now()
    good = {
        "iss": world.issuer,
        "aud": AI,
        "exp": now + 60,
        "oid": principal.object_id,
        "appid": principal.app_id,
        "tid": world.tenant_id,
    }
    assert outcome(sign(header(kid=key.key_id), good, key.key), world.snapshot(), now) == "accepted"
    wrong = {name: value for name, value in (good | changes).items() if value is not None}
    assert outcome(sign(header(kid=key.key_id), wrong, key.key), world.snapshot(), now) == reason


def test_an_external_principal_has_no_local_tokens(world: World) -> None:
    with world.database.write() as writer:
        external = world.directory.register_external(
            writer, OBJECT_ID, "x", "ServicePrincipal", jose.ISSUER, app_id="a"
        )
    assert outcome(world.token(external), world.snapshot(), world.clock.now()) == "unknown_principal"


# The cache


def test_the_cache_follows_keys_and_issuers() -> None:
    cache = TokenCache()
    assert isinstance(verify(SNAPSHOT, GOOD, NOW, AUDIENCES, cache), TokenCredential)
    without_keys = SNAPSHOT.with_changes(2, {"idp": jose.entries()[:1]})
    assert verify(without_keys, GOOD, NOW, AUDIENCES, cache) == RejectedCredential("token", "unknown_key")
    without_issuer = SNAPSHOT.with_changes(3, {"idp": ()})
    assert verify(without_issuer, GOOD, NOW, AUDIENCES, cache) == RejectedCredential("token", "unknown_issuer")
    replaced = VerificationKey(jose.ISSUER, "rsa", "RS256", jose.RSA_OTHER.as_dict(private=False), None)
    swapped = SNAPSHOT.with_changes(
        4, {"idp": (jose.entries()[0], ("verification-key", (jose.ISSUER, "rsa"), replaced))}
    )
    assert verify(swapped, GOOD, NOW, AUDIENCES, cache) == RejectedCredential("token", "bad_signature")


def test_the_cache_serves_each_listener_by_its_own_audiences() -> None:
    cache = TokenCache()
    assert isinstance(verify(SNAPSHOT, GOOD, NOW, AUDIENCES, cache), TokenCredential)
    assert verify(SNAPSHOT, GOOD, NOW, frozenset({ARM}), cache) == RejectedCredential("token", "wrong_audience")
    assert isinstance(verify(SNAPSHOT, GOOD, NOW, frozenset({AI}), cache), TokenCredential)


def test_a_cached_token_expires() -> None:
    cache = TokenCache()
    assert isinstance(verify(SNAPSHOT, GOOD, NOW, AUDIENCES, cache), TokenCredential)
    assert verify(SNAPSHOT, GOOD, NOW + 3600 + LEEWAY_S, AUDIENCES, cache) == RejectedCredential("token", "expired")


def test_the_cache_is_bounded_and_holds_proofs_only() -> None:
    cache = TokenCache(limit=2)
    for number in range(5):
        verify(SNAPSHOT, sign(header(), claims(uti=str(number))), NOW, AUDIENCES, cache)
        verify(SNAPSHOT, f"{GOOD[:-10]}AAAAAAAAAA{number}", NOW, AUDIENCES, cache)
        verify(SNAPSHOT, sign(header(), claims(exp=NOW - 100)), NOW, AUDIENCES, cache)
    assert len(cache) == 2
