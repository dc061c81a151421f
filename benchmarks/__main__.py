"""Run every contender under the same load in one go, and print how they compare."""

from __future__ import annotations

import argparse
import datetime as dt
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import certificate, report
from benchmarks.contenders import Contender, Place, Running, all_contenders
from benchmarks.install import CHECKOUT, Cache, NotMeasuredError
from benchmarks.load import Generator, WrongAnswerError
from benchmarks.measure import Sample, cpu_s, memory_bytes, summarise
from benchmarks.process import started
from benchmarks.workload import ALL_WORKLOADS, Request

_LIMIT_S = 600


@dataclass(slots=True)
class Cell:
    """Collect the samples of one contender with one check of one workload."""

    contender: str
    running: Running
    request: Request
    samples: list[Sample] = field(default_factory=list)

    @property
    def label(self) -> str:
        check = "" if self.request.check == "-" else f" {self.request.check}"
        return f"{self.contender}{check} {self.request.workload.name}"


def main(arguments: Sequence[str]) -> int:
    """Measure, report, and answer 0 unless a server gave a wrong answer or nothing could be measured."""
    options = _options(arguments)
    deadline = time.monotonic() + _LIMIT_S
    rounds, window_s, warm_s = (1, 1.0, 0.3) if options.quick else (options.rounds, 3.0, 0.7)
    contenders = [one for one in all_contenders() if _wanted(one.name, options.only)]
    cache = Cache(CHECKOUT / ".bench")
    not_measured: dict[str, str] = {}
    versions = _install(contenders, cache, not_measured)
    server_core, load_core = cores()
    machine = report.machine(server_core, load_core)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="stockade-benchmark-")))
        try:
            wrk = cache.debian("wrk", "wrk", "libluajit-5.1-2")
        except NotMeasuredError as reason:
            print(f"the load generator is missing: {reason}", file=sys.stderr)
            return 2
        pinned = ["taskset", "--cpu-list", str(load_core), str(wrk.path)]
        generator = Generator(pinned, wrk.environment)
        backend_port = stack.enter_context(backend(folder, load_core))
        cells: list[Cell] = []
        for contender in (one for one in contenders if one.name in versions):
            own = folder / f"contender-{len(cells)}"
            own.mkdir()
            place = Place(own, certificate.make(own), backend_port, server_core)
            print(f"starting {contender.name} {versions[contender.name]}", flush=True)
            try:
                running = stack.enter_context(contender.start(place))
            except NotMeasuredError as reason:
                not_measured[contender.name] = str(reason)
                continue
            wanted = [request for request in running.requests if request.workload.name in options.workload]
            cells += [Cell(contender.name, running, request) for request in wanted]
        wrong = measure(cells, generator, rounds, window_s, warm_s, deadline, not_measured)
        memory = {cell.contender: memory_bytes(cell.running.roots) for cell in cells}
    measured = [cell for cell in cells if cell.samples]
    done = report.Report(
        command=shlex.join(
            ["python", "-m", "benchmarks", *(argument for argument in arguments if argument != "--publish")]
        ),
        date=dt.datetime.now(dt.UTC).date(),
        rounds=max((len(cell.samples) for cell in measured), default=0),
        window_s=window_s,
        machine=machine,
        versions=versions,
        about={one.name: one.about for one in contenders},
        results=[
            summarise(cell.contender, cell.request.workload.name, cell.request.check, cell.samples) for cell in measured
        ],
        memory_bytes=memory,
        not_measured=not_measured,
    )
    print(f"\n{report.text(done)}")
    report.write(done, CHECKOUT / "benchmarks" / "results")
    if options.publish:
        report.publish(done, CHECKOUT / "docs" / "performance.md")
    return 1 if wrong or not measured else 0


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="NAME",
        help="measure contenders whose name holds NAME (repeatable)",
    )
    names = [workload.name for workload in ALL_WORKLOADS]
    parser.add_argument("--workload", action="append", choices=names, help="measure this workload alone (repeatable)")
    parser.add_argument("--rounds", type=int, default=3, help="interleaved rounds (default 3)")
    parser.add_argument(
        "--quick", action="store_true", help="one round of one second: does it work, not how fast is it"
    )
    parser.add_argument("--publish", action="store_true", help="put the figures into docs/performance.md")
    options = parser.parse_args(arguments)
    options.workload = options.workload or names
    return options


def _wanted(name: str, only: Sequence[str]) -> bool:
    return not only or any(part.lower() in name.lower() for part in only)


def cores() -> tuple[int, int]:
    """Pick one core for the server under test, another for load generator and backend; a lone core has to do for both."""
    ours = sorted(os.sched_getaffinity(0))
    return ours[0], ours[1 % len(ours)]


def _install(contenders: Sequence[Contender], cache: Cache, not_measured: dict[str, str]) -> dict[str, str]:
    versions = {}
    for contender in contenders:
        try:
            versions[contender.name] = contender.install(cache)
        except NotMeasuredError as reason:
            not_measured[contender.name] = str(reason)
    return versions


@contextmanager
def backend(folder: Path, core: int) -> Iterator[int]:
    command = [sys.executable, "-m", "benchmarks.backend"]
    log, environment = folder / "backend.log", {"PYTHONPATH": str(CHECKOUT)}
    with started(command, core=core, log=log, environment=environment, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        yield int(process.stdout.readline())


def measure(
    cells: Sequence[Cell],
    generator: Generator,
    rounds: int,
    window_s: float,
    warm_s: float,
    deadline: float,
    not_measured: dict[str, str],
) -> bool:
    """Fill the cells round by round, so that what else the machine does hits all alike; say whether any answer was wrong."""
    wrong, longest = False, 0.0
    for number in range(1, rounds + 1):
        begun = time.monotonic()
        # A round that cannot be finished would leave its cells with less to take the median of than the others.
        if number > 1 and begun + longest > deadline:
            print(f"stopping after {number - 1} of {rounds} rounds: ten minutes are over", flush=True)
            break
        for cell in cells:
            if cell.label in not_measured:
                continue
            try:
                sample = _sample(cell, generator, window_s, warm_s)
            except (WrongAnswerError, subprocess.TimeoutExpired) as problem:
                wrong, not_measured[cell.label] = True, f"wrong answers: {problem}"
                cell.samples.clear()
                print(f"round {number}: {cell.label}: {problem}", file=sys.stderr, flush=True)
                continue
            cell.samples.append(sample)
            print(f"round {number}: {cell.label}: {sample.cpu_us:,.0f} µs, {sample.per_second:,.0f}/s", flush=True)
        longest = max(longest, time.monotonic() - begun)
    return wrong


def _sample(cell: Cell, generator: Generator, window_s: float, warm_s: float) -> Sample:
    generator.run(cell.request, warm_s)
    before = cpu_s(cell.running.roots)
    seen = generator.run(cell.request, window_s)
    used = cpu_s(cell.running.roots) - before
    return Sample(seen.requests, seen.seconds, used, seen.p50_us, seen.p99_us)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
