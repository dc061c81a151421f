import asyncio
import os
import socket
import stat
import tempfile
from pathlib import Path

import pytest

from stockade.services.openai.engines.embedded.__main__ import EX_CONFIG, check_folder, default_threads, listen, main
from stockade.services.openai.engines.embedded.model_files import CannotStart


@pytest.fixture
def folder():
    # pytest's own folders can be too deep for the name of a socket.
    with tempfile.TemporaryDirectory() as path:
        yield Path(path)


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize(("cores", "threads"), [(1, 1), (2, 1), (3, 1), (4, 2), (8, 4), (64, 4)])
def test_threads_leave_the_machine_to_others(cores, threads):
    assert default_threads(cores) == threads


def test_the_folder_is_made_private(folder):
    check_folder(folder / "run" / "engine.sock")
    assert mode(folder / "run") == 0o700


@pytest.mark.parametrize("extra", [0o001, 0o010, 0o040, 0o007])
def test_a_folder_that_others_can_enter_is_refused(folder, extra):
    folder.chmod(0o700 | extra)
    with pytest.raises(CannotStart, match="chmod 700"):
        check_folder(folder / "engine.sock")
    folder.chmod(0o700)


def test_a_path_that_some_system_cannot_take_is_refused_with_its_reason(folder):
    with pytest.raises(CannotStart, match="longer than"):
        check_folder(folder / ("x" * 120))


def test_the_socket_admits_its_owner_only_whatever_the_umask(folder):
    before = os.umask(0)
    try:
        listener = listen(folder / "engine.sock")
    finally:
        os.umask(before)
    with listener:
        assert mode(folder / "engine.sock") == 0o600


def test_a_socket_left_by_a_process_that_is_gone_is_replaced(folder):
    path = folder / "engine.sock"
    listen(path).close()
    assert path.is_socket()
    with listen(path), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))


def test_a_socket_in_use_is_left_alone(folder):
    path = folder / "engine.sock"
    with listen(path), pytest.raises(CannotStart, match="another process is listening"):
        listen(path)
    assert path.is_socket()


def test_what_is_no_socket_is_left_alone(folder):
    path = folder / "engine.sock"
    path.write_text("precious")
    with pytest.raises(CannotStart, match="not a socket"):
        listen(path)
    path.unlink()
    path.symlink_to(folder / "nowhere")
    with pytest.raises(CannotStart, match="not a socket"):
        listen(path)


def test_a_start_that_cannot_succeed_says_why_and_ends_with_the_code_that_means_it(folder, capsys, monkeypatch):
    monkeypatch.setattr("signal.pthread_sigmask", lambda *_: None)
    folder.chmod(0o755)
    assert main(["--socket", str(folder / "engine.sock"), "--model", "all-minilm-l6-v2"]) == EX_CONFIG
    assert "chmod 700" in capsys.readouterr().err
    folder.chmod(0o700)


@pytest.mark.parametrize("arguments", [["--model", "gpt-4o"], ["--model", "all-minilm-l6-v2", "--threads", "0"]])
def test_arguments_that_make_no_sense_are_refused(folder, arguments):
    with pytest.raises(SystemExit):
        main(["--socket", str(folder / "engine.sock"), *arguments])


def test_no_engine_library_is_loaded_by_looking_at_the_catalogue():
    program = (
        "import sys, stockade.services.openai.engines.embedded.catalogue\n"
        "sys.exit(any(name in sys.modules for name in ('xllamacpp', 'onnxruntime', 'tokenizers', 'numpy', 'uvicorn')))"
    )

    async def run() -> int:
        return await (await asyncio.create_subprocess_exec(os.sys.executable, "-c", program)).wait()

    assert asyncio.run(run()) == 0
