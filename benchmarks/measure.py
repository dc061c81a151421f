"""Measure a server from outside: CPU time and memory of its whole process tree, and the numbers of one run."""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")
_TICK_S = 1 / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Process:
    """Hold what one line of `/proc/<pid>/stat` says: who, whose child, and CPU ticks, those of buried children included."""

    pid: int
    parent: int
    ticks: int


def parse_stat(line: str) -> Process:
    """Read a line of `/proc/<pid>/stat`.

    Source: proc(5): field 4 is the parent, 14 to 17 are utime, stime, cutime and cstime; field 2 may hold spaces and brackets.
    """
    pid, rest = line.split(" ", 1)
    fields = rest.rpartition(")")[2].split()
    return Process(int(pid), int(fields[1]), sum(int(ticks) for ticks in fields[11:15]))


def tree(processes: Iterable[Process], root: int) -> list[Process]:
    """Pick `root` and all its descendants."""
    known = {process.pid: process for process in processes}
    children: dict[int, list[int]] = {}
    for process in known.values():
        children.setdefault(process.parent, []).append(process.pid)
    found, waiting = [], [root]
    while waiting:
        pid = waiting.pop()
        if pid in known:
            found.append(known[pid])
            waiting.extend(children.get(pid, ()))
    return found


def running() -> list[Process]:
    """Read every process of this machine; one that ends meanwhile is left out."""
    found = []
    for entry in _PROC.iterdir():
        if entry.name.isdigit():
            try:
                found.append(parse_stat((entry / "stat").read_text()))
            except (FileNotFoundError, ProcessLookupError):
                continue
    return found


def cpu_s(roots: Sequence[int]) -> float:
    """Sum the CPU seconds, user and system, that the trees below `roots` have used so far."""
    processes = running()
    return sum(process.ticks for root in roots for process in tree(processes, root)) * _TICK_S


def memory_bytes(roots: Sequence[int]) -> int:
    """Sum the resident memory of the trees below `roots`; a page shared by several processes counts once (PSS)."""
    processes = running()
    total = 0
    for process in (process for root in roots for process in tree(processes, root)):
        try:
            rollup = (_PROC / str(process.pid) / "smaps_rollup").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue
        total += next((int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:")), 0) * 1024
    return total


@dataclass(frozen=True, slots=True)
class Sample:
    """Hold one measured window: answers, wall seconds from first request to last answer, CPU seconds, latencies."""

    requests: int
    seconds: float
    cpu_seconds: float
    p50_us: float
    p99_us: float

    @property
    def cpu_us(self) -> float:
        """Give the CPU microseconds of one request."""
        return self.cpu_seconds / self.requests * 1e6

    @property
    def per_second(self) -> float:
        """Give the answers a second."""
        return self.requests / self.seconds


@dataclass(frozen=True, slots=True)
class Figure:
    """Hold the median of several rounds and how far they lay apart."""

    median: float
    low: float
    high: float


def figure(values: Sequence[float]) -> Figure:
    """Take the median, the smallest and the largest of at least one value."""
    return Figure(statistics.median(values), min(values), max(values))


@dataclass(frozen=True, slots=True)
class Result:
    """Hold what all rounds said of one contender with one check of one workload."""

    contender: str
    workload: str
    check: str
    cpu_us: Figure
    p50_us: Figure
    p99_us: Figure
    per_second: Figure
    samples: tuple[Sample, ...]


def summarise(contender: str, workload: str, check: str, samples: Sequence[Sample]) -> Result:
    """Turn the rounds of one cell into its result."""
    return Result(
        contender,
        workload,
        check,
        cpu_us=figure([sample.cpu_us for sample in samples]),
        p50_us=figure([sample.p50_us for sample in samples]),
        p99_us=figure([sample.p99_us for sample in samples]),
        per_second=figure([sample.per_second for sample in samples]),
        samples=tuple(samples),
    )


def ratios(
    results: Iterable[Result], baseline: str, metric: Callable[[Sample], float]
) -> Mapping[tuple[str, str, str], float]:
    """Compare every result with `baseline`, a contender or a check, on the same workload; nothing where that was not measured.

    Rounds are compared one by one and the median taken: samples of one round lie within minutes of each other, so noise that lasts longer
    falls out of their quotient.
    """
    everything = list(results)
    bases = {result.workload: result.samples for result in everything if baseline in (result.contender, result.check)}
    return {
        (result.contender, result.workload, result.check): statistics.median(
            metric(one) / metric(base) for one, base in zip(result.samples, bases[result.workload], strict=True)
        )
        for result in everything
        if result.workload in bases
    }
