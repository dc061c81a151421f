"""What every object store has to do, whoever made it. A new kind of store gets a class here and inherits the tests.

Google Cloud Storage has no stand-in here: tests/unit/content/test_objects.py shows that it is configured, no more.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hmac
import os
import signal
import socket
import subprocess
import threading
from collections.abc import AsyncIterator, Iterator
from email.utils import formatdate
from pathlib import Path
from typing import Any

import httpx
import pytest

from stockade.content.format import BATCH, SEGMENT_BYTES, Buffers, DamagedError
from stockade.content.objects import PART_BYTES, Bodies, MissingError, new_location, open_bodies
from stockade.kernel.faults import Fault, FaultKind
from stockade.settings import Content, Settings
from tests import outside

ACCOUNT_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""Azurite's, which everybody knows."""
KIB = 1024


async def give(data: bytes, size: int = 512 * KIB) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


async def whole(bodies: Bodies, location: str, size: int) -> bytes:
    return bytes(await bodies.get(location, 0, size, size))


class ObjectStore:
    """The tests. `leftovers` returns what of unfinished writing the store still has, or None where it cannot be asked."""

    @pytest.fixture
    def settings(self, tmp_path: Path) -> Settings:
        raise NotImplementedError

    @pytest.fixture
    def bodies(self, settings: Settings) -> Bodies:
        return open_bodies(settings)

    async def leftovers(self, settings: Settings) -> list[str]:
        raise NotImplementedError

    @pytest.mark.parametrize("size", [0, 1, 3 * KIB, PART_BYTES - 1, PART_BYTES, 2 * PART_BYTES + 5])
    async def test_what_was_put_is_got(self, bodies: Bodies, settings: Settings, size: int) -> None:
        location, data = new_location(), os.urandom(size)
        await bodies.put(location, give(data))
        if size:
            assert await whole(bodies, location, size) == data
            assert bytes(await bodies.get(location, size - 1, size, size)) == data[-1:]
            middle = size // 2
            assert (
                bytes(await bodies.get(location, middle, min(size, middle + 100), size)) == data[middle : middle + 100]
            )
        assert await self.leftovers(settings) == []

    async def test_room_is_used_again_only_when_the_store_has_let_go_of_it(self, bodies: Bodies) -> None:
        buffers, parts, size = Buffers(), 10, BATCH * SEGMENT_BYTES

        async def fill() -> AsyncIterator[memoryview]:
            for number in range(parts):
                room = buffers.take(BATCH)
                room[:] = bytes([number]) * size
                yield memoryview(room)

        location = new_location()
        await bodies.put(location, fill())
        for number in range(parts):
            data = await bodies.get(location, number * size, (number + 1) * size, parts * size)
            assert data == bytes([number]) * size, number

    async def test_a_body_of_another_size_is_noticed(self, bodies: Bodies) -> None:
        location = new_location()
        await bodies.put(location, give(bytes(1000)))
        for start, end, size in [(0, 1001, 1001), (0, 10, 1001), (0, 10, 999), (990, 1010, 1010), (2000, 2010, 3000)]:
            with pytest.raises(DamagedError):
                await bodies.get(location, start, end, size)

    async def test_what_is_not_there_is_missing_and_deleted_in_peace(self, bodies: Bodies) -> None:
        location = new_location()
        with pytest.raises(MissingError):
            await bodies.get(location, 0, 10, 10)
        await bodies.delete(location)
        await bodies.put(location, give(b"x" * 10))
        await bodies.delete(location)
        await bodies.delete(location)
        with pytest.raises(MissingError):
            await bodies.get(location, 0, 10, 10)

    @pytest.mark.parametrize("after", [0, 100, 3 * PART_BYTES], ids=["begin", "small", "large"])
    async def test_what_breaks_off_is_not_there(self, bodies: Bodies, settings: Settings, after: int) -> None:
        async def breaks() -> AsyncIterator[bytes]:
            async for piece in give(bytes(after)):
                yield piece
            raise Fault(FaultKind.TIMEOUT, "The caller was too slow.")

        location = new_location()
        with pytest.raises(Fault) as caught:
            await bodies.put(location, breaks())
        assert caught.value.kind is FaultKind.TIMEOUT
        await bodies.delete(location)
        with pytest.raises(MissingError):
            await bodies.get(location, 0, 10, 10)
        assert await self.leftovers(settings) == []

    @pytest.mark.parametrize("after", [100, 3 * PART_BYTES], ids=["small", "large"])
    async def test_what_is_cancelled_is_not_there(self, bodies: Bodies, settings: Settings, after: int) -> None:
        waits = asyncio.Event()

        async def stalls() -> AsyncIterator[bytes]:
            async for piece in give(bytes(after)):
                yield piece
            waits.set()
            await asyncio.Event().wait()

        location = new_location()
        putting = asyncio.create_task(bodies.put(location, stalls()))
        await waits.wait()
        putting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await putting
        with pytest.raises(MissingError):
            await bodies.get(location, 0, 10, 10)
        assert await self.leftovers(settings) == []


