"""Ask the running server, the way every other client does: a token for the administrator or somebody else, then ARM or a vault over TLS.

From the server's own machine by its data directory, from any other by the addresses that `stockade env` prints.

Stdlib HTTP on purpose: a command asks two or three questions and ends, and a client library would be the slowest part of it.
"""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from urllib.parse import urlencode, urlsplit

from stockade import __version__
from stockade.cli.context import err, moment
from stockade.kernel.clock import SIMULATED_HEADER
from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.secret import Secret
from stockade.serve import running, tls
from stockade.serve.administrator import Administrator
from stockade.serve.probe import reachable_host
from stockade.settings import Settings

API_VERSION = "2025-09-01"
VAULT_VERSION = "7.4"
TIMEOUT_S = 60.0
MAX_REPLY = 16 * 1024 * 1024
AUDIENCE = "https://management.azure.com/.default"
VAULT_AUDIENCE = "https://vault.azure.net/.default"
PIECE = 256 * 1024
ACCOUNTS = "Microsoft.CognitiveServices/accounts"
WARNING = "x-stockade-warning"
NOT_RUNNING = "Stockade is not running: start it with `stockade up`."

_KINDS: Mapping[int, FaultKind] = {
    400: FaultKind.INVALID,
    401: FaultKind.UNAUTHENTICATED,
    403: FaultKind.AUTHORIZATION_FAILED,
    404: FaultKind.NOT_FOUND,
    405: FaultKind.METHOD_NOT_ALLOWED,
    409: FaultKind.CONFLICT,
    412: FaultKind.PRECONDITION_FAILED,
    413: FaultKind.TOO_LARGE,
    415: FaultKind.UNSUPPORTED_MEDIA_TYPE,
    429: FaultKind.LIMIT,
    503: FaultKind.UNAVAILABLE,
}


class NotRunning(Exception):
    """Nothing answers at the server's address."""


@dataclass(frozen=True, slots=True)
class Account:
    """An AI account as far as the commands need to know it."""

    id: str
    name: str
    kind: str
    location: str
    endpoint: str
    identity: Mapping[str, Any]
    local_auth: bool


@dataclass(frozen=True, slots=True)
class Place:
    """Where a server is. arm, authority: origins. vaults: what vaults' hosts end with, with a port. address: where to connect to; None: by name."""

    arm: str
    authority: str
    vaults: str
    context: ssl.SSLContext
    address: tuple[str, int] | None = None


