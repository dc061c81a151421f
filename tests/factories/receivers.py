"""Where audit records arrive: servers on loopback that speak what sinks speak, written from RFCs and specifications alone, well behaved or not."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse

from stockade.settings import Sink
from tests.factories.certificates import Certificates, certificates

WITHIN_S = 10.0
SYSLOG = re.compile(
    rb"<(?P<priority>\d{1,3})>1 (?P<time>\S+) (?P<host>\S{1,255}) (?P<app>\S{1,48}) (?P<process>\S{1,128}) (?P<id>\S{1,32}) "
    rb'(?P<data>-|(?:\[[^ \]="]+(?: [^ \]="]+="(?:[^"\\\]]|\\["\\\]])*")*\])+) (?P<text>.*)',
    re.DOTALL,
)
"""RFC 5424 section 6."""


class Receiver:
    """Keeps what it is sent. hangs: takes and never answers. It can be stopped, and started again on the same port."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.certificates: Certificates = certificates(folder / "tls")
        self.records: list[dict[str, Any]] = []
        self.hangs = False
        self.port = 0
        self.changed = asyncio.Event()
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    def settings(self, name: str = "out", **more: Any) -> Sink:
        raise NotImplementedError

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        raise NotImplementedError

    async def start(self, shown: Certificates | None = None) -> None:
        """Listen. shown: the certificate, where it is not the one that the settings trust."""
        context = (shown or self.certificates).server_context()
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, ssl=context)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in tuple(self._writers):
            writer.transport.abort()
        await asyncio.sleep(0)

    def take(self, record: dict[str, Any]) -> None:
        self.records.append(record)
        self.changed.set()

    async def until(self, condition: Callable[[], object]) -> None:
        """Return when something holds; it is asked whenever something arrives."""
        async with asyncio.timeout(WITHIN_S):
            while not condition():
                self.changed.clear()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self.changed.wait(), 0.05)  # what is on disk tells nobody

    def indexes(self, log: str) -> list[int]:
        """Return the places of one log in the order in which they first arrived."""
        places = [one["properties"]["index"] for one in self.records if one["properties"]["log"] == log]
        return list(dict.fromkeys(places))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            await self.serve(reader, writer)
        except (OSError, asyncio.IncompleteReadError, ssl.SSLError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()


class HttpCollector(Receiver):
    """Takes JSON arrays. answers: first lines and headers to give instead of 200, one a request. drips: it answers, and never gets to an end."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.answers: list[str] = []
        self.drips = False
        self.heads: list[tuple[str, dict[str, str]]] = []
        self.batches: list[int] = []

    def settings(self, name: str = "out", **more: Any) -> Sink:
        known = {"timeout_s": 1.0, "ca_file": str(self.certificates.authority), **more}
        return Sink(name=name, type="http", url=f"https://localhost:{self.port}/in?token=in-the-query", **known)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            first, *lines = head.rstrip().split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
            body = await reader.readexactly(int(headers["content-length"]))
            self.heads.append((first, headers))
            self.changed.set()
            if self.hangs:
                await reader.read()
                return
            if self.drips:
                writer.write(b"HTTP/1.1 200 OK\r\nx: ")
            while self.drips:
                writer.write(b"y")
                await writer.drain()
                await asyncio.sleep(0.02)
            if self.answers:
                answer, reply = self.answers.pop(0), b""
            else:
                answer, reply = self.accept(body)
            if not answer:
                return
            head = f"HTTP/1.1 {answer}\r\ncontent-length: {len(reply)}\r\n\r\n"
            writer.write(head.encode() + reply)
            await writer.drain()

    def accept(self, body: bytes) -> tuple[str, bytes]:
        records = json.loads(body)
        self.batches.append(len(records))
        for record in records:
            self.take(record)
        return "200 OK", b""


class OtlpCollector(HttpCollector):
    """Takes OpenTelemetry's logs in protobuf. rejects: how many it says it has thrown away."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.rejects = 0
        self.requests: list[ExportLogsServiceRequest] = []

    def settings(self, name: str = "out", **more: Any) -> Sink:
        known = {"timeout_s": 1.0, "ca_file": str(self.certificates.authority), **more}
        return Sink(name=name, type="otlp", url=f"https://localhost:{self.port}/v1/logs", **known)

    def accept(self, body: bytes) -> tuple[str, bytes]:
        request = ExportLogsServiceRequest.FromString(body)
        self.requests.append(request)
        found = [
            plain(record.body)
            for resource in request.resource_logs
            for scope in resource.scope_logs
            for record in scope.log_records
        ]
        self.batches.append(len(found))
        for record in found:
            self.take(record)
        response = ExportLogsServiceResponse()
        if self.rejects:
            response.partial_success.rejected_log_records = self.rejects
            response.partial_success.error_message = "too old"
        return "200 OK\r\ncontent-type: application/x-protobuf", response.SerializeToString()


class SyslogServer(Receiver):
    """Takes RFC 5424 messages, framed as RFC 5425 says."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.messages: list[dict[str, bytes]] = []

    def settings(self, name: str = "out", **more: Any) -> Sink:
        known = {"timeout_s": 1.0, "ca_file": str(self.certificates.authority), **more}
        return Sink(name=name, type="syslog", url=f"tls://localhost:{self.port}", **known)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.hangs:
            writer.transport.pause_reading()  # type: ignore[attr-defined]
            while self.hangs:  # noqa: ASYNC110 - the test says when it ends
                await asyncio.sleep(0.01)
            return
        while True:
            length = (await reader.readuntil(b" ")).decode("ascii").rstrip(" ")
            assert re.fullmatch(r"[1-9][0-9]*", length), length
            text = await reader.readexactly(int(length))
            found = SYSLOG.fullmatch(text)
            assert found is not None, text
            self.messages.append(found.groupdict())
            self.take(json.loads(found["text"]))


class Folder(Receiver):
    """A folder, read as somebody reads it who tails files: every line, in the order of the rotated files."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.path = folder / "out" / "here"
        self._name = "out"

    def settings(self, name: str = "out", **more: Any) -> Sink:
        self._name = name
        return Sink(name=name, type="file", url=f"file://{self.path}", **{"timeout_s": 1.0, **more})

    async def start(self, shown: Certificates | None = None) -> None:
        if self.path.parent.is_file():
            self.path.parent.unlink()

    async def stop(self) -> None:
        """Put something into its place that is no folder; what had been written is elsewhere then."""
        if self.path.parent.is_dir() and not (self.folder / "kept").exists():
            self.path.rename(self.folder / "kept")
            self.path.parent.rmdir()
            self.path.parent.write_text("no folder")

    @property
    def records(self) -> list[dict[str, Any]]:
        files = [
            file
            for place in (self.folder / "kept", self.path)
            if not self.path.parent.is_file() or place != self.path
            for file in (*sorted(place.glob(f"{self._name}-*.jsonl")), place / f"{self._name}.jsonl")
        ]
        return [json.loads(line) for file in files if file.exists() for line in file.read_text().splitlines()]

    @records.setter
    def records(self, value: list[dict[str, Any]]) -> None:
        assert not value


def plain(value: Any) -> Any:
    """Return an AnyValue of OpenTelemetry's as JSON has it."""
    match value.WhichOneof("value"):
        case "kvlist_value":
            return {one.key: plain(one.value) for one in value.kvlist_value.values}
        case "array_value":
            return [plain(one) for one in value.array_value.values]
        case None:
            return None
        case name:
            return getattr(value, name)
