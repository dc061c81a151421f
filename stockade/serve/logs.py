"""Logs: one JSON object per line on stderr, the same form from every process of the platform.

No request is logged: what is asked of the platform goes to the audit log, which leaves bodies and credentials out by construction. As a second
line of defence anything that looks like a credential is cut from a line before it is written.
"""

from __future__ import annotations

import logging
import re
import sys
from typing import Any, Final

import msgspec

from stockade.kernel.clock import iso

LEVELS: Final = ("debug", "info", "warning", "error")
LEVEL_VARIABLE = "STOCKADE_LOG_LEVEL"
PROCESS_VARIABLE = "STOCKADE_PROCESS"
MAX_LINE = 16_384

_SECRETS = re.compile(r"stockade_[0-9A-Za-z]{20,}|stockade~[\w-]{20,}|eyJ[\w-]{10,}\.[\w-]*\.?[\w-]*")
_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_encode = msgspec.json.Encoder(enc_hook=str).encode


class JsonLines(logging.Formatter):
    """Formats a record as one line: time, level, process, logger, message, then whatever `extra` named, then the traceback."""

    def __init__(self, process: str = "") -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": iso(record.created),
            "level": record.levelname.lower(),
            "process": self._process or record.processName,
            "pid": record.process,
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {name: value for name, value in vars(record).items() if name not in _OWN}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)[-MAX_LINE:]
        return _SECRETS.sub("[cut]", _encode(line).decode())


def configuration(process: str, level: str) -> dict[str, Any]:
    """Return the logging configuration of one process, in the form of `logging.config.dictConfig`.

    `_granian` is the server's own logger; the access log stays off, because a query may carry a key.
    """
    wanted = level.upper()
    quiet = "WARNING" if wanted == "INFO" else wanted
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"json": {"()": JsonLines, "process": process}},
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "json", "stream": sys.stderr}},
        "root": {"handlers": ["stderr"], "level": wanted},
        "loggers": {
            # What it says at INFO (which worker has which PID) is for its developers.
            "_granian": {"level": quiet, "handlers": [], "propagate": True},
            "granian.access": {"level": "CRITICAL", "handlers": [], "propagate": False},
            # What it warns of is a caller's mistake, which the caller is told; and it would write down bytes of what was sent.
            "python_multipart": {"level": "CRITICAL"},
            **{name: {"level": quiet} for name in ("alembic", "uvicorn", "sqlalchemy", "dbos")},
        },
    }
