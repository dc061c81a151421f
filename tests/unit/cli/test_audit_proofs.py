"""`stockade audit export|verify|keys` as they are typed: what they print, and what they end with."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from stockade.audit import proof
from stockade.audit.heads import FILE_NAME, Heads
from stockade.audit.store import Logs
from stockade.broker.floors import Floors, HeadFloor
from stockade.cli import outcome, root_key
from stockade.cli.root import run
from stockade.kernel.clock import SystemClock
from stockade.keys.keyring import FILE_NAME as KEYRING
from stockade.keys.keyring import open_or_make
from stockade.keys.root import RootKey
from stockade.serve import running
from stockade.settings import DATA_DIR_VARIABLE, Settings
from tests.factories.logs import LOG, Signer, filled, lines

SIGNER = Signer()


@pytest.fixture
def logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Logs:
    monkeypatch.setenv(DATA_DIR_VARIABLE, str(tmp_path / "data"))
    (tmp_path / "key.pem").write_text(SIGNER.key.pem())
    return filled(tmp_path / "data" / "audit", [10, 30])


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[], None]:
    """Takes the data directory and whatever a platform would answer away."""

    def take() -> None:
        shutil.rmtree(tmp_path / "data")
        monkeypatch.setenv(DATA_DIR_VARIABLE, "/proc/none")

    return take


def exported(tmp_path: Path, *arguments: str) -> Path:
    assert run(["audit", "export", "--log", LOG, "-o", str(tmp_path / "log.jsonl"), *arguments]) == outcome.OK
    return tmp_path / "log.jsonl"


def verify(tmp_path: Path, *arguments: str) -> int:
    return run(["audit", "verify", *arguments, "--key", str(tmp_path / "key.pem")])


def test_an_export_is_verified_without_the_platform(
    tmp_path: Path, logs: Logs, nowhere: Callable[[], None], capsys: pytest.CaptureFixture[str]
) -> None:
    file = exported(tmp_path)
    assert file.stat().st_mode & 0o77 == 0
    nowhere()
    assert verify(tmp_path, str(file)) == outcome.OK
    printed = capsys.readouterr().out
    assert "Verified: 30 records (0 to 29) of stockade/" in printed
    assert "2 signed heads" in printed


def test_a_changed_export_is_refused(tmp_path: Path, logs: Logs, capsys: pytest.CaptureFixture[str]) -> None:
    file = exported(tmp_path)
    file.write_bytes(file.read_bytes().replace(b'"id":"12"', b'"id":"21"'))
    assert verify(tmp_path, str(file)) == outcome.INVALID
    assert "not those that were signed" in capsys.readouterr().err


def test_a_part_is_taken_as_a_part_alone(tmp_path: Path, logs: Logs, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (("--from", "5"), ("--to", "20"), ("--from", "5", "--to", "20")):
        file = str(exported(tmp_path, *arguments))
        assert verify(tmp_path, file) == outcome.INVALID
        assert verify(tmp_path, file, "--part") == outcome.OK
    assert "(5 to 19)" in capsys.readouterr().out


def test_a_part_by_time(tmp_path: Path, logs: Logs) -> None:
    assert run(["audit", "export", "--log", LOG, "-o", str(tmp_path / "x"), "--from", "yesterday"]) == outcome.USAGE
    assert (
        run(["audit", "export", "--log", LOG, "-o", str(tmp_path / "x"), "--from", "2026-11-26"]) == outcome.NOT_FOUND
    )
    assert not (tmp_path / "x").exists()
    assert not list(tmp_path.glob(".x*"))


@pytest.mark.parametrize("log", ["platform", "../x", LOG[:-1]])
def test_no_such_log(tmp_path: Path, logs: Logs, log: str) -> None:
    assert run(["audit", "export", "--log", log, "-o", str(tmp_path / "x")]) in {outcome.NOT_FOUND, outcome.INVALID}


def test_a_proof_of_one_record(
    tmp_path: Path, logs: Logs, nowhere: Callable[[], None], capsys: pytest.CaptureFixture[str]
) -> None:
    reader = logs.reader(LOG)
    written = proof.encoded(proof.prove(reader, Heads(reader.folder), 12))
    (tmp_path / "proof.json").write_bytes(written)
    (tmp_path / "wrong.json").write_bytes(written.replace(b"xxx", b"xxy"))
    nowhere()
    assert verify(tmp_path, str(tmp_path / "proof.json")) == outcome.OK
    printed = capsys.readouterr()
    assert printed.out == lines(1, 12)[0].decode() + "\n"
    assert "record 12 of stockade/" in printed.err
    assert verify(tmp_path, str(tmp_path / "wrong.json")) == outcome.INVALID


def test_the_logs_here_are_verified_all(tmp_path: Path, logs: Logs, capsys: pytest.CaptureFixture[str]) -> None:
    filled(tmp_path / "data" / "audit", [5], name="platform")
    assert verify(tmp_path) == outcome.OK
    assert capsys.readouterr().out.count("Verified: ") == 2
    path = next((logs.folder / LOG).glob("*.jsonl"))
    path.write_bytes(path.read_bytes().replace(b"xxx", b"xxy", 1))
    assert verify(tmp_path) == outcome.INVALID
    printed = capsys.readouterr()
    assert printed.out.count("Verified: ") == 1
    assert "Record 1 is not the one that was written" in printed.err
    assert verify(tmp_path, "--log", "platform") == outcome.OK
    path.unlink()
    assert verify(tmp_path) == outcome.INVALID
    assert verify(tmp_path, "--log", "00000000-0000-0000-0000-000000000000") == outcome.NOT_FOUND


def test_a_witness(tmp_path: Path, logs: Logs, capsys: pytest.CaptureFixture[str]) -> None:
    file, witness = str(exported(tmp_path)), tmp_path / "witness"
    witness.write_bytes((logs.folder / LOG / FILE_NAME).read_bytes())
    for arguments in ((), (file,)):
        assert verify(tmp_path, *arguments, "--witness", str(witness)) == outcome.OK
    more = filled(tmp_path / "more", [10, 40]).folder / LOG / FILE_NAME
    shutil.copy(more, witness)
    for arguments in ((), (file,)):
        assert verify(tmp_path, *arguments, "--witness", str(witness)) == outcome.LOG_ROLLED_BACK
    assert "the witness has seen 40 records" in capsys.readouterr().err
    witness.write_bytes(SIGNER.sign(LOG, 20, b"r" * 32, 5.0, []) + b"\n")
    for arguments in ((), (file,)):
        assert verify(tmp_path, *arguments, "--witness", str(witness)) == outcome.LOG_FORKED
    shutil.rmtree(tmp_path / "data")
    shutil.copy(more, witness)
    assert verify(tmp_path, "--witness", str(witness)) == outcome.LOG_ROLLED_BACK


def test_which_key(tmp_path: Path, logs: Logs, capsys: pytest.CaptureFixture[str]) -> None:
    file = str(exported(tmp_path))
    assert run(["audit", "verify", file]) == outcome.INVALID
    assert "Which key?" in capsys.readouterr().err
    newest = Heads(logs.folder / LOG).newest()
    assert newest is not None
    for key in (SIGNER.key.pem(), SIGNER.key.text(newest.head.origin)):
        assert run(["audit", "verify", file, "--key", key]) == outcome.OK
    for key in ("nothing", str(tmp_path), Signer(b"o" * 32).key.pem(), SIGNER.key.text("stockade/another/log")):
        assert run(["audit", "verify", file, "--key", key]) == outcome.INVALID
    assert run(["audit", "verify", str(tmp_path / "none"), "--key", SIGNER.key.pem()]) == outcome.NOT_FOUND


def test_the_key_of_the_platform_here(
    tmp_path: Path, logs: Logs, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["audit", "keys"]) == outcome.NOT_RUNNING

    class Broker:
        def tree_head_key(self) -> bytes:
            return SIGNER.key.public

    @contextmanager
    def broker(settings: Settings) -> Iterator[Broker]:
        yield Broker()

    monkeypatch.setattr(root_key, "key_broker", broker)
    assert run(["audit", "verify"]) == outcome.OK
    file = str(exported(tmp_path))
    for arguments in ((), ("--pem",)):
        capsys.readouterr()
        assert run(["audit", "keys", *arguments]) == outcome.OK
        (tmp_path / "key").write_text(capsys.readouterr().out)
        assert run(["audit", "verify", file, "--key", str(tmp_path / "key")]) == outcome.OK


def test_a_head_is_forgotten_with_the_root_key_and_while_nothing_runs(
    tmp_path: Path, logs: Logs, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data"
    assert run(["audit", "forget-head", "--log", LOG]) not in {outcome.OK, outcome.NOT_FOUND}, "there is no root key"
    root = RootKey.create(data / "root.key")
    keyring = open_or_make(data / KEYRING, root)
    assert run(["audit", "forget-head", "--log", LOG]) == outcome.NOT_FOUND
    Floors(data, keyring.keys, SystemClock()).set_head(LOG, HeadFloor(30, b"r" * 32))
    assert run(["audit", "forget-head", "--log", "nothing"]) == outcome.INVALID
    monkeypatch.setattr(running, "status", lambda _: {"pid": 1})
    assert run(["audit", "forget-head", "--log", LOG]) == outcome.CONFLICT
    monkeypatch.undo()
    monkeypatch.setenv(DATA_DIR_VARIABLE, str(data))
    assert run(["audit", "forget-head", "--log", LOG]) == outcome.OK
    assert "The head of 30 records" in capsys.readouterr().err
    assert Floors(data, keyring.keys, SystemClock()).head(LOG) is None
