"""Can callers reach an account where they look for it? What is found, in plain words, and what has to change."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any, Literal, TypeAlias

from stockade.cli.resolution import Resolved, resolve
from stockade.serve import tls
from stockade.serve.private_states import ListenerState
from stockade.serve.probe import reachable_host
from stockade.settings import Settings

CONNECT_TIMEOUT_S = 5.0
MAX_ACCOUNTS = 1000

Level: TypeAlias = Literal["ok", "note", "wrong"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. advice: lines that say what to change."""

    check: Literal["name", "public access", "private endpoint", "connection", "engine", "clock", "keys"]
    level: Level
    message: str
    advice: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Subject:
    """An account as the checks need it. listeners: how its approved private endpoints stand; None when their process does not run."""

    name: str
    subdomain: str | None
    public: bool
    approved: int
    listeners: tuple[ListenerState, ...] | None


@dataclass(slots=True)
class Diagnosis:
    """Looks at accounts from where callers stand. server: the name server they use; "" for this system's resolver."""

    settings: Settings
    server: str = ""
    everyone: Sequence[ListenerState] = ()
    """The private listeners of all accounts."""
    _connections: dict[tuple[str, int, str], Finding] = field(default_factory=dict)

    def account(self, subject: Subject) -> list[Finding]:
        """Return everything that was found about one account."""
        standing = [one for one in subject.listeners or () if one.state == "listening"]
        found = [*self._private(subject), *self._public(subject)]
        name = self._name(subject)
        if name is None:
            found += self._path_style(subject, standing)
        else:
            found += self._resolved(subject, standing, name)
        return found

    # What the account's own settings come to

    def _private(self, subject: Subject) -> Iterable[Finding]:
        for one in subject.listeners or ():
            where = _place(one.address, one.port or self.settings.listen.private_port)
            if one.state == "listening":
                level: Level = "note" if one.reason else "ok"
                yield Finding(
                    "private endpoint", level, f"listens at {where}" + (f"; {one.reason}" if one.reason else "")
                )
                yield self._reach(one.address, one.port, self._name(subject, private=True) or "localhost")
            else:
                networks = ", ".join(self.settings.listen.private_networks)
                advice = (f"listen.private_networks is {networks}; the operator of this machine may change it.",)
                message = f"{one.address} is not listened on: {one.reason}"
                yield Finding("private endpoint", "wrong", message, advice if "private_networks" in one.reason else ())
        missing = subject.approved - len(subject.listeners or ())
        if missing > 0:
            why = (
                "the process of the private listeners does not run"
                if subject.listeners is None
                else "they have no address"
            )
            message = f"{missing} approved private endpoint connection(s) are not listened for: {why}"
            yield Finding("private endpoint", "wrong", message, ("The server's log says more.",))

    def _public(self, subject: Subject) -> Iterable[Finding]:
        if subject.public:
            return
        if subject.approved:
            yield Finding("public access", "ok", "is disabled; the account answers at its private endpoints alone")
        else:
            advice = ("Approve a private endpoint connection, or set publicNetworkAccess to Enabled.",)
            message = "is disabled and no private endpoint is approved, so that nobody can reach the account"
            yield Finding("public access", "wrong", message, advice)

    # Names

    def _name(self, subject: Subject, *, private: bool = False) -> str | None:
        """Return the account's host name; None in a path-style installation, where private endpoints alone have one."""
        names = self.settings.names
        if not names.domain:
            return f"{subject.subdomain}.ai.{tls.DEFAULT_DOMAIN}" if private and subject.subdomain else None
        if subject.subdomain is None:
            return f"{names.location}.api.{names.domain}".lower()
        return f"{subject.subdomain}.ai.{names.domain}".lower()

    def _path_style(self, subject: Subject, standing: Sequence[ListenerState]) -> Iterable[Finding]:
        public = self.settings.account_endpoint(subject.subdomain)
        yield Finding(
            "name",
            "note",
            f"addresses are path style: {public}, and localhost is the caller's own machine; names.domain gives accounts names of their own",
        )
        if subject.public:
            yield self._reach(reachable_host(self.settings.listen.host), self.settings.listen.data_port, "localhost")
        name = self._name(subject, private=True)
        if standing and name is not None:
            first = standing[0]
            advice = (f"Then its address is https://{_authority(name, first.port)}/", *recipe(name, first.address))
            yield self._judge(subject, standing, resolve(name, self.server), advice)

    def _resolved(self, subject: Subject, standing: Sequence[ListenerState], name: str) -> Iterable[Finding]:
        listen = self.settings.listen
        found = resolve(name, self.server)
        target = standing[0].address if standing else _advertised(listen.host)
        advice = recipe(name, target)
        if standing and standing[0].port != listen.data_port:
            same = (
                f"The private endpoint answers on port {standing[0].port}, the public listener on {listen.data_port}: with "
                f"listen.private_port = {listen.data_port} the account's address stays the same for both."
            )
            advice = (same, *advice)
        yield self._judge(subject, standing, found, advice)
        private = {one.address: one.port for one in standing}
        for address in found.addresses:
            if address not in private and subject.public:
                yield self._reach(address, listen.data_port, name)

    def _judge(
        self, subject: Subject, standing: Sequence[ListenerState], found: Resolved, advice: tuple[str, ...]
    ) -> Finding:
        """Say whether what a name resolves to is what it should."""
        own = {one.address for one in standing}
        foreign = {one.address: one.account for one in self.everyone if one.address not in own}
        told = f"{found.name} is {' and '.join(found.addresses)} by {found.by}"
        if not found.addresses:
            return Finding("name", "wrong", f"{found.name} does not resolve by {found.by}: {found.failure}", advice)
        theirs = [foreign[address] for address in found.addresses if address in foreign]
        inside = [address for address in found.addresses if address in own]
        if theirs:
            return Finding(
                "name", "wrong", f"{told}: a private endpoint of another account ({_last(theirs[0])})", advice
            )
        if len(inside) == len(found.addresses):
            return Finding("name", "ok", f"{told}: its private endpoint")
        if inside:
            message = (
                f"{told}: its private endpoint and another address, so that callers come by one or the other by chance"
            )
            return Finding("name", "wrong", message, advice)
        if not subject.public and standing:
            message = (
                f"{told}, which is not its private endpoint. Public access is disabled: whoever resolves it so is refused with "
                "403 'Public access is disabled. Please configure private endpoint.'"
            )
            return Finding("name", "wrong", message, advice)
        if standing and self.settings.names.domain:
            return Finding(
                "name",
                "note",
                f"{told}: the public address. Callers of the private endpoint need another answer",
                advice,
            )
        if standing:
            return Finding(
                "name", "note", f"{told}: not its private endpoint, which callers reach only by that name", advice
            )
        return Finding("name", "ok", f"{told}: the public address")

    # Connections

    def _reach(self, address: str, port: int, name: str) -> Finding:
        """Connect as a caller would and say what came of it. Asked once per address and name."""
        key = (address, port, name)
        if key not in self._connections:
            self._connections[key] = self._connect(address, port, name)
        return self._connections[key]

    def _connect(self, address: str, port: int, name: str) -> Finding:
        place = _place(address, port)
        try:
            plain = socket.create_connection((address, port), CONNECT_TIMEOUT_S)
        except (OSError, OverflowError) as failure:
            reason = getattr(failure, "strerror", None) or str(failure)
            listen = self.settings.listen
            public = f"The public listener stands at {_place(listen.host, listen.data_port)}."
            advice: tuple[str, ...] = (public,) if port == listen.data_port else ()
            return Finding("connection", "wrong", f"nothing answers at {place}: {reason}", advice)
        with plain:
            try:
                context = ssl.create_default_context(cafile=str(self.settings.ca_bundle_file))
                with context.wrap_socket(plain, server_hostname=name) as secured:
                    shown = secured.getpeercert(binary_form=True)
            except ssl.SSLCertVerificationError as failure:
                advice = _certificate_advice(self.settings, name)
                message = f"TLS at {place} is not accepted for {name}: {failure.verify_message}"
                return Finding("connection", "wrong", message, advice)
            except (OSError, ValueError) as failure:
                return Finding("connection", "wrong", f"{place} does not speak TLS: {failure}")
        if shown != _leaf(self.settings):
            message = f"TLS at {place} is accepted for {name}, with a certificate that is not Stockade's own: a proxy stands there"
            return Finding(
                "connection", "note", message, ("Is it in trusted_proxies? Else all callers have its address.",)
            )
        return Finding("connection", "ok", f"TLS at {place} is accepted for {name}")


