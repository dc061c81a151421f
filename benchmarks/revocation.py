"""How long an account goes on after its customer's key has been taken away: `python -m benchmarks.revocation`.

Each time: streams, WebSocket sessions and downloads of a kept file are open on every worker of a real server, over TLS; the key is taken away in
one way, with Azure's own clients; then the time from the answer to that (from the instant of expiry, for a key that expires) until each worker
refuses the next request, and until each of the open things ends. The last rows are of
a key in another server's vault, which is asked all the time. Azure gives no bound for its AI services; ours is five seconds.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from benchmarks.cut_off import Open, Opens
from tests.factories.customer_key_live import KeptKey, KeyElsewhere, Way, settled, vault_names
from tests.factories.downloads import DownloadTarget, upload
from tests.factories.realtime import DEPLOYMENT, SETTINGS, SessionTarget, realtime_server_in_a_thread
from tests.factories.streams import Target, data_workers, new_account, talking_engine, workers_of
from tests.live import Live, finish, start

NAME: Final = "revocation"
LIMIT_S: Final = 5.0
FILE_BYTES: Final = 64 * 1024 * 1024
PATIENCE_S: Final = 30.0


class Caller:
    """One kept connection, which asks again and again."""

    def __init__(self, live: Live, key: str) -> None:
        self._connection = http.client.HTTPSConnection("localhost", live.ports[0], context=live.trust(), timeout=30)
        self._key = key
        assert self.ask() == 200

    @property
    def own_port(self) -> int:
        return int(self._connection.sock.getsockname()[1])

    def ask(self) -> int:
        """Return the status of a list of files."""
        path = f"/{NAME}/openai/files?api-version=2025-03-01-preview"
        self._connection.request("GET", path, headers={"api-key": self._key})
        reply = self._connection.getresponse()
        reply.read()
        return reply.status

    def first_refusal(self, since: float) -> float:
        """Ask until refused; return when the first refusal came."""
        while True:
            asked = time.monotonic()
            if self.ask() == 403:
                return asked
            assert asked - since < PATIENCE_S, "it was never refused"

    def close(self) -> None:
        self._connection.close()


def callers(live: Live, key: str, workers: frozenset[int]) -> list[Caller]:
    """Return a caller at every worker."""
    found: dict[int, Caller] = {}
    for _ in range(64):
        caller = Caller(live, key)
        (worker,) = workers_of([caller], workers)
        if worker in found:
            caller.close()
        else:
            found[worker] = caller
        if len(found) == len(workers):
            return list(found.values())
    raise AssertionError("64 connections did not reach every worker")


async def measure(
    way: Way, kept: KeptKey | KeyElsewhere, targets: dict[str, Opens], key: str, times: int
) -> dict[str, list[float]]:
    """Take the key away so many times; return the seconds until each thing ended, by what it is."""
    live = kept.live
    workers = data_workers(live)
    found: dict[str, list[float]] = {"refusal": [], **{name: [] for name in targets}}
    for _ in range(times):
        asking = await asyncio.to_thread(callers, live, key, workers)
        opened: dict[str, Sequence[Open]] = {
            name: await target.open_on_every_worker(workers) for name, target in targets.items()
        }
        gone = await asyncio.to_thread(way.take)
        refused = await asyncio.gather(*(asyncio.to_thread(one.first_refusal, gone) for one in asking))
        await asyncio.gather(*(one.ended() for held in opened.values() for one in held))
        found["refusal"] += [max(0.0, at - gone) for at in refused]
        for name, held in opened.items():
            found[name] += [max(0.0, one.ended_at - gone) for one in held]
        for one in (*asking, *(each for held in opened.values() for each in held)):
            one.close()
        await asyncio.to_thread(way.give)
        await asyncio.to_thread(settled, kept)
    return found


def main(arguments: Sequence[str]) -> int:
    """Measure and print; 1 when anything took longer than is promised."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.revocation", description=__doc__)
    parser.add_argument("--times", type=int, default=5, help="per way [default: 5]")
    parser.add_argument("--only", default="", help="ways whose name begins so")
    parser.add_argument("--workers", type=int, default=2, help="[default: 2]")
    options = parser.parse_args(arguments)
    slowest = 0.0
    with (
        tempfile.TemporaryDirectory(prefix="stockade-revocation-") as folder,
        talking_engine() as engine,
        realtime_server_in_a_thread() as voice,
        vault_names(),
        ExitStack() as stopping,
    ):
        other = start(Path(folder) / "other", "--workers", "1")
        stopping.callback(finish, other)
        settings = engine.settings + SETTINGS.format(url=voice.url) + KeyElsewhere.settings(other, Path(folder))
        live = start(Path(folder) / "data", "--workers", str(options.workers), settings=settings)
        try:
            key = new_account(live, NAME)["key1"]
            made = live.request("PUT", f"{live.account_id(NAME)}/deployments/voice", DEPLOYMENT)
            assert made.status_code in (200, 201), made.text
            file_id = upload(live, NAME, key, FILE_BYTES)
            kept = KeptKey(live, NAME)
            kept.bind()
            targets: dict[str, Opens] = {
                "stream": Target(live, NAME, {"api-key": key}),
                "session": SessionTarget(live, NAME, key),
                "download": DownloadTarget(live, NAME, key, file_id, FILE_BYTES),
            }
            print(f"{'':36} {'':10} {'ended':>6} {'min ms':>8} {'median':>8} {'max':>8}")
            elsewhere = KeyElsewhere(live, NAME, other)
            ways = [(owner, way) for owner in (kept, elsewhere) for way in owner.ways()]
            for held, way in ways:
                if not way.name.startswith(options.only):
                    continue
                if held is elsewhere and held.status().get("keyName") != "elsewhere":
                    elsewhere.bind()
                for what, lasted in asyncio.run(measure(way, held, targets, key, options.times)).items():
                    slowest = max(slowest, *lasted)
                    low, middle, high = (1000 * one for one in (min(lasted), statistics.median(lasted), max(lasted)))
                    print(f"{way.name:36} {what:10} {len(lasted):6} {low:8.0f} {middle:8.0f} {high:8.0f}", flush=True)
            elsewhere.close()
            kept.close()
        finally:
            finish(live)
    return int(slowest > LIMIT_S)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
