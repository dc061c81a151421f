"""The report names what was not measured and keeps the rest of a page."""

import datetime as dt
from pathlib import Path

import pytest

from benchmarks.measure import Sample, summarise
from benchmarks.report import Report, markdown, publish, table, text
from benchmarks.workload import CHAT, STREAM


def _report() -> Report:
    samples = [Sample(1000, 2.0, 0.05, 800, 2000)]
    return Report(
        command="python -m benchmarks",
        date=dt.date(2026, 1, 2),
        rounds=1,
        window_s=3,
        machine={"processor": "two cores"},
        versions={"nginx": "1.2"},
        about={"nginx": "no checks"},
        results=[summarise("nginx", "chat", "-", samples), summarise("Envoy", "stream", "-", samples)],
        memory_bytes={"nginx": 5 * 2**20},
        not_measured={"Portkey": "Node.js with npm is not installed"},
    )


def test_table_puts_ratios_after_each_figure() -> None:
    heading, row = table(_report(), CHAT)
    assert heading[:5] == ["server", "check", "CPU µs/request", "× nginx", "× Envoy"]
    assert row[:5] == ["nginx", "-", "50", "1.00", "–"]


def test_streamed_table_says_cpu_per_event() -> None:
    heading, row = table(_report(), STREAM)
    assert (heading[3], row[3]) == ("CPU µs/event", "0.2")
    assert len(heading) == len(row)


@pytest.mark.parametrize("write", [text, markdown])
def test_what_was_not_measured_is_named_with_its_reason(write: object) -> None:
    assert callable(write)
    assert "not measured: Portkey: Node.js with npm is not installed" in write(_report())


def test_publish_replaces_the_figures_and_nothing_else(tmp_path: Path) -> None:
    page = tmp_path / "performance.md"
    page.write_text("before\n<!-- figures: begin -->\nold\n<!-- figures: end -->\nafter\n")
    publish(_report(), page)
    got = page.read_text()
    assert got.startswith("before\n<!-- figures: begin -->\n")
    assert got.endswith("<!-- figures: end -->\nafter\n")
    assert "old" not in got
    assert "| nginx | 1.2 | 5 MiB | no checks |" in got


def test_publish_refuses_a_page_without_a_place_for_figures(tmp_path: Path) -> None:
    page = tmp_path / "performance.md"
    page.write_text("no marks\n")
    with pytest.raises(ValueError, match="no place"):
        publish(_report(), page)
    assert page.read_text() == "no marks\n"
