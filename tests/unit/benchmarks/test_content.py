"""The benchmark of kept content measures what it says, and says what it measured."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import content


def test_what_is_read_back_is_what_was_kept_and_a_part_of_it_touches_little(tmp_path: Path) -> None:
    size = 5 * content.MB
    assert content.put(tmp_path, size, 1)["seconds"] > 0
    assert content.get(tmp_path, size, 1)["seconds"] > 0
    found = content.part(tmp_path, size, 1)
    assert content.MB < found["touched"] <= content.AIM_TOUCHED


def test_a_share_below_the_aim_is_said_to_be_missed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seconds = {"raw": 1.0, "ours": 1.2, "slow": 2.0}
    monkeypatch.setattr(content, "cpu", lambda call: seconds[call()])
    content.compared("encrypt", "1 GB", {name: lambda name=name: name for name in seconds})  # type: ignore[misc]
    raw, ours, slow = capsys.readouterr().out.splitlines()
    assert raw.split()[-2:] == ["1000", "100%"]
    assert ours.endswith("met")
    assert slow.endswith("missed (80%)")
