"""Recovery kits and new root keys from the command line, on a data directory that no server runs on."""

from __future__ import annotations

import base64
import io
import sys
from pathlib import Path

import pytest

from stockade.broker.opening import Opening
from stockade.cli import outcome
from stockade.cli.key_custody import custody
from stockade.cli.root import run
from stockade.keys.root import RootKey
from stockade.settings import load
from tests.unit.broker.test_server import Served, Told


class Piped(io.StringIO):
    """What is no terminal."""

    def isatty(self) -> bool:
        return False


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    found = tmp_path / "data"
    found.mkdir(mode=0o700)
    monkeypatch.setenv("STOCKADE_DATA_DIR", str(found))
    RootKey.create(found / "root.key")
    Opening(load()).begin()
    return found


def typed(monkeypatch: pytest.MonkeyPatch, *shares: Path) -> None:
    monkeypatch.setattr(sys, "stdin", Piped("".join(share.read_text() for share in shares)))


def kit(folder: Path, name: str = "shares") -> list[Path]:
    assert run(["keys", "recovery", "create", "--shares", "3", "--threshold", "2", "--out", str(folder / name)]) == 0
    return sorted((folder / name).iterdir())


def test_shares_are_files_of_their_own_that_others_cannot_read_and_nothing_is_written_over(folder: Path) -> None:
    shares = kit(folder)
    assert [share.name for share in shares] == [f"share-{number}-of-3.txt" for number in (1, 2, 3)]
    assert {share.stat().st_mode & 0o777 for share in shares} == {0o600}
    before = [share.read_text() for share in shares]
    assert run(["keys", "recovery", "create", "--out", str(folder / "shares")]) == outcome.CONFLICT
    assert [share.read_text() for share in shares] == before


def test_without_a_folder_they_are_shown_once(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["keys", "recovery", "create", "--shares", "3", "--threshold", "2"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in shown] == ["Share 1", "Share 2", "Share 3"]
    assert all(len(line.split()) == 35 for line in shown), "33 words each"
    assert not any(
        line.split(": ")[1] in path.read_text(errors="ignore") for line in shown for path in folder.glob("*.json")
    )


def test_enough_shares_verify_and_too_few_or_old_ones_do_not(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shares = kit(folder)
    typed(monkeypatch, *shares[1:])
    assert run(["keys", "recovery", "verify"]) == outcome.OK
    typed(monkeypatch, shares[0])
    assert run(["keys", "recovery", "verify"]) == outcome.INVALID
    assert run(["keys", "rotate-root"]) == outcome.OK
    typed(monkeypatch, *shares[1:])
    assert run(["keys", "recovery", "verify"]) == outcome.BUSY


def test_a_lost_root_key_is_made_of_shares_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shares, root = kit(folder), folder / "root.key"
    before = root.read_bytes()
    typed(monkeypatch, *shares[:2])
    assert run(["keys", "recovery", "restore"]) == outcome.CONFLICT, "one that is there stays"
    root.unlink()
    typed(monkeypatch, *shares[:2])
    assert run(["keys", "recovery", "restore"]) == outcome.OK
    assert root.read_bytes() == before


def test_the_file_goes_only_when_the_settings_ask_people_and_their_shares_open_the_platform(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shares, root = kit(folder), folder / "root.key"
    typed(monkeypatch, *shares[:2])
    assert run(["keys", "recovery", "verify", "--remove-file"]) == outcome.CONFLICT
    (folder / "settings.toml").write_text('[keys]\nroot = "shares"\n')
    typed(monkeypatch, shares[0])
    assert run(["keys", "recovery", "verify", "--remove-file"]) == outcome.INVALID
    assert root.exists()
    typed(monkeypatch, *shares[:2])
    assert run(["keys", "recovery", "verify", "--remove-file"]) == outcome.OK
    assert not root.exists()
    typed(monkeypatch, *shares[1:])
    assert run(["keys", "rotate-root", "--out", str(folder / "newer")]) == outcome.OK
    typed(monkeypatch, *sorted((folder / "newer").iterdir())[:2])
    assert run(["keys", "recovery", "verify"]) == outcome.OK
    typed(monkeypatch, *shares[1:])
    assert run(["keys", "recovery", "verify"]) == outcome.BUSY


def test_a_key_in_the_environment_is_changed_in_two_steps(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROOT", base64.b64encode((folder / "root.key").read_bytes()).decode())
    (folder / "settings.toml").write_text('[keys]\nroot = "environment"\nroot_name = "ROOT"\n')
    assert run(["keys", "rotate-root", "--finish"]) == outcome.CONFLICT
    assert run(["keys", "rotate-root"]) == outcome.OK
    new = (folder / "root.new").read_text()
    assert run(["keys", "rotate-root", "--finish"]) == outcome.CONFLICT, "the variable still has the old one"
    assert Opening(load()).begin() is not None
    monkeypatch.setenv("ROOT", new)
    assert run(["keys", "rotate-root", "--finish"]) == outcome.OK
    assert not (folder / "root.new").exists()
    assert Opening(load()).begin() is not None


@pytest.mark.parametrize("command", [["seal"], ["unseal"], ["keys", "rotate-platform"]], ids=range(3))
def test_what_a_running_broker_does_needs_one(folder: Path, command: list[str]) -> None:
    assert run(command) == outcome.NOT_RUNNING


def test_the_doctor_tells_of_providers_kits_and_files_that_should_be_gone(folder: Path) -> None:
    assert [one.level for one in custody(load())] == ["wrong"], "nobody answers"
    socket = load().broker_socket
    socket.parent.mkdir(mode=0o700, parents=True)
    served = Served(socket, Told())
    try:
        assert [one.level for one in custody(load())] == ["ok", "note"]
        kit(folder)
        assert [one.level for one in custody(load())] == ["ok", "ok"]
        run(["keys", "rotate-root"])
        assert "before it was changed" in custody(load())[-1].message
        (folder / "settings.toml").write_text('[keys]\nroot = "shares"\n')
        assert custody(load())[-1].level == "wrong"
    finally:
        served.close()


def test_sealing_unsealing_and_a_new_platform_key_are_the_running_brokers(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    socket, told = load().broker_socket, Told()
    socket.parent.mkdir(mode=0o700, parents=True)
    shares = kit(folder)
    served = Served(socket, told)
    try:
        assert run(["seal"]) == outcome.OK
        typed(monkeypatch, *shares[:2])
        assert run(["unseal"]) == outcome.OK, "it says that the first one is enough"
        typed(monkeypatch)
        assert run(["unseal"]) == outcome.CONFLICT, "nobody has typed anything"
        assert run(["keys", "rotate-platform"]) == outcome.OK
    finally:
        served.close()
    given = [one for one in told.asked if one[0] in {"seal", "unseal", "rotate_platform"}]
    assert given == [("seal",), ("unseal", shares[0].read_bytes().strip()), ("rotate_platform",)]
    assert capsys.readouterr().out.splitlines()[-1] == "cc"
