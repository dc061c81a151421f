"""What answers for some of Azure OpenAI's operations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from stockade.policy.uris.found import FoundUri
from stockade.services.service import Call, Reply, Stream


class Handler(Protocol):
    """As `services/service.py` says of a service, for the operations of these names."""

    @property
    def answers(self) -> frozenset[str]: ...

    def read(self, call: Call) -> None: ...

    def uris(self, call: Call, *, deep: bool) -> tuple[FoundUri, ...]: ...

    def inline(self, call: Call, contents: Mapping[str, str]) -> None: ...

    async def answer(self, call: Call) -> Reply | Stream: ...


class Bodiless:
    """For operations that say everything in their address: nothing to read, and no URI that leads anywhere."""

    def read(self, call: Call) -> None:
        """Nothing."""

    def uris(self, call: Call, *, deep: bool) -> tuple[FoundUri, ...]:
        return ()

    def inline(self, call: Call, contents: Mapping[str, str]) -> None:
        """Nothing."""
