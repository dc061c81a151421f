"""Whether a server runs on a data directory, and what it says of itself. Apart from what runs it, which commands need not load to ask."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from stockade.serve.files import is_locked
from stockade.settings import Settings


def status(settings: Settings) -> dict[str, Any] | None:
    """Return what the running server of a data directory says of itself (pid, version, listen, overrides), None when none runs."""
    try:
        found: dict[str, Any] = json.loads(status_file(settings).read_bytes())
    except (OSError, ValueError):
        return None
    return found if is_locked(lock_file(settings)) else None


def status_file(settings: Settings) -> Path:
    """Return where it says it."""
    return settings.run_dir / "serve.json"


def lock_file(settings: Settings) -> Path:
    """Return what a server holds locked for as long as it runs."""
    return settings.run_dir / "serve.lock"
