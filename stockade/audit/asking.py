"""Asking the audit process, over its UNIX socket, where a record stands. The record is in a spool by then; only its whereabouts travel.

One line each way, as `serve/questions.py` has them: `{"place": "<spool>:<offset>"}`, `{"placed": "<log>:<index>:<leaf hash, hex>"}`.
"""

from __future__ import annotations

import json
import socket
import time
from pathlib import Path
from typing import Final

from stockade.audit.ledger import Placed
from stockade.kernel.faults import Fault, FaultKind

MAX_WAIT_S: Final = 4.0
"""How long the audit process lets somebody wait for a place."""
RETRY_S: Final = 0.1
MAX_ANSWER: Final = 64 * 1024


def ask_place(path: Path, file: str, offset: int, timeout_s: float) -> Placed:
    """Return where the record at an offset of a spool stands; Fault(UNAVAILABLE) when nobody says so in time, as while the process starts again."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            return _placed(_ask(path, {"place": f"{file}:{offset}"}, deadline - time.monotonic()))
        except (OSError, ValueError, KeyError) as failure:
            if time.monotonic() + RETRY_S >= deadline:
                message = "The audit log did not say where the record stands, so nothing was done."
                raise Fault(FaultKind.UNAVAILABLE, message, retry_after_s=5) from failure
            time.sleep(RETRY_S)


def _ask(path: Path, question: dict[str, str], timeout_s: float) -> dict[str, str]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        asking.settimeout(max(timeout_s, RETRY_S))
        asking.connect(str(path))
        asking.sendall(json.dumps(question).encode() + b"\n")
        answer = b""
        while not answer.endswith(b"\n") and len(answer) <= MAX_ANSWER:
            data = asking.recv(4096)
            if not data:
                break
            answer += data
    found: dict[str, str] = json.loads(answer)
    return found


def _placed(answer: dict[str, str]) -> Placed:
    log, index, leaf = answer["placed"].rsplit(":", 2)
    return Placed(log, int(index), bytes.fromhex(leaf))
