"""Further issuers whose tokens are accepted: a real Entra tenant, Keycloak, any OpenID Connect provider.

A background task of the control plane fetches their keys and stores them as documents, so that every worker learns of
them through the snapshot and the request path never waits for a stranger's server. What an issuer is trusted for is
taken from the settings alone, so that a change of them is in force after a restart even while the issuer is away. Keys
that were not confirmed for a day, or as long as the settings say, are no longer trusted. A worker that meets an unknown
key id says so through a shared counter, which brings the next fetch forward, but never below a minimum interval.
Source: OpenID Connect Discovery 1.0 sections 4 and 7, RFC 7517, RFC 8414 section 3.3 (the issuer must name itself
exactly).
"""

from __future__ import annotations

import asyncio
import json
import logging
import ssl
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import httpx2
from anyio import to_thread

from stockade.identity.compact import NotVerified, import_key
from stockade.identity.services import IdentityServices
from stockade.identity.tenant import local_issuer, required_tenant
from stockade.kernel.faults import Fault
from stockade.kernel.principal import RejectedCredential
from stockade.policy.snapshot import Entry, IssuerPolicy, VerificationKey
from stockade.settings import Issuer
from stockade.storage.documents import Document
from stockade.storage.generation import GenerationCell

TYPE: Final = "stockade.identity/issuers"
PREFIX: Final = "/providers/stockade.identity/issuers/"

MIN_INTERVAL_S: Final = 30.0
POLL_S: Final = 1.0
MAX_BACK_OFF_S: Final = 900.0
STORE_AGAIN_S: Final = 3600.0
"""Unchanged keys are confirmed in the database this often; every write makes each worker look at the database."""
TIMEOUT_S: Final = 5.0
MAX_BYTES: Final = 256 * 1024
MAX_KEYS: Final = 64
WANTED_FILE: Final = "issuer-keys-wanted"

_DEFAULT_ALGORITHMS: Final = {"RSA": "RS256", "P-256": "ES256", "P-384": "ES384"}
_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})

log = logging.getLogger(__name__)


class FetchFailed(Exception):
    """An issuer's keys could not be had. The message says why and holds nothing secret."""


class KeysWanted:
    """How a worker asks for an earlier fetch: the time of the latest token with an unknown key id, in shared memory."""

    def __init__(self, run_dir: Path) -> None:
        self._cell = GenerationCell(run_dir / WANTED_FILE)

    @property
    def latest(self) -> int:
        """The epoch second of the latest such token."""
        return self._cell.value

    def note(self, rejected: RejectedCredential, now: float) -> None:
        """Take note when a token was refused for its unknown key; costs nothing otherwise."""
        if rejected.reason == "unknown_key":
            self._cell.publish(int(now) + 1)


@dataclass(slots=True)
class _Progress:
    """Where the fetching of one issuer stands, in monotonic seconds."""

    due: float
    shortest_s: float
    """Between a fetch and one that is wanted earlier than the next, or tried again."""
    failures: int = 0
    last: float = float("-inf")
    served: int = 0
    """The newest wish that a fetch has answered."""


