"""Calls that the key broker answers without leaving its event loop: what they need is in memory, and what they do takes less than a millisecond.

Handing such a call to a thread and back costs more than the call. Nothing is decided differently: the same checks are made and the same record
is written, and whatever would have to be waited for (documents, other machines, long computations) goes to a thread as before.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from stockade.kernel.evidence import Evidence
from stockade.keys.broker import Access, ObjectKeys, ObjectRef
from stockade.keys.material import KeyAnswer, KeyRequest


class NotAtOnce(Exception):
    """Something would have to be waited for. Nothing has been done or recorded yet."""


class AtOnce(Protocol):
    """As in `Broker`, or NotAtOnce."""

    def object_keys_at_once(
        self,
        account_id: str,
        objects: Sequence[ObjectRef],
        access: Access,
        data_action: str,
        evidence: Evidence,
        asked_by: str,
    ) -> ObjectKeys: ...

    def use_key_at_once(self, version_id: str, request: KeyRequest, evidence: Evidence, asked_by: str) -> KeyAnswer: ...
