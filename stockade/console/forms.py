"""Reading what a form sends, and making sure that it is a form of ours.

Three things say so, each enough by itself in a browser of today: the session's cookie is not sent from other sites (SameSite=Strict), the
browser says where a request comes from (Sec-Fetch-Site, Origin), and the form holds a value that only our pages hold.
Source: OWASP's cheat sheet on cross-site request forgery; RFC 6265bis for `__Host-`.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from hashlib import sha256
from typing import Final
from urllib.parse import parse_qsl

from starlette.requests import Request

from stockade.identity.request_body import read_body
from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.secret import Secret

MAX_BYTES: Final = 256 * 1024
"""A statement of 32 kB, its signatures, and what base64 adds."""
MAX_SIGN_IN_BYTES: Final = 8 * 1024
"""Of a form that anybody may send."""
MAX_FIELDS: Final = 40
TIMEOUT_S: Final = 10.0
FIELD: Final = "form"
"""The name of the value that only our pages hold."""


async def read(request: Request, origin: str, limit: int) -> dict[str, str]:
    """Return the fields of a form; Fault for one from elsewhere, too large (limit: bytes), too slow, or none."""
    require_same_site(request.headers, origin)
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise Fault(FaultKind.UNSUPPORTED_MEDIA_TYPE, "This page takes forms only.")
    data = await read_body(request, limit, TIMEOUT_S, "The form")
    try:
        pairs = parse_qsl(data.decode(), keep_blank_values=True, max_num_fields=MAX_FIELDS, errors="strict")
    except ValueError as failure:
        raise Fault(FaultKind.INVALID, "The form is not well formed.") from failure
    form = dict(pairs)
    if len(form) != len(pairs):
        raise Fault(FaultKind.INVALID, "A field of the form came more than once.")
    # Browsers send line ends as CR LF.
    return {name: value.replace("\r\n", "\n") for name, value in form.items()}


def require_same_site(headers: Mapping[str, str], origin: str) -> None:
    """Refuse a form that the browser says comes from elsewhere."""
    site, sent = headers.get("sec-fetch-site", "same-origin"), headers.get("origin", origin)
    if site != "same-origin" or sent.lower() != origin.lower():
        raise Fault(FaultKind.AUTHORIZATION_FAILED, "The form was sent from another site, so nothing was done.")


def require_form(form: Mapping[str, str], value: Secret) -> None:
    """Refuse a form without the value that only our pages hold."""
    if not value.matches(form.get(FIELD, "")):
        message = "The form is of another session, or was open for too long. Nothing was done; open the page again."
        raise Fault(FaultKind.AUTHORIZATION_FAILED, message)


def before_sign_in(cookie: str) -> Secret:
    """Return the value of forms for those who have no session, from their cookie: who reads one of the two does not have the other."""
    digest = sha256(b"stockade-console-form/1\x00" + cookie.encode(errors="replace")).digest()
    return Secret(base64.urlsafe_b64encode(digest).rstrip(b"="))
