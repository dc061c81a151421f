"""Where root keys come from, and what is said when they do not."""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from stockade.broker.opening import Opening
from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.secret import Secret
from stockade.keys import root_sources
from stockade.keys.providers.installed import install
from stockade.keys.root import RootKey
from stockade.keys.root_sources import CredentialSource, EnvironmentSource, FileSource, source_of
from stockade.settings import Keys, Provider, Settings
from tests.factories.softhsm import softhsm_place

VALUE = bytes(range(32))
ROOT = RootKey(Secret(VALUE))


class Token:
    """A provider with one named key. Wrapping is turning around."""

    def __init__(self) -> None:
        self.there = True

    def wrap_named(self, name: str, value: bytes) -> tuple[bytes, str]:
        return value[::-1], f"{name}/1"

    def unwrap_named(self, name: str, wrapped: bytes) -> bytes:
        if not self.there:
            raise Fault(FaultKind.UNAVAILABLE, "The token is not there.")
        assert name == "root/1"
        return wrapped[::-1]

    def close(self) -> None:
        """Have nothing to close."""


def settings(folder: Path, **keys: object) -> Settings:
    return Settings(data_dir=folder, keys=Keys(**keys))  # type: ignore[arg-type]


def told(call: object) -> str:
    with pytest.raises(Fault) as caught:
        call()  # type: ignore[operator]
    return caught.value.message


def is_root(root: RootKey | None) -> bool:
    return root is not None and root.value.matches(VALUE)


def test_a_file_is_replaced_whole_and_destroyed_for_good(tmp_path: Path) -> None:
    source = source_of(settings(tmp_path))
    assert isinstance(source, FileSource)
    assert not source.exists()
    assert "no root key" in told(source.read)
    source.put(ROOT)
    assert is_root(source.read())
    assert (tmp_path / "root.key").stat().st_mode & 0o777 == 0o600
    source.destroy()
    source.destroy()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "value", [base64.b64encode(VALUE).decode(), base64.b64encode(VALUE).decode() + "\n"], ids=[0, 1]
)
def test_the_environment_has_it_in_base64(value: str) -> None:
    assert is_root(EnvironmentSource("ROOT", {"ROOT": value}).read())


@pytest.mark.parametrize("environment", [{}, {"ROOT": ""}, {"ROOT": "x" * 31}, {"ROOT": "????"}], ids=range(4))
def test_an_environment_without_it_says_so_and_shows_nothing(environment: Mapping[str, str]) -> None:
    message = told(EnvironmentSource("ROOT", environment).read)
    assert "environment variable ROOT" in message
    assert "xxx" not in message


def test_a_systemd_credential_is_bytes_or_base64(tmp_path: Path) -> None:
    environment = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    source = CredentialSource("root", environment)
    assert "no root key" in told(source.read)
    for value in (VALUE, base64.b64encode(VALUE) + b"\n"):
        (tmp_path / "root").write_bytes(value)
        assert is_root(source.read())
    assert "systemd did not start this" in told(CredentialSource("root", {}).read)


def test_a_providers_key_is_needed_to_read_what_lies_in_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = Token()
    monkeypatch.setattr(root_sources, "install", lambda *_: token)
    place = Provider(name="hsm", type="pkcs11", url="/x.so")
    source = source_of(settings(tmp_path, root="provider", root_provider="hsm", root_name="root", providers=(place,)))
    assert not source.exists()
    source.put(ROOT)
    assert VALUE not in (tmp_path / "root.sealed").read_bytes()
    assert is_root(source.read())
    token.there = False
    assert "cannot be unwrapped by hsm: The token is not there." in told(source.read)
    (tmp_path / "root.sealed").write_bytes(b"{}")
    assert "damaged" in told(source.read)


@pytest.mark.softhsm
def test_a_token_unseals_the_platform_and_nothing_without_it_does(tmp_path: Path) -> None:
    import pkcs11

    place = softhsm_place()
    provider = install(place, Secret(b"s" * 32))
    label = "root-of-this-test"
    provider._token.run(  # type: ignore[attr-defined]
        lambda session: session.generate_key(pkcs11.KeyType.AES, 256, label=label, store=True) and None
    )
    configured = settings(tmp_path, root="provider", root_provider="hsm", root_name=label, providers=(place,))
    source_of(configured).put(ROOT)
    keyring = Opening(configured).begin()
    assert keyring is not None
    again = Opening(configured).begin()
    assert again is not None
    assert again.versions == keyring.versions
    absent = settings(tmp_path, root="provider", root_provider="hsm", root_name=label)
    assert "has to name one of keys.providers" in told(lambda: Opening(absent))
    provider._token.run(  # type: ignore[attr-defined]
        lambda session: [found.destroy() for found in session.get_objects({pkcs11.Attribute.LABEL: label})]
    )
    assert "cannot be unwrapped by hsm" in told(Opening(configured).begin)


@pytest.mark.parametrize(
    "keys",
    [
        {"root": "environment"},
        {"root": "credential"},
        {"root": "credential", "root_name": "../x"},
        {"root": "provider"},
        {"root": "provider", "root_provider": "hsm", "root_name": "k"},
    ],
    ids=range(5),
)
def test_settings_that_do_not_say_enough_are_refused(tmp_path: Path, keys: dict[str, str]) -> None:
    with pytest.raises(Fault) as caught:
        source_of(settings(tmp_path, **keys), os.environ)
    assert caught.value.kind is FaultKind.INVALID


def test_what_the_platform_cannot_write_to_it_does_not(tmp_path: Path) -> None:
    shares = source_of(settings(tmp_path, root="shares"))
    assert shares.read() is None
    for source in (shares, EnvironmentSource("ROOT", {}), CredentialSource("root", {})):
        assert not source.kept_here
        with pytest.raises(Fault) as caught:
            source.put(ROOT)
        assert caught.value.kind is FaultKind.UNSUPPORTED
