"""Azure OpenAI: from a deployment's name to the engine that serves its model.

The body is parsed once, as a JSON object of raw members: `model` is set to what the engine calls the model, everything else passes as it
came. The object is written anew, so that what was checked is what is dispatched: of a doubled member the engine sees the one we saw.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import msgspec

from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.operation import Operation, UriField
from stockade.policy.snapshot import AccountPolicy, DeploymentPolicy, Snapshot
from stockade.policy.uris.found import FoundUri
from stockade.policy.uris.scan import scan_json
from stockade.services.dialect import STATUS, gateway_body
from stockade.services.openai import realtime
from stockade.services.openai.catalogue import catalogue, is_built_in, label
from stockade.services.openai.engines.engine import Engine, engine_for
from stockade.services.openai.operations import OPERATIONS
from stockade.services.service import Call, Reply, Stream
from stockade.services.session import EngineSession, Handshake
from stockade.services.uris import extract, put
from stockade.settings import Model, Settings
from stockade.upstream.connection import UpstreamReply

MAX_REPLY_BYTES = 64 * 1024 * 1024

_ROUTES = {
    "ChatCompletions_Create": ("/chat/completions", "chatCompletion", "messages"),
    "Completions_Create": ("/completions", "completion", "prompt"),
    "Embeddings_Create": ("/embeddings", "embeddings", "input"),
}
_PASSED_ERRORS = frozenset({400, 404, 408, 409, 413, 415, 422, 429})
"""Statuses an engine may tell the caller. Its 401 and 403 are about our credential, its 5xx about itself."""

_DEPLOYMENT_MISSING = (
    "The API deployment for this resource does not exist. If you created the deployment within the last 5 minutes, please wait a moment "
    "and try again."
)

_decode_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class _Served:
    """A model of the catalogue, its engine, and the model's name there, ready to be put into a body."""

    model: Model
    engine: Engine
    engine_model: msgspec.Raw


@dataclass(slots=True)
class _Parsed:
    members: dict[str, msgspec.Raw]
    stream: bool
    served: _Served


