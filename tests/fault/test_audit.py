"""The audit log of a real platform whose processes are killed: nothing that was answered is missing, nothing is there twice, in order."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import ssl
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from stockade.audit.ledger import PLATFORM_LOG
from stockade.audit.spool import Spool
from stockade.audit.standing import Standing
from stockade.audit.store import Logs
from stockade.kernel.clock import SystemClock
from stockade.settings import Audit, Settings
from tests.factories.audit import copied, record, take_in
from tests.live import Live, finish, start, wait_for

WRITER = """
import sys
from pathlib import Path
from stockade.audit.spool import Spool
from stockade.settings import Settings
from tests.factories.audit import record
spool = Spool(Settings(data_dir=Path(sys.argv[1])))
spool.start()
number = 0
while True:
    spool.record(record(f"{sys.argv[2]}-{number}"))
    number += 1
    spool.commit(record(f"{sys.argv[2]}-{number}"))
    print(number, flush=True)
    number += 1
"""
KEEPER = """
import sys, time
from pathlib import Path
from stockade.audit.keeper import Keeper
from stockade.audit.spool import Spool
from stockade.kernel.clock import SystemClock
from stockade.settings import Settings
settings = Settings(data_dir=Path(sys.argv[1]))
keeper = Keeper(settings, SystemClock(), Spool(settings))
keeper.open(10.0)
keeper.start()
print("keeping", flush=True)
sys.stdin.read()
keeper.close()
"""


def run(code: str, *arguments: str) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)


def ids(settings: Settings, log: str = PLATFORM_LOG) -> list[str]:
    return [json.loads(line)["id"] for _, line in Logs(settings.audit_dir).reader(log).records(0)]


def test_writers_and_the_keeper_are_killed_again_and_again(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    acknowledged: dict[str, int] = {}
    for turn in range(3):
        keeper = run(KEEPER, str(tmp_path))
        assert keeper.stdout is not None
        assert keeper.stdout.readline() == b"keeping\n"
        writers = {f"{turn}{name}": run(WRITER, str(tmp_path), f"{turn}{name}") for name in "ab"}
        for name, writer in writers.items():
            assert writer.stdout is not None
            for _ in range(40 * (turn + 1)):
                acknowledged[name] = int(writer.stdout.readline())
        keeper.kill()
        keeper.communicate()
        for name, writer in writers.items():
            writer.kill()
            rest = writer.communicate()[0].split(b"\n")[:-1]
            acknowledged[name] = max([acknowledged[name], *map(int, filter(None, rest))])
    take_in(settings)
    found = ids(settings)
    assert not [name for name, count in Counter(found).items() if count > 1]
    for name, newest in acknowledged.items():
        own = [int(one.split("-")[1]) for one in found if one.startswith(f"{name}-")]
        assert own == list(range(len(own))), "in the order in which they were made"
        assert len(own) > newest
    assert sorted(one["id"] for one in copied(settings.mirror_dir)) == sorted(found)
    assert not list((settings.audit_dir / "spool").iterdir()), "what processes that were killed have left is taken over"


def test_a_full_disk_is_refused_on_and_ends_by_itself(tmp_path: Path) -> None:
    """The spool's file may not grow: the system says so as it does of a full disk."""
    code = """
import json, resource, sys
from pathlib import Path
from stockade.audit.spool import Spool
from stockade.kernel.faults import Fault
from stockade.settings import Settings
from tests.factories.audit import record
import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
spool = Spool(Settings(data_dir=Path(sys.argv[1])))
spool.commit(record("first"))
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (200, hard))
said = []
for number in range(5):
    spool.record(record(f"queued-{number}"))
try:
    spool.commit(record("refused"))
except Fault as fault:
    said += [fault.kind.name, spool.healthy]
resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
spool.commit(record("last"))
said.append(spool.healthy)
spool.close()
print(json.dumps(said))
"""
    child = run(code, str(tmp_path))
    assert json.loads(child.communicate(timeout=60)[0]) == ["UNAVAILABLE", False, True]
    take_in(Settings(data_dir=tmp_path))
    assert ids(Settings(data_dir=tmp_path)) == [
        "first",
        *(f"queued-{number}" for number in range(5)),
        "refused",
        "last",
    ]


