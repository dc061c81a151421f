"""A secret that the settings name, by an environment variable or a file, read each time it is used."""

from __future__ import annotations

import os
from pathlib import Path

from stockade.jobs.notices.undelivered import Undelivered
from stockade.kernel.secret import Secret


def configured_secret(what: str, variable: str, file: str) -> Secret:
    """Return the secret; Undelivered, saying of what, when it cannot be read or is empty. The variable goes before the file."""
    if variable:
        value = os.environ.get(variable, "")
    else:
        try:
            value = Path(file).expanduser().read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as failure:
            raise Undelivered(f"{what} cannot be read ({file})") from failure
    if not value:
        raise Undelivered(f"{what} is not set ({variable or file})")
    return Secret(value)
