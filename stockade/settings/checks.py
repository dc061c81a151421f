"""What the types of settings cannot say: fields that have to fit one another. Each check yields the field and what is wanted of it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date
from ipaddress import ip_address
from urllib.parse import urlsplit

from stockade.settings.sections import Access, Audit, Issuer, Notices

_SINK_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")


def access_problems(access: Access) -> Iterator[tuple[str, str]]:
    """Check how access is asked for and answered."""
    if not 1 <= access.answer_days[0] <= access.answer_days[1] <= 366:
        yield "access.answer_days", "two numbers of days, the smaller one first"
    for day in access.holidays:
        try:
            date.fromisoformat(day)
        except ValueError:
            yield "access.holidays", f"'{day}' is no day like 2026-12-25"


def issuer_problems(issuers: tuple[Issuer, ...]) -> Iterator[tuple[str, str]]:
    """Check what the console has to know of issuers."""
    clients = [issuer.console for issuer in issuers if issuer.console is not None]
    names = [client.name for client in clients]
    if len(set(names)) != len(names):
        yield "issuers.console.name", "each issuer's is another one"
    for client in clients:
        if re.fullmatch("[a-z0-9][a-z0-9-]{0,31}", client.name) is None:
            yield (
                "issuers.console.name",
                f"'{client.name}' is not made of lower-case letters, digits and '-', at most 32",
            )
        if not client.client_id or "openid" not in client.scope.split():
            yield "issuers.console", "a client_id, and a scope with `openid` in it"


def notice_problems(notices: Notices) -> Iterator[tuple[str, str]]:
    """Check where notices go."""
    webhook, mail = urlsplit(notices.webhook), notices.mail
    if notices.webhook:
        if webhook.scheme != "https" or not webhook.hostname or "@" in webhook.netloc or webhook.fragment:
            yield "notices.webhook", "an https address, without a user name"
        if not (notices.webhook_secret_env or notices.webhook_secret_file):
            yield "notices.webhook", "name the secret to sign with: webhook_secret_env or webhook_secret_file"
    if mail.host and "@" not in mail.sender:
        yield "notices.mail.sender", "an address that mail comes from"
    if mail.user and not (mail.credential_env or mail.credential_file):
        yield "notices.mail.user", "name the password: credential_env or credential_file"
    if mail.user and mail.tls == "none":
        yield "notices.mail.tls", "no password is sent without TLS"


def audit_problems(audit: Audit) -> Iterator[tuple[str, str]]:
    """Check where audit records and tree heads go."""
    names = [one.name.lower() for one in audit.sinks]
    for sink in audit.sinks:
        if not _SINK_NAME.fullmatch(sink.name):
            yield "audit.sinks.name", f"'{sink.name}' is no name: letters, digits, '-' and '_', 63 at most"
        if names.count(sink.name.lower()) > 1:
            yield "audit.sinks.name", f"two sinks are called '{sink.name}'"
        schemes = {"file": ("file",), "syslog": ("tls",), "http": ("https", "http"), "otlp": ("https", "http")}[
            sink.type
        ]
        yield from _receiver_problems("audit.sinks.url", sink.url, schemes)
    for witness in audit.witnesses:
        yield from _receiver_problems("audit.witnesses.url", witness.url, ("file", "https"))


def _receiver_problems(name: str, url: str, schemes: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        yield name, "no address can be read like this"
        return
    here = parts.hostname == "localhost" or _is_loopback(parts.hostname or "")
    if parts.scheme not in schemes:
        yield name, f"an address that begins with {' or '.join(f'{one}://' for one in schemes)}"
    elif "@" in parts.netloc or parts.fragment:
        yield name, "an address without a user name; a credential is named by credential_env or credential_file"
    elif parts.scheme == "file":
        if parts.netloc or not parts.path.startswith("/") or parts.path == "/" or parts.query:
            yield name, "a path on this machine, file:///..."
    elif not parts.hostname:
        yield name, "an address with a host"
    elif parts.scheme == "http" and not here:
        yield name, "https, unless it is on this machine"


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
