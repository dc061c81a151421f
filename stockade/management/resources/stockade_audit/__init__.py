"""`Stockade.Audit`: a subscription's records, their proofs and the signed heads; the platform's own at the tenant's root; the public keys."""

from __future__ import annotations

from collections.abc import Sequence

from stockade.management.audit import published_keys, records
from stockade.management.resource_type import Plugin, Route

_HERE = "/providers/Stockade.Audit"


class Audit(Plugin):
    """Stockade.Audit."""

    name = "Stockade.Audit"

    @property
    def routes(self) -> Sequence[Route]:
        return (
            *_of_a_log(f"/subscriptions/{{subscription}}{_HERE}", records.PERMISSION),
            *_of_a_log(_HERE, records.PLATFORM_PERMISSION),
            Route("GET", f"{_HERE}/keys", None, published_keys.show),
        )


def _of_a_log(base: str, permission: str) -> tuple[Route, ...]:
    return (
        Route("GET", f"{base}/records", permission, records.search),
        Route("GET", f"{base}/records/{{decision}}", permission, records.show),
        Route("GET", f"{base}/records/{{decision}}/proof", permission, records.prove),
        Route("GET", f"{base}/records/{{decision}}/receipt", permission, records.receipt),
        Route("GET", f"{base}/treeHeads", permission, records.heads),
        Route("GET", f"{base}/treeHeads/latest", permission, records.newest_head),
        Route("GET", f"{base}/consistency", permission, records.consistency),
    )


PLUGIN = Audit()
