"""The backend says what the load generator counts."""

import asyncio
import json
import re

import httptools
import pytest

from benchmarks.backend import Backend, answer, events
from benchmarks.workload import CHAT, EVENTS, MARKER, PACED, STREAM, Workload


def test_answer_carries_the_marker_once() -> None:
    assert answer().count(MARKER.encode()) == CHAT.markers == 1


def test_every_event_is_json_and_carries_the_marker_once() -> None:
    *content, done = events()
    assert done == b"data: [DONE]\n\n"
    assert len(content) == EVENTS
    for event in content:
        assert event.count(MARKER.encode()) == 1
        assert json.loads(event.removeprefix(b"data: "))["object"] == "chat.completion.chunk"


class _Reply:
    def __init__(self) -> None:
        self.body, self.whole = b"", asyncio.Event()

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.whole.set()


@pytest.mark.parametrize("workload", [CHAT, STREAM, PACED], ids=lambda workload: workload.name)
async def test_two_requests_on_one_connection_are_answered_whole(workload: Workload) -> None:
    server = await asyncio.get_running_loop().create_server(Backend, "127.0.0.1", 0)
    async with server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        for _ in range(2):
            body = workload.body.encode()
            writer.write(b"POST /v1/chat/completions HTTP/1.1\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))
            reply = _Reply()
            parser = httptools.HttpResponseParser(reply)
            while not reply.whole.is_set():
                parser.feed_data(await asyncio.wait_for(reader.read(65536), 10))
            assert parser.get_status_code() == 200
            assert reply.body.count(MARKER.encode()) == workload.markers
            assert bool(re.search(rb"data: \[DONE\]\n\n$", reply.body)) == workload.streamed
        writer.close()
        await writer.wait_closed()
