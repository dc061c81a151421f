"""What a page's handler is given, and what it gives back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from stockade.console.address import Address
from stockade.console.arm import Arm
from stockade.console.pages import Download, Goto, Page
from stockade.console.sessions import Session

ROOT: Final = "/console"


@dataclass(frozen=True, slots=True)
class Visit:
    """One request of somebody who is signed in.

    names: what the path's template captured. query, form: decoded, the last of several. now: epoch seconds.
    """

    names: Mapping[str, str]
    query: Mapping[str, str]
    form: Mapping[str, str]
    session: Session
    arm: Arm
    address: Address
    now: float

    @property
    def subscription(self) -> str:
        return self.names["subscription"]


Outcome: TypeAlias = Page | Goto | Download


@dataclass(frozen=True, slots=True)
class View:
    """What answers a method and a path below `/console`. Handlers run in a thread and raise Refused and Fault."""

    method: Literal["GET", "POST"]
    path: str
    handler: Callable[[Visit], Outcome]