def recipe(name: str, address: str) -> tuple[str, ...]:
    """Return what makes a name mean an address, for those who are to reach it there, and for nobody else."""
    kind = "AAAA" if ":" in address else "A"
    return (
        f"Where callers ask for {name}, the {kind} record has to be {address} (elsewhere it may stay as it is: split horizon):",
        f"  hosts file   {address} {name}",
        f"  dnsmasq      address=/{name}/{address}",
        f'  unbound      local-data: "{name}. 300 IN {kind} {address}"',
        f"  zone file    {name}. 300 IN {kind} {address}",
    )


def subject(entry: Mapping[str, Any], states: Sequence[ListenerState] | None) -> Subject:
    """Return what the checks need of an account, from its ARM body."""
    properties = entry["properties"]
    shown = [one.get("properties") or {} for one in properties.get("privateEndpointConnections") or ()]
    status = [(one.get("privateLinkServiceConnectionState") or {}).get("status") for one in shown]
    own = tuple(one for one in states if one.account == str(entry["id"]).lower()) if states is not None else None
    return Subject(
        name=entry["name"],
        subdomain=properties.get("customSubDomainName"),
        public=properties.get("publicNetworkAccess") != "Disabled",
        approved=status.count("Approved"),
        listeners=own,
    )


def _certificate_advice(settings: Settings, name: str) -> tuple[str, ...]:
    if settings.tls.certificate:
        return (
            f"The certificate in settings.tls has to name {name} (subjectAltName) and be issued by an authority callers trust.",
        )
    return ("Set names.domain, so that the local certificate names it, and have callers trust the CA: stockade ca",)


def _leaf(settings: Settings) -> bytes:
    try:
        pem = tls.active_file(settings).read_text()
        return ssl.PEM_cert_to_DER_cert(
            pem[pem.index("-----BEGIN CERTIFICATE") : pem.index("-----END CERTIFICATE") + 25]
        )
    except (OSError, ValueError):
        return b""


def _place(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _authority(name: str, port: int) -> str:
    return name if port == 443 else f"{name}:{port}"


def _advertised(host: str) -> str:
    """Return the address to put into DNS for the public listener; a wildcard stands for one of this machine's."""
    try:
        address = ip_address(host)
    except ValueError:
        return host
    return "ADDRESS-OF-THIS-MACHINE" if address.is_unspecified else str(address)


def _last(resource_id: str) -> str:
    return resource_id.rpartition("/")[2]
