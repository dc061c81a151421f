"""A worker of the gateway."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import TypeAlias

from stockade import settings
from stockade.audit.hiding import PURPOSE as HASH_PURPOSE
from stockade.boot.foundation import Foundation, async_broker, foundation
from stockade.content.account_content import Contents
from stockade.content.job_grants import JobGrants, Starter
from stockade.decisions.ring import DecisionRing
from stockade.decisions.store import DecisionStore
from stockade.egress.fetch import Fetcher
from stockade.egress.resolve import resolver_for
from stockade.gateway.address import AddressBook, ClientAddresses
from stockade.gateway.admission import Admission
from stockade.gateway.app import Gateway
from stockade.gateway.content import InlineContent
from stockade.gateway.counters import RateCounters
from stockade.gateway.credential import Credentials
from stockade.gateway.http import HttpRequests
from stockade.gateway.kept import KeptContent
from stockade.gateway.quota import Quota
from stockade.gateway.receipts import Receipts
from stockade.gateway.reply import ReplyHeaders
from stockade.gateway.usage import KeyUsage
from stockade.gateway.websocket import Address
from stockade.identity.audiences import ai_audiences
from stockade.identity.issuers import KeysWanted
from stockade.identity.verify import TokenCache, verify
from stockade.kernel.clock import SimulatedClock
from stockade.kernel.principal import RejectedCredential, TokenCredential
from stockade.kernel.threads import BoundedThreads
from stockade.keys.session_token import SessionTokens
from stockade.keys.subscription import DIGEST_PURPOSE, KeyDigester
from stockade.policy.snapshot import Snapshot
from stockade.services.installed import installed
from stockade.services.routing import Router
from stockade.services.session_tokens.service import PURPOSE as SESSION_PURPOSE
from stockade.settings import Settings

JOB_STARTS, JOB_STARTS_WAITING = 2, 64


def data_plane(port: int | None = None, websocket_tls: Callable[[Settings], ssl.SSLContext] | None = None) -> Gateway:
    """Build the gateway of one worker.

    port: where its listeners stand; None for the public one. websocket_tls: gives the context of the public WebSocket listener; None: it has none.
    """
    base = foundation(settings.load())
    configured, root_key = base.settings, base.root_key
    services = installed(configured, root_key)
    router = Router(services)
    cache, audiences, wanted = TokenCache(), ai_audiences(configured), KeysWanted(configured.run_dir)

    def verify_token(snapshot: Snapshot, token: str, now: float) -> TokenCredential | RejectedCredential:
        credential = verify(snapshot, token, now, audiences, cache)
        if isinstance(credential, RejectedCredential):
            wanted.note(credential, now)
        return credential

    credentials = Credentials(
        KeyDigester(root_key.derive(DIGEST_PURPOSE)), SessionTokens(root_key.derive(SESSION_PURPOSE)), verify_token
    )
    simulated = base.clock if isinstance(base.clock, SimulatedClock) else None
    usage, heads = KeyUsage(base.database), ReplyHeaders(configured.names.location, simulated)
    fetcher = Fetcher(configured.egress, resolver_for(configured.egress))
    content = InlineContent(fetcher, configured.egress.max_per_request)
    root_key.derive(HASH_PURPOSE)  # now, because it is lent by another process and records do not wait
    quota, listen = Quota(RateCounters(configured.run_dir)), configured.listen
    kept = kept_content(base)
    receipts = Receipts(async_broker(base), root_key, configured.arm_endpoint, base.clock)
    served_port = port if port is not None else listen.data_port
    websockets_at = None
    if websocket_tls is not None and listen.websocket_port:
        websockets_at = Address(websocket_tls(configured), listen.host, listen.websocket_port)
    return Gateway(
        source=base.source,
        admission=Admission(AddressBook(configured, router.roots), router, credentials),
        requests=HttpRequests(
            quota, usage, heads, content, kept, receipts, configured.limits, served_port, listen.websocket_port
        ),
        clients=ClientAddresses(configured.trusted_proxies),
        usage=usage,
        audit=base.audit,
        decisions=DecisionRing(
            DecisionStore(configured.data_dir, configured.decisions), configured.decisions, base.clock
        ),
        heads=heads,
        limits=configured.limits,
        clock=base.clock,
        port=served_port,
        quota=quota,
        content=content,
        websocket_port=listen.websocket_port,
        websockets_at=websockets_at,
    )


def kept_content(base: Foundation) -> KeptContent:
    """Return what opens kept content for callers, and starts their jobs."""
    found, grants = contents(base), JobGrants(base.database, base.broker, base.clock)
    threads = BoundedThreads(JOB_STARTS, JOB_STARTS_WAITING)
    return KeptContent(
        found.of,
        base.settings.content.max_file_bytes,
        lambda account_id, evidence, data_action: Starter(grants, threads, account_id, evidence, data_action),
    )


def contents(base: Foundation) -> Contents:
    """Return what accounts keep. Used on one event loop."""
    return Contents(base.settings, base.database, async_broker(base), clock=base.clock)


WebSocketAddress: TypeAlias = Address
"""Where a gateway's `websockets` are to listen; for those who may not know the gateway's parts."""
