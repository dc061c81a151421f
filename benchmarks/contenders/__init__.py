"""The servers under comparison: one file each."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from benchmarks.certificate import Certificate
from benchmarks.install import Cache
from benchmarks.workload import Request


@dataclass(frozen=True, slots=True)
class Place:
    """Hold what a contender is given: an empty folder, the certificate to serve, the backend's port, and the core to stay on."""

    folder: Path
    certificate: Certificate
    backend_port: int
    core: int


@dataclass(frozen=True, slots=True)
class Running:
    """Describe a started contender: the processes whose trees count as its own, and where it takes which workload."""

    roots: Sequence[int]
    requests: Sequence[Request]


class Contender(Protocol):
    """A server that takes chat completions over TLS and passes them to the backend."""

    @property
    def name(self) -> str:
        """Name it as the report does."""
        ...

    @property
    def about(self) -> str:
        """Say in one clause what it checks and how it is set up."""
        ...

    def install(self, cache: Cache) -> str:
        """Make it present and give its version; raise `NotMeasuredError` where that cannot be done."""
        ...

    def start(self, place: Place) -> AbstractContextManager[Running]:
        """Run it for the length of the block, answering when the block begins; raise `NotMeasuredError` if it does not come up."""
        ...


def all_contenders() -> Sequence[Contender]:
    """List every contender in the order of the report."""
    from benchmarks.contenders.controls import Controls
    from benchmarks.contenders.envoy import Envoy
    from benchmarks.contenders.litellm import LiteLLM
    from benchmarks.contenders.nginx import Nginx
    from benchmarks.contenders.portkey import Portkey
    from benchmarks.contenders.stockade import Stockade

    return (
        Nginx(),
        Envoy(),
        Envoy(authorised=True),
        Stockade(accounts=10),
        Stockade(accounts=10_000),
        Controls(),
        Portkey(),
        LiteLLM(),
    )
