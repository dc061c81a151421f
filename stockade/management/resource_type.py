"""What a resource type is, and the calls and replies it deals in.

A resource type is a folder below `management/resources/` that exports `PLUGIN`, an instance of `ResourceType` (documents: GET, HEAD,
PUT, PATCH, DELETE, lists, actions) or of `Plugin` alone (only routes). The pipeline (`management/pipeline.py`) does everything that
is the same for all of them: api-version, authentication, authorisation, parents, entity tags, the transaction, audit and the envelope. All
code here runs in a thread, inside one database transaction.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol, TypeAlias

from stockade.audit.log import AuditSink
from stockade.audit.store import Logs
from stockade.identity.directory import Directory
from stockade.kernel.clock import Clock
from stockade.kernel.evidence import ArmToken
from stockade.kernel.principal import TokenCredential
from stockade.kernel.resource_id import ResourceId
from stockade.keys.broker import Broker
from stockade.keys.root import RootKey
from stockade.policy.compile import Compile
from stockade.policy.snapshot import Entry, Snapshot
from stockade.settings import Settings
from stockade.storage.database import Reader, Writer
from stockade.storage.documents import Document, Json

Method: TypeAlias = Literal["GET", "HEAD", "PUT", "PATCH", "POST", "DELETE"]

ANY_NAME = re.compile(r"[^/\\?#%&<>\"\x00-\x1f\x7f]{1,260}")


class Types(Protocol):
    """The resource types that are there, as far as one type needs to know of others."""

    def __iter__(self) -> Iterator[ResourceType]: ...

    def of(self, resource: ResourceId) -> ResourceType | None:
        """Return the type of an id; None when this platform has none such."""
        ...

    def of_document(self, document: Document) -> ResourceType | None:
        """Return the type of a stored document."""
        ...

    def remove_below(self, call: Call, writer: Writer, document_id: str) -> None:
        """Remove every live document below an id, each by its own type's `remove`, nearest first so that a type owns its subtree."""
        ...

    def namespaces(self) -> Mapping[str, Sequence[str]]:
        """Return provider namespaces in Azure's spelling, each with its resource types (without the namespace)."""
        ...

    def permissions(self) -> Iterable[str]:
        """Return the ARM actions that endpoints ask for which are no documents."""
        ...


@dataclass(frozen=True, slots=True)
class Platform:
    """What every call may use. One instance per control plane."""

    settings: Settings
    root_key: RootKey
    clock: Clock
    tenant_id: str
    types: Types
    directory: Directory
    broker: Broker
    audit: AuditSink
    """For what happens beside the request itself, which the pipeline records: lapsing, ending, being used."""
    logs: Logs
    """The audit logs, to be read."""


@dataclass(frozen=True, slots=True)
class Call:
    """One authenticated and authorised control-plane request.

    method:      the HTTP method; HEAD is answered as GET.
    id:          the resource, or for lists and routes the scope they are asked at (parent resource, group, subscription, tenant root).
    query:       decoded parameters, names in lower case (`$filter`, `api-version`); the first of several.
    body:        the JSON object sent, {} when there was none.
    evidence:    the token as it was presented, for the key broker alone, which verifies it again.
    parameters:  what the route's template captured, in the caller's spelling.
    snapshot:    the policy the caller was authorised under.
    now:         epoch seconds, one reading for the whole call.
    """

    method: Method
    id: ResourceId
    query: Mapping[str, str]
    body: Json
    credential: TokenCredential
    evidence: ArmToken
    snapshot: Snapshot
    platform: Platform
    now: float
    decision_id: str
    address: str = ""
    client: str = ""
    api_version: str = ""
    base_url: str = ""
    """Where the caller reached us, `https://localhost:8444`, for `Location` and `nextLink`."""
    parameters: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Reply:
    """A status, a JSON body (None: no body) and extra headers."""

    status: int = 200
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)


Answer: TypeAlias = Reply | Json
"""A handler's result; a bare object is a 200."""


@dataclass(frozen=True, slots=True)
class Planned:
    """What a PUT or PATCH comes to.

    body:    the whole new body without `id`, `name`, `type`, `etag` and `systemData`, which the pipeline writes.
    private: the whole new private part; None keeps what is there.
    status:  overrides the type's usual status (200 or 201).
    headers: further headers of the reply, e.g. `Azure-AsyncOperation`.
    noted:   what the audit record of the intent says of it. Nothing secret.
    """

    body: Json
    private: Json | None = None
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    noted: Mapping[str, str] = field(default_factory=dict)


ActionHandler: TypeAlias = Callable[[Call, Writer, Document], Answer]
RouteHandler: TypeAlias = Callable[[Call, Writer], Answer]


@dataclass(frozen=True, slots=True)
class Action:
    """Something one resource can be asked: `POST {id}/{name}`, or `GET {id}/{name}` for computed sub-collections such as `skus`.

    permission: the ARM action in full, `Microsoft.CognitiveServices/accounts/listKeys/action`.
    writes:     it changes something: runs in a write transaction with an audit intent before it. Else the `Writer` is really a `Reader`,
                and calling a write method on it fails.
    handler:    called with the live document.
    """

    name: str
    permission: str
    handler: ActionHandler
    writes: bool = False
    method: Literal["GET", "POST"] = "POST"
    data: bool = False
    """The permission is a data action: no role has it by `*`, it has to name it."""


