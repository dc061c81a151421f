"""What the key broker does for Lockbox."""

from __future__ import annotations

from typing import cast

from stockade.keys.broker import Broker
from stockade.keys.lockbox import LockboxKeys


def lockbox_keys(broker: Broker) -> LockboxKeys:
    """Return the broker, as Lockbox knows it."""
    return cast("LockboxKeys", broker)
