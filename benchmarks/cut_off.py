"""How long what a caller has open goes on after a rule has shut the caller out: `python -m benchmarks.cut_off`.

Each cut: streams and WebSocket sessions on every worker of a real server, over TLS, in which a model talks; one change by ARM; then the time from
the change's answer to the last byte of each stream, or the close frame of each session. Azure says nothing about open connections; ours is the
issue's: within a second.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

from tests.factories.private_link import decide, endpoint, network, stands
from tests.factories.realtime import DEPLOYMENT, SETTINGS, SessionTarget, realtime_server_in_a_thread
from tests.factories.streams import Target, change, data_workers, new_account, talking_engine
from tests.live import Live, finish, free_ports, start

ROLE = "Cognitive Services OpenAI User"
AUTHORIZATION = "2022-04-01"
LIMIT_S = 1.0
EACH = 2
"""Connections on each worker per cut, at least."""


class Open(Protocol):
    """One open connection. ended_at: the monotonic time of its last byte."""

    ended_at: float

    async def ended(self) -> None: ...
    def close(self) -> None: ...


class Opens(Protocol):
    """What opens them."""

    async def open_on_every_worker(self, workers: frozenset[int], each: int = 1) -> Sequence[Open]: ...


@dataclass(frozen=True, slots=True)
class Row:
    """One way to be shut out. `shut` does it, `admit` takes it back; both return when the change has been answered."""

    name: str
    target: Callable[[], Opens]
    shut: Callable[[], object]
    admit: Callable[[], object]


def rows(live: Live) -> list[Row]:
    """Return the ways to be shut out that are measured."""
    name = "cut-off"
    keys = new_account(live, name)
    made = live.request("PUT", f"{live.account_id(name)}/deployments/voice", DEPLOYMENT)
    assert made.status_code in (200, 201), made.text

    def acls(*addresses: str) -> dict[str, Any]:
        return {"defaultAction": "Deny", "ipRules": [{"value": address} for address in addresses]}

    def streams() -> Opens:
        return Target(live, name, {"api-key": keys["key1"]})

    def sessions() -> Opens:
        return SessionTarget(live, name, keys["key1"])

    def regenerate() -> None:
        keys.update(live.request("POST", f"{live.account_id(name)}/regenerateKey", {"keyName": "Key1"}).json())

    found = []
    for kind, target in (("SSE", streams), ("WebSocket", sessions)):
        found += [
            Row(
                f"{kind}: IP rule removed",
                target,
                lambda: change(live, name, networkAcls=acls("127.0.0.2")),
                lambda: change(live, name, networkAcls=acls("127.0.0.1", "127.0.0.2")),
            ),
            Row(
                f"{kind}: publicNetworkAccess Disabled",
                target,
                lambda: change(live, name, publicNetworkAccess="Disabled"),
                lambda: change(live, name, publicNetworkAccess="Enabled"),
            ),
            Row(f"{kind}: key regenerated", target, regenerate, lambda: None),
        ]
    return [*found, role_row(live, name), private_row(live, name, keys)]


def role_row(live: Live, name: str) -> Row:
    """Return the way out that takes a caller's role away."""
    caller = live.identity(f"{name}-caller")
    scope = live.account_id(name)
    place = f"{scope}/providers/Microsoft.Authorization/roleAssignments/{uuid.uuid4()}"
    named = quote(f"roleName eq '{ROLE}'")
    found = live.request(
        "GET", f"{scope}/providers/Microsoft.Authorization/roleDefinitions?$filter={named}", version=AUTHORIZATION
    )
    properties = {"roleDefinitionId": found.json()["value"][0]["id"], "principalId": caller["objectId"]}

    def admit() -> None:
        live.request("PUT", place, {"properties": properties}, version=AUTHORIZATION).raise_for_status()

    def shut() -> None:
        live.request("DELETE", place, version=AUTHORIZATION).raise_for_status()

    with live.credential(caller["clientId"], caller["clientSecret"]) as credential:
        token = credential.get_token("https://cognitiveservices.azure.com/.default").token
    return Row("SSE: role removed", lambda: Target(live, name, {"authorization": f"Bearer {token}"}), shut, admit)


class PrivateStreams:
    """Opens streams at a private endpoint, whose listener has one process."""

    def __init__(self, target: Target) -> None:
        self._target = target

    async def open_on_every_worker(self, workers: frozenset[int], each: int = 1) -> Sequence[Open]:
        return [await self._target.open() for _ in range(each * len(workers))]


def private_row(live: Live, name: str, keys: dict[str, str]) -> Row:
    """Return the way out that rejects the private endpoint that a caller came by."""
    made = endpoint(live, name, "cut-off", network(live, "cut-off", "127.30.0.0/16"), "127.30.0.4")

    def admit() -> None:
        decide(live, made, "Approved")
        stands(live, made.address)

    def target() -> Opens:
        port = int(stands(live, made.address)["port"])
        return PrivateStreams(Target(live, name, {"api-key": keys["key1"]}, host=made.address, port=port))

    return Row("SSE: private endpoint rejected", target, lambda: decide(live, made, "Rejected"), admit)


async def measure(row: Row, live: Live, cuts: int) -> list[float]:
    """Return the seconds from the answer to the change until each connection's end."""
    found: list[float] = []
    workers = data_workers(live)
    for _ in range(cuts):
        await asyncio.to_thread(row.admit)
        connections: Sequence[Open] = await row.target().open_on_every_worker(workers, EACH)
        await asyncio.to_thread(row.shut)
        answered = time.monotonic()
        await asyncio.gather(*(connection.ended() for connection in connections))
        found += [max(0.0, connection.ended_at - answered) for connection in connections]
        for connection in connections:
            connection.close()
    await asyncio.to_thread(row.admit)
    return found


def main(arguments: Sequence[str]) -> int:
    """Measure and print; 1 when anything took longer than the limit."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cut_off", description=__doc__)
    parser.add_argument("--cuts", type=int, default=10, help="per row [default: 10]")
    parser.add_argument("--workers", type=int, default=2, help="[default: 2]")
    options = parser.parse_args(arguments)
    slowest = 0.0
    with (
        tempfile.TemporaryDirectory(prefix="stockade-cut-off-") as folder,
        talking_engine() as engine,
        realtime_server_in_a_thread() as voice,
    ):
        settings = engine.settings + SETTINGS.format(url=voice.url)
        settings += f"[listen]\nprivate_port = {free_ports(1)[0]}\n"
        live = start(Path(folder) / "data", "--workers", str(options.workers), settings=settings)
        try:
            print(f"{'':36} {'ended':>6} {'min ms':>8} {'median':>8} {'max':>8}")
            for row in rows(live):
                times = asyncio.run(measure(row, live, options.cuts))
                slowest = max(slowest, *times)
                low, middle, high = (1000 * one for one in (min(times), statistics.median(times), max(times)))
                print(f"{row.name:36} {len(times):6} {low:8.0f} {middle:8.0f} {high:8.0f}", flush=True)
        finally:
            finish(live)
    return int(slowest > LIMIT_S)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
