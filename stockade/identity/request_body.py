"""The body of a request, within a number of bytes and a time."""

from __future__ import annotations

from anyio import fail_after
from starlette.requests import ClientDisconnect, Request

from stockade.kernel.faults import Fault, FaultKind


async def read_body(request: Request, limit: int, within_s: float, what: str) -> bytes:
    """Return it whole. Fault(TOO_LARGE) above the limit, Fault(TIMEOUT), Fault(INVALID) when the caller breaks off; what: "The form"."""
    data = bytearray()
    try:
        with fail_after(within_s):
            async for chunk in request.stream():
                data += chunk
                if len(data) > limit:
                    raise Fault(FaultKind.TOO_LARGE, f"{what} is larger than {limit} bytes.")
    except TimeoutError as late:
        raise Fault(FaultKind.TIMEOUT, f"{what} did not arrive in time.") from late
    except ClientDisconnect as gone:
        raise Fault(FaultKind.INVALID, f"{what} was cut off.") from gone
    return bytes(data)
