"""The table of what a vault's operations cost."""

from __future__ import annotations

from benchmarks.vault import line


def test_a_row_says_what_an_operation_takes_of_its_parts_and_marks_what_is_above_the_aim() -> None:
    row = line("sign", [100.0] * 10, [300.0] * 9 + [900.0], [50.0] * 10)
    assert row.split() == ["sign", "100", "300", "3333", "2.00!", "100", "300", "3333", "2.00!"]
    assert "!" not in line("sign", [100.0] * 10, [225.0] * 10, [50.0] * 10)
