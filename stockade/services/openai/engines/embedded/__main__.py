"""Run one built-in model as a process: `python -m stockade.services.openai.engines.embedded --socket PATH --model NAME`.

The socket appears when the model is loaded and disappears at the end. Ends on SIGTERM and SIGINT within about a second, and when the
process that started it is gone. Exit codes: 0 after a requested end, 78 (EX_CONFIG of sysexits.h) when starting again will not help.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import signal
import socket
import stat
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import uvicorn

from .app import App
from .catalogue import MODELS, BuiltInModel
from .model_files import CannotStart, require_installed, verified

EX_CONFIG = 78

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_MAX_SOCKET_PATH = 100  # bytes; the smallest limit of the systems in use is 104, on macOS


def main(arguments: Sequence[str] | None = None) -> int:
    """Load the model, serve it until told to end, and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="stockade-embedded-engine", description="Serve one built-in model on a UNIX socket."
    )
    parser.add_argument(
        "--socket", type=Path, required=True, help="path of the socket; its folder is private (0700) to this user"
    )
    parser.add_argument("--model", choices=sorted(MODELS), required=True)
    parser.add_argument(
        "--threads", type=int, default=default_threads(usable_cores()), help="CPU threads (default: %(default)s)"
    )
    options = parser.parse_args(arguments)
    if options.threads < 1:
        parser.error("--threads must be at least 1")
    parent = os.getppid()
    logging.basicConfig(level=logging.WARNING, format="embedded engine: %(levelname)s %(message)s")
    # The native library installs signal handlers of its own while it loads. Signals wait until ours are in place.
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        model = MODELS[options.model]
        check_folder(options.socket)
        require_installed(model)
        app, close = _load(model, options.threads)
        listener = listen(options.socket)
    except CannotStart as error:
        sys.stderr.write(f"embedded engine: {error}\n")
        return EX_CONFIG
    try:
        asyncio.run(_serve(app, listener, parent))
    finally:
        with contextlib.suppress(FileNotFoundError):
            options.socket.unlink()
        close()
    return 0


def usable_cores() -> int:
    """Return the number of cores this process may use, which in a container can be fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def default_threads(cores: int) -> int:
    """Return 1 on small machines, else half the cores up to 4: threads of a model that compete with others' are slower than fewer."""
    return 1 if cores <= 2 else min(4, cores // 2)


def check_folder(path: Path) -> None:
    """Make the socket's folder, 0700, or raise CannotStart if it is there and others than its owner can enter it."""
    if len(os.fsencode(path)) > _MAX_SOCKET_PATH:
        raise CannotStart(
            f"the socket's path {path} is longer than the {_MAX_SOCKET_PATH} bytes that every system takes"
        )
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = path.parent.stat()
    if found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o077:
        raise CannotStart(f"the folder {path.parent} must belong to this user and admit nobody else (chmod 700)")


def listen(path: Path) -> socket.socket:
    """Return a socket, mode 0600, bound at the path; one left over from a process that is gone is replaced.

    Raises CannotStart if something is listening there, or is there that is no socket.
    """
    if path.exists() or path.is_symlink():
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise CannotStart(f"{path} exists and is not a socket")
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(1)
            try:
                probe.connect(str(path))
            except ConnectionRefusedError:
                path.unlink()
            else:
                raise CannotStart(f"another process is listening on {path}")
    listener = socket.socket(socket.AF_UNIX)
    # Before `listen`, so that there is no moment at which anyone else could connect (the folder would not let them either).
    listener.bind(str(path))
    path.chmod(0o600)
    listener.listen(64)
    return listener


def _load(model: BuiltInModel, threads: int) -> tuple[App, Callable[[], None]]:
    # Imported here: these bring in the engines' libraries, 100 MB and more, and may not be installed.
    if model.dimensions is None:
        from .generator import Generator

        generator = Generator(model, verified(model.files[0]), threads)
        return App(model, text=generator), generator.close
    from .embedder import Embedder

    weights, tokenizer = (verified(file) for file in model.files)
    embedder = Embedder(model, weights, tokenizer, threads)
    return App(model, embeddings=embedder), embedder.close


async def _serve(app: App, listener: socket.socket, parent: int) -> None:
    config = uvicorn.Config(
        app,
        loop="asyncio",
        http="httptools",
        ws="none",
        lifespan="off",
        interface="asgi3",
        access_log=False,
        server_header=False,
        log_config=None,
        limit_concurrency=256,
        timeout_keep_alive=120,
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    watching = asyncio.create_task(_end_with(parent, server))

    def end(*_: object) -> None:
        server.should_exit = True

    # For a signal that came while the model loaded. uvicorn sets its own while it serves, then puts these back and repeats the signal.
    for number in _SIGNALS:
        signal.signal(number, end)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
    await server.serve(sockets=[listener])
    watching.cancel()


async def _end_with(parent: int, server: uvicorn.Server) -> None:
    """End the server when the process that started this one has ended; the system offers no event for it that works everywhere."""
    while os.getppid() == parent:  # noqa: ASYNC110
        await asyncio.sleep(1)
    server.should_exit = True


if __name__ == "__main__":
    sys.exit(main())
