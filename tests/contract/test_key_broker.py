"""Keys stay in the key broker's process: nobody else is given them, and nobody else has them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from stockade.kernel.evidence import CallerKey
from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.secret import Secret
from stockade.keys.broker import ObjectRef
from stockade.keys.broker_client import BrokerClient
from stockade.keys.keyring import FILE_NAME, Keyring, sealing_key
from stockade.keys.root import RootKey
from tests.live import Live


@pytest.fixture(scope="module")
def client(live: Live) -> Iterator[BrokerClient]:
    found = BrokerClient(live.data_dir / "run" / "keys" / "broker.sock")
    yield found
    found.close()


def processes(live: Live) -> Iterator[tuple[int, str]]:
    """Yield the supervisor and every process below it: its pid and what it runs."""
    parents = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                stat = (folder / "stat").read_text()
                parents[int(folder.name)] = int(stat.rpartition(")")[2].split()[1])
            except OSError:
                continue
    for pid in parents:
        above = pid
        while above in parents and above != live.pid:
            above = parents[above]
        if above == live.pid:
            command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if "engines" not in command:  # which have no keys to ask for, and much memory
                yield pid, command


def memory_holds(pid: int, wanted: dict[str, bytes]) -> set[str]:
    """Return which of some values stand in a process's writable memory."""
    found = set()
    with Path(f"/proc/{pid}/mem").open("rb", 0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            match = re.match(r"([0-9a-f]+)-([0-9a-f]+) rw", line)
            if match is None or "/dev/shm" in line:
                continue
            start, end = (int(text, 16) for text in match.groups())
            try:
                memory.seek(start)
                region = memory.read(end - start)
            except (OSError, ValueError, OverflowError):
                continue
            found |= {name for name, value in wanted.items() if value in region}
    return found


def test_the_brokers_own_keys_are_given_to_nobody(client: BrokerClient) -> None:
    for purpose in ("broker/platform-keyring/1", "broker/job-grants/1", "broker/key-handles/1", "broker/"):
        with pytest.raises(Fault) as caught:
            client.purpose_key(purpose)
        assert caught.value.kind is FaultKind.PERMISSION_DENIED
    assert len(client.purpose_key("subscription-key-digest/1")) == 32


def test_the_broker_gives_an_objects_key_on_the_callers_evidence_and_on_no_other(
    live: Live, client: BrokerClient
) -> None:
    account = live.account_id("demo-openai")
    key = live.account("demo-openai")["AZURE_OPENAI_API_KEY"]

    def ask(shown: str) -> bytes:
        refs = [ObjectRef("files/file-of-this-test", "aa")]
        keys = client.object_keys(account, refs, "write", "OpenAI/files/write", CallerKey(Secret(shown)), "test")
        return keys.keys[0].reveal()

    assert ask(key) == ask(key)
    for wrong in ("", key[:-1], key[:-1] + ("a" if key[-1] != "a" else "b")):
        with pytest.raises(Fault) as caught:
            ask(wrong)
        assert caught.value.kind is FaultKind.KEY_REJECTED


def test_root_key_seed_and_platform_key_are_in_the_brokers_memory_alone(live: Live) -> None:
    """Looked for in the memory of the supervisor and of every process that it has started, byte for byte."""
    root = RootKey.open(live.data_dir / "root.key")
    keyring = Keyring.open(live.data_dir / FILE_NAME, sealing_key(root))
    wanted = {
        "root key": root.value.reveal(),
        "seed": keyring.keys.value.reveal(),
        "platform key": keyring.kek(keyring.newest).reveal(),
    }
    found: dict[str, set[str]] = {}
    for pid, command in processes(live):
        try:
            held = memory_holds(pid, wanted)
        except PermissionError:
            if "stockade.serve.broker" in command:
                continue  # closed to debuggers, as it should be
            pytest.skip("this user may not look into processes' memory")
        kind = "broker" if "stockade.serve.broker" in command else command
        found[kind] = found.get(kind, set()) | held
    assert len(found) > 2
    assert {kind: held for kind, held in found.items() if held and kind != "broker"} == {}
    assert found.get("broker", {"seed", "platform key"}) >= {"seed", "platform key"}, "the look finds what is there"
