"""How the keyring comes to be open: from the root key's source at start, or share by share once people unseal the platform."""

from __future__ import annotations

from typing import Protocol

from stockade.kernel.secret import Secret
from stockade.keys.keyring import FILE_NAME, Keyring, open_or_make
from stockade.keys.root import RootKey
from stockade.settings import Settings


class Opening(Protocol):
    """Gives the broker its keyring. Fault(UNAVAILABLE) says what is in the way."""

    @property
    def shares(self) -> tuple[int, int]:
        """How many shares are wanted, and how many have been given."""
        ...

    def begin(self) -> Keyring | None:
        """Return the keyring at start; None while the platform is sealed."""
        ...

    def seal(self) -> None:
        """Note that the platform is sealed, so that it still is after a restart."""
        ...

    def unseal(self, share: Secret) -> Keyring | None:
        """Take one share; return the keyring when it is open, None while more are wanted."""
        ...


class FileOpening:
    """The root key lies in the data directory."""

    shares = (0, 0)

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def begin(self) -> Keyring | None:
        root = RootKey.open(self._settings.root_key_file)
        return open_or_make(self._settings.data_dir / FILE_NAME, root)

    def seal(self) -> None:
        return

    def unseal(self, share: Secret) -> Keyring | None:
        return self.begin()
