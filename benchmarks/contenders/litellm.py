"""LiteLLM's proxy: TLS of its own, a master key, models in its configuration, no database."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.contenders import Place, Running
from benchmarks.install import Cache
from benchmarks.process import free_port, started, wait_until_right
from benchmarks.workload import WORKLOADS, everywhere


class LiteLLM:
    """Checks one master key, re-writes request and answer."""

    name = "LiteLLM"
    about = "`litellm` with its own TLS, one master key, models from its configuration file, no database, one worker"

    def __init__(self) -> None:
        self._bin: Path | None = None

    def install(self, cache: Cache) -> str:
        self._bin = cache.python("litellm")
        facts = next(self._bin.parent.glob("lib/python*/site-packages/litellm-*.dist-info"))
        return facts.name.removeprefix("litellm-").removesuffix(".dist-info")

    @contextmanager
    def start(self, place: Place) -> Iterator[Running]:
        assert self._bin is not None
        port, key = free_port(), f"sk-{secrets.token_hex(24)}"
        upstream = {"api_base": f"http://127.0.0.1:{place.backend_port}/v1", "api_key": "none"}
        models = [
            {"model_name": work.name, "litellm_params": {"model": f"openai/{work.name}", **upstream}}
            for work in WORKLOADS
        ]
        configuration = place.folder / "config.yaml"
        # JSON is YAML.
        configuration.write_text(json.dumps({"model_list": models, "general_settings": {"master_key": key}}))
        requests = everywhere("key", port, {"Authorization": f"Bearer {key}"})
        command = [
            str(self._bin / "litellm"),
            "--config",
            str(configuration),
            "--host",
            "127.0.0.1",
            "--port",
            str(port),
        ]
        command += [
            "--ssl_certfile_path",
            str(place.certificate.chain),
            "--ssl_keyfile_path",
            str(place.certificate.key),
        ]
        # The cost map comes with the package: a benchmark fetches nothing.
        environment = {
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "LITELLM_LOG": "ERROR",
            "LITELLM_MODE": "PRODUCTION",
            "NO_PROXY": "localhost,127.0.0.1",
        }
        log = place.folder / "litellm.log"
        with started(command, core=place.core, log=log, environment=environment) as process:
            wait_until_right(requests[0], process, log, timeout_s=120)
            yield Running([process.pid], requests)
