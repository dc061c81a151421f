"""What keeps a key from being bound, each with a way out."""

from __future__ import annotations

from typing import Any

import pytest

from stockade.policy.key_preflight import preflight
from stockade.policy.key_remedies import remedy
from stockade.policy.snapshot import NetworkPolicy, Snapshot
from tests.factories.customer_key import IDENTITY, KEY_ID, NOW, customer_key, snapshot, vault, version
from tests.factories.policy import ACCOUNT


def found(policy: Snapshot, *, strict: bool = False, location: str = "local", **changes: Any) -> list[str]:
    key = customer_key(**changes)
    told = preflight(policy, key, tenant_id="T", location=location, now=NOW, strict=strict)
    for one in told:
        assert one.message
        assert remedy(policy, key, one.problem, ACCOUNT).what
    return [one.problem for one in told]


def test_nothing_when_everything_is_in_order() -> None:
    assert found(snapshot()) == []
    assert found(snapshot(), strict=True) == []
    assert found(snapshot(), location="elsewhere") == []


@pytest.mark.parametrize("size", [2048, 3072, 4096])
def test_azure_takes_2048_bits_alone(size: int) -> None:
    policy = snapshot(versions=(version(key_size=size, key_type="RSA-HSM"),))
    assert found(policy) == []
    assert found(policy, strict=True) == ([] if size == 2048 else ["KeySizeNotSupported"])


def test_everything_at_once() -> None:
    broken = snapshot(
        vaults=(
            vault(tenant_id="u", purge_protection=False, soft_delete=False, network=NetworkPolicy(public_access=False)),
        ),
        versions=(version(enabled=False, key_type="EC"),),
        role=None,
    )
    assert found(broken, strict=True, location="elsewhere") == [
        "KeyDisabled", "AccessDenied", "VaultNetworkDenied", "SoftDeleteDisabled", "PurgeProtectionDisabled", "OtherTenant",
        "OtherRegion", "KeyTypeNotSupported",
    ]  # fmt: skip


def test_a_key_of_the_wrong_size() -> None:
    assert found(snapshot(versions=(version(key_size=1024),))) == ["KeySizeNotSupported"]


def test_the_way_out_is_a_command_for_what_is_wrong() -> None:
    def command(problem: str, policy: Snapshot | None = None, **changes: Any) -> str:
        return remedy(policy or snapshot(), customer_key(**changes), problem, ACCOUNT).command

    granted = command("AccessDenied")
    assert IDENTITY in granted
    assert "'Key Vault Crypto Service Encryption User'" in granted
    assert KEY_ID in granted
    assert command("AccessDenied", snapshot(vaults=(vault(rbac=False),))) == (
        f"az keyvault set-policy -n v1 --object-id {IDENTITY} --key-permissions get wrapKey unwrapKey"
    )
    assert command("PurgeProtectionDisabled") == "az keyvault update -n v1 --enable-purge-protection true"
    assert command("KeyDisabled", key_version="ab") == (
        "az keyvault key set-attributes --vault-name v1 -n k1 --version ab --enabled true"
    )
    assert command("IdentityMissing") == "az cognitiveservices account identity assign -g g -n a"
    assert command("VaultUnreachable", vault_uri="https://elsewhere.example") == ""