class OpenAIService:
    """The service as the gateway sees it."""

    name = "openai"
    kinds = frozenset({"OpenAI", "AIServices"})
    operations = OPERATIONS

    def __init__(self, settings: Settings) -> None:
        self._models = catalogue(settings)
        socket = str(settings.supervisor_socket)
        self._served: dict[tuple[str, str, str], _Served] = {}
        for model in self._models:
            engine = engine_for(model, socket, settings.limits)
            key = (model.format.lower(), model.name.lower(), model.version)
            self._served[key] = _Served(model, engine, msgspec.Raw(_encode(engine.model_name)))

    def read(self, call: Call) -> None:
        """Parse the body, or the address of a session, and find the deployment."""
        if call.operation.websocket:
            self._read_session(call)
            return
        if call.operation.name not in _ROUTES:
            return
        members = _members(call.body)
        name = call.values.get("deployment")
        if name is None:
            name = _text(members, "model")
            if name is None:
                raise Fault(
                    FaultKind.INVALID, "The parameter 'model' is required and names a deployment.", target="model"
                )
        _, capability, required = _ROUTES[call.operation.name]
        served = self._deployed(call, name, capability)
        if required not in members:
            raise Fault(FaultKind.INVALID, f"Missing required parameter: '{required}'.", target=required)
        stream = members.get("stream")
        call.parsed = _Parsed(members, stream is not None and _boolean(stream, "stream"), served)

    def uris(self, call: Call, *, deep: bool) -> tuple[FoundUri, ...]:
        """Look into the members that may carry URIs, and write them anew as they were read; deep: also at every string of the body as it came.

        The deep scan sees both values of a member said twice, the declared fields what is dispatched of them.
        """
        if call.operation.name not in _ROUTES:
            return ()
        parsed: _Parsed | None = call.parsed
        members = parsed.members if parsed is not None else _members(call.body)  # a trial asks without `read`
        declared: tuple[FoundUri, ...] = ()
        body = call.body
        escaped = b"\\u00" in body  # letters of a name may be, and then nothing is seen without reading it
        fields = [field for field, name in _named(call.operation) if escaped or name in body]
        if fields:
            looked_at: dict[str, Any] = {}
            for name in {field.at.partition("[")[0].partition(".")[0] for field in fields}:
                raw = members.get(name)
                if raw is not None:
                    looked_at[name] = _value(raw, name)
                    members[name] = msgspec.Raw(_encode(looked_at[name]))
            declared = tuple(
                FoundUri(path, uri, inline=field.inline)
                for field in fields
                for path, uri in extract([field.at], looked_at)
            )
        if not deep:
            return declared
        known = {found.uri for found in declared}
        return (*declared, *(found for found in scan_json(call.body) if found.uri not in known))

    def inline(self, call: Call, contents: Mapping[str, str]) -> None:
        """Put images in the place of their URIs."""
        parsed: _Parsed = call.parsed
        for name, paths in _inline_paths(call.operation).items():
            if name in parsed.members:
                value = {name: _value(parsed.members[name], name)}
                if put(paths, value, contents):
                    parsed.members[name] = msgspec.Raw(_encode(value[name]))

    async def answer(self, call: Call) -> Reply | Stream:
        """Dispatch to the engine, or answer a question about models ourselves."""
        parsed: _Parsed | None = call.parsed
        if parsed is not None:
            engine = parsed.served.engine
            parsed.members["model"] = parsed.served.engine_model
            reply = await engine.post(_ROUTES[call.operation.name][0], _encode(parsed.members))
            return await _relay(reply, engine, parsed.stream)
        match call.operation.name:
            case "Models_List":
                return _json({"object": "list", "data": [self._describe(m) for m in self._models]})
            case "Models_Get":
                return _json(self._one_model(call.values["model"]))
            case "Deployments_List":
                return _json(
                    {"object": "list", "data": [_deployment(d) for d in _deployments(call.snapshot, call.account)]}
                )
            case "Deployments_Get":
                found = call.snapshot.only("deployment", (call.account.id, call.values["deployment"].lower()))
                if found is None:
                    raise Fault(FaultKind.DEPLOYMENT_NOT_FOUND, _DEPLOYMENT_MISSING)
                return _json(_deployment(found))
        raise Fault(FaultKind.NOT_FOUND, "Resource not found")

    def refuse(self, fault: Fault, status: int, request_id: str = "") -> Mapping[str, Any]:
        """Wrap a fault as Azure OpenAI does: `{"error": {"code", "message", "param", "type"}}`."""
        if fault.kind is FaultKind.OUTBOUND_DENIED:
            return gateway_body(fault, request_id)
        error: dict[str, Any] = {"code": fault.code or STATUS[fault.kind][1], "message": fault.message}
        if fault.target is not None:
            error |= {"param": fault.target, "type": "invalid_request_error"}
        return {"error": error}

    # A realtime session: `services/session.py`.

    def subprotocol(self, offered: Sequence[str]) -> str | None:
        """Speak `realtime` with a browser; other clients name none."""
        return realtime.SUBPROTOCOL if realtime.SUBPROTOCOL in offered else None

    async def open(self, call: Call, handshake: Handshake) -> EngineSession:
        """Open the session with the engine of the deployment's model."""
        served: _Served = call.parsed
        return await realtime.open_session(served.engine, call.query.get("intent"), handshake)

    def message(self, call: Call, text: str) -> realtime.Event:
        """Parse an event, and name the engine's model wherever it names one."""
        return realtime.read_event(text, call.parsed.engine_model)

    def message_uris(self, call: Call, message: realtime.Event, *, deep: bool) -> tuple[FoundUri, ...]:
        """Look into the members that may carry URIs, and write them anew as they were read; deep: also at every string of the event as it came."""
        fields = call.operation.uris
        names = {field.at.partition("[")[0].partition(".")[0] for field in fields}
        looked_at = realtime.look_at(message, tuple(names))
        declared = tuple(
            FoundUri(path, uri, inline=field.inline) for field in fields for path, uri in extract([field.at], looked_at)
        )
        if not deep:
            return declared
        known = {found.uri for found in declared}
        return (*declared, *(found for found in scan_json(message.text.encode()) if found.uri not in known))

    def inline_message(self, call: Call, message: realtime.Event, contents: Mapping[str, str]) -> None:
        """Put images in the place of their URIs."""
        for name, paths in _inline_paths(call.operation).items():
            if name in message.looked_at:
                value = {name: message.looked_at[name]}
                if put(paths, value, contents):
                    message.members[name] = msgspec.Raw(_encode(value[name]))

    def dispatched(self, call: Call, message: realtime.Event) -> str:
        """Return the event as it goes to the engine."""
        return realtime.event_text(message)

    def error_event(self, fault: Fault, message: realtime.Event | None = None) -> str:
        """Return the `error` event that tells of a fault."""
        return realtime.error_event(fault, message)

    async def close(self) -> None:
        for served in self._served.values():
            served.engine.close()

    def _read_session(self, call: Call) -> None:
        query = call.query
        names = {query[name].lower() for name in ("deployment", "model") if query.get(name)}
        if query.get("call_id"):
            raise Fault(FaultKind.UNSUPPORTED, "Calls (SIP, WebRTC) are not offered here.", target="call_id")
        if query.get("intent", "transcription") != "transcription":
            raise Fault(FaultKind.INVALID, "The parameter 'intent' can only be 'transcription'.", target="intent")
        wanted = "model" if call.operation.bearer_key else "deployment"
        if not names:
            raise Fault(
                FaultKind.INVALID, f"The parameter '{wanted}' is required and names a deployment.", target=wanted
            )
        if len(names) > 1:
            raise Fault(FaultKind.INVALID, "The parameters 'deployment' and 'model' name two.", target=wanted)
        call.parsed = self._deployed(call, names.pop(), realtime.CAPABILITY)

    def _deployed(self, call: Call, name: str, capability: str) -> _Served:
        """Find the deployment of that name, note it in the call, and return what serves it."""
        deployment = call.snapshot.only("deployment", (call.account.id, name.lower()))
        if deployment is None:
            raise Fault(FaultKind.DEPLOYMENT_NOT_FOUND, _DEPLOYMENT_MISSING)
        served = self._serving(deployment)
        if capability not in served.model.capabilities:
            raise Fault(
                FaultKind.UNSUPPORTED,
                f"The {capability} operation does not work with the specified model, {served.model.name}. "
                "Please choose different model and try again.",
            )
        call.deployment = deployment
        return served

    def _serving(self, deployment: DeploymentPolicy) -> _Served:
        key = (deployment.model_format.lower(), deployment.model.lower(), deployment.model_version)
        served = self._served.get(key)
        if served is None:
            raise Fault(
                FaultKind.UNAVAILABLE, f"The model '{deployment.model}' is no longer in this platform's catalogue."
            )
        return served

    def _one_model(self, name: str) -> dict[str, Any]:
        for model in self._models:
            if model.name.lower() == name.lower():
                return self._describe(model)
        raise Fault(FaultKind.NOT_FOUND, f"The model '{name[:100]}' does not exist.", code="model_not_found")

    def _describe(self, model: Model) -> dict[str, Any]:
        described: dict[str, Any] = {
            "id": model.name,
            "object": "model",
            "created": 0,
            "owned_by": "stockade" if is_built_in(model) else "upstream",
            "status": "succeeded",
            "lifecycle_status": "generally-available",
            "capabilities": {
                "chat_completion": "chatCompletion" in model.capabilities,
                "completion": "completion" in model.capabilities,
                "embeddings": "embeddings" in model.capabilities,
                "fine_tune": False,
                "inference": True,
            },
        }
        description = label(model)
        if description is not None:
            described["description"] = description
        return described


