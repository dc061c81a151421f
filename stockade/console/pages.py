"""Rendering: what templates may say, how times, sizes and strangers' texts look, and the headers of every page.

Everything that is not ours is escaped, and characters that cannot be seen or that turn the direction of text are written as their code: a
reason that an operator gives must not look like something else to whoever approves it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from hashlib import sha256
from importlib.resources import files
from typing import Any, Final
from urllib.parse import quote

from jinja2 import ChainableUndefined, Environment, PackageLoader, UndefinedError, select_autoescape
from jinja2.utils import missing
from markupsafe import Markup, escape

from stockade.lockbox.strict import from_base64url

_STATIC: Final = files("stockade.console") / "static"
MEDIA_TYPES: Final = {"css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8", "svg": "image/svg+xml"}
STATIC: Final[Mapping[str, bytes]] = {
    name: (_STATIC / name).read_bytes() for name in ("console.css", "passkey.js", "icon.svg")
}
VERSION: Final = sha256(b"".join(STATIC.values())).hexdigest()[:12]
"""Stands in the addresses of these files: a browser that has one of them has it for good."""

_MINUTE_S: Final = 60.0
_UNITS: Final = ((86_400.0, "day", 48 * 3_600.0), (3_600.0, "hour", 2 * 3_600.0), (60.0, "minute", _MINUTE_S))
"""Seconds of a unit, its name, and from when on it is spoken of: 30 hours are more than "1 day" says."""

_POLICY: Final = (
    "default-src 'none'; style-src 'self'; img-src 'self'; {script}form-action 'self'; frame-ancestors 'none'; base-uri 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
HEADERS: Final = {
    "cache-control": "no-store",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=(), "
    "publickey-credentials-create=(self), publickey-credentials-get=(self)",
    "referrer-policy": "same-origin",
    "strict-transport-security": "max-age=31536000; includeSubDomains",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}


@dataclass(frozen=True, slots=True)
class Page:
    """A page to be rendered. script: it uses passkeys, and so the one script there is."""

    template: str
    values: Mapping[str, Any] = field(default_factory=dict)
    status: int = 200
    script: bool = False


@dataclass(frozen=True, slots=True)
class Goto:
    """Somewhere else on this console, with GET."""

    path: str


@dataclass(frozen=True, slots=True)
class Download:
    """A file. name: plain ASCII."""

    name: str
    content: bytes
    media_type: str = "application/json"


def headers(*, script: bool) -> dict[str, str]:
    """Return the headers of a page. Without need of it, no script runs at all."""
    policy = _POLICY.format(script="script-src 'self'; " if script else "")
    return {**HEADERS, "content-security-policy": policy}


class _Absent(ChainableUndefined):
    """A member that an answer of ARM's does not have is blank; a name that a template uses and nobody gave is an error of ours."""

    def __init__(
        self,
        hint: str | None = None,
        obj: Any = missing,
        name: str | None = None,
        exc: type[UndefinedError] = UndefinedError,
    ) -> None:
        super().__init__(hint, obj, name, exc)
        if obj is missing:
            raise exc(hint or f"'{name}' is undefined")


@cache
def _environment() -> Environment:
    found = Environment(
        loader=PackageLoader("stockade.console"),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=_Absent,
        finalize=visible,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    found.filters.update(
        hours=hours,
        indented=indented,
        moment=moment,
        named=named,
        path_quoted=path_quoted,
        text_of=text_of,
        words=words,
    )
    found.globals.update(version=VERSION)
    return found


def render(page: Page, **common: Any) -> str:
    """Return a page's HTML. common: what every page has; `now` in epoch seconds among it."""
    return _environment().get_template(page.template).render(**common, **page.values, script=page.script)


def visible(value: object) -> object:
    """Return what a template shows, characters written as their code that a reader would not see or be misled by."""
    if value is None:
        return ""
    if isinstance(value, Markup) or not isinstance(value, str):
        return value
    if value.isprintable():
        return value
    return "".join(one if one.isprintable() or one in "\n\t" else f"\u27e8U+{ord(one):04X}\u27e9" for one in value)


def instant(value: object) -> float | None:
    """Return a time in epoch seconds from ISO 8601 or a number; None where it is neither."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    try:
        found = datetime.fromisoformat(str(value))
    except ValueError:
        return None
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


def moment(value: object, now: float, *, seconds: bool = False) -> Markup:
    """Return a time in UTC, with how far away it is in words."""
    at = instant(value)
    try:
        when = datetime.fromtimestamp(at, UTC) if at is not None else None
    except (ValueError, OverflowError, OSError):
        when = None
    if at is None or when is None:
        return escape(visible(str(value or "never")))
    shown = f"{when.day} {when:%b %Y, %H:%M:%S}" if seconds else f"{when.day} {when:%b %Y, %H:%M}"
    return Markup('<time datetime="{}">{} UTC</time> <span class="quiet">({})</span>').format(
        when.strftime("%Y-%m-%dT%H:%M:%SZ"), shown, ago(at, now)
    )


def ago(at: float, now: float) -> str:
    """Return how far away a time is: `in 3 days`, `20 minutes ago`, `just now`."""
    distance = abs(at - now)
    if distance < _MINUTE_S:
        return "just now" if at <= now else "in less than a minute"
    size, name = next((size, name) for size, name, least in _UNITS if distance >= least)
    count = round(distance / size)
    many = f"{count} {name}{'' if count == 1 else 's'}"
    return f"{many} ago" if at <= now else f"in {many}"


def hours(value: object) -> str:
    """Return `2 hours`, `90 minutes` of a number of hours."""
    try:
        count = float(str(value))
    except ValueError:
        return str(value)
    if count == 1:
        return "1 hour"
    if count * 60 < 120:
        return f"{count * 60:g} minutes"
    return f"{round(count, 2):g} hours"


def named(arm_id: object) -> str:
    """Return the last name of an ARM id."""
    return str(arm_id).rstrip("/").rpartition("/")[2]


def path_quoted(value: object) -> str:
    """Return a text as it may stand in an address' path or query."""
    return quote(str(value), safe="")


def words(value: object) -> str:
    """Return `AutoApproveLockboxRequest` as words."""
    text = str(value)
    spaced = "".join(f" {one.lower()}" if one.isupper() and index else one for index, one in enumerate(text))
    return spaced if text.isalnum() and not text.isupper() else text


def indented(value: object) -> str:
    """Return JSON for reading."""
    return json.dumps(value, indent=2, ensure_ascii=False)


def text_of(payload: object) -> str:
    """Return the text of bytes in base64url, as they are signed."""
    return decoded(str(payload)).decode(errors="backslashreplace")


def decoded(text: str) -> bytes:
    """Return the bytes of base64url without padding; b"" where it is none."""
    try:
        return from_base64url(text)
    except ValueError:
        return b""