@dataclass(frozen=True, slots=True)
class Route:
    """An endpoint that is no document.

    template:   path with `{name}` for one segment, compared without regard to case; a leading `/{scope}` stands for any scope, also none,
                e.g. `/{scope}/providers/Microsoft.Authorization/permissions`. Literal segments beat captures.
    permission: the ARM action in full, a leading `{name}` filled in from the template; None: every authenticated caller, and the handler
                filters what it shows.
    scope:      where the permission is needed, a prefix of the template; default: what stands before the first `/providers/`
                (the captured scope for `/{scope}` templates).
    writes:     as for `Action`.
    """

    method: Literal["GET", "PUT", "PATCH", "POST", "DELETE"]
    template: str
    permission: str | None
    handler: RouteHandler
    writes: bool = False
    scope: str | None = None
    data: bool = False
    """As for `Action`."""
    version: str | None = None
    """The api-version of a request that names none; None: such a request is refused."""


class Plugin:
    """Anything that stands on the shelf `management/resources`: a name for messages, and routes."""

    name: ClassVar[str]
    """Unique on the shelf; a resource type's is its type."""

    @property
    def routes(self) -> Sequence[Route]:
        return ()

    @property
    def documents(self) -> Mapping[str, Compile]:
        """Return how documents of its own become policy, by type: those that no ARM id names. A resource type's own is not among them."""
        return {}


class ResourceType(Plugin, ABC):
    """One type of document. Stateless: everything it may depend on arrives as an argument."""

    type: ClassVar[str]
    """`Microsoft.CognitiveServices/accounts/deployments`, in Azure's spelling."""
    methods: ClassVar[frozenset[str]] = frozenset({"GET", "PUT", "PATCH", "DELETE"})
    name_pattern: ClassVar[re.Pattern[str]] = ANY_NAME
    """The last name of an id has to match in full on PUT; else 400 InvalidResourceName."""
    extension: ClassVar[bool] = False
    """It may be put below any scope (`{scope}/providers/...`), which then has to exist."""
    in_subscription: ClassVar[bool] = False
    """It lives in a subscription itself (`/subscriptions/{id}/providers/...`), and in no resource group."""
    soft_deletes: ClassVar[bool] = False
    """`remove` leaves SOFT_DELETED documents behind, and `plan` is shown them."""
    has_etag: ClassVar[bool] = True
    """`etag` stands in the body. (If-Match is honoured, and the ETag header sent, in any case.)"""
    has_system_data: ClassVar[bool] = True
    created_status: ClassVar[int] = 201
    replaced_status: ClassVar[int] = 200

    @property
    def permissions_prefix(self) -> str:
        """What stands before `/read`, `/write` and `/delete` in the ARM actions."""
        return self.type

    @property
    def actions(self) -> Sequence[Action]:
        return ()

    def stored_as(self, resource: ResourceId) -> ResourceId:
        """Return the id a resource is stored under, where several ids name the same one (role definitions: any scope's)."""
        return resource

    @abstractmethod
    def plan(self, call: Call, current: Document | None, reader: Reader) -> Planned:
        """Validate and default a PUT or PATCH; raise Fault to refuse it. Changes nothing.

        call.method tells which: PUT carries the whole resource, PATCH keeps what it does not name (`management/merge.py`). Properties this
        platform does not know are kept. call.id is the resource, its parent exists.
        current: the live document, or the soft-deleted one where the type soft-deletes (never for PATCH); None when there is none.
        """

    def after_write(self, call: Call, writer: Writer, document: Document, previous: Document | None) -> Document:
        """Do what follows from a write, in the same transaction, and return the document as finally stored.

        document: as just stored. previous: what was there before, None when created. E.g. create a managed identity and put its ids.
        """
        return document

    def remove(self, call: Call, writer: Writer, document: Document) -> Reply | None:
        """Remove a live document and what is below it; raise Fault to refuse. None: 200 without a body.

        Also called when something above is deleted; then the reply is dropped.
        """
        call.platform.types.remove_below(call, writer, document.id)
        writer.remove(document)
        return None

    def get(self, call: Call, reader: Reader) -> Document | None:
        """Return the live document call.id names; types with built-in members look there too."""
        return reader.get(self.stored_as(call.id).key)

    def list(self, call: Call, reader: Reader) -> Iterable[Document]:
        """Return the documents of a collection asked for at call.id: a subscription, a group or the parent resource."""
        where = call.id
        if where.type is not None or where.subscription is None:
            return reader.list(self.type, under=where.key if where.key != "/" else "")
        return reader.list(self.type, subscription=where.subscription, resource_group=where.resource_group)

    def render(self, call: Call, document: Document) -> Json:
        """Return what GET shows. `id`, `name`, `type` and `systemData` already stand in the body; the pipeline adds `etag`."""
        return dict(document.body)

    @abstractmethod
    def compile(self, document: Document) -> Iterable[Entry]:
        """Return what a live document adds to the policy snapshot. Pure; raising means it is not in force."""


def display_id(document: Document) -> str:
    """Return the id in the spelling it was created with."""
    return str(document.body.get("id") or document.id)


def bodies(values: Iterable[Mapping[str, Any]]) -> Json:
    """Return a whole list as ARM writes one."""
    return {"value": [dict(value) for value in values]}
