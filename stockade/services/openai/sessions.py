"""Realtime sessions: from the address to the engine of the deployment's model, and event by event."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from stockade.kernel.faults import Fault, FaultKind
from stockade.policy.uris.found import FoundUri
from stockade.policy.uris.scan import scan_json
from stockade.services.openai import bodies, realtime
from stockade.services.openai.deployments import Deployments, Served
from stockade.services.openai.handler import Bodiless
from stockade.services.service import Call, Reply, Stream
from stockade.services.session import EngineSession, Handshake
from stockade.services.uris import put


class Sessions(Bodiless):
    """A realtime session: `services/session.py`."""

    answers = frozenset({"Realtime_Connect"})

    def __init__(self, deployments: Deployments) -> None:
        self._deployments = deployments

    def read(self, call: Call) -> None:
        """Read the session's address and find the deployment."""
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
        call.parsed = self._deployments.find(call, names.pop(), realtime.CAPABILITY)

    async def answer(self, call: Call) -> Reply | Stream:
        """Sessions are opened, not answered; the gateway says so before it comes here."""
        raise Fault(FaultKind.NOT_FOUND, "Resource not found")

    async def open(self, call: Call, handshake: Handshake) -> EngineSession:
        """Open the session with the engine of the deployment's model."""
        served: Served = call.parsed
        return await realtime.open_session(served.engine, call.query.get("intent"), handshake)

    def message_uris(self, call: Call, message: realtime.Event, *, deep: bool) -> tuple[FoundUri, ...]:
        """Look into the members that may carry URIs, and write them anew as they were read; deep: also at every string of the event as it came."""
        fields = call.operation.uris
        looked_at = realtime.look_at(message, tuple({bodies.first_step(field.at) for field in fields}))
        declared = tuple(bodies.found_in(fields, looked_at))
        if not deep:
            return declared
        known = {found.uri for found in declared}
        return (*declared, *(found for found in scan_json(message.text.encode()) if found.uri not in known))

    def inline_message(self, call: Call, message: realtime.Event, contents: Mapping[str, str]) -> None:
        """Put images in the place of their URIs."""
        for name, paths in bodies.inline_paths(call.operation).items():
            if name in message.looked_at:
                value = {name: message.looked_at[name]}
                if put(paths, value, contents):
                    message.members[name] = msgspec.Raw(bodies.encode(value[name]))