class IssuerKeys:
    """Keeps the keys of the configured issuers fresh. One task in the control plane."""

    def __init__(self, services: IdentityServices) -> None:
        self._services = services
        self._issuers = {issuer.issuer: issuer for issuer in services.settings.issuers}
        now = services.clock.monotonic()
        self._progress = {
            name: _Progress(due=now, shortest_s=min(MIN_INTERVAL_S, refresh_s(issuer)))
            for name, issuer in self._issuers.items()
        }
        self._wanted = KeysWanted(services.settings.run_dir)

    async def run(self) -> None:
        """Forget issuers that are no longer configured, then fetch whenever it is due, until cancelled.

        Ends by itself when no issuer is configured.
        """
        forgotten = False
        while not forgotten or self._issuers:
            try:
                if not forgotten:
                    await to_thread.run_sync(self.forget_others)
                    forgotten = True
                await self.refresh_due()
            except Fault as fault:
                log.warning("issuers that are no longer configured could not be forgotten yet: %s", fault.message)
            await asyncio.sleep(POLL_S)

    def forget_others(self) -> None:
        """Remove the stored keys of issuers that the settings no longer name."""
        kept = {document_id(name) for name in self._issuers}
        with self._services.database.read() as reader:
            stale = [document.id for document in reader.list(TYPE) if document.id not in kept]
        if stale:
            with self._services.database.write() as writer:
                for name in stale:
                    document = writer.get(name)
                    if document is not None:
                        writer.remove(document)

    async def refresh_due(self) -> None:
        """Fetch from every issuer whose time has come. Failures are logged and tried again later; they never raise."""
        now, wanted = self._services.clock.monotonic(), self._wanted.latest
        due = [name for name, progress in self._progress.items() if self._is_due(progress, now, wanted)]
        await asyncio.gather(*(self._refresh(self._issuers[name], wanted) for name in due))

    def _is_due(self, progress: _Progress, now: float, wanted: int) -> bool:
        if now >= progress.due:
            return True
        return progress.failures == 0 and wanted > progress.served and now - progress.last >= progress.shortest_s

    async def _refresh(self, issuer: Issuer, wanted: int) -> None:
        progress = self._progress[issuer.issuer]
        progress.last = self._services.clock.monotonic()
        try:
            keys = await fetch_keys(issuer)
            await to_thread.run_sync(self._store, issuer, keys)
            progress.failures, progress.served = 0, wanted
            progress.due = self._services.clock.monotonic() + refresh_s(issuer)
            return
        except (FetchFailed, Fault) as failure:
            log.warning("the keys of %s could not be fetched: %s", issuer.issuer, failure)
        except Exception:
            # One issuer's surprise must not end the task that serves the others.
            log.exception("fetching the keys of %s failed", issuer.issuer)
        progress.failures += 1
        wait_s = min(MAX_BACK_OFF_S, progress.shortest_s * 2 ** min(progress.failures - 1, 10))
        progress.due = self._services.clock.monotonic() + wait_s

    def _store(self, issuer: Issuer, keys: Sequence[Mapping[str, Any]]) -> None:
        now = self._services.clock.now()
        with self._services.database.read() as reader:
            tenant_id = required_tenant(reader).id
            current = reader.get(document_id(issuer.issuer))
        if issuer.issuer == local_issuer(self._services.settings.authority, tenant_id):
            raise FetchFailed("it is this platform's own issuer and needs no entry in the settings")
        body = {
            "name": issuer.issuer,
            "issuer": issuer.issuer,
            "tenantId": issuer.tenant_id or tenant_id,
            "keys": list(keys),
        }
        unchanged = current is not None and {**current.body, **body} == current.body
        again_s = min(STORE_AGAIN_S, issuer.keys_max_age_s / 4)
        if unchanged and current is not None and now - current.body["confirmedAt"] < again_s:
            return
        with self._services.database.write() as writer:
            writer.put(document_id(issuer.issuer), TYPE, {**body, "confirmedAt": now})


def refresh_s(issuer: Issuer) -> float:
    """Return how often an issuer's keys are fetched: often enough that they do not end in between."""
    return min(issuer.refresh_s, issuer.keys_max_age_s / 4)


def document_id(issuer: str) -> str:
    """Return the id of an issuer's document."""
    return PREFIX + sha256(issuer.encode()).hexdigest()[:32]


def compile_issuer(document: Document, configured: Iterable[Issuer]) -> Iterable[Entry]:
    """Yield the issuer's policy and its keys; nothing when the settings do not name it."""
    body = document.body
    name = str(body["issuer"])
    issuer = next((entry for entry in configured if entry.issuer == name), None)
    if issuer is None:
        return
    policy = IssuerPolicy(
        issuer=name,
        tenant_id=str(body["tenantId"]),
        audiences=frozenset(audience.rstrip("/") for audience in issuer.audiences),
        local=False,
        keys_expire_at=float(body["confirmedAt"]) + issuer.keys_max_age_s,
        object_id_claim=issuer.object_id_claim,
        app_id_claim=issuer.app_id_claim,
    )
    yield ("issuer", name, policy)
    for key in body["keys"]:
        entry = VerificationKey(name, str(key["kid"]), str(key["alg"]), dict(key["jwk"]), None)
        yield ("verification-key", (name, entry.key_id), entry)


