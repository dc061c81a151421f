"""Say what was measured: a table for the terminal, one for the documentation, and everything as JSON."""

from __future__ import annotations

import dataclasses
import datetime as dt
import importlib.metadata
import json
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measure import Figure, Result, Sample, ratios
from benchmarks.workload import ALL_WORKLOADS, Workload


@dataclass(frozen=True, slots=True)
class Report:
    """Hold one whole run.

    `versions`, `about` and `memory_bytes` are by contender; `not_measured` gives the reason for each contender, or cell of one, that has no
    figure.
    """

    command: str
    date: dt.date
    rounds: int
    window_s: float
    machine: Mapping[str, str]
    versions: Mapping[str, str]
    about: Mapping[str, str]
    results: Sequence[Result]
    memory_bytes: Mapping[str, int]
    not_measured: Mapping[str, str]


def machine(server_core: int, load_core: int) -> dict[str, str]:
    """Describe this machine as far as it matters for the figures."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    memory_kib = int(Path("/proc/meminfo").read_text().split()[1])
    return {
        "processor": f"{models[0] if models else platform.machine()}, {len(models)} cores",
        "memory": f"{memory_kib / 2**20:.0f} GiB",
        "system": f"{platform.system()} {platform.release().partition('-')[0]}",
        "load average before the run": f"{os.getloadavg()[0]:.1f}",
        "python": platform.python_version(),
        "server core": str(server_core),
        "load and backend core": str(load_core),
    }


def package_versions(*names: str) -> dict[str, str]:
    """Look up the versions of installed packages that take part in the run."""
    return {name: importlib.metadata.version(name) for name in names}


@dataclass(frozen=True, slots=True)
class _Metric:
    heading: str
    value: Callable[[Sample], float]
    figure: Callable[[Result], Figure]
    unit: float
    digits: int
    spread: bool = False
    """Whether the lowest and highest round stand in the table too; all of them are in the JSON."""


_METRICS = (
    _Metric("CPU µs/request", lambda sample: sample.cpu_us, lambda result: result.cpu_us, 1, 0, spread=True),
    _Metric("p50 ms", lambda sample: sample.p50_us, lambda result: result.p50_us, 1000, 1),
    _Metric("p99 ms", lambda sample: sample.p99_us, lambda result: result.p99_us, 1000, 1),
    _Metric("requests/s", lambda sample: sample.per_second, lambda result: result.per_second, 1, 0),
)


def table(report: Report, workload: Workload) -> list[list[str]]:
    """Lay out one workload: a heading, then a row per contender and check; every figure is followed by its ratios to the baselines."""
    heading = ["server", "check"]
    for metric in _METRICS:
        heading += [metric.heading, *(f"× {name}" for name in workload.against)]
    if workload.streamed:
        heading.insert(3, "CPU µs/event")
    against = {
        (metric.heading, name): ratios(report.results, name, metric.value)
        for metric in _METRICS
        for name in workload.against
    }
    rows = [heading]
    for result in report.results:
        if result.workload != workload.name:
            continue
        row = [result.contender, result.check]
        for metric in _METRICS:
            row.append(_number(metric.figure(result), metric))
            quotients = (against[metric.heading, name] for name in workload.against)
            row += [_ratio(known.get((result.contender, result.workload, result.check))) for known in quotients]
        if workload.streamed:
            row.insert(3, f"{result.cpu_us.median / workload.markers:,.1f}")
        rows.append(row)
    return rows


def _number(figure: Figure, metric: _Metric) -> str:
    median, low, high = (
        f"{value / metric.unit:,.{metric.digits}f}" for value in (figure.median, figure.low, figure.high)
    )
    return f"{median} ({low}–{high})" if metric.spread and low != high else median


def _ratio(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,.2f}" if value < 10 else f"{value:,.0f}"


def text(report: Report) -> str:
    """Write the report for a terminal."""
    parts = []
    for workload in ALL_WORKLOADS:
        rows = table(report, workload)
        if len(rows) > 1:
            widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
            lines = [
                "  ".join(
                    cell.ljust(width) if column < 2 else cell.rjust(width)
                    for column, (cell, width) in enumerate(zip(row, widths, strict=True))
                )
                for row in rows
            ]
            parts.append("\n".join([f"{workload.name}: {workload.about}; {workload.connections} connections", *lines]))
    memory = [f"  {name}: {size / 2**20:,.0f} MiB" for name, size in report.memory_bytes.items()]
    parts.append("\n".join(["memory after the run", *memory]))
    parts.extend(f"not measured: {name}: {reason}" for name, reason in report.not_measured.items())
    return "\n\n".join(parts)


def markdown(report: Report) -> str:
    """Write the report for `docs/performance.md`."""
    facts = "; ".join(f"{name} {value}" for name, value in report.machine.items())
    lines = [
        (
            f"`{report.command}` on {report.date.isoformat()}: {report.rounds} rounds of {report.window_s:g} s; medians, "
            "for CPU with lowest and highest round."
        ),
        f"Machine: {facts}.",
        "",
    ]
    for workload in ALL_WORKLOADS:
        rows = table(report, workload)
        if len(rows) > 1:
            lines += [f"**{workload.name}**: {workload.about}; {workload.connections} connections", ""]
            lines.append(_row(rows[0]))
            lines.append(_row(["---", "---", *(["---:"] * (len(rows[0]) - 2))]))
            lines += [*map(_row, rows[1:]), ""]
    lines += [_row(["server", "version", "memory after the run", "set up as"]), _row(["---", "---", "---:", "---"])]
    for name, version in report.versions.items():
        size = report.memory_bytes.get(name)
        lines.append(_row([name, version, f"{size / 2**20:,.0f} MiB" if size else "–", report.about.get(name, "")]))
    if report.not_measured:
        lines += ["", *(f"- not measured: {name}: {reason}" for name, reason in report.not_measured.items())]
    return "\n".join(lines) + "\n"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def write(report: Report, folder: Path) -> None:
    """Write `latest.json` and `latest.md` into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    everything = dataclasses.asdict(report) | {"date": report.date.isoformat()}
    (folder / "latest.json").write_text(json.dumps(everything, indent=2, ensure_ascii=False) + "\n")
    (folder / "latest.md").write_text(markdown(report))


_BEGIN, _END = "<!-- figures: begin -->", "<!-- figures: end -->"


def publish(report: Report, page: Path) -> None:
    """Put the figures between the two marks of a documentation page."""
    before, _, rest = page.read_text().partition(_BEGIN)
    _, mark, after = rest.partition(_END)
    if not mark:
        raise ValueError(f"{page} has no place for the figures: {_BEGIN} ... {_END}")
    page.write_text(f"{before}{_BEGIN}\n{markdown(report)}{_END}{after}")