@cache
def _inline_paths(operation: Operation) -> dict[str, list[str]]:
    """Return the fields in whose place content may stand, by the body's member that they begin with."""
    found: dict[str, list[str]] = {}
    for field in operation.uris:
        if field.inline:
            found.setdefault(field.at.partition("[")[0].partition(".")[0], []).append(field.at)
    return found


async def _relay(reply: UpstreamReply, engine: Engine, wants_stream: bool) -> Reply | Stream:
    status = reply.status
    content_type = _media_type(reply.headers.get("content-type", ""))
    if status == 200 and wants_stream and content_type.startswith("text/event-stream"):
        return Stream(200, _chunks(reply, engine.idle_timeout_s), reply.close, content_type)
    if status == 200 or status in _PASSED_ERRORS:
        body = reply.whole()
        if body is None:
            body = await reply.read(MAX_REPLY_BYTES, engine.idle_timeout_s)
        passed = Reply(status, body, content_type)
        if status == 429:
            seconds = _bounded_wait(reply.headers.get("retry-after", "1"))
            passed.headers = [("retry-after", str(seconds)), ("retry-after-ms", str(seconds * 1000))]
        return passed
    reply.close()
    if status in (401, 403):
        raise Fault(
            FaultKind.UPSTREAM_FAILED,
            "The model server refused this platform's own credential; its operator must mend that.",
        )
    if status == 503:
        raise Fault(FaultKind.UNAVAILABLE, "The model server is not available.", retry_after_s=2)
    raise Fault(FaultKind.UPSTREAM_FAILED, f"The model server failed with status {status}.")


