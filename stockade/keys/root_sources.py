"""Where the root key comes from: a file, the environment, systemd's credentials, a provider that unwraps it, or people with shares.

The root key opens the platform keyring and nothing else (`keys/keyring.py`); it is read at start, used once and let go.
Source: systemd.exec(5), LoadCredential, for `$CREDENTIALS_DIRECTORY`.
"""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar, Final, Protocol

import msgspec

from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.secret import Secret
from stockade.keys.durable import destroy_file, write_durably
from stockade.keys.providers.installed import install
from stockade.keys.providers.provider import NamedKeys
from stockade.keys.root import ROOT_KEY_BYTES, RootKey
from stockade.settings import Keys, Settings

CREDENTIALS_VARIABLE: Final = "CREDENTIALS_DIRECTORY"
SEALED_FILE: Final = "root.sealed"
_MAX_FILE: Final = 64 * 1024


class RootSource(Protocol):
    """One place that the root key comes from."""

    kept_here: ClassVar[bool]
    """The platform can write a new root key there by itself."""

    @property
    def place(self) -> str:
        """Where it is, for people."""
        ...

    def exists(self) -> bool: ...

    def read(self) -> RootKey | None:
        """Return the root key; None where people give it. Fault(UNAVAILABLE) when it is missing, damaged or cannot be had now."""
        ...

    def put(self, root: RootKey) -> None:
        """Keep a root key there from now on, whole or not at all; Fault(UNSUPPORTED) where the platform cannot write."""
        ...


class FileSource:
    """`root.key` in the data directory, readable by nobody else."""

    kept_here: ClassVar[bool] = True

    def __init__(self, path: Path) -> None:
        self._path = path
        self.place = str(path)

    def exists(self) -> bool:
        return self._path.exists()

    def read(self) -> RootKey | None:
        return RootKey.open(self._path)

    def put(self, root: RootKey) -> None:
        write_durably(self._path, root.value.reveal(), replace=True)

    def destroy(self) -> None:
        """Overwrite and remove the file."""
        destroy_file(self._path)


class EnvironmentSource:
    """An environment variable with the key in base64. The supervisor hands it on to the key broker alone."""

    kept_here: ClassVar[bool] = False

    def __init__(self, variable: str, environment: Mapping[str, str] = os.environ) -> None:
        if not variable:
            raise Fault(FaultKind.INVALID, "keys.root is `environment`, and keys.root_name names no variable.")
        self._value = environment.get(variable, "")
        self.place = f"the environment variable {variable}"

    def exists(self) -> bool:
        return bool(self._value)

    def read(self) -> RootKey | None:
        return _root_key(self._value.encode(), self.place)

    def put(self, root: RootKey) -> None:
        raise _not_ours(self.place)


class CredentialSource:
    """A credential that systemd gives the service (`LoadCredential=`, `LoadCredentialEncrypted=`): 32 bytes, or base64 of them."""

    kept_here: ClassVar[bool] = False

    def __init__(self, name: str, environment: Mapping[str, str] = os.environ) -> None:
        if not name or "/" in name:
            raise Fault(FaultKind.INVALID, "keys.root is `credential`, and keys.root_name names no credential.")
        folder = environment.get(CREDENTIALS_VARIABLE, "")
        self._path = Path(folder) / name if folder else None
        self.place = f"the systemd credential {name}"

    def exists(self) -> bool:
        return self._path is not None and self._path.exists()

    def read(self) -> RootKey | None:
        if self._path is None:
            message = f"{self.place} is not there: ${CREDENTIALS_VARIABLE} is not set, so systemd did not start this."
            raise Fault(FaultKind.UNAVAILABLE, message)
        return _root_key(_read(self._path, self.place), self.place)

    def put(self, root: RootKey) -> None:
        raise _not_ours(self.place)


class _Sealed(msgspec.Struct, frozen=True, rename="camel"):
    """`root.sealed`. key: the name to unwrap with, as the provider gave it when it wrapped."""

    version: int
    provider: str
    key: str
    wrapped: bytes


