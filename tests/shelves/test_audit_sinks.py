"""What every sink has to do, whatever it speaks: real receivers on loopback, and deliveries from a log as the audit process makes them.

A new type gets a receiver in tests/factories/receivers.py and a class here, and inherits the tests.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from stockade.audit import delivery
from stockade.audit.delivery import Delivery, Surroundings
from stockade.audit.ledger import LogReader
from stockade.audit.sinks import file
from stockade.audit.sinks.installed import open_sink, types
from stockade.audit.sinks.sink import ResourceLog, Undelivered
from stockade.kernel.clock import SystemClock
from stockade.kernel.record import AuditRecord
from stockade.settings import Sink
from tests.factories.certificates import certificates
from tests.factories.memory_log import MemoryLog
from tests.factories.receivers import Folder, HttpCollector, OtlpCollector, Receiver, SyslogServer

S = "11111111-1111-4111-8111-111111111111"
ACCOUNT = f"/subscriptions/{S}/resourceGroups/Rg/providers/Microsoft.CognitiveServices/accounts/Demo"
MANY = 1200
SECRET = "a-bearer-of-the-receiver"


class Routes:
    """Nothing by settings: these sinks get everything."""

    def logs(self, sink: str) -> tuple[str, ...]:
        return ()

    def wants(self, sink: str, record: Mapping[str, Any]) -> bool:
        return False


def record(number: int, **more: Any) -> AuditRecord:
    known: dict[str, Any] = {
        "time": 1_800_000_000.0 + number,
        "id": f"decision-{number}",
        "category": "RequestResponse",
        "phase": "decision",
        "operation": "ChatCompletions_Create",
        "resource": ACCOUNT,
        "decision": "allow",
        "status": 200,
        "outcome": "success",
    }
    return AuditRecord(**{**known, **more})


def log_of(count: int, name: str = S) -> MemoryLog:
    return MemoryLog(name, [record(number) for number in range(count)])


def around(folder: Path, *logs: MemoryLog) -> Surroundings:
    found: dict[str, LogReader] = {log.name: log for log in logs}
    return Surroundings(folder / "state", lambda: found, Routes, SystemClock(), "local")


@contextlib.asynccontextmanager
async def delivering(configured: Sink, surroundings: Surroundings) -> AsyncIterator[Delivery]:
    made = Delivery(configured, surroundings)
    task = asyncio.create_task(made.run())
    try:
        yield made
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"FIRST_WAIT_S": 0.02, "LONGEST_WAIT_S": 0.1, "POLL_S": 0.02, "REFUSED_WAIT_S": 0.05}.items():
        monkeypatch.setattr(delivery, name, value)
    monkeypatch.setattr(delivery, "GATHER_S", 0.0)


class AnySink:
    """The tests."""

    Kind: type[Receiver]

    @pytest.fixture
    async def receiver(self, tmp_path: Path) -> AsyncIterator[Receiver]:
        made = self.Kind(tmp_path)
        await made.start()
        yield made
        await made.stop()

    def hang(self, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
        receiver.hangs = True

    def recover(self, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
        receiver.hangs = False

    async def test_records_arrive_in_azures_shape_with_their_place(self, receiver: Receiver, tmp_path: Path) -> None:
        said = record(0, reason='a "quoted" ] \\ text\nof two lines, größer als \U0001f30d')
        log = MemoryLog(S, [said])
        async with delivering(receiver.settings(everything=True), around(tmp_path, log)) as made:
            await receiver.until(lambda: made.state.delivered == 1)
        [found] = receiver.records
        assert found["time"] == "2027-01-15T08:00:00.0000000Z"
        assert found["resourceId"] == ACCOUNT.upper()
        assert (found["category"], found["operationName"]) == ("RequestResponse", "ChatCompletions_Create")
        assert (found["resultType"], found["resultSignature"]) == ("Succeeded", "200")
        assert (found["correlationId"], found["level"], found["location"]) == ("decision-0", "Informational", "local")
        assert (found["properties"]["log"], found["properties"]["index"]) == (S, 0)
        assert found["properties"]["reason"] == said.reason

    async def test_many_records_arrive_in_order_of_each_log(self, receiver: Receiver, tmp_path: Path) -> None:
        one, other = log_of(MANY), log_of(30, "platform")
        async with delivering(receiver.settings(everything=True), around(tmp_path, one, other)) as made:
            await receiver.until(lambda: made.state.delivered == MANY + 30)
            one.add(record(MANY))
            made.wanted.set()
            await receiver.until(lambda: made.state.delivered == MANY + 31)
        assert receiver.indexes(S) == list(range(MANY + 1))
        assert receiver.indexes("platform") == list(range(30))
        assert len(receiver.records) == MANY + 31

    async def test_an_outage_loses_nothing(self, receiver: Receiver, tmp_path: Path) -> None:
        log = log_of(20)
        async with delivering(receiver.settings(everything=True), around(tmp_path, log)) as made:
            await receiver.until(lambda: made.state.delivered == 20)
            await receiver.stop()
            log.add(*(record(number) for number in range(20, 40)))
            made.wanted.set()
            await receiver.until(lambda: made.state.last_error)
            assert made.state.failing_since
            assert made.state.behind == 20
            assert made.state.logs[S].waiting_since == record(20).time
            await receiver.start()
            await receiver.until(lambda: made.state.delivered >= 40)
        assert receiver.indexes(S) == list(range(40))
        assert made.state.failing_since == 0
        assert made.state.logs[S].waiting_since == 0

    async def test_one_that_hangs_is_given_up_in_time_and_tried_again(
        self, receiver: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.hang(receiver, monkeypatch)
        log = MemoryLog(S, [record(number, reason="x" * 20_000) for number in range(100)])
        configured = receiver.settings(everything=True, timeout_s=0.6)
        async with delivering(configured, around(tmp_path, log)) as made:
            await receiver.until(lambda: made.state.last_error)
            assert "in time" in made.state.last_error
            self.recover(receiver, monkeypatch)
            await receiver.until(lambda: made.state.delivered == 100)
        assert receiver.indexes(S) == list(range(100))

    async def test_a_restart_goes_on_where_it_had_got_to(self, receiver: Receiver, tmp_path: Path) -> None:
        log, configured = log_of(20), receiver.settings(everything=True)
        async with delivering(configured, around(tmp_path, log)) as made:
            await receiver.until(lambda: kept(configured, tmp_path).delivered == 20)
        log.add(record(20))
        async with delivering(configured, around(tmp_path, log)) as made:
            await receiver.until(lambda: made.state.delivered == 21)
        assert [one["properties"]["index"] for one in receiver.records] == list(range(21))

    async def test_a_crash_before_the_cursor_is_kept_sends_again(
        self, receiver: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def crash(path: Path, data: bytes) -> None:
            raise KeyboardInterrupt  # nothing in there catches it: as good as a kill

        log, configured = log_of(20), receiver.settings(everything=True)
        with monkeypatch.context() as patch:
            patch.setattr(delivery, "save", crash)
            patch.setattr(asyncio, "to_thread", _at_once)
            killed = Delivery(configured, around(tmp_path, log))
            with pytest.raises(KeyboardInterrupt):
                await killed._batch(S, log, _sized(killed, log), None)
            assert killed._sink is not None
            await killed._sink.close()
        await receiver.until(lambda: len(receiver.indexes(S)) == 20)
        async with delivering(configured, around(tmp_path, log)) as made:
            await receiver.until(lambda: made.state.delivered == 20)
            await receiver.until(lambda: len(receiver.records) == 40)
        assert receiver.indexes(S) == list(range(20))

    async def test_its_state_can_be_read_by_another_process(self, receiver: Receiver, tmp_path: Path) -> None:
        configured = receiver.settings(everything=True)
        async with delivering(configured, around(tmp_path, log_of(5))):
            await receiver.until(lambda: kept(configured, tmp_path).delivered == 5)
        state = kept(configured, tmp_path)
        assert (state.name, state.type, state.delivered, state.behind) == (configured.name, configured.type, 5, 0)
        assert state.last_success > 0
        assert "token" not in state.address


class OverTls(AnySink):
    """And what those have to do that speak TLS."""

    async def test_a_stranger_gets_nothing(self, tmp_path: Path) -> None:
        receiver = self.Kind(tmp_path)
        await receiver.start(certificates(tmp_path / "stranger"))
        try:
            async with delivering(receiver.settings(everything=True), around(tmp_path, log_of(3))) as made:
                await receiver.until(lambda: made.state.last_error)
            assert "does not prove who it is" in made.state.last_error
            assert receiver.records == []
            assert made.state.delivered == 0
        finally:
            await receiver.stop()

    async def test_another_hosts_certificate_gets_nothing(self, tmp_path: Path) -> None:
        receiver = self.Kind(tmp_path)
        receiver.certificates = elsewhere = certificates(
            tmp_path / "elsewhere", names=("elsewhere.example",), addresses=()
        )
        await receiver.start(elsewhere)
        try:
            with pytest.raises(Undelivered, match="does not prove who it is"):
                await open_sink(receiver.settings()).deliver(batch(1))
            assert receiver.records == []
        finally:
            await receiver.stop()

    async def test_an_authority_that_cannot_be_read_is_said(self, receiver: Receiver, tmp_path: Path) -> None:
        missing = tmp_path / "missing.pem"
        with pytest.raises(Undelivered, match=str(missing)):
            await open_sink(receiver.settings(ca_file=str(missing))).deliver(batch(1))


class OverHttp(OverTls):
    """And what those have to do that speak HTTP."""

    async def test_a_credential_goes_along_and_nowhere_else(
        self, receiver: HttpCollector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setenv("RECEIVER_TOKEN", SECRET)
        receiver.answers = ["403 Forbidden"]
        configured = receiver.settings(everything=True, credential_env="RECEIVER_TOKEN")
        async with delivering(configured, around(tmp_path, log_of(3))) as made:
            await receiver.until(lambda: made.state.last_error)
            assert "403" in made.state.last_error
            await receiver.until(lambda: made.state.delivered == 3)
        assert {head["authorization"] for _, head in receiver.heads} == {f"Bearer {SECRET}"}
        kept = "".join(path.read_text() for path in (tmp_path / "state").iterdir())
        assert SECRET not in kept + caplog.text + made.state.last_error
        assert "in-the-query" not in kept + caplog.text

    async def test_a_renewed_credential_is_used(self, receiver: HttpCollector, tmp_path: Path) -> None:
        token = tmp_path / "token"
        sink = open_sink(receiver.settings(credential_file=str(token)))
        with pytest.raises(Undelivered, match="cannot be read"):
            await sink.deliver(batch(1))
        for value in ("first", "second"):
            token.write_text(value + "\n")
            await sink.deliver(batch(1))
        await sink.close()
        assert [head["authorization"] for _, head in receiver.heads] == ["Bearer first", "Bearer second"]

    async def test_an_answer_that_never_ends_is_given_up_in_time(self, receiver: HttpCollector) -> None:
        receiver.drips = True
        with pytest.raises(Undelivered, match="in time"):
            await open_sink(receiver.settings(timeout_s=0.3)).deliver(batch(1))
        receiver.drips = False

    async def test_redirects_are_not_followed(self, receiver: HttpCollector) -> None:
        receiver.answers = [f"307 Temporary Redirect\r\nlocation: https://localhost:{receiver.port}/other"]
        with pytest.raises(Undelivered, match="redirects are not followed"):
            await open_sink(receiver.settings()).deliver(batch(1))
        assert len(receiver.heads) == 1

    async def test_retry_after_is_honoured(self, receiver: HttpCollector) -> None:
        receiver.answers = [
            "429 Too Many Requests\r\nretry-after: 7",
            "503 Service Unavailable\r\nretry-after: Fri, 01 Jan 2100 00:00:00 GMT",
            "503 Service Unavailable",
            "400 Bad Request",
            "413 Content Too Large",
        ]
        sink, found = open_sink(receiver.settings()), []
        for _ in range(5):
            with pytest.raises(Undelivered) as caught:
                await sink.deliver(batch(1))
            found.append((caught.value.again_s, caught.value.refused, caught.value.too_large))
        assert found == [
            (7.0, False, False),
            (3600.0, False, False),
            (None, False, False),
            (None, True, False),
            (None, True, True),
        ]
        await sink.close()

    async def test_what_is_too_large_is_sent_in_smaller_pieces(self, receiver: HttpCollector, tmp_path: Path) -> None:
        receiver.answers = ["413 Content Too Large"] * 3
        async with delivering(receiver.settings(everything=True), around(tmp_path, log_of(500))) as made:
            await receiver.until(lambda: made.state.delivered == 500)
        assert receiver.batches[0] == 500 // 8
        assert receiver.indexes(S) == list(range(500))

    async def test_a_log_that_is_refused_keeps_no_other_from_arriving(
        self, receiver: HttpCollector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(delivery, "REFUSED_WAIT_S", 60.0)
        receiver.answers = ["400 Bad Request"]
        refused, other = log_of(3), log_of(3, "platform")
        async with delivering(receiver.settings(everything=True), around(tmp_path, refused, other)) as made:
            await receiver.until(lambda: made.state.delivered == 3)
            assert made.state.logs[S].next == 0
            assert made.state.failing_since == 0
        assert receiver.indexes("platform") == [0, 1, 2]


class TestFile(AnySink):
    Kind = Folder

    def hang(self, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
        self.goes_on = threading.Event()

        def slow(path: Path, data: bytes) -> None:
            self.goes_on.wait(10)
            _append(path, data)

        monkeypatch.setattr(file, "append_durably", slow)

    def recover(self, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
        self.goes_on.set()

    async def test_files_are_rotated_and_the_oldest_removed(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(file, "KEEP_FILES", 2)
        sink = file.FileSink(Sink(name="out", type="file", url=f"file://{tmp_path}/a%20b"), rotate_bytes=10)
        for number in range(5):
            await sink.deliver(batch(1, first=number))
        names = sorted(path.name for path in (tmp_path / "a b").iterdir())
        assert names == ["out-00000003.jsonl", "out-00000004.jsonl", "out.jsonl"]

    async def test_half_a_line_is_ended(self, receiver: Folder) -> None:
        receiver.path.mkdir(parents=True)
        (receiver.path / "out.jsonl").write_bytes(b'{"half":')
        await open_sink(receiver.settings()).deliver(batch(1))
        lines = (receiver.path / "out.jsonl").read_text().splitlines()
        assert lines[0] == '{"half":'
        assert json.loads(lines[1])["n"] == 0


class TestHttp(OverHttp):
    Kind = HttpCollector

    async def test_batches_are_bounded(self, receiver: HttpCollector, tmp_path: Path) -> None:
        large = MemoryLog(S, [record(number, reason="x" * 100_000) for number in range(30)])
        async with delivering(receiver.settings(everything=True), around(tmp_path, large)) as made:
            await receiver.until(lambda: made.state.delivered == 30)
        assert max(receiver.batches) <= delivery.MOST_BYTES // 100_000


class TestOtlp(OverHttp):
    Kind = OtlpCollector

    async def test_a_record_is_an_azure_resource_log_event(self, receiver: OtlpCollector, tmp_path: Path) -> None:
        log = MemoryLog(S, [record(0), record(1, status=403, decision="deny")])
        async with delivering(receiver.settings(everything=True), around(tmp_path, log)) as made:
            await receiver.until(lambda: made.state.delivered == 2)
        [request] = receiver.requests
        [resource] = request.resource_logs
        about = {one.key: one.value.string_value for one in resource.resource.attributes}
        assert about == {"service.name": "stockade", "cloud.resource_id": ACCOUNT.upper()}
        allowed, denied = resource.scope_logs[0].log_records
        assert (allowed.event_name, allowed.time_unix_nano) == ("azure.resource.log", 1_800_000_000 * 10**9)
        assert (allowed.severity_number, denied.severity_number, denied.severity_text) == (9, 13, "Warning")
        attributes = {one.key: one.value for one in denied.attributes}
        assert attributes["azure.service.request.id"].string_value == "decision-1"
        assert attributes["stockade.index"].int_value == 1

    async def test_records_that_the_receiver_throws_away_are_said(
        self, receiver: OtlpCollector, caplog: pytest.LogCaptureFixture
    ) -> None:
        receiver.rejects = 1
        await open_sink(receiver.settings()).deliver(batch(2))
        assert "thrown audit records away" in caplog.text

    def test_without_the_extra_it_says_how_to_install_it(
        self, receiver: OtlpCollector, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(__import__("sys").modules, "opentelemetry.proto.logs.v1.logs_pb2", None)
        with pytest.raises(Undelivered, match=r"stockade\[opentelemetry\]"):
            open_sink(receiver.settings())


class TestSyslog(OverTls):
    Kind = SyslogServer

    async def test_messages_say_where_their_record_stands(self, receiver: SyslogServer, tmp_path: Path) -> None:
        log = MemoryLog(S, [record(0, id='a"b]c\\d'), record(1, status=503), record(2, decision="deny", status=403)])
        async with delivering(receiver.settings(everything=True), around(tmp_path, log)) as made:
            await receiver.until(lambda: made.state.delivered == 3 and len(receiver.messages) == 3)
        first = receiver.messages[0]
        assert [int(one["priority"]) for one in receiver.messages] == [13 * 8 + 6, 13 * 8 + 3, 13 * 8 + 4]
        assert (first["time"], first["app"], first["id"]) == (
            b"2027-01-15T08:00:00.000000Z",
            b"stockade",
            b"RequestResponse",
        )
        assert first["data"].startswith(b'[stockade@32473 log="%s" index="0" decision="a\\"b\\]c\\\\d"' % S.encode())
        assert first["text"].isascii()

    async def test_a_batch_that_may_have_been_lost_with_its_connection_is_sent_again(
        self, receiver: SyslogServer, tmp_path: Path
    ) -> None:
        sink = open_sink(receiver.settings())
        await sink.deliver(batch(1))
        await receiver.until(lambda: len(receiver.records) == 1)
        await receiver.stop()
        await receiver.start()
        await sink.deliver(batch(1, first=1))
        await receiver.until(lambda: len(receiver.records) == 3)
        assert [one["n"] for one in receiver.records] == [0, 0, 1]
        await sink.close()


def test_every_type_of_the_settings_is_there_and_is_tested() -> None:
    wanted = set(msgspec.inspect.type_info(Sink).fields[1].type.values)  # type: ignore[attr-defined]
    assert {one.name for one in types()} == wanted
    tested = {"file": TestFile, "http": TestHttp, "otlp": TestOtlp, "syslog": TestSyslog}
    assert tested.keys() == wanted


def batch(count: int, first: int = 0) -> list[ResourceLog]:
    return [
        ResourceLog(S, number, 1.8e9, "Informational", "Audit", f"d{number}", ACCOUNT, b'{"n":%d}' % number)
        for number in range(first, first + count)
    ]


def kept(configured: Sink, folder: Path) -> delivery.SinkState:
    """Return what another process reads of a sink."""
    [state] = delivery.states(folder / "state", [configured])
    return state


_append = file.append_durably


async def _at_once(work: Any, *arguments: Any) -> Any:
    return work(*arguments)


def _sized(made: Delivery, log: MemoryLog) -> delivery.LogPlace:
    place = made.state.logs.setdefault(log.name, delivery.LogPlace())
    place.size = log.size
    return place
