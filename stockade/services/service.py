"""What every AI service is to the gateway: a table of operations, a dialect for refusals, and engines that answer."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias, runtime_checkable

from stockade.content.item import AccountContent
from stockade.content.job_grants import JobStarter
from stockade.kernel.evidence import Evidence
from stockade.kernel.faults import Fault
from stockade.kernel.operation import Operation
from stockade.kernel.principal import Credential
from stockade.keys.root import RootKey
from stockade.policy.snapshot import AccountPolicy, DeploymentPolicy, Snapshot
from stockade.policy.uris.found import FoundUri

Headers: TypeAlias = list[tuple[str, str]]


@dataclass(slots=True)
class Call:
    """One admitted request on its way to an engine.

    values: the path template's values; query: names in lower case, credentials already removed.
    parsed: what `Service.read` made of the body, for `Service.answer`.
    """

    operation: Operation
    account: AccountPolicy
    credential: Credential | None
    snapshot: Snapshot
    values: Mapping[str, str]
    query: Mapping[str, str]
    content_type: str
    body: bytes
    request_id: str
    now: float
    query_string: str = ""
    """As it came, with whatever credentials stood in it: for the names' spelling alone."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Those that the operation declares, names in lower case."""
    deployment: DeploymentPolicy | None = None
    parsed: Any = None
    evidence: Evidence | None = None
    """What the caller presented, for the key broker. Only for operations that keep content; a Secret inside, never logged."""
    content: AccountContent | None = None
    """What the account keeps, opened with that evidence. Only for operations that keep content."""
    opens: Callable[[], None] | None = None
    """Sets `content` and what goes with it, for operations that keep content only on request: most requests do not ask."""
    jobs: JobStarter | None = None
    """Starts what goes on once the call has been answered, with what its caller may do. Only for operations that keep content."""
    upload: AsyncIterator[bytes] | None = None
    """The body of an operation that reads `stream`, within its limit. Fault(TOO_LARGE) and Fault(TIMEOUT) come out of it."""


@dataclass(slots=True)
class Reply:
    """A whole reply."""

    status: int
    body: bytes = b""
    content_type: str = "application/json"
    headers: Headers = field(default_factory=list)


@dataclass(slots=True)
class Stream:
    """A reply that arrives in pieces. `chunks` raises Fault when the engine breaks off; `close` gives up the rest."""

    status: int
    chunks: AsyncIterator[bytes]
    close: Any
    content_type: str = "text/event-stream"
    headers: Headers = field(default_factory=list)
    """A `content-length` among them says how long it will be; a stream that breaks off before is cut, and no event is added."""


@runtime_checkable
class Service(Protocol):
    """One AI service. Built once per process by its `PLUGIN` factory."""

    @property
    def name(self) -> str: ...

    @property
    def kinds(self) -> frozenset[str]:
        """Account kinds the service answers for; empty means every kind."""
        ...

    @property
    def operations(self) -> Sequence[Operation]: ...

    def read(self, call: Call) -> None:
        """Parse and check the body, and find the deployment the call will go to. Pure.

        Sets `call.parsed` and `call.deployment`; Fault(INVALID) and Fault(DEPLOYMENT_NOT_FOUND) in the caller's words.
        """
        ...

    def uris(self, call: Call, *, deep: bool) -> tuple[FoundUri, ...]:
        """Return every URI the operation's declared fields carry; deep: those in any other string of the request too. Pure, apart from `call.parsed`.

        Called after `read`, for accounts that restrict them; what is dispatched afterwards is exactly what was looked at.
        """
        ...

    def inline(self, call: Call, contents: Mapping[str, str]) -> None:
        """Put content in the place of URIs: from the URI as it stands in the request to the `data:` URI that is dispatched instead.

        Called after `uris`, and only with what that returned as `inline`. Pure, apart from `call.parsed`.
        """
        ...

    async def answer(self, call: Call) -> Reply | Stream:
        """Do the work. Raises Fault for whatever the engine cannot do."""
        ...

    def refuse(self, fault: Fault, status: int, request_id: str = "") -> Mapping[str, Any]:
        """Return the error body in the service's own dialect. request_id: for those that put it into the body."""
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...


@runtime_checkable
class TakesKeys(Protocol):
    """What a service is beside, when it makes something with a key of the platform's."""

    def lend(self, keys: RootKey) -> None:
        """Take what purposes' keys are derived with. Called once, before the first request, where the service is to answer any."""
        ...
