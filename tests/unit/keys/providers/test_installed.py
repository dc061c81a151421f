"""Which providers there are, and what is said of those that cannot be."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import get_args, get_type_hints

import pytest

from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.secret import Secret
from stockade.keys.providers.installed import installed, types
from stockade.settings import Keys, Provider

KEY = Secret(bytes(32))
MODULES = {"pkcs11": "pkcs11", "azure-key-vault": "azure.keyvault.keys", "transit": "hvac", "aws-kms": "boto3"}
EXTRAS = {"pkcs11": "pkcs11", "azure-key-vault": "azure", "transit": "vault", "aws-kms": "aws"}


def test_the_shelf_is_what_the_settings_know() -> None:
    assert {found.type for found in types()} == {"software", *get_args(get_type_hints(Provider)["type"])}


def test_software_is_always_there() -> None:
    assert list(installed(Keys(), KEY)) == ["software"]


@pytest.mark.parametrize("kind", sorted(MODULES))
def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setitem(sys.modules, MODULES[kind], None)
    with pytest.raises(Fault) as caught:
        installed(Keys(providers=(Provider(name="p", type=kind, url="https://localhost:1"),)), KEY)
    assert caught.value.kind is FaultKind.UNAVAILABLE
    assert f"stockade[{EXTRAS[kind]}]" in caught.value.message


@pytest.mark.parametrize("name", ["software", "twice"])
def test_names_are_not_used_twice(name: str) -> None:
    place = Provider(name=name, type="pkcs11", url="/nowhere.so")
    with pytest.raises(Fault) as caught:
        installed(Keys(providers=(place, place)), KEY)
    assert caught.value.kind is FaultKind.INVALID


@pytest.mark.parametrize("kind", ["azure-key-vault", "transit", "aws-kms"])
def test_a_credential_is_not_sent_in_clear(kind: str, tmp_path: Path) -> None:
    (tmp_path / "c").write_text('{"tenantId":"t","clientId":"c","clientSecret":"s"}')
    place = Provider(
        name="p", type=kind, url="http://vault.example", place="eu-central-1", credential_file=str(tmp_path / "c")
    )
    with pytest.raises(Fault) as caught:
        installed(Keys(providers=(place,)), KEY)
    assert caught.value.kind is FaultKind.UNAVAILABLE
    assert "https" in caught.value.message


@pytest.mark.parametrize("kind", ["azure-key-vault", "aws-kms"])
@pytest.mark.parametrize("text", ["not JSON but-a-secret", '{"clientSecret": "but-a-secret"}', '["but-a-secret"]'])
def test_a_credential_of_another_form_is_not_quoted(kind: str, text: str, tmp_path: Path) -> None:
    (tmp_path / "c").write_text(text)
    place = Provider(name="p", type=kind, url="https://vault.example", place="r", credential_file=str(tmp_path / "c"))
    with pytest.raises(Fault) as caught:
        installed(Keys(providers=(place,)), KEY)
    assert "JSON" in caught.value.message
    assert "but-a-secret" not in f"{caught.value!r}{caught.value.__cause__!r}"
