"""How the sinks stand, as the audit process says it: `run/audit.json`, which everybody else reads. The spools' own trouble they see themselves."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Final

import msgspec

FILE_NAME: Final = "audit.json"


class Sinks(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is in the way of each sink; "" where nothing is. waiting: bytes in spools that have not been taken in.

    problem: why nothing may go on although the sinks can be written: a log that witnesses contradict.
    held: whether the logs were held to what witnesses know, each as far as it can be read.
    pid: of the audit process. time: when it said so, epoch seconds.
    """

    log: str = ""
    mirror: str = ""
    problem: str = ""
    held: bool = False
    waiting: int = 0
    heads: str = ""
    """Why the newest tree heads are not signed."""
    pid: int = 0
    time: float = 0.0


class Standing:
    """Reads and writes the file. Losing it loses nothing: it is written anew when the audit process starts."""

    def __init__(self, run_dir: Path) -> None:
        self._path = run_dir / FILE_NAME
        self._seen: object = None
        self._sinks = Sinks()

    def read(self) -> Sinks:
        """Return what was said last; all well where nothing was."""
        try:
            found = self._path.stat()
            seen = (found.st_mtime_ns, found.st_size, found.st_ino)
            if seen != self._seen:
                self._sinks, self._seen = msgspec.json.decode(self._path.read_bytes(), type=Sinks), seen
        except (OSError, msgspec.DecodeError):
            self._sinks, self._seen = Sinks(), None
        return self._sinks

    def nowhere(self) -> str:
        """Return why none of the sinks can be written, or nothing may be; "" as long as one can."""
        sinks = self.read()
        if sinks.problem:
            return sinks.problem
        return f"log: {sinks.log}; mirror: {sinks.mirror}" if sinks.log and sinks.mirror else ""

    def write(self, sinks: Sinks) -> None:
        """Say how the sinks stand. Where even that cannot be written, the spools cannot be either, and say so themselves."""
        draft = self._path.with_name(f".{FILE_NAME}")
        with contextlib.suppress(OSError):
            draft.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            draft.write_bytes(msgspec.json.encode(sinks))
            draft.replace(self._path)
