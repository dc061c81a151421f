"""The jobs process killed in the middle of a batch: taken up again, and every line stands in the output exactly once."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from openai import AzureOpenAI

from tests.factories.azure import API_VERSION
from tests.live import Live, StartServer, wait_for

LINES = 200


class CountingEngine:
    """Answers chat completions, each after a moment, and counts how often each text was asked."""

    def __init__(self, delay_s: float) -> None:
        self.asked: Counter[str] = Counter()
        self.port = 0
        self._delay_s = delay_s
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        self._ready.wait()

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self) -> None:
        server = self._loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        self._loop.run_forever()
        server.close()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                length = int(head.split(b"content-length:", 1)[1].split(b"\r\n", 1)[0])
                said = json.loads(await reader.readexactly(length))["messages"][0]["content"]
                self.asked[said] += 1
                await asyncio.sleep(self._delay_s)
                message = {"role": "assistant", "content": f"echo {said}"}
                usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
                choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
                body = json.dumps({"object": "chat.completion", "choices": choices, "usage": usage}).encode()
                head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
                writer.write(head + body)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()


@pytest.fixture
def engine() -> Iterator[CountingEngine]:
    engine = CountingEngine(0.03)
    yield engine
    engine.close()


def client_of(live: Live) -> AzureOpenAI:
    account = live.account("demo-openai")
    return AzureOpenAI(
        azure_endpoint=account["AZURE_OPENAI_ENDPOINT"],
        api_key=account["AZURE_OPENAI_API_KEY"],
        api_version=API_VERSION,
        max_retries=0,
        timeout=30,
    )


def jobs_process(live: Live) -> int | None:
    """Return the pid of the jobs process; None while there is none."""
    found = subprocess.run(
        ["ps", "--ppid", str(live.pid), "-o", "pid=,args="], capture_output=True, text=True, check=False
    ).stdout
    pids = [int(line.split()[0]) for line in found.splitlines() if "stockade.serve.jobs" in line]
    return pids[0] if pids else None


def test_a_killed_jobs_process_is_taken_up_and_no_line_is_twice_in_the_output(
    live_server: StartServer, engine: CountingEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = f"""
[[models]]
name = "smollm2-135m-instruct"
version = "1"
upstream = {{ url = "http://127.0.0.1:{engine.port}/v1" }}
"""
    live = live_server("--workers", "1", settings=settings)
    for name, value in live.environment.items():
        monkeypatch.setenv(name, value)
    body = [{"role": "user", "content": ""}]
    rows = []
    for number in range(LINES):
        said = {"model": "chat", "messages": [{**body[0], "content": f"canary {number}"}]}
        rows.append({"custom_id": f"c{number}", "method": "POST", "url": "/chat/completions", "body": said})
    text = "\n".join(json.dumps(row) for row in rows).encode()
    with client_of(live) as client:
        file = client.files.create(file=("in.jsonl", text), purpose="batch")
        batch = client.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")

        def counted(least: int) -> Any:
            found = client.batches.retrieve(batch.id)
            return found.request_counts is not None and found.request_counts.completed >= least

        wait_for(lambda: counted(60), "some lines are answered")
        os.kill(wait_for(lambda: jobs_process(live), "the jobs process runs"), signal.SIGKILL)

        def ended() -> Any:
            found = client.batches.retrieve(batch.id)
            return found if found.status not in ("validating", "in_progress", "finalizing") else None

        found = wait_for(ended, "the batch has ended", 60)
        assert found.status == "completed"
        assert (found.request_counts.total, found.request_counts.completed, found.request_counts.failed) == (
            LINES,
            LINES,
            0,
        )
        output = [json.loads(row) for row in client.files.content(found.output_file_id).iter_lines()]
    assert sorted(row["custom_id"] for row in output) == sorted(row["custom_id"] for row in rows)
    assert found.error_file_id is None
    # What was not kept yet when the process was killed is asked again, and nothing else.
    assert set(engine.asked.values()) <= {1, 2}
    assert sum(engine.asked.values()) <= LINES + 64 + 4
    assert not holding(live.data_dir, b"canary 7"), "what a line says is on disk in the clear"


def holding(folder: Path, text: bytes) -> list[str]:
    return [str(path) for path in folder.rglob("*") if path.is_file() and text in path.read_bytes()]