async def _chunks(reply: UpstreamReply, idle_timeout_s: float) -> AsyncIterator[bytes]:
    while chunk := await reply.next_chunk(idle_timeout_s):
        yield chunk


def _members(body: bytes) -> dict[str, msgspec.Raw]:
    try:
        if not body.isascii():
            body.decode()  # members pass as they came, and the parser does not look into their strings
        return _decode_object(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as failure:
        raise Fault(FaultKind.INVALID, f"The request body is not a valid JSON object: {failure}.") from failure
    except RecursionError as failure:
        raise Fault(FaultKind.INVALID, "The request body is nested too deeply.") from failure


@cache
def _named(operation: Operation) -> tuple[tuple[UriField, bytes], ...]:
    """Return the fields of an operation, each with the name of its last member as it stands in a body."""
    return tuple((field, b'"%b"' % field.at.rpartition(".")[2].encode()) for field in operation.uris)


def _value(raw: msgspec.Raw, name: str) -> Any:
    try:
        return msgspec.json.decode(raw)
    except (msgspec.DecodeError, RecursionError) as failure:
        raise Fault(FaultKind.INVALID, f"'{name}' cannot be read: {failure}.", target=name) from failure


def _text(members: Mapping[str, msgspec.Raw], name: str) -> str | None:
    raw = members.get(name)
    if raw is None:
        return None
    try:
        return msgspec.json.decode(raw, type=str)
    except msgspec.DecodeError as failure:
        raise Fault(FaultKind.INVALID, f"'{name}' must be a string.", target=name) from failure


def _boolean(raw: msgspec.Raw, name: str) -> bool:
    try:
        return bool(msgspec.json.decode(raw, type=bool | None))
    except msgspec.DecodeError as failure:
        raise Fault(FaultKind.INVALID, f"'{name}' must be true or false.", target=name) from failure


def _bounded_wait(text: str) -> int:
    return max(1, min(60, int(text))) if text.isascii() and text.isdigit() and len(text) < 10 else 1


def _media_type(text: str) -> str:
    return text if text.isascii() and text.isprintable() and 0 < len(text) <= 256 else "application/json"


def _deployments(snapshot: Snapshot, account: AccountPolicy) -> list[DeploymentPolicy]:
    found: tuple[DeploymentPolicy, ...] = snapshot.all("deployments-of", account.id)
    return sorted(found, key=lambda deployment: deployment.name.lower())


def _deployment(deployment: DeploymentPolicy) -> dict[str, Any]:
    return {
        "id": deployment.name,
        "object": "deployment",
        "model": deployment.model,
        "status": "succeeded",
        "owner": "organization-owner",
        "created_at": int(deployment.created_at),
        "updated_at": int(deployment.created_at),
        "scale_settings": {"scale_type": "standard"},
    }


def _json(value: object) -> Reply:
    return Reply(200, _encode(value))


PLUGIN = OpenAIService
