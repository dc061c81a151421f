"""What commands share: the data directory, the settings as the running server has them, and the two consoles."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from stockade import settings as configuration
from stockade.kernel.clock import clock_of
from stockade.serve import running
from stockade.settings import DATA_DIR_VARIABLE, Settings

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)


def _use_data_dir(path: Path | None) -> Path | None:
    if path is not None:
        os.environ[DATA_DIR_VARIABLE] = str(path.expanduser().absolute())
    return path


DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        callback=_use_data_dir,
        is_eager=True,
        help=f"Where Stockade keeps its data. [env: {DATA_DIR_VARIABLE}] [default: stockade in your state folder]",
        show_default=False,
    ),
]


def read_settings(overrides: dict[str, Any] | None = None) -> Settings:
    """Return the settings; typer.BadParameter names what is wrong with them."""
    try:
        return configuration.load(overrides=overrides)
    except ValueError as failure:
        raise typer.BadParameter(str(failure)) from failure


def running_settings() -> Settings:
    """Return the settings with the flags that the running server was started with, so that addresses are those it listens on."""
    found = read_settings()
    state = running.status(found)
    return read_settings(state["overrides"]) if state is not None else found


def moment(settings: Settings) -> datetime:
    """Return what time it is for the server, which in a rehearsal is another than here."""
    return datetime.fromtimestamp(clock_of(settings.data_dir).now(), UTC)


def print_columns(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print rows under headings, each column as wide as its widest cell: ids are there to be copied, so nothing is ever cut or wrapped."""
    table = [list(headings), *(list(row) for row in rows)]
    widths = [max(len(row[column]) for row in table) for column in range(len(headings))]
    for number, row in enumerate(table if any(headings) else table[1:]):
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        out.print(Text(line, style="bold" if number == 0 and any(headings) else ""))