class Arm:
    """ARM on this machine's server, as the administrator. One token per audience for the life of the object.

    place: another server than this machine's; settings are then only defaults.
    """

    def __init__(self, settings: Settings, administrator: Administrator, place: Place | None = None) -> None:
        self.settings, self.administrator = settings, administrator
        self.place = place or _here(settings)
        self._tokens: dict[str, Secret] = {}
        self._simulated: datetime | None = None

    def speaking_for(self, client_id: str, client_secret: Secret) -> Arm:
        """Return ARM as another application of this platform."""
        who = replace(self.administrator, client_id=client_id, client_secret=client_secret)
        return Arm(self.settings, who, self.place)

    @property
    def subscription(self) -> str:
        return f"/subscriptions/{self.administrator.subscription_id}"

    def call(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, api_version: str = API_VERSION
    ) -> Any:
        """Send one request and return the JSON it is answered with (None for an empty answer); Fault for a refusal, NotRunning."""
        separator = "&" if "?" in path else "?"
        headers = {"Authorization": f"Bearer {self._bearer()}", "Content-Type": "application/json"}
        payload = json.dumps(body).encode() if body is not None else b"{}" if method == "POST" else None
        return self._send(self.place.arm, method, f"{path}{separator}api-version={api_version}", headers, payload)

    def now(self) -> float:
        """Return what time it is, in epoch seconds: by this machine's clock, which no server sets, and in a rehearsal by the platform's.

        Elsewhere than on the server's machine a rehearsal's time is the server's word, so it is said that it was taken. Asked after a call.
        """
        if self.place.address is not None:
            return moment(self.settings).timestamp()
        if self._simulated is None:
            return time.time()
        err.print(
            f"The platform says that this is a rehearsal, and that it is {self._simulated:%Y-%m-%d %H:%M} UTC there."
        )
        return self._simulated.timestamp()

    def has_vault(self, uri: str) -> bool:
        """Say whether an address is one of a vault of this platform."""
        return urlsplit(uri).netloc.lower().endswith("." + self.place.vaults)

    def vault(self, method: str, uri: str, body: Mapping[str, Any] | None = None) -> Any:
        """Ask a vault of this platform; Fault for a refusal. uri: without a query."""
        parts = urlsplit(uri)
        headers = {"Authorization": f"Bearer {self._bearer(VAULT_AUDIENCE)}", "Content-Type": "application/json"}
        payload = json.dumps(body).encode() if body is not None else None
        origin = f"https://{parts.netloc.lower()}"
        return self._send(origin, method, f"{parts.path}?api-version={VAULT_VERSION}", headers, payload)

    def download(self, path: str) -> Iterator[bytes]:
        """Yield what is at a path of ARM's origin that has no api-version, piece by piece; Fault for a refusal or an answer that breaks off."""
        with self._request(self.place.arm, "GET", path, {"Authorization": f"Bearer {self._bearer()}"}, None) as reply:
            if reply.status >= 400:
                raise _fault(reply.status, _json(reply.read(MAX_REPLY)))
            try:
                while piece := reply.read(PIECE):
                    yield piece
            except (OSError, http.client.HTTPException) as failure:
                raise Fault(FaultKind.UNAVAILABLE, "The answer broke off; what has come is not all of it.") from failure
            if reply.length:
                raise Fault(FaultKind.UNAVAILABLE, "The answer broke off; what has come is not all of it.")

    def pages(self, path: str) -> Iterator[dict[str, Any]]:
        """Yield every entry of a list, following its pages."""
        following: str | None = path
        while following is not None:
            entries, following = self.page(following)
            yield from entries

    def page(self, path: str) -> tuple[list[dict[str, Any]], str | None]:
        """Return one page of a list, and the path of the next one."""
        answer = self.call("GET", path)
        following = answer.get("nextLink")
        if not following:
            return answer["value"], None
        parts = urlsplit(following)
        rest = "&".join(part for part in parts.query.split("&") if not part.startswith("api-version="))
        return answer["value"], f"{parts.path}?{rest}"

    def accounts(self) -> list[Account]:
        """Return the accounts the administrator sees, by name."""
        found = [_account(entry) for entry in self.pages(f"{self.subscription}/providers/{ACCOUNTS}")]
        return sorted(found, key=lambda account: account.name.lower())

    def account(self, reference: str) -> Account:
        """Return the account of a name or ARM id; Fault(NOT_FOUND) naming those there are, Fault(CONFLICT) when several have the name."""
        accounts = self.accounts()
        wanted = reference.lower().rstrip("/")
        found = [account for account in accounts if wanted in (account.name.lower(), account.id.lower())]
        if not found:
            names = ", ".join(account.name for account in accounts) or "none"
            raise Fault(FaultKind.NOT_FOUND, f"There is no account '{reference}'. There is: {names}.")
        if len(found) > 1:
            ids = ", ".join(account.id for account in found)
            raise Fault(FaultKind.CONFLICT, f"Several accounts are called '{reference}'; use one of the ids {ids}.")
        return found[0]

    def keys(self, account: Account) -> tuple[Secret | None, Secret | None]:
        """Return an account's two keys; None for one that only its holder has."""
        try:
            answer = self.call("POST", f"{account.id}/listKeys")
        except Fault as fault:
            if fault.code != "KeysNotKept":
                raise
            return None, None
        first, second = (Secret(answer[name]) if name in answer else None for name in ("key1", "key2"))
        return first, second

    def shown_key(self, account: Account) -> Secret | None:
        """Return a key that callers can be given; None where the account takes none, or only their holders have them."""
        return next(filter(None, self.keys(account)), None) if account.local_auth else None

    def _bearer(self, audience: str = AUDIENCE) -> str:
        if audience not in self._tokens:
            form = {
                "grant_type": "client_credentials",
                "client_id": self.administrator.client_id,
                "client_secret": self.administrator.client_secret.reveal_text(),
                "scope": audience,
            }
            headers = {"Content-Type": "application/x-www-form-urlencoded"}
            path = f"/{self.administrator.tenant_id}/oauth2/v2.0/token"
            answer = self._send(self.place.authority, "POST", path, headers, urlencode(form).encode())
            self._tokens[audience] = Secret(answer["access_token"])
        return self._tokens[audience].reveal_text()

    def _send(self, origin: str, method: str, path: str, headers: Mapping[str, str], payload: bytes | None) -> Any:
        with self._request(origin, method, path, headers, payload) as reply:
            try:
                content = reply.read(MAX_REPLY)
            except (OSError, http.client.HTTPException) as failure:
                raise NotRunning from failure
            warning, simulated = reply.getheader(WARNING), reply.getheader(SIMULATED_HEADER)
        self._simulated = datetime.fromisoformat(simulated) if simulated else None
        if warning:
            err.print(f"Warning: {warning}", markup=False)
        answer = _json(content)
        if reply.status >= 400:
            raise _fault(reply.status, answer)
        return answer

    @contextmanager
    def _request(
        self, origin: str, method: str, path: str, headers: Mapping[str, str], payload: bytes | None
    ) -> Iterator[http.client.HTTPResponse]:
        parts = urlsplit(origin)
        address = self.place.address or (_by_name(str(parts.hostname)), parts.port or 443)
        connection = _Connection(str(parts.hostname), address, self.place.context, parts.netloc)
        sent = {**headers, "User-Agent": f"stockade-cli/{__version__}", "Connection": "close"}
        try:
            yield _answered(connection, method, path, payload, sent)
        finally:
            connection.close()


