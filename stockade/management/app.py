"""ARM over ASGI: reads the head and, once the caller is admitted, the bounded body; everything else is the pipeline's, in threads."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from urllib.parse import quote

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.ids import new_guid
from stockade.management import arm_wire
from stockade.management.metadata_endpoints import PATH as METADATA_PATH
from stockade.management.metadata_endpoints import metadata_endpoints
from stockade.management.pipeline import Admitted, Head, Pipeline
from stockade.management.resource_type import Reply
from stockade.settings import Settings

_encode = msgspec.json.Encoder().encode


class ArmApp:
    """An ASGI application for every path of ARM.

    client_address: tells the caller's address from the peer's and `X-Forwarded-For`.
    """

    def __init__(
        self, pipeline: Pipeline, settings: Settings, client_address: Callable[[str, str], str] = lambda peer, _: peer
    ) -> None:
        self._pipeline, self._settings, self._client_address = pipeline, settings, client_address

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        decision_id = new_guid()
        raw_path: bytes = scope.get("raw_path") or quote(scope["path"]).encode()
        headers: dict[str, str] = {}
        admitted: Admitted | None = None
        head = Head(request.method, raw_path, scope.get("query_string", b""), headers, decision_id)
        try:
            headers.update(arm_wire.header_map(scope["headers"]))
            peer = request.client.host if request.client is not None else ""
            address = self._client_address(peer, headers.get("x-forwarded-for", ""))
            head = Head(request.method, raw_path, scope.get("query_string", b""), headers, decision_id, address)
            if raw_path.split(b"?", 1)[0].lower().rstrip(b"/") == METADATA_PATH and request.method in ("GET", "HEAD"):
                reply = Reply(200, metadata_endpoints(self._settings))
            else:
                admitted = await run_in_threadpool(self._pipeline.admit, head)
                body = arm_wire.read_json(await self._body(request, headers), headers.get("content-type", ""))
                reply = await run_in_threadpool(self._pipeline.answer, admitted, body)
        except ClientDisconnect:
            return
        except Exception as failure:  # noqa: BLE001 - refuse() logs what it does not know and shows none of it
            reply = await run_in_threadpool(self._pipeline.refuse, head, failure, admitted)
        refused = reply.status >= 400
        standard = arm_wire.standard_headers(decision_id, headers, refused=refused)
        content = b"" if reply.body is None else _encode(reply.body)
        media_type = "application/json; charset=utf-8" if content else None
        response = Response(
            b"" if request.method == "HEAD" else content, reply.status, {**standard, **reply.headers}, media_type
        )
        await response(scope, receive, send)

    async def _body(self, request: Request, headers: dict[str, str]) -> bytes:
        """Read the body up to its limit and within its time."""
        announced = headers.get("content-length", "0")
        if not announced.isdigit() or int(announced[:12]) > arm_wire.MAX_BODY_BYTES:
            raise _too_large()
        content = bytearray()
        try:
            async with asyncio.timeout(self._settings.limits.body_timeout_s):
                async for chunk in request.stream():
                    content += chunk
                    if len(content) > arm_wire.MAX_BODY_BYTES:
                        raise _too_large()
        except TimeoutError as failure:
            raise Fault(FaultKind.TIMEOUT, "The request content did not arrive in time.") from failure
        return bytes(content)


def _too_large() -> Fault:
    return Fault(FaultKind.TOO_LARGE, f"The request content is larger than {arm_wire.MAX_BODY_BYTES} bytes.")
