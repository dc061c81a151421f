"""A new root key, in three steps, each of which leaves a platform that opens.

The keyring is sealed with both, the new key is put in its place, the old one's sealing is removed. Whoever is interrupted does it again.

Where the platform cannot write the new key itself (environment, credential) the operator does the second step, and `finish` the third.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.secret import Secret
from stockade.keys.durable import alone, destroy_file, write_durably
from stockade.keys.keyring import FILE_NAME, Keyring, open_or_make, read_slots, sealing_key
from stockade.keys.root import ROOT_KEY_BYTES, RootKey
from stockade.keys.root_sources import RootSource

NEW_FILE: Final = "root.new"
"""Base64 of the new root key, for the operator to take to where the platform cannot write."""


def rotate(folder: Path, source: RootSource, old: RootKey, put: Callable[[RootKey], None] | None = None) -> RootKey:
    """Change the root key where the platform itself can put it. put: instead of the source's own, for people's shares."""
    path = folder / FILE_NAME
    with alone(folder):
        keyring = open_or_make(path, old)
        new = RootKey(Secret(os.urandom(ROOT_KEY_BYTES)))
        write_durably(path, keyring.sealed(sealing_key(old), sealing_key(new)), replace=True)
        (put or source.put)(new)
        write_durably(path, keyring.sealed(sealing_key(new)), replace=True)
    return new


def prepare(folder: Path, old: RootKey) -> Path:
    """Seal the keyring with a new root key too, and return the file that it is written to for the operator."""
    path, file = folder / FILE_NAME, folder / NEW_FILE
    with alone(folder):
        keyring = open_or_make(path, old)
        new = RootKey(Secret(os.urandom(ROOT_KEY_BYTES)))
        # The file first: were the keyring sealed with a key that nobody has, nothing would be lost, but nothing gained either.
        write_durably(file, base64.b64encode(new.value.reveal()) + b"\n", replace=True)
        write_durably(path, keyring.sealed(sealing_key(old), sealing_key(new)), replace=True)
    return file


def finish(folder: Path, current: RootKey) -> None:
    """Take the old root key's sealing away once the source gives the new one; Fault(CONFLICT) while it still gives the old."""
    path, file = folder / FILE_NAME, folder / NEW_FILE
    with alone(folder):
        _finish(path, file, current)


def _finish(path: Path, file: Path, current: RootKey) -> None:
    keyring = Keyring.open(path, sealing_key(current))
    if len(read_slots(path)) == 1:
        raise Fault(FaultKind.CONFLICT, "No change of the root key has been begun.")
    try:
        wanted = base64.b64decode(file.read_bytes().strip())
    except OSError as failure:
        raise Fault(
            FaultKind.CONFLICT, f"{file} is not there, so it cannot be told which key is the new one."
        ) from failure
    if not current.value.matches(wanted):
        raise Fault(FaultKind.CONFLICT, "The root key's source still gives the old key.")
    write_durably(path, keyring.sealed(sealing_key(current)), replace=True)
    destroy_file(file)
