"""Stockade against itself: one server, an account for each setting of a control, and the account on which none is set."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from benchmarks.contenders import Place, Running
from benchmarks.contenders.stockade import expect, serving, target
from benchmarks.install import Cache
from benchmarks.workload import DOCUMENT, EVENTS_OUT, LETTER, LINK, NO_CONTROL, Request, Workload
from stockade import __version__

_HOST = LINK.split("/")[2]
_DEPLOYMENTS = 4
"""Of each account, called in turn, so that no rate limit is reached. Each account has a model of its own, and so a quota of its own."""


def _network(rules: int, **controls: str) -> Mapping[str, Any]:
    """Admit loopback by the last of so many rules."""
    others = [{"value": f"10.{number // 256}.{number % 256}.0/24"} for number in range(rules - 1)]
    acls = {"defaultAction": "Deny", "ipRules": [*others, {"value": "127.0.0.0/8"}]}
    return {"networkAcls": acls, "stockade": {"controls": controls}}


def _dlp(*hosts: str, **controls: str) -> Mapping[str, Any]:
    """Restrict outbound access; the output is not looked at unless a control says so."""
    extension = {"controls": {"output": "off", **controls}, "dlp": {"deepScan": True, "inlineContent": False}}
    return {"restrictOutboundNetworkAccess": True, "allowedFqdnList": list(hosts), "stockade": extension}


_LETTERS: Mapping[str, Mapping[str, Any]] = {
    NO_CONTROL: {},
    "10 network rules": _network(10),
    "10,000 network rules": _network(10_000),
    "dlp": _dlp(_HOST),
    "dlp in report, nothing found": _dlp(_HOST, dlp="report"),
    "dlp in report, each refused": _dlp("elsewhere.example", dlp="report"),
    "network in report, each refused": {
        "networkAcls": {"defaultAction": "Deny", "ipRules": [{"value": "10.0.0.0/8"}]},
        "stockade": {"controls": {"network": "report"}},
    },
}
_DOCUMENTS: Mapping[str, Mapping[str, Any]] = {NO_CONTROL: {}, "dlp": _dlp(_HOST)}
_EVENTS: Mapping[str, Mapping[str, Any]] = {
    NO_CONTROL: {},
    "output in report": _dlp(_HOST, output="report"),
    "output enforced": _dlp(_HOST, output="enforce"),
}
_SETTINGS: Mapping[Workload, Mapping[str, Mapping[str, Any]]] = {
    LETTER: _LETTERS,
    DOCUMENT: _DOCUMENTS,
    EVENTS_OUT: _EVENTS,
}


class Controls:
    """What each control adds to the full chain."""

    name = "Stockade, controls"
    about = "one worker, SQLite, audit log on, keys; an account for each setting, one of them called at a time"

    def install(self, cache: Cache) -> str:
        return __version__

    @contextmanager
    def start(self, place: Place) -> Iterator[Running]:
        models = {
            (workload, check): f"{workload.name}-{number}"
            for workload, settings in _SETTINGS.items()
            for number, check in enumerate(settings)
        }
        with serving(place, list(models.values())) as (process, port, installation):
            requests = []
            for (workload, check), model in models.items():
                deployments = {f"{model}-{number}": model for number in range(_DEPLOYMENTS)}
                key = installation.account(model, _SETTINGS[workload][check], deployments)
                targets = tuple(target(model, deployment, {"api-key": key}) for deployment in deployments)
                requests.append(Request(workload, check, port, targets))
                expect(200, requests[-1])
            yield Running([process.pid], requests)
