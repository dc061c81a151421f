"""Where bodies lie: local files, S3, Azure Blob or Google Cloud Storage, through obstore. What is put there is sealed already.

A body is there whole under its name or not at all: local files are written beside and renamed, the others have no object before the last
request of a multipart upload. Names are drawn, and say nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import secrets
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import SplitResult, unquote, urlsplit

import msgspec
import obstore
from anyio import to_thread
from obstore.exceptions import BaseError
from obstore.store import AzureStore, GCSStore, LocalStore, ObjectStore, S3Store

from stockade.content.format import Buffer, DamagedError
from stockade.kernel.faults import Fault, FaultKind
from stockade.settings import Content, Settings

PART_BYTES: Final = 5 * 1024 * 1024
"""Of a multipart upload, S3's least; what is smaller is put with one request. S3 takes 10,000 parts, so objects up to 50 GB."""
PARTS_AT_ONCE: Final = 2
CONNECT_S: Final = 5.0
RETRIES: Final = 3
_QUERY: Final = re.compile(r"\?[^\s\"')]*")

log = logging.getLogger(__name__)


class MissingError(DamagedError):
    """The store has no such object."""


class Bodies(Protocol):
    """An object store. Fault(UNAVAILABLE) when it does not answer, is full or refuses us."""

    async def put(self, location: str, pieces: AsyncIterator[Buffer]) -> None:
        """Write an object; durable when this returns. What the iterator raises comes out, and then nothing is there."""
        ...

    async def get(self, location: str, start: int, end: int, size: int) -> memoryview:
        """Return bytes start to before end of an object of `size` bytes; DamagedError when it has another size, MissingError."""
        ...

    async def delete(self, location: str) -> None:
        """Remove an object and what a broken-off `put` has left of it, if there is any."""
        ...


def new_location() -> str:
    """Return a name for a new object; two characters of it are a folder's, so that none grows too large to list."""
    name = secrets.token_hex(16)
    return f"{name[:2]}/{name[2:]}"


def open_bodies(settings: Settings) -> Bodies:
    """Open the store that the settings name; ValueError, in the operator's words, when they name none that can be."""
    content = settings.content
    url = urlsplit(content.url or (settings.data_dir / "content").as_uri())
    if url.query or url.fragment or url.username or url.password:
        raise ValueError(f"content.url: {url.scheme}://... takes a bucket and a prefix, nothing else")
    try:
        return _open(content, url)
    except OSError as failure:
        raise ValueError(f"content: {failure}") from failure


def _open(content: Content, url: SplitResult) -> Bodies:
    if url.scheme == "file":
        if url.netloc or not url.path.strip("/"):
            raise ValueError("content.url: file:///path names an absolute folder")
        return LocalBodies(Path(unquote(url.path)))
    if url.scheme not in {"s3", "az", "gs"} or not url.netloc:
        raise ValueError(
            "content.url: one of file:///path, s3://bucket/prefix, az://container/prefix, gs://bucket/prefix"
        )
    return RemoteBodies(_remote(content, url.scheme, url.netloc, unquote(url.path).strip("/")), content.timeout_s)


class RemoteBodies:
    """Objects in a store of obstore's. A request is given up after `timeout_s`, and with its retries after twice that."""

    def __init__(self, store: ObjectStore, timeout_s: float) -> None:
        self._store, self._timeout_s = store, timeout_s

    async def put(self, location: str, pieces: AsyncIterator[Buffer]) -> None:
        begun, whole = await _begin(pieces)
        source = _Source(b"".join(begun), pieces)
        putting = asyncio.create_task(self._put(location, source, whole=whole))
        try:
            await asyncio.shield(putting)
        except asyncio.CancelledError:
            # Not broken off in the middle of a rename or a last request: then it might come to be there after it was cleaned up.
            source.stop()
            await asyncio.wait([putting])
            if not putting.cancelled():
                putting.exception()
            raise
        except Fault:
            if source.failure is not None:
                raise source.failure from None
            raise

    async def _put(self, location: str, source: _Source, *, whole: bool) -> None:
        limit_s = 2 * self._timeout_s
        with _told():
            async with asyncio.timeout(limit_s) as watch:
                await obstore.put_async(
                    self._store,
                    location,
                    source.begun if whole else source.watched(watch, limit_s),
                    use_multipart=not whole,
                    chunk_size=PART_BYTES,
                    max_concurrency=PARTS_AT_ONCE,
                )

    async def get(self, location: str, start: int, end: int, size: int) -> memoryview:
        with _told():
            try:
                async with asyncio.timeout(2 * self._timeout_s):
                    found = await obstore.get_async(self._store, location, options={"range": (start, end)})
                    if found.meta["size"] != size:
                        raise DamagedError("the object has not the size that was written")
                    data = memoryview(await found.bytes_async())
            except FileNotFoundError:
                raise MissingError("the object is not in the store") from None
            except BaseError as failure:
                if "range" in str(failure).lower():
                    raise DamagedError("the object has not the size that was written") from None
                raise
        if len(data) != end - start:
            raise DamagedError("the object has not the size that was written")
        return data

    async def delete(self, location: str) -> None:
        with _told(), contextlib.suppress(FileNotFoundError):
            async with asyncio.timeout(2 * self._timeout_s):
                await obstore.delete_async(self._store, location)


