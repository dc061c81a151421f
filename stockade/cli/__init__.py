"""The `stockade` command: one file per group of commands."""

from stockade.cli.root import main

__all__ = ["main"]
