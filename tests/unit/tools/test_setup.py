from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tools import setup


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A checkout with lock files, in which environments are made of empty folders; returns what was done."""
    done: list[str] = []
    (tmp_path / "requirements").mkdir()
    for name in ("build", "models", "runtime", "test"):
        (tmp_path / "requirements" / f"{name}.txt").write_text(
            f"{name}==1 \\\n    --hash=sha256:00\n    # via stockade\n"
        )

    def virtual_environment(folder: Path, python: str) -> None:
        done.append("new")
        folder.mkdir(exist_ok=True)

    def pip_install(folder: Path, locks: list[Path], *options: str) -> None:
        done.append("+".join(lock.stem for lock in locks))

    monkeypatch.setattr(setup, "ROOT", tmp_path)
    monkeypatch.setattr(setup, "FREE_MB", {"runtime": 0, "test": 0})
    monkeypatch.setattr(setup, "virtual_environment", virtual_environment)
    monkeypatch.setattr(setup, "pip_install", pip_install)
    return done


def make(profile: str) -> Path:
    return setup.python_environment(".venv", profile, "packages", sys.executable, models=True)


def test_second_run_does_nothing(calls: list[str]) -> None:
    make("runtime")
    assert calls == ["new", "build", "runtime+models"]
    make("runtime")
    assert len(calls) == 3


def test_environment_of_the_tests_serves_for_running(calls: list[str]) -> None:
    make("test")
    calls.clear()
    make("runtime")
    assert calls == []


def test_tests_are_added_to_what_running_installed(calls: list[str]) -> None:
    make("runtime")
    calls.clear()
    make("test")
    assert calls == ["test+models"]


@pytest.mark.parametrize("lock", ["runtime", "models", "build"])
def test_another_lock_file_makes_the_environment_anew(calls: list[str], lock: str, tmp_path: Path) -> None:
    make("runtime")
    calls.clear()
    (tmp_path / "requirements" / f"{lock}.txt").write_text(f"{lock}==2 --hash=sha256:11\n")
    make("runtime")
    assert calls == ["new", "build", "runtime+models"]


def test_a_comment_in_a_lock_file_changes_nothing(calls: list[str], tmp_path: Path) -> None:
    make("runtime")
    calls.clear()
    lock = tmp_path / "requirements" / "runtime.txt"
    lock.write_text(lock.read_text().replace("via stockade", "via another"))
    make("runtime")
    assert calls == []


@pytest.mark.parametrize("before", [[], ["runtime"]], ids=["from nothing", "on top of running"])
def test_an_interrupted_set_up_is_done_again(
    calls: list[str], before: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for profile in before:
        make(profile)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(setup, "pip_install", interrupt)
        with pytest.raises(KeyboardInterrupt):
            make("test")
    calls.clear()
    make("test")
    assert calls == ["new", "build", "test+models"]


@pytest.mark.parametrize("content", ["", '{"packages": "abc', "[]"])
def test_a_damaged_stamp_counts_as_none(content: str, tmp_path: Path) -> None:
    (tmp_path / setup.STAMP).write_text(content)
    assert setup.read_stamp(tmp_path) == {}


def test_a_full_disk_is_noticed_before_starting() -> None:
    with pytest.raises(setup.SetupError, match="MB are free"):
        setup.need_room(10**12)


def test_a_failing_program_shows_what_it_said(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(setup.SetupError, match="ended with 3"):
        setup.run([sys.executable, "-c", "print('no such package'); raise SystemExit(3)"])
    assert "no such package" in capsys.readouterr().out


def test_an_unsupported_python_is_named_with_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 10, 13))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(setup.SetupError, match=r"needs Python 3\.11 to 3\.13.*make PYTHON="):
        setup.suitable_python()


def test_a_command_that_only_pretends_to_be_python_is_passed_over(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, status in (("python3.13", 127), ("python3.12", 0)):
        (tmp_path / name).write_text(f"#!/bin/sh\nexit {status}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setattr(sys, "version_info", (3, 10, 13))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert setup.suitable_python() == str(tmp_path / "python3.12")
