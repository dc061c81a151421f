"""What the audit log costs: `python -m benchmarks.audit_cost`. The full chain with it beside one whose records are dropped, in turn, in one run.

CPU is that of all processes of a server, the audit process among them. Latencies are taken with few connections, where a request does not wait for
others, and with many.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from benchmarks import certificate
from benchmarks.__main__ import backend, cores
from benchmarks.contenders import Place
from benchmarks.contenders import stockade as contender
from benchmarks.install import CHECKOUT, Cache
from benchmarks.load import Generator
from benchmarks.measure import Sample, cpu_s
from benchmarks.workload import CHAT, WORKLOADS, Request, Workload

WITHOUT = CHECKOUT / "benchmarks" / "without_audit"
FEW = replace(CHAT, name=CHAT.name, connections=4)
SETTLE_S = 0.7


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.audit_cost", description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=2.0)
    options = parser.parse_args(arguments)
    server_core, load_core = cores()
    wrk = Cache(CHECKOUT / ".bench").debian("wrk", "wrk", "libluajit-5.1-2")
    generator = Generator(["taskset", "--cpu-list", str(load_core), str(wrk.path)], wrk.environment)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="stockade-benchmark-")))
        port = stack.enter_context(backend(folder, load_core))
        servers: dict[str, tuple[int, Request]] = {}
        for name, path in (("on", str(CHECKOUT)), ("off", os.pathsep.join((str(WITHOUT), str(CHECKOUT))))):
            own = folder / name
            own.mkdir()
            contender._ENVIRONMENT["PYTHONPATH"] = path  # noqa: SLF001 - the one thing in which the two differ
            place = Place(own, certificate.make(own), port, server_core)
            process, data_port, installation = stack.enter_context(
                contender.serving(place, [one.name for one in WORKLOADS])
            )
            request = next(
                one for one in installation.prepare(data_port, 10) if (one.workload, one.check) == (CHAT, "key")
            )
            contender.expect(200, request)
            servers[name] = process.pid, request
        logged = folder / "on" / "data" / "audit" / "audit.jsonl"
        dropped = folder / "off" / "data" / "audit" / "audit.jsonl"
        for workload in (CHAT, FEW):
            _compare(
                servers, generator, replace(CHAT, connections=workload.connections), options.rounds, options.seconds
            )
        lines = [sum(1 for _ in path.open("rb")) if path.exists() else 0 for path in (logged, dropped)]
        print(f"records kept: {lines[0]:,} with the log, {lines[1]:,} without")
    return 0


def _compare(
    servers: dict[str, tuple[int, Request]], generator: Generator, workload: Workload, rounds: int, seconds: float
) -> None:
    samples: dict[str, list[Sample]] = {name: [] for name in servers}
    for turn in range(rounds):
        for name in sorted(servers, reverse=bool(turn % 2)):
            root, request = servers[name]
            asked = replace(request, workload=workload)
            generator.run(asked, SETTLE_S)
            before = cpu_s([root])
            seen = generator.run(asked, seconds)
            samples[name].append(Sample(seen.requests, seen.seconds, cpu_s([root]) - before, seen.p50_us, seen.p99_us))
    print(f"{workload.connections} connections, {rounds} rounds of {seconds:g} s, medians (lowest, highest)")
    for name, found in samples.items():
        print(
            f"  audit {name:>3}: "
            f"{_figure([one.cpu_us for one in found])} µs of CPU a request, "
            f"p50 {_figure([one.p50_us / 1000 for one in found], 2)} ms, p99 {_figure([one.p99_us / 1000 for one in found], 2)} ms"
        )
    pairs = list(zip(samples["on"], samples["off"], strict=True))
    ratio = statistics.median(on.cpu_us / off.cpu_us for on, off in pairs)
    p99 = statistics.median(on.p99_us - off.p99_us for on, off in pairs) / 1000
    print(f"  CPU × {ratio:.3f} (aim: at most 1.10), p99 {p99:+.2f} ms (aim: at most +1)", flush=True)


def _figure(values: Sequence[float], digits: int = 0) -> str:
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f}, {max(values):.{digits}f})"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
