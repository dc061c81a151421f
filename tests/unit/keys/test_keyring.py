"""The platform keyring's file: who opens it, and that nothing else does."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from stockade.broker import key_rights
from stockade.broker.providers import HANDLES_PURPOSE, Installed
from stockade.broker.vault_keys import VaultKeys
from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.secret import Secret
from stockade.keys.durable import write_durably
from stockade.keys.keyring import FILE_NAME, Keyring, open_or_make, read_slots, sealing_key
from stockade.keys.material import Jwk, KeyRequest
from stockade.keys.providers.software import SoftwareProvider
from stockade.keys.root import LentKeys, RootKey
from stockade.policy.snapshot import Snapshot
from stockade.settings import Keys
from stockade.storage.database import Database
from tests.outside import ROOT as FROZEN

ROOT, OTHER = RootKey(Secret(b"r" * 32)), RootKey(Secret(b"o" * 32))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / FILE_NAME


def refused(file: Path, root: RootKey) -> str:
    with pytest.raises(Fault) as caught:
        Keyring.open(file, sealing_key(root))
    assert caught.value.kind is FaultKind.UNAVAILABLE
    return caught.value.message


def test_what_was_derived_from_a_root_key_goes_on_being_derived(file: Path) -> None:
    keyring = open_or_make(file, ROOT)
    assert keyring.keys.derive("x").matches(ROOT.derive("x").reveal())
    assert file.stat().st_mode & 0o777 == 0o600
    again = open_or_make(file, ROOT)
    assert again.kek(again.newest).matches(keyring.kek(keyring.newest).reveal())


def test_a_new_keyring_has_nothing_of_the_root_key(file: Path) -> None:
    write_durably(file, Keyring.new().sealed(sealing_key(ROOT)), replace=False)
    assert not Keyring.open(file, sealing_key(ROOT)).keys.derive("x").matches(ROOT.derive("x").reveal())


def test_only_its_root_keys_open_it(file: Path) -> None:
    keyring = Keyring.new()
    write_durably(file, keyring.sealed(sealing_key(ROOT)), replace=True)
    assert "is not the one" in refused(file, OTHER)
    write_durably(file, keyring.sealed(sealing_key(ROOT), sealing_key(OTHER)), replace=True)
    assert len(read_slots(file)) == 2
    for root in (ROOT, OTHER):
        opened = Keyring.open(file, sealing_key(root))
        assert opened.kek(opened.newest).matches(keyring.kek(keyring.newest).reveal())


def test_a_damaged_file_opens_nothing(file: Path) -> None:
    whole = Keyring.new().sealed(sealing_key(ROOT))
    for place in range(len(whole)):
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        refused(file, ROOT)
        file.write_bytes(whole[:place])
        refused(file, ROOT)
    file.unlink()
    assert "no platform keyring" in refused(file, ROOT)


def test_versions_of_the_platforms_key_stay_and_the_newest_wraps() -> None:
    first = Keyring.new()
    second = first.with_new_kek()
    assert second.versions == (first.newest, second.newest)
    assert second.kek(first.newest).matches(first.kek(first.newest).reveal())
    assert not second.kek(second.newest).matches(first.kek(first.newest).reveal())
    with pytest.raises(Fault):
        first.kek(second.newest)


def test_lent_keys_are_those_that_the_keyring_derives_and_the_root_is_not_lent() -> None:
    asked: list[str] = []

    def lend(purpose: str) -> Secret:
        asked.append(purpose)
        return ROOT.derive(purpose)

    lent = LentKeys(lend)
    for length in (16, 32):
        assert lent.derive("x", length).matches(ROOT.derive("x", length).reveal())
    sealed = lent.seal(Secret("value"), "a")
    assert ROOT.unseal(sealed, "a").reveal() == b"value"
    assert lent.unseal(sealed, "a").reveal() == b"value"
    assert asked == ["x", "seal/1"]
    with pytest.raises(ValueError, match="32 bytes"):
        lent.derive("x", 33)
    with pytest.raises(Fault):
        _ = lent.value


def test_the_first_file_opens_for_ever(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Frozen on 2026-11-26; never made anew. What was sealed under it then opens too."""
    frozen = json.loads((FROZEN / "tests" / "vectors" / "keys" / "keyring.json").read_text())
    held = {name: base64.b64decode(value) for name, value in frozen.items() if isinstance(value, str)}
    file.write_bytes(held["file"])
    keyring = Keyring.open(file, sealing_key(RootKey(Secret(held["root"]))))
    assert keyring.keys.derive("subscription-key-digest/1").matches(held["digestKey"])
    assert keyring.kek(keyring.newest).matches(held["kek"])
    assert keyring.keys.unseal(held["sealed"], "account-1|Key1").reveal() == b"value"
    vault = VaultKeys(Database("sqlite://"), Installed(Keys(), keyring), keyring.keys)
    sealed = SoftwareProvider(keyring.keys.derive(HANDLES_PURPOSE))
    caller: Any = None
    # Who may restore is tested elsewhere; here it is about the bytes.
    monkeypatch.setattr(key_rights, "check_vault", lambda *_: None)
    restored = vault.restore(Snapshot(), "/new", caller, 0.0, "software", held["backup"])
    public = Jwk(kty="EC", crv="P-256", x=held["x"], y=held["y"])
    assert restored.public == public
    digest = KeyRequest(use="sign", algorithm="ES256", value=b"d" * 32)
    signature = sealed.use(held["handle"], public, digest, "/v").value
    shown = KeyRequest(use="verify", algorithm="ES256", value=b"d" * 32, signature=signature)
    assert sealed.use(restored.handle, public, shown, "/new").valid
