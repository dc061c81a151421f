"""How the keyring comes to be open: from the root key's source at start, or share by share once people unseal the platform.

A platform that was sealed stays sealed over restarts, by a file that says so, until somebody unseals it. What is remembered while it is open is what
the keyring file is sealed with, not the root key.
"""

from __future__ import annotations

from typing import Final

from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.secret import Secret
from stockade.keys.durable import alone, sync_folder, write_durably
from stockade.keys.keyring import FILE_NAME, Keyring, open_or_make, read_slots, sealing_key
from stockade.keys.recovery import Gathering, read_kit
from stockade.keys.root import RootKey
from stockade.keys.root_sources import SharesSource, source_of
from stockade.settings import Settings

MARKER: Final = "sealed"


class Opening:
    """Gives the broker its keyring. Not for several threads at once."""

    def __init__(self, settings: Settings) -> None:
        self._folder = settings.data_dir
        self._path, self._marker = settings.data_dir / FILE_NAME, settings.data_dir / MARKER
        self._source = source_of(settings)
        self._gathering = Gathering()
        self._sealing: Secret | None = None

    @property
    def shares(self) -> tuple[int, int]:
        """How many shares are wanted to unseal, and how many have been given. 0 wanted: none, or nobody knows yet."""
        kit = read_kit(self._folder)
        wanted = self._gathering.wanted or (kit.threshold if kit is not None else 0)
        return (wanted, self._gathering.given) if self._sealing is None else (0, 0)

    @property
    def starts_sealed(self) -> bool:
        """Whether people have to unseal it: because its root key is theirs, or because it was sealed."""
        return isinstance(self._source, SharesSource) or self._marker.exists()

    def begin(self) -> Keyring | None:
        """Return the keyring at start; None while the platform is sealed. Fault(UNAVAILABLE) says what is in the way."""
        if self.starts_sealed:
            return None
        return self._open(self._from_source())

    def seal(self) -> None:
        """Note that the platform is sealed, so that it still is after a restart."""
        write_durably(self._marker, b"", replace=True)
        self._sealing = None
        self._gathering.forget()

    def unseal(self, share: Secret) -> Keyring | None:
        """Take one share; return the keyring when it is open, None while more are wanted.

        An empty one opens a platform whose root key is in a source of its own. Fault(INVALID) for what opens nothing.
        """
        root = self._gathering.add(share) if len(share) else self._from_source()
        if root is None:
            return None
        if len(share) and not self._path.exists():
            raise Fault(
                FaultKind.UNAVAILABLE, f"There is no platform keyring at {self._path}. Put it back from your backup."
            )
        try:
            keyring = self._open(root)
        except Fault as fault:
            raise Fault(FaultKind.INVALID, f"The shares are of another root key: {fault.message}") from fault
        if self._marker.exists():
            self._marker.unlink()
            sync_folder(self._folder)
        return keyring

    def rotate_platform(self) -> Keyring:
        """Give the keyring one more version of the platform's key, durably."""
        if self._sealing is None:
            raise Fault(FaultKind.UNAVAILABLE, "The platform is sealed.")
        with alone(self._folder):
            if len(read_slots(self._path)) != 1:
                message = "The root key is being changed; finish that first: stockade keys rotate-root"
                raise Fault(FaultKind.CONFLICT, message)
            try:
                current = Keyring.open(self._path, self._sealing)
            except Fault:  # the root key has been changed since
                self._sealing = sealing_key(self._from_source())
                current = Keyring.open(self._path, self._sealing)
            keyring = current.with_new_kek()
            write_durably(self._path, keyring.sealed(self._sealing), replace=True)
        return keyring

    def _open(self, root: RootKey) -> Keyring:
        keyring = open_or_make(self._path, root)
        self._sealing = sealing_key(root)
        return keyring

    def _from_source(self) -> RootKey:
        root = self._source.read()
        if root is None:
            raise Fault(FaultKind.INVALID, "This platform is unsealed with people's shares.")
        return root
