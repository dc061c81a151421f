"""JSON lines in a folder: `<sink's name>.jsonl`, rotated by size (`<name>-00000001.jsonl`, ...). A batch counts as taken when it is synced."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from stockade.audit.appending import Appender, append_durably, path_of
from stockade.audit.disk import sync_folder
from stockade.audit.sinks.sink import ResourceLog, Undelivered
from stockade.settings import Sink

ROTATE_BYTES: Final = 64 * 1024 * 1024
KEEP_FILES: Final = 20
"""Beside the one that is written; the oldest goes."""


class FileSink:
    """One file, and those it was before."""

    def __init__(self, configured: Sink, rotate_bytes: int = ROTATE_BYTES) -> None:
        self._folder, self._name, self._timeout_s = path_of(configured.url), configured.name, configured.timeout_s
        self._rotate_bytes = rotate_bytes
        self._appender = Appender()

    async def deliver(self, batch: Sequence[ResourceLog]) -> None:
        data = b"".join(record.body + b"\n" for record in batch)
        try:
            await self._appender.run(lambda: self._write(data), self._timeout_s)
        except TimeoutError as failure:
            raise Undelivered(f"{self._folder} did not take what was written in time") from failure
        except OSError as failure:
            raise Undelivered(f"{self._folder} cannot be written: {failure.strerror or 'it failed'}") from failure

    async def close(self) -> None:
        pass

    def _write(self, data: bytes) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self._folder / f"{self._name}.jsonl"
        new = not path.exists()
        if not new and path.stat().st_size + len(data) > self._rotate_bytes:
            old = sorted(self._folder.glob(f"{self._name}-{'[0-9]' * 8}.jsonl"))
            newest = int(old[-1].stem.rpartition("-")[2]) if old else 0
            path.rename(path.with_name(f"{self._name}-{newest + 1:08d}.jsonl"))
            for one in old[: max(0, len(old) + 1 - KEEP_FILES)]:
                one.unlink(missing_ok=True)
            new = True
        append_durably(path, data)
        if new:
            sync_folder(self._folder)


class FileSinks:
    """Type `file`."""

    name = "file"

    def open(self, configured: Sink) -> FileSink:
        return FileSink(configured)


PLUGIN = FileSinks()
