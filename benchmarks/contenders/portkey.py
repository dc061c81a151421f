"""Portkey's open-source gateway behind nginx, as it speaks no TLS of its own."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.contenders import Place, Running, nginx
from benchmarks.install import Cache, Program
from benchmarks.process import free_port, started, wait_until_right
from benchmarks.workload import everywhere

_PRELOAD = Path(__file__).with_name("portkey.js")


class Portkey:
    """Checks no key of its own; reads its routing from headers, passes the caller's bearer on."""

    name = "Portkey"
    about = (
        "`@portkey-ai/gateway --headless`, which checks no key of its own; it speaks no TLS, so nginx does before it, on the same core, "
        "its CPU counted"
    )

    def __init__(self) -> None:
        self._package: Path | None = None
        self._nginx: Program | None = None

    def install(self, cache: Cache) -> str:
        self._nginx = nginx.find(cache)
        self._package = cache.node("portkey") / "@portkey-ai" / "gateway"
        return str(json.loads((self._package / "package.json").read_text())["version"])

    @contextmanager
    def start(self, place: Place) -> Iterator[Running]:
        assert self._package is not None
        assert self._nginx is not None
        inner, outer = free_port(), free_port()
        headers = {
            "x-portkey-provider": "openai",
            "x-portkey-custom-host": f"http://127.0.0.1:{place.backend_port}/v1",
            "Authorization": f"Bearer {secrets.token_hex(24)}",
        }
        requests = everywhere("-", outer, headers)
        command = ["node", "--require", str(_PRELOAD), str(self._package / "build" / "start-server.js")]
        command += [f"--port={inner}", "--headless"]
        front = nginx.configure(self._nginx, place, outer, inner)
        log = place.folder / "portkey.log"
        with (
            started(command, core=place.core, log=log, environment={"NODE_ENV": "production"}) as process,
            started(
                front, core=place.core, log=place.folder / "nginx.log", environment=self._nginx.environment
            ) as terminator,
        ):
            wait_until_right(requests[0], process, log, timeout_s=30)
            yield Running([process.pid, terminator.pid], requests)