class LocalBodies(RemoteBodies):
    """Objects as files of a folder. Unlike obstore alone it waits for the disk, as the database does."""

    def __init__(self, folder: Path, timeout_s: float = 30.0) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder = folder
        super().__init__(LocalStore(folder), timeout_s)

    async def put(self, location: str, pieces: AsyncIterator[Buffer]) -> None:
        await super().put(location, pieces)
        with _told():
            await to_thread.run_sync(self._make_durable, location)

    async def delete(self, location: str) -> None:
        with _told():
            await to_thread.run_sync(self._unlink, location)

    def _make_durable(self, location: str) -> None:
        file = self._folder / location
        for path in (file, file.parent, self._folder):
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def _unlink(self, location: str) -> None:
        file = self._folder / location
        # obstore writes to NAME#1 and so on, which a killed process leaves behind.
        for path in (file, *file.parent.glob(f"{file.name}#*")):
            path.unlink(missing_ok=True)


class _Source:
    """What obstore reads: what was gathered already, then the other pieces. Remembers what the source raised.

    The store's time runs while it has a piece, not while the source is making one, which has limits of its own.
    """

    def __init__(self, begun: bytes, pieces: AsyncIterator[Buffer]) -> None:
        self.begun, self._pieces = begun, pieces
        self.failure: Exception | None = None
        self._pulling: asyncio.Future[Buffer | None] | None = None
        self._stopped = False

    def stop(self) -> None:
        """Make the next piece a failure, also the one that is waited for."""
        self._stopped = True
        if self._pulling is not None:
            self._pulling.cancel()

    async def watched(self, watch: asyncio.Timeout, limit_s: float) -> AsyncIterator[Buffer]:
        """Yield everything, and set `watch` by who is being waited for."""
        now = asyncio.get_running_loop().time
        yield self.begun
        self.begun = b""
        try:
            while True:
                watch.reschedule(None)
                self._pulling = asyncio.ensure_future(anext(self._pieces, None))
                piece = await self._pulling
                watch.reschedule(now() + limit_s)
                if self._stopped:
                    raise ConnectionAbortedError
                if piece is None:
                    return
                yield piece
        except asyncio.CancelledError:
            if self._stopped:
                raise ConnectionAbortedError from None
            raise
        except Exception as failure:
            self.failure = failure
            raise


async def _begin(pieces: AsyncIterator[Buffer]) -> tuple[list[Buffer], bool]:
    """Take pieces until they fill a part; also tell whether that was all."""
    begun: list[Buffer] = []
    held = 0
    async for piece in pieces:
        begun.append(piece)
        held += len(piece)
        if held >= PART_BYTES:
            return begun, False
    return begun, True


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """Turn what a store says into a Fault. What it said goes to the log, without query strings: there signatures stand."""
    try:
        yield
    except (BaseError, TimeoutError, OSError, ValueError) as failure:
        said = _QUERY.sub("?...", str(failure).partition("\n\nDebug source")[0])[:500] or type(failure).__name__
        log.warning("the content store failed: %s", said)
        raise Fault(
            FaultKind.UNAVAILABLE, "The store of this resource's content does not answer.", retry_after_s=5
        ) from None


def _remote(content: Content, scheme: str, bucket: str, prefix: str) -> ObjectStore:
    config: dict[str, Any] = _credential(content)
    client: dict[str, Any] = {
        "timeout": timedelta(seconds=content.timeout_s),
        "connect_timeout": timedelta(seconds=min(CONNECT_S, content.timeout_s)),
        "allow_http": content.endpoint.startswith("http://"),
    }
    if content.ca_file:
        client["root_certificate"] = Path(content.ca_file).read_bytes()
    retry: Any = {"max_retries": RETRIES, "retry_timeout": timedelta(seconds=content.timeout_s)}
    options: dict[str, Any] = {"prefix": prefix or None, "client_options": client, "retry_config": retry}
    try:
        match scheme:
            case "s3":
                config |= {"endpoint": content.endpoint} if content.endpoint else {}
                config |= {"region": content.region} if content.region else {}
                return S3Store(bucket, config=config, **options)  # type: ignore[arg-type]
            case "az":
                config |= {"endpoint": content.endpoint} if content.endpoint else {}
                return AzureStore(bucket, config=config, **options)  # type: ignore[arg-type]
            case _:
                config |= {"base_url": content.endpoint} if content.endpoint else {}
                return GCSStore(bucket, config=config, **options)  # type: ignore[arg-type]
    except (BaseError, ValueError, TypeError) as failure:
        raise ValueError(f"content: {type(failure).__name__}: the store does not take these settings") from None


def _credential(content: Content) -> dict[str, Any]:
    if content.credential_env:
        text = os.environ.get(content.credential_env, "").encode()
    elif content.credential_file:
        text = Path(content.credential_file).read_bytes()
    else:
        return {}
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except msgspec.DecodeError:
        named = content.credential_env or content.credential_file
        raise ValueError(f"content: the credential in {named} is not a JSON object") from None
