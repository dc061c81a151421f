"""Where settings come from: file < environment < flag."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import msgspec
import platformdirs

from stockade.settings.checks import access_problems, audit_problems, issuer_problems, notice_problems
from stockade.settings.whole import Settings

DATA_DIR_VARIABLE = "STOCKADE_DATA_DIR"
OVERRIDES_VARIABLE = "STOCKADE_OVERRIDES"
"""JSON of the settings given by flags; how the supervisor passes them to its children."""


def default_data_dir(environment: Mapping[str, str] = os.environ) -> Path:
    """Return the data directory: the environment's, else one inside the user's state folder."""
    named = environment.get(DATA_DIR_VARIABLE, "")
    return Path(named).expanduser().absolute() if named else Path(platformdirs.user_state_dir("stockade"))


def load(
    data_dir: Path | None = None,
    overrides: Mapping[str, Any] | None = None,
    environment: Mapping[str, str] = os.environ,
) -> Settings:
    """Read the settings: file, then environment, then flags.

    overrides: nested like the file, e.g. `{"listen": {"data_port": 9443}}`; None values are left out.
    Raises ValueError naming the file and field for unknown fields and wrong types.
    """
    directory = data_dir or default_data_dir(environment)
    file = directory / "settings.toml"
    merged: dict[str, Any] = {}
    try:
        merged = tomllib.loads(file.read_text())
    except FileNotFoundError:
        pass
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as failure:
        raise ValueError(f"{file}: {failure}") from failure
    if environment.get("STOCKADE_DATABASE_URL"):
        merged["database_url"] = environment["STOCKADE_DATABASE_URL"]
    _merge(merged, msgspec.json.decode(environment.get(OVERRIDES_VARIABLE, "{}")))
    _merge(merged, overrides or {})
    merged["data_dir"] = str(directory)
    try:
        found = msgspec.convert(merged, Settings, strict=True, dec_hook=_decode)
    except msgspec.ValidationError as failure:
        raise ValueError(f"{file}: {failure}") from failure
    for name, networks in (
        ("trusted_proxies", found.trusted_proxies),
        ("listen.private_networks", found.listen.private_networks),
    ):
        for text in networks:
            try:
                ip_network(text, strict=False)
            except ValueError as failure:
                raise ValueError(f"{file}: {failure} - at `$.{name}`") from failure
    problems = (
        *access_problems(found.access),
        *issuer_problems(found.issuers),
        *notice_problems(found.notices),
        *audit_problems(found.audit),
    )
    for name, problem in problems:
        raise ValueError(f"{file}: {problem} - at `$.{name}`")
    return found


def _decode(wanted: type, value: object) -> object:
    if wanted is Path or issubclass(wanted, Path):
        return Path(str(value))
    raise NotImplementedError(wanted)


def _merge(base: dict[str, Any], extra: Mapping[str, Any]) -> None:
    for key, value in extra.items():
        if isinstance(value, Mapping) and isinstance(base.setdefault(key, {}), dict):
            _merge(base[key], value)
        elif value is not None:
            base[key] = value