def _answered(
    connection: _Connection, method: str, path: str, payload: bytes | None, headers: Mapping[str, str]
) -> http.client.HTTPResponse:
    try:
        connection.request(method, path, payload, dict(headers))
        return connection.getresponse()
    except ssl.SSLError as failure:
        raise Fault(
            FaultKind.UNAVAILABLE,
            f"The server's certificate is not accepted for {connection.name}: {failure.reason}.",
        ) from failure
    except (OSError, http.client.HTTPException) as failure:
        raise NotRunning from failure


def _json(content: bytes) -> Any:
    try:
        return json.loads(content) if content else None
    except ValueError:
        return None


def _by_name(host: str) -> str:
    """Return what to connect to for a name: names below localhost are this machine, whatever the resolver makes of them (RFC 6761)."""
    return "localhost" if host.endswith(".localhost") else host


class _Connection(http.client.HTTPSConnection):
    """Connects where the listener stands and checks the certificate for the name clients use, whether or not that resolves here."""

    def __init__(self, name: str, address: tuple[str, int], context: ssl.SSLContext, host: str) -> None:
        super().__init__(name, address[1], timeout=TIMEOUT_S, context=context)
        self.name, self._address, self._tls, self._host = name, address, context, host

    def connect(self) -> None:
        self.sock = self._tls.wrap_socket(socket.create_connection(self._address, TIMEOUT_S), server_hostname=self.name)

    def putheader(self, header: str | bytes, *values: Any) -> None:
        if header == "Host":
            values = (self._host,)
        super().putheader(header, *values)


def connect(settings: Settings) -> Arm:
    """Return ARM as the administrator; NotRunning when nothing runs on this data directory."""
    if running.status(settings) is None:
        raise NotRunning
    return Arm(settings, Administrator.open(settings))


def elsewhere(settings: Settings, administrator: Administrator, variables: Mapping[str, str]) -> Arm:
    """Return ARM at the addresses that `stockade env` prints (STOCKADE_ARM and so on), as an application of that platform."""
    context = ssl.create_default_context()
    if variables.get("STOCKADE_CA"):
        context.load_verify_locations(cafile=variables["STOCKADE_CA"])
    arm = variables["STOCKADE_ARM"].rstrip("/")
    vaults = urlsplit(variables.get("STOCKADE_VAULT", "")).netloc.lower().partition(".")[2]
    authority = variables.get("STOCKADE_AUTHORITY", arm).rstrip("/")
    return Arm(settings, administrator, Place(arm, authority, vaults or "none.invalid", context))


def _here(settings: Settings) -> Place:
    listen = settings.listen
    vaults = urlsplit(settings.vault_uri("v")).netloc.partition(".")[2]
    address = (reachable_host(listen.host), listen.control_port)
    return Place(settings.arm_endpoint, settings.authority, vaults, _trust(settings), address)


def _trust(settings: Settings) -> ssl.SSLContext:
    """Trust the system's CAs, ours, and, because this is the server's own machine, exactly the certificate it has in force."""
    context = ssl.create_default_context(cafile=str(settings.ca_bundle_file))
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.load_verify_locations(cadata=tls.certificates_in(tls.active_file(settings)))
    return context


def _account(entry: Mapping[str, Any]) -> Account:
    properties = entry["properties"]
    return Account(
        id=entry["id"],
        name=entry["name"],
        kind=entry["kind"],
        location=entry["location"],
        endpoint=properties["endpoint"],
        identity=entry.get("identity") or {},
        local_auth=properties.get("disableLocalAuth") is not True,
    )


def _fault(status: int, answer: Any) -> Fault:
    kind = _KINDS.get(status, FaultKind.UNAVAILABLE if status >= 500 else FaultKind.INVALID)
    error = answer.get("error") if isinstance(answer, dict) else None
    if isinstance(error, dict):
        further = error.get("additionalInfo")
        info = further[0].get("info") if isinstance(further, list) and further and isinstance(further[0], dict) else {}
        details = info if isinstance(info, dict) else {}
        return Fault(
            kind, str(error.get("message", f"status {status}")), code=str(error.get("code", "")), details=details
        )
    if isinstance(error, str):
        return Fault(kind, str(answer.get("error_description", error)).splitlines()[0], code=error)
    return Fault(kind, f"The server answered with status {status}.")
