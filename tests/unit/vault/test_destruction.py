"""Keys of purged versions are destroyed where they are held, whenever that can be done."""

from __future__ import annotations

from typing import Any

from stockade.kernel.faults import Fault, FaultKind
from stockade.keys.material import Jwk
from stockade.keys.stored import KEY, StoredKey
from stockade.vault import destruction, vaults
from stockade.vault.documents import KEY_VERSIONS
from tests.factories.vault import Vaulted


class Provider:
    """Stands for the broker: notes what is destroyed, or is away."""

    def __init__(self) -> None:
        self.away, self.destroyed = False, []

    def destroy_key(self, provider: str, handle: bytes, version_id: str) -> None:
        if self.away:
            raise Fault(FaultKind.UNAVAILABLE, "away")
        self.destroyed.append((provider, handle, version_id))


def held_elsewhere(vaulted: Vaulted, name: str) -> str:
    """Make a key, and then say that its newest version is held by a provider of its own; return the version's id."""
    made = vaulted.ok("POST", f"/keys/{name}/create", {"kty": "EC"})
    version_id = f"{vaulted.vault.id}/keys/{name}/versions/{made['key']['kid'].rsplit('/', 1)[-1]}"
    stored = StoredKey(provider="hsm", handle=b"h", public=Jwk(kty="EC", crv="P-256", x=b"x", y=b"y"))
    with vaulted.database.write() as writer:
        version = writer.get(version_id)
        assert version is not None
        writer.put(version.id, KEY_VERSIONS, version.body, {KEY: stored.to_private()})
    return version_id


def destroy(vaulted: Vaulted, provider: Any) -> int:
    return destruction.destroy_due(vaulted.database, provider)


def test_a_purged_key_is_destroyed_once_its_provider_is_there(vaulted: Vaulted) -> None:
    provider, version_id = Provider(), held_elsewhere(vaulted, "k1")
    vaulted.ok("DELETE", "/keys/k1")
    assert destroy(vaulted, provider) == 0
    vaulted.ok("DELETE", "/deletedkeys/k1")
    provider.away = True
    assert destroy(vaulted, provider) == 0
    provider.away = False
    assert destroy(vaulted, provider) == 1
    assert provider.destroyed == [("hsm", b"h", version_id)]
    assert destroy(vaulted, provider) == 0


def test_a_purged_vaults_keys_are_destroyed_and_software_keys_need_not_be(vaulted: Vaulted) -> None:
    provider, version_id = Provider(), held_elsewhere(vaulted, "k1")
    vaulted.ok("POST", "/keys/software/create", {"kty": "EC"})
    with vaulted.database.write() as writer:
        vaults.soft_delete(writer, vaulted.vault, vaulted.clock.now())
    vaulted.clock.advance(90 * 86_400)
    with vaulted.database.write() as writer:
        assert vaults.purge_expired(writer, vaulted.clock.now())
    assert destroy(vaulted, provider) == 1
    assert provider.destroyed == [("hsm", b"h", version_id)]
