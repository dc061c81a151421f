"""The recovery kit: the root key as shares of words, so many of which give it back (Shamir, SLIP-39).

A share is 33 words with a checksum of its own; fewer than the threshold say nothing about the key. What is kept of a kit (`recovery.json`) is how
many shares there are, how many are wanted, and a fingerprint by which the kit of another root key is told apart.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec
from shamir_mnemonic import MnemonicError, Share, combine_mnemonics, generate_mnemonics

from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.secret import Secret
from stockade.keys.durable import write_durably
from stockade.keys.root import ROOT_KEY_BYTES, RootKey

FILE_NAME: Final = "recovery.json"
MAX_SHARES: Final = 16
"""SLIP-39's own limit."""
MAX_SHARE_BYTES: Final = 1024
_FINGERPRINT: Final = "broker/recovery-fingerprint/1"


class Kit(msgspec.Struct, frozen=True, rename="camel"):
    """What is known of the kit that was made last. identifier: what all its shares have in common, and other kits' do not."""

    shares: int
    threshold: int
    identifier: int
    fingerprint: str
    created_at: float


def fingerprint(root: RootKey) -> str:
    """Return 16 hex digits by which a root key is known; they say nothing about it."""
    return root.derive(_FINGERPRINT).reveal()[:8].hex()


def make(root: RootKey, shares: int, threshold: int, now: float) -> tuple[Kit, tuple[Secret, ...]]:
    """Return a kit and its shares' words; Fault(INVALID) for numbers that make no kit."""
    if not 2 <= threshold <= shares <= MAX_SHARES:
        message = f"A kit has up to {MAX_SHARES} shares, and at least two of them are wanted to open it."
        raise Fault(FaultKind.INVALID, message)
    (words,) = generate_mnemonics(1, [(threshold, shares)], root.value.reveal())
    identifier = Share.from_mnemonic(words[0]).identifier
    return Kit(shares, threshold, identifier, fingerprint(root), now), tuple(Secret(one) for one in words)


class Gathering:
    """Shares that people have given so far. `add` says when they are enough."""

    def __init__(self) -> None:
        self._words: dict[int, str] = {}
        self._first: Share | None = None

    @property
    def given(self) -> int:
        return len(self._words)

    @property
    def wanted(self) -> int:
        """How many make the key; 0 while there is none to tell."""
        return self._first.member_threshold if self._first is not None else 0

    def add(self, share: Secret) -> RootKey | None:
        """Take a share; return the root key when it is there, None while more are wanted.

        Fault(INVALID) for what is no share, and for one of another kit. A share given twice counts once.
        """
        if len(share) > MAX_SHARE_BYTES:
            raise Fault(FaultKind.INVALID, "That is no share.")
        try:
            words = " ".join(share.reveal_text().lower().split())
            read = Share.from_mnemonic(words)
        except (MnemonicError, ValueError, LookupError) as failure:
            raise Fault(
                FaultKind.INVALID, "That is no share: a word is misspelt, missing or in the wrong place."
            ) from failure
        first = self._first or read
        if (read.identifier, read.member_threshold, read.group_count) != (
            first.identifier,
            first.member_threshold,
            first.group_count,
        ):
            raise Fault(FaultKind.INVALID, "That share belongs to another kit than those before it.")
        self._first = first
        self._words[read.index] = words
        if len(self._words) < first.member_threshold:
            return None
        try:
            value = combine_mnemonics(self._words.values())
        except MnemonicError as failure:
            self.forget()
            raise Fault(FaultKind.INVALID, "The shares do not fit together. Begin again.") from failure
        self.forget()
        if len(value) != ROOT_KEY_BYTES:
            raise Fault(FaultKind.INVALID, "The shares are of no root key.")
        return RootKey(Secret(value))

    def forget(self) -> None:
        """Let go of what was given."""
        self._words.clear()
        self._first = None


def write_kit(folder: Path, kit: Kit) -> None:
    """Note what kit there is."""
    write_durably(folder / FILE_NAME, msgspec.json.encode(kit), replace=True)


def read_kit(folder: Path) -> Kit | None:
    """Return what kit there is; None when none was made."""
    try:
        return msgspec.json.decode((folder / FILE_NAME).read_bytes(), type=Kit)
    except (OSError, msgspec.MsgspecError):
        return None
