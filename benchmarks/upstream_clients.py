"""What the client towards the engines costs: the same bare proxy with ours, pyreqwest, aiohttp, and none (decision 0004)."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks import certificate
from benchmarks.__main__ import Cell, backend, cores, measure
from benchmarks.contenders import Place, Running
from benchmarks.install import CHECKOUT, Cache
from benchmarks.load import Generator
from benchmarks.measure import summarise
from benchmarks.process import free_port, started, wait_until_right
from benchmarks.workload import CHAT, OPENAI_PATH, Request, Target

ROUNDS, WINDOW_S, WARM_S, LIMIT_S = 5, 3.0, 0.7, 300
CLIENTS = ("none", "ours", "pyreqwest", "aiohttp")


@contextmanager
def _proxy(client: str, place: Place, python: Path) -> Iterator[Running]:
    port = free_port()
    request = Request(CHAT, "-", port, (Target(OPENAI_PATH, {}),))
    command = [
        str(python),
        "-m",
        "benchmarks.bare_proxy",
        str(port),
        str(place.certificate.chain),
        str(place.certificate.key),
    ]
    environment = {
        "PYTHONPATH": str(CHECKOUT),
        "BENCHMARK_CLIENT": client,
        "BENCHMARK_BACKEND": f"http://127.0.0.1:{place.backend_port}/v1",
    }
    log = place.folder / f"{client}.log"
    with started(command, core=place.core, log=log, environment=environment) as process:
        wait_until_right(request, process, log, timeout_s=30)
        yield Running([process.pid], [request])


def main() -> int:
    """Measure and print; 1 when an answer was wrong."""
    cache = Cache(CHECKOUT / ".bench")
    wrk = cache.debian("wrk", "wrk", "libluajit-5.1-2")
    python = cache.python("upstream-clients") / "python"
    server_core, load_core = cores()
    generator = Generator(["taskset", "--cpu-list", str(load_core), str(wrk.path)], wrk.environment)
    not_measured: dict[str, str] = {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="stockade-benchmark-")))
        place = Place(folder, certificate.make(folder), stack.enter_context(backend(folder, load_core)), server_core)
        cells = []
        for client in CLIENTS:
            running = stack.enter_context(_proxy(client, place, python))
            cells.append(Cell(client, running, running.requests[0]))
        wrong = measure(cells, generator, ROUNDS, WINDOW_S, WARM_S, time.monotonic() + LIMIT_S, not_measured)
    results = {cell.contender: summarise(cell.contender, "chat", "-", cell.samples) for cell in cells if cell.samples}
    base = results["none"].cpu_us.median
    print(
        f"\nCPU microseconds per request of the whole proxy, median of {ROUNDS} rounds (lowest-highest); of it the client"
    )
    for client, result in results.items():
        cpu = result.cpu_us
        print(f"{client:<10} {cpu.median:6.0f} ({cpu.low:.0f}-{cpu.high:.0f})   {cpu.median - base:6.0f}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
