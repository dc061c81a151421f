"""The arithmetic behind the comparison: trees of processes, medians, ratios."""

import os
import subprocess
import sys

import pytest

from benchmarks.measure import (
    Process,
    Sample,
    cpu_s,
    figure,
    memory_bytes,
    parse_stat,
    ratios,
    running,
    summarise,
    tree,
)


def test_stat_line_is_read_past_a_name_with_spaces_and_brackets() -> None:
    fields = ["S", "42", *["0"] * 9, "7", "5", "3", "1", *["0"] * 35]
    assert parse_stat(f"99 (a (nasty) name 1 2) {' '.join(fields)}\n") == Process(pid=99, parent=42, ticks=16)


def test_tree_holds_the_root_and_all_below_it_and_nothing_else() -> None:
    processes = [Process(1, 0, 1), Process(10, 1, 1), Process(11, 10, 1), Process(12, 11, 1), Process(20, 1, 1)]
    assert {process.pid for process in tree(processes, 10)} == {10, 11, 12}


def test_tree_of_a_process_that_is_gone_is_empty() -> None:
    assert tree([Process(1, 0, 1)], 99) == []


def test_cpu_of_a_child_counts_for_its_parent_while_it_runs_and_after_it_is_buried() -> None:
    burn = "import time\nwhile time.process_time() < 0.3: pass\nprint('burnt', flush=True)\ninput()"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {burn!r}]); print('buried', flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", parent], stdin=-1, stdout=-1, text=True, bufsize=1) as process:
        assert process.stdin
        assert process.stdout
        assert process.stdout.readline() == "burnt\n"
        assert len(tree(running(), process.pid)) == 2
        assert cpu_s([process.pid]) >= 0.29
        process.stdin.write("\n")
        assert process.stdout.readline() == "buried\n"
        assert len(tree(running(), process.pid)) == 1
        assert cpu_s([process.pid]) >= 0.29
        process.stdin.write("\n")


def test_memory_of_this_process_is_more_than_an_interpreter_needs() -> None:
    assert memory_bytes([os.getpid()]) > 2**20


def _sample(cpu_seconds: float, requests: int = 1000, seconds: float = 2.0) -> Sample:
    return Sample(requests, seconds, cpu_seconds, p50_us=100, p99_us=900)


def test_sample_gives_cpu_per_request_and_rate() -> None:
    sample = _sample(0.05)
    assert sample.cpu_us == pytest.approx(50)
    assert sample.per_second == pytest.approx(500)


def test_figure_is_median_with_both_ends() -> None:
    got = figure([9, 1, 5])
    assert (got.median, got.low, got.high) == (5, 1, 9)


def test_ratio_pairs_rounds_so_that_noise_common_to_a_round_cancels() -> None:
    # The machine is three times slower in the second round: medians of each side would say 1.5, every round says 2.
    base = summarise("nginx", "chat", "-", [_sample(0.04), _sample(0.12), _sample(0.06)])
    ours = summarise("ours", "chat", "key", [_sample(0.08), _sample(0.24), _sample(0.12)])
    got = ratios([base, ours], "nginx", lambda sample: sample.cpu_us)
    assert got["ours", "chat", "key"] == pytest.approx(2)
    assert got["nginx", "chat", "-"] == pytest.approx(1)


def test_ratio_needs_the_baseline_on_the_same_workload() -> None:
    base = summarise("nginx", "chat", "-", [_sample(0.04)])
    ours = summarise("ours", "stream", "key", [_sample(0.08)])
    assert ("ours", "stream", "key") not in ratios([base, ours], "nginx", lambda sample: sample.cpu_us)