class ProviderSource:
    """`root.sealed` in the data directory, which a key of a provider unwraps: whoever has the files alone has nothing."""

    kept_here: ClassVar[bool] = True

    def __init__(self, path: Path, keys: Keys) -> None:
        place = next((one for one in keys.providers if one.name == keys.root_provider), None)
        if place is None or not keys.root_name:
            message = "keys.root is `provider`: keys.root_provider has to name one of keys.providers, and keys.root_name a key there."
            raise Fault(FaultKind.INVALID, message)
        self._path, self._settings, self._key = path, place, keys.root_name
        self.place = f"{path}, unwrapped by {place.name}"

    def exists(self) -> bool:
        return self._path.exists()

    def read(self) -> RootKey | None:
        try:
            held = msgspec.json.decode(_read(self._path, str(self._path)), type=_Sealed)
        except msgspec.MsgspecError as failure:
            raise Fault(FaultKind.UNAVAILABLE, f"{self._path} is damaged.") from failure
        with self._provider() as provider:
            try:
                value = provider.unwrap_named(held.key, held.wrapped)
            except Fault as fault:
                message = f"The root key in {self._path} cannot be unwrapped by {self._settings.name}: {fault.message}"
                raise Fault(FaultKind.UNAVAILABLE, message) from fault
        return _root_key(value, self.place)

    def put(self, root: RootKey) -> None:
        with self._provider() as provider:
            wrapped, name = provider.wrap_named(self._key, root.value.reveal())
            if not root.value.matches(provider.unwrap_named(name, wrapped)):
                raise Fault(FaultKind.UNAVAILABLE, f"{self._settings.name} does not unwrap what it wraps.")
        held = _Sealed(version=1, provider=self._settings.name, key=name, wrapped=wrapped)
        write_durably(self._path, msgspec.json.encode(held), replace=True)

    @contextmanager
    def _provider(self) -> Iterator[NamedKeys]:
        # The seal key is for handles, of which there are none here.
        found = install(self._settings, Secret(os.urandom(ROOT_KEY_BYTES)))
        try:
            named: object = found
            if not isinstance(named, NamedKeys):
                raise Fault(FaultKind.UNSUPPORTED, f"The provider {self._settings.name} cannot hold the root key.")
            yield named
        finally:
            found.close()


class SharesSource:
    """People. The platform starts sealed and opens when enough of them have given their shares."""

    kept_here: ClassVar[bool] = False
    place: ClassVar[str] = "people's shares"

    def exists(self) -> bool:
        return True

    def read(self) -> RootKey | None:
        return None

    def put(self, root: RootKey) -> None:
        raise _not_ours(self.place)


def source_of(settings: Settings, environment: Mapping[str, str] = os.environ) -> RootSource:
    """Return the source that the settings name; Fault(INVALID) when they do not say enough."""
    match settings.keys.root:
        case "file":
            return FileSource(settings.root_key_file)
        case "environment":
            return EnvironmentSource(settings.keys.root_name, environment)
        case "credential":
            return CredentialSource(settings.keys.root_name, environment)
        case "provider":
            return ProviderSource(settings.data_dir / SEALED_FILE, settings.keys)
        case "shares":
            return SharesSource()


def _read(path: Path, place: str) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_MAX_FILE)
    except FileNotFoundError as missing:
        raise Fault(FaultKind.UNAVAILABLE, f"There is no root key at {place}.") from missing
    except OSError as failure:
        raise Fault(FaultKind.UNAVAILABLE, f"The root key at {place} cannot be read.") from failure


def _root_key(value: bytes, place: str) -> RootKey:
    if not value:
        raise Fault(FaultKind.UNAVAILABLE, f"There is no root key in {place}.")
    if len(value) != ROOT_KEY_BYTES:
        try:
            value = base64.b64decode(value.strip(), validate=True)
        except binascii.Error:
            value = b""
    if len(value) != ROOT_KEY_BYTES:
        raise Fault(FaultKind.UNAVAILABLE, f"What is in {place} is no root key: 32 bytes, or base64 of them.")
    return RootKey(Secret(value))


def _not_ours(place: str) -> Fault:
    return Fault(FaultKind.UNSUPPORTED, f"The platform cannot write to {place}.")
