"""Keys whose version could not be stored, and what is decided about a new key before it is made."""

from __future__ import annotations

from typing import Any

import pytest

from stockade.kernel.evidence import CallerToken
from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.secret import Secret
from stockade.keys.broker import Broker
from stockade.settings import Settings, Vault
from stockade.vault import destruction, vaults
from stockade.vault.keys import CreateKey, Keys, planned_operations, planned_spec
from tests.factories.vault import Vaulted


class Elsewhere:
    """A broker whose provider is called `hsm` and, where the test wants it, does something between making a key and its being stored."""

    def __init__(self, broker: Broker) -> None:
        self._broker, self.meanwhile, self.destroyed = broker, lambda: None, []

    def make_key(self, provider: str, spec: Any, version_id: str, evidence: Any, asked_by: str) -> Any:
        assert provider == "hsm"
        made = self._broker.make_key("software", spec, version_id, evidence, asked_by)
        self.meanwhile()
        return made

    def destroy_key(self, provider: str, handle: bytes, version_id: str) -> None:
        self.destroyed.append((provider, version_id))


@pytest.fixture
def elsewhere(vaulted: Vaulted) -> Elsewhere:
    return Elsewhere(vaulted.broker)


@pytest.fixture
def keys(vaulted: Vaulted, elsewhere: Elsewhere) -> Keys:
    settings = Settings(data_dir=vaulted.settings.data_dir, vault=Vault(provider="hsm"))
    return Keys(settings, vaulted.database, elsewhere, vaulted.clock)  # type: ignore[arg-type]


def asking(vaulted: Vaulted) -> tuple[CallerToken, str]:
    return CallerToken(Secret(vaulted.token())), "test"


def test_a_key_whose_vault_went_away_meanwhile_is_destroyed(vaulted: Vaulted, keys: Keys, elsewhere: Elsewhere) -> None:
    def delete() -> None:
        with vaulted.database.write() as writer:
            vaults.soft_delete(writer, vaulted.vault, vaulted.clock.now())

    elsewhere.meanwhile = delete
    with pytest.raises(Fault) as refused:
        keys.create(vaulted.vault.id, "k1", CreateKey(kty="EC"), *asking(vaulted))
    assert refused.value.kind is FaultKind.NOT_FOUND
    assert destruction.destroy_due(vaulted.database, elsewhere) == 1  # type: ignore[arg-type]
    assert [provider for provider, _ in elsewhere.destroyed] == ["hsm"]


def test_a_key_that_was_rotated_by_somebody_else_meanwhile_is_destroyed(
    vaulted: Vaulted, keys: Keys, elsewhere: Elsewhere
) -> None:
    first = keys.create(vaulted.vault.id, "k1", CreateKey(kty="EC"), *asking(vaulted)).version.name
    elsewhere.meanwhile = lambda: vaulted.ok("POST", "/keys/k1/rotate")
    with pytest.raises(Fault) as refused:
        keys.rotate(vaulted.vault.id, "k1", *asking(vaulted), only_after=first)
    assert refused.value.kind is FaultKind.CONFLICT
    assert len(vaulted.ok("GET", "/keys/k1/versions")["value"]) == 2
    assert destruction.destroy_due(vaulted.database, elsewhere) == 1  # type: ignore[arg-type]


def test_versions_are_newer_than_those_before_them_whatever_the_clock_does(vaulted: Vaulted) -> None:
    for _ in range(2):
        vaulted.ok("POST", "/keys/k1/create", {"kty": "EC"})
    vaulted.clock.jump(-3600)
    newest = vaulted.ok("POST", "/keys/k1/create", {"kty": "EC"})
    token = vaulted.token()
    assert vaulted.ok("GET", "/keys/k1")["key"]["kid"] == newest["key"]["kid"]
    signed = vaulted.ok("POST", "/keys/k1//sign", {"alg": "ES256", "value": "AQ" * 21 + "E"}, by=f"Bearer {token}")
    assert signed["kid"] == newest["key"]["kid"]


def test_what_a_key_is_when_nothing_is_said() -> None:
    assert planned_spec("RSA", None, None, None).size == 2048
    assert planned_spec("EC", None, None, None).curve == "P-256"
    assert "unwrapKey" in planned_operations(None, planned_spec("RSA", None, None, None))
    assert planned_operations(None, planned_spec("EC", None, None, None)) == ("sign", "verify")
