"""The command that the screen tells people to type has to be one that their shell finds."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest

from stockade.cli import banner
from stockade.kernel.clock import CLOCK_FILE, SimulatedClock
from stockade.settings import Settings, default_data_dir


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An environment in `.venv` below the current folder, whose programs are not in PATH; as after `make up`."""
    programs = tmp_path / ".venv" / "bin"
    programs.mkdir(parents=True)
    (programs / "stockade").touch(mode=0o755)
    monkeypatch.setattr(sys, "executable", str(programs / "python"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    return programs


def test_after_make_up_it_is_the_path_below_this_folder(environment: Path) -> None:
    assert banner.command(Settings(data_dir=default_data_dir({}))) == ".venv/bin/stockade"


def test_from_another_folder_it_is_the_whole_path(
    environment: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    assert banner.command(Settings(data_dir=default_data_dir({}))) == str(environment / "stockade")


def test_where_it_is_in_the_path_it_is_the_name(environment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(environment))
    assert banner.command(Settings(data_dir=default_data_dir({}))) == "stockade"


def test_without_an_installed_command_it_is_the_module(environment: Path) -> None:
    (environment / "stockade").unlink()
    assert banner.command(Settings(data_dir=default_data_dir({}))) == ".venv/bin/python -m stockade"


def test_another_data_directory_is_part_of_it(environment: Path) -> None:
    words = shlex.split(banner.command(Settings(data_dir=Path("/data dir"))))
    assert words == ["STOCKADE_DATA_DIR=/data dir", ".venv/bin/stockade"]


def test_the_screen_fits_the_configured_addresses(environment: Path) -> None:
    screen = banner.banner(Settings(data_dir=Path("/d")))
    for text in (
        "https://localhost:8443/demo-openai/",
        "https://localhost:8444",
        "http://127.0.0.1:8445",
        "/d/tls/ca.pem",
    ):
        assert text in screen


def test_it_says_when_time_is_no_real_time(environment: Path, tmp_path: Path) -> None:
    configured = Settings(data_dir=tmp_path)
    assert "simulated" not in banner.banner(configured)
    SimulatedClock.create(tmp_path / CLOCK_FILE)
    assert "is simulated" in banner.banner(configured)