class Platform:
    """A server, its logs and its copy, which lies elsewhere."""

    def __init__(self, live: Live, mirror: Path) -> None:
        self.live, self.settings = live, Settings(data_dir=live.data_dir, audit=Audit(mirror=str(mirror)))
        self.standing = Standing(self.settings.run_dir)
        listen = json.loads((live.data_dir / "run" / "serve.json").read_bytes())["listen"]
        self.data, self.control = (f"https://localhost:{listen[name]}" for name in ("data_port", "control_port"))
        context = ssl.create_default_context(cafile=str(live.data_dir / "tls" / "ca.pem"))
        self.client = httpx.Client(verify=context, timeout=10)
        self.subscription = next(name for name in Logs(self.settings.audit_dir).names() if name != PLATFORM_LOG)

    def refused(self) -> str:
        """Have a request refused, and return its decision."""
        answer = self.client.get(f"{self.data}/demo-openai/openai/v1/models")
        assert answer.status_code == 401
        return answer.headers["x-stockade-decision"]

    def health(self) -> set[int]:
        return {self.client.get(f"{plane}/healthz").status_code for plane in (self.data, self.control)}

    def kill(self, name: str) -> None:
        """Kill one of the processes that the supervisor has started."""
        (pid,) = wait_for(lambda: self._processes(name), f"{name} runs")
        os.kill(pid, signal.SIGKILL)

    def in_the_log(self) -> Counter[str]:
        return Counter(ids(self.settings, self.subscription))

    def copied(self) -> Counter[str]:
        return Counter(one["id"] for one in copied(self.settings.mirror_dir))

    def _processes(self, name: str) -> list[int]:
        found = []
        for folder in Path("/proc").iterdir():
            with contextlib.suppress(OSError, ValueError, IndexError):
                command = (folder / "cmdline").read_bytes().split(b"\0")
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
                if name.encode() in command and parent == self.live.process.pid:
                    found.append(int(folder.name))
        return found


@contextlib.contextmanager
def out_of_reach(*folders: Path) -> Iterator[None]:
    """Put a file in the place of folders."""
    for folder in folders:
        folder.rename(folder.with_name(f"{folder.name}-away"))
        folder.write_text("in the way")
    try:
        yield
    finally:
        for folder in folders:
            folder.unlink()
            folder.with_name(f"{folder.name}-away").rename(folder)


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    folder = tmp_path_factory.mktemp("audit")
    settings = f"[audit]\nhead_every_s = 0.5\nmirror = {json.dumps(str(folder / 'mirror'))}\n"
    found = Platform(start(folder / "data", "--workers", "1", settings=settings), folder / "mirror")
    yield found
    found.client.close()
    finish(found.live)


def test_refusals_are_on_disk_before_they_are_told_whoever_is_killed(platform: Platform) -> None:
    told: list[str] = []
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            told.append(platform.refused())

    def more(count: int) -> None:
        wanted = len(told) + count
        wait_for(lambda: len(told) >= wanted, "requests go on being answered")

    asking = threading.Thread(target=ask)
    asking.start()
    for _ in range(2):
        more(5)
        platform.kill("stockade.serve.audit")
        more(20)
    stop.set()
    asking.join()
    wait_for(lambda: set(told) <= set(platform.in_the_log()), "all of them are in the log")
    assert {platform.in_the_log()[name] for name in told} == {1}
    wait_for(lambda: set(told) <= set(platform.copied()), "and in the copy")
    assert {platform.copied()[name] for name in told} == {1}


def test_a_log_that_cannot_be_written_is_said_and_caught_up_with(platform: Platform) -> None:
    platform.kill("stockade.serve.audit")
    with out_of_reach(platform.settings.audit_dir / "logs" / platform.subscription):
        told = [platform.refused() for _ in range(5)]
        wait_for(lambda: platform.standing.read().log, "that the log cannot be written is said")
        assert "log: " in platform.live.cli("status").stdout
        wait_for(lambda: set(told) <= set(platform.copied()), "the copy goes on")
        told.append(platform.refused())
    wait_for(lambda: set(told) <= set(platform.in_the_log()), "the log is caught up with")
    wait_for(lambda: not platform.standing.read().log, "that it can be written again is said")
    assert {(platform.in_the_log()[name], platform.copied()[name]) for name in told} == {(1, 1)}


def test_when_no_sink_can_be_written_readiness_is_red_and_recovers(platform: Platform) -> None:
    assert platform.health() == {200}
    platform.kill("stockade.serve.audit")
    with out_of_reach(platform.settings.audit_dir / "logs", platform.settings.mirror_dir):
        told = platform.refused()
        wait_for(lambda: platform.health() == {503}, "both planes say that they are not ready")
        answer = platform.client.get(f"{platform.data}/demo-openai/openai/v1/models")
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
        assert "log: " in answer.text
        assert "mirror: " in answer.text
        arm = platform.client.get(f"{platform.control}/subscriptions?api-version=2022-12-01")
        assert (arm.status_code, arm.json()["error"]["code"]) == (503, "ServiceUnavailable")
    wait_for(lambda: platform.health() == {200}, "both planes are ready again, by themselves")
    wait_for(lambda: (platform.in_the_log()[told], platform.copied()[told]) == (1, 1), "what came before is in both")


def test_the_supervisor_is_killed_and_the_next_start_takes_over(platform: Platform) -> None:
    told = [platform.refused() for _ in range(10)]
    platform.live.kill()
    late = Spool(platform.settings)  # a command, while nobody takes records in
    late.commit(record("meanwhile", time=SystemClock().now()))
    late.close()
    platform.live.start_again()
    wait_for(lambda: "meanwhile" in ids(platform.settings), "what was recorded meanwhile is taken in")
    assert {platform.in_the_log()[name] for name in told} == {1}
