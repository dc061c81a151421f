"""Why a notice did not get there."""

from __future__ import annotations


class Undelivered(Exception):
    """It has to be tried again. The message is shown to operators and holds nothing secret."""
