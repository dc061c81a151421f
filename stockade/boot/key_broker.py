"""What the key broker's process serves, and what looks after keys elsewhere beside it."""

from __future__ import annotations

from stockade.boot.foundation import Foundation, foundation
from stockade.broker.floors import Floors
from stockade.broker.service import KeyBroker
from stockade.broker.watch import Watch
from stockade.kernel.clock import clock_of
from stockade.keys.keyring import Keyring
from stockade.settings import Settings


def key_broker(configured: Settings, *, alone: bool = False) -> tuple[Foundation, KeyBroker]:
    """Build what the key broker's process serves. alone: no supervisor of the platform has started it."""
    base = foundation(configured, own_broker=True, alone=alone)
    assert isinstance(base.broker, KeyBroker)
    return base, base.broker


def key_watch(base: Foundation, broker: KeyBroker) -> Watch:
    """Build what looks after customers' keys in vaults elsewhere, beside the broker."""
    lease_s = base.settings.keys.lease_s
    return Watch(base.database, base.clock, base.source.current, broker.vault_elsewhere, lease_s)


def forget_head(configured: Settings, keyring: Keyring, log: str) -> int:
    """Let the broker sign a log anew that was restored from before its newest head; return of how many records that head was, 0 for none.

    Only while no broker runs, which would write back what it knows.
    """
    found = Floors(configured.data_dir, keyring.keys, clock_of(configured.data_dir)).forget_head(log)
    return found.size if found is not None else 0