async def fetch_keys(issuer: Issuer) -> list[dict[str, Any]]:
    """Return the issuer's signing keys as `{kid, alg, jwk}`, sorted; FetchFailed when there are none to be had.

    https only; plain http where the settings themselves name a loopback address. Redirects are not followed.
    """
    plain = _address(issuer.jwks_url or issuer.issuer, plain_loopback=True).scheme == "http"
    try:
        context = ssl.create_default_context(cafile=issuer.ca_file or None)
    except OSError as failure:
        raise FetchFailed(f"its ca_file cannot be read ({failure.strerror})") from failure
    # No proxies and no netrc from the environment: what is trusted here is what the settings say.
    async with httpx2.AsyncClient(verify=context, timeout=TIMEOUT_S, follow_redirects=False, trust_env=False) as client:
        url = issuer.jwks_url
        if not url:
            found = await _get(
                client, issuer.issuer.rstrip("/") + "/.well-known/openid-configuration", plain_loopback=plain
            )
            if found.get("issuer") != issuer.issuer:
                raise FetchFailed("its discovery document names another issuer")
            url = str(found.get("jwks_uri", ""))
        return usable_keys(await _get(client, url, plain_loopback=plain))


def usable_keys(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Pick the signature keys out of a JWK set; FetchFailed when the set is oversized or has none."""
    listed = document.get("keys")
    if not isinstance(listed, list) or len(listed) > MAX_KEYS:
        raise FetchFailed(f"its key set is not a list of at most {MAX_KEYS} keys")
    found: dict[str, dict[str, Any] | None] = {}
    for jwk in listed:
        key = _usable(jwk)
        if key is not None:
            # Two keys of one id: there is no telling which is meant, so neither is trusted.
            found[key["kid"]] = None if key["kid"] in found else key
    keys = sorted((key for key in found.values() if key is not None), key=lambda key: str(key["kid"]))
    if not keys:
        raise FetchFailed("its key set holds no usable signature key")
    return keys


def _usable(jwk: object) -> dict[str, Any] | None:
    if not isinstance(jwk, dict) or jwk.get("use", "sig") != "sig":
        return None
    key_id, kind = jwk.get("kid"), jwk.get("kty")
    algorithm = jwk.get("alg") or _DEFAULT_ALGORITHMS.get(str(jwk.get("crv") if kind == "EC" else kind))
    if not isinstance(key_id, str) or not 0 < len(key_id) <= 256 or not isinstance(algorithm, str):
        return None
    public = {name: jwk[name] for name in ("kty", "n", "e", "crv", "x", "y") if name in jwk}
    try:
        import_key(public, algorithm)
    except NotVerified:
        return None
    return {"kid": key_id, "alg": algorithm, "jwk": public}


def _address(url: str, *, plain_loopback: bool) -> httpx2.URL:
    # The client's own parser: what is checked is what will be connected to.
    try:
        address = httpx2.URL(url)
    except (httpx2.InvalidURL, ValueError) as failure:
        raise FetchFailed("an address is not an https URL") from failure
    plain = plain_loopback and address.scheme == "http" and address.host in _LOOPBACK
    if not address.host or (address.scheme != "https" and not plain):
        raise FetchFailed("an address is not an https URL")
    return address


async def _get(client: httpx2.AsyncClient, url: str, *, plain_loopback: bool) -> dict[str, Any]:
    address = _address(url, plain_loopback=plain_loopback)
    data = bytearray()
    try:
        async with asyncio.timeout(TIMEOUT_S):
            headers = {"accept": "application/json", "accept-encoding": "identity"}
            async with client.stream("GET", address, headers=headers) as response:
                if response.status_code != 200:
                    raise FetchFailed(f"it answered {response.status_code}")
                async for chunk in response.aiter_raw():
                    data += chunk
                    if len(data) > MAX_BYTES:
                        raise FetchFailed(f"it sent more than {MAX_BYTES} bytes")
        document = json.loads(data.decode())
    except TimeoutError as late:
        raise FetchFailed(f"it did not answer within {TIMEOUT_S:.0f} s") from late
    except (httpx2.HTTPError, OSError) as failure:
        raise FetchFailed(f"it cannot be reached ({type(failure).__name__})") from failure
    except (ValueError, RecursionError) as failure:
        raise FetchFailed("it did not answer with JSON") from failure
    if not isinstance(document, dict):
        raise FetchFailed("it did not answer with a JSON object")
    return document