class TestLocalFiles(ObjectStore):
    @pytest.fixture
    def settings(self, tmp_path: Path) -> Settings:
        return Settings(data_dir=tmp_path)

    async def leftovers(self, settings: Settings) -> list[str]:
        return [path.name for path in settings.data_dir.rglob("*#*")]

    async def test_nobody_else_can_look_into_the_folder(self, bodies: Bodies, settings: Settings) -> None:
        assert (settings.data_dir / "content").stat().st_mode & 0o077 == 0

    async def test_writing_waits_for_the_disk(self, bodies: Bodies, settings: Settings) -> None:
        """Of a long body no more than a few parts are taken ahead of the store."""
        location, ahead = new_location(), 0
        written = settings.data_dir / "content" / f"{location}#1"

        async def count() -> AsyncIterator[bytes]:
            nonlocal ahead
            for number in range(24):
                ahead = max(ahead, number * PART_BYTES - (written.stat().st_size if written.exists() else 0))
                yield bytes(PART_BYTES)

        await bodies.put(location, count())
        assert ahead <= 4 * PART_BYTES

    async def test_what_a_killed_writer_left_goes_with_the_object(self, bodies: Bodies, settings: Settings) -> None:
        location = new_location()
        await bodies.put(location, give(b"x"))
        left = settings.data_dir / "content" / f"{location}#1"
        left.write_bytes(b"half")
        await bodies.delete(location)
        assert [path for path in settings.data_dir.rglob("*") if path.is_file()] == []


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    from moto.server import ThreadedMotoServer  # a second to import, for whoever runs it

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


def s3_client(endpoint: str) -> Any:
    import boto3

    credential = {"aws_access_key_id": "k", "aws_secret_access_key": "s"}
    return boto3.client("s3", endpoint_url=endpoint, region_name="eu-west-1", **credential)


class TestS3(ObjectStore):
    @pytest.fixture
    def client(self, s3: str) -> Any:
        return s3_client(s3)

    @pytest.fixture
    def settings(self, tmp_path: Path, s3: str, client: Any) -> Settings:
        with contextlib.suppress(client.exceptions.BucketAlreadyOwnedByYou):
            client.create_bucket(Bucket="kept", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
        credential = tmp_path / "credential.json"
        credential.write_text('{"access_key_id": "k", "secret_access_key": "s"}')
        content = Content(
            url="s3://kept/some/prefix", endpoint=s3, region="eu-west-1", credential_file=str(credential), timeout_s=10
        )
        return Settings(data_dir=tmp_path, content=content)

    async def leftovers(self, settings: Settings) -> list[str]:
        client = s3_client(settings.content.endpoint)
        uploads = await asyncio.to_thread(client.list_multipart_uploads, Bucket="kept")
        return [upload["Key"] for upload in uploads.get("Uploads", [])]

    async def test_everything_is_below_the_prefix(self, bodies: Bodies, client: Any) -> None:
        location = new_location()
        await bodies.put(location, give(b"x"))
        keys = [entry["Key"] for entry in client.list_objects_v2(Bucket="kept")["Contents"]]
        assert f"some/prefix/{location}" in keys
        assert all(key.startswith("some/prefix/") for key in keys)


@pytest.fixture(scope="module")
def azurite() -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    script = outside.ROOT / "tests/clients/node/node_modules/azurite/dist/src/blob/main.js"
    flags = ("--skipApiVersionCheck", "--inMemoryPersistence", "--extentMemoryLimit", "512", "--disableTelemetry")
    server = subprocess.Popen(
        [outside.program("node"), script, "--blobHost", "127.0.0.1", "--blobPort", str(port), *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        assert server.stdout is not None
        assert any("successfully listens" in line for line in server.stdout)
        log = threading.Thread(target=server.stdout.read)
        log.start()
        yield f"http://127.0.0.1:{port}/devstoreaccount1"
    finally:
        os.killpg(server.pid, signal.SIGKILL)  # asked to end, it waits for our client's idle connections
        server.wait(timeout=20)
    log.join(timeout=20)
    server.stdout.close()


def create_container(endpoint: str, name: str) -> None:
    """Do what no object store client does. Source: Microsoft's "Authorize with Shared Key"."""
    account = endpoint.rpartition("/")[2]
    headers = {"x-ms-date": formatdate(usegmt=True), "x-ms-version": "2021-12-02"}
    lines = "".join(f"{header}:{value}\n" for header, value in sorted(headers.items()))
    signed = f"PUT{chr(10) * 12}{lines}/{account}/{account}/{name}\nrestype:container"
    digest = hmac.digest(base64.b64decode(ACCOUNT_KEY), signed.encode(), "sha256")
    headers["Authorization"] = f"SharedKey {account}:{base64.b64encode(digest).decode()}"
    answer = httpx.put(f"{endpoint}/{name}?restype=container", headers=headers)
    assert answer.status_code in {201, 409}, answer.text


@pytest.mark.node
class TestAzureBlob(ObjectStore):
    @pytest.fixture
    def settings(self, tmp_path: Path, azurite: str) -> Settings:
        create_container(azurite, "kept")
        credential = tmp_path / "credential.json"
        credential.write_text(f'{{"account_name": "devstoreaccount1", "account_key": "{ACCOUNT_KEY}"}}')
        content = Content(url="az://kept/prefix", endpoint=azurite, credential_file=str(credential), timeout_s=10)
        return Settings(data_dir=tmp_path, content=content)

    async def leftovers(self, settings: Settings) -> list[str]:
        return []  # blocks that were never committed are nobody's blob, and Azure drops them after a week
