"""nginx as a TLS reverse proxy that checks nothing: the floor."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks.contenders import Place, Running
from benchmarks.install import Cache, Program
from benchmarks.process import free_port, started, wait_until_right
from benchmarks.workload import everywhere

# proxy_buffering off, as everyone does for events: buffered ones would arrive in lumps. keepalive_requests is 1000 by default, after which
# nginx closes the connection. One worker, like everyone's; no access log, as nobody here keeps one except Stockade, whose audit is part of
# its work.
_CONFIGURATION = """\
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  keepalive_requests 100000000;
  keepalive_timeout 600s;
  upstream backend {{
    server 127.0.0.1:{backend_port};
    keepalive 64;
    keepalive_requests 100000000;
  }}
  server {{
    listen 127.0.0.1:{port} ssl;
    ssl_certificate {certificate};
    ssl_certificate_key {key};
    ssl_protocols TLSv1.2 TLSv1.3;
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    proxy_buffering off;
    location / {{ proxy_pass http://backend; }}
  }}
}}
"""


class Nginx:
    """TLS reverse proxy, no checks."""

    name = "nginx"
    about = "TLS reverse proxy, no checks"

    def __init__(self) -> None:
        self._program: Program | None = None

    def install(self, cache: Cache) -> str:
        self._program = find(cache)
        return version(self._program)

    @contextmanager
    def start(self, place: Place) -> Iterator[Running]:
        assert self._program is not None
        port = free_port()
        command = configure(self._program, place, port, place.backend_port)
        requests = everywhere("-", port, {})
        log = place.folder / "nginx.log"
        with started(command, core=place.core, log=log, environment=self._program.environment) as process:
            wait_until_right(requests[0], process, log, timeout_s=10)
            yield Running([process.pid], requests)


def find(cache: Cache) -> Program:
    """Find or unpack nginx."""
    return cache.debian("nginx", "nginx")


def version(program: Program) -> str:
    """Ask nginx for its version."""
    said = subprocess.run(
        [program.path, "-v"], capture_output=True, text=True, check=True, env=program.environment or None
    )
    return said.stderr.rpartition("/")[2].strip()


def configure(program: Program, place: Place, port: int, backend_port: int) -> Sequence[str]:
    """Write a TLS reverse proxy's configuration into `place` and give the command that runs it."""
    file = Path(place.folder, "nginx.conf")
    file.write_text(
        _CONFIGURATION.format(
            folder=place.folder,
            port=port,
            backend_port=backend_port,
            certificate=place.certificate.chain,
            key=place.certificate.key,
        )
    )
    return [str(program.path), "-p", str(place.folder), "-c", str(file), "-e", "stderr"]
