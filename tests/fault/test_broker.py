"""The key broker killed, the platform sealed, the root key lost: who waits for what, and that nothing that was kept is lost."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from stockade.keys.keyring import FILE_NAME, Keyring, sealing_key
from stockade.keys.root import RootKey
from tests.live import Live, finish, start, wait_for
from tests.outside import ROOT

FILES = "demo-openai/openai/files"
VERSION = {"api-version": "2024-10-21"}
BODY = b'{"custom_id": "1"}\n' * 100


class Platform:
    """A server of this module's own, with a file that is kept."""

    def __init__(self, live: Live) -> None:
        self.live = live
        self.key = live.account("demo-openai")["AZURE_OPENAI_API_KEY"]
        made = self.ask("POST", files={"file": ("x.jsonl", BODY)}, data={"purpose": "batch"})
        assert made.status_code == 200, made.text
        self.file = made.json()["id"]

    def ask(self, method: str = "GET", below: str = "", live: Live | None = None, **more: Any) -> requests.Response:
        at = live or self.live
        return requests.request(
            method,
            f"{at.data}/{FILES}{below}",
            params=VERSION,
            headers={"api-key": self.key},
            verify=str(at.bundle),
            timeout=10,
            **more,
        )

    def content(self, live: Live | None = None) -> requests.Response:
        return self.ask(below=f"/{self.file}/content", live=live)

    def state(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.live.data_dir / "run" / "serve.json").read_bytes())
        return found


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    live = start(tmp_path_factory.mktemp("broker") / "data", "--workers", "1")
    yield Platform(live)
    finish(live)


def broker_of(live: Live) -> int | None:
    """Return the pid of the key broker that a supervisor has started."""
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                words = (folder / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if b"stockade.serve.broker" in words and str(live.pid).encode() in words:
                return int(folder.name)
    return None


def test_a_killed_broker_is_started_again_and_meanwhile_callers_are_told_to_wait(platform: Platform) -> None:
    assert platform.content().content == BODY
    pid = broker_of(platform.live)
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    answers: list[requests.Response] = []

    def answered() -> bool:
        answers.append(platform.content())
        return answers[-1].status_code == 200

    wait_for(answered, "the content is there again")
    assert answers[-1].content == BODY
    assert {one.status_code for one in answers[:-1]} == {503}
    assert all("key broker" in one.json()["error"]["message"] for one in answers[:-1])
    assert broker_of(platform.live) not in {None, pid}


def test_a_sealed_platform_answers_nobody_stays_sealed_and_opens_again(platform: Platform) -> None:
    live = platform.live
    live.stockade("seal")
    wait_for(lambda: platform.state()["sealed"], "the supervisor has noticed")

    def refuses() -> bool:
        try:
            platform.ask()
        except requests.ConnectionError:
            return True
        return False

    wait_for(refuses, "nobody listens")
    assert "sealed" in live.stockade("status")
    live.stop()
    live.start_again()
    assert platform.state()["sealed"]
    live.stockade("unseal")
    wait_for(lambda: not platform.state()["sealed"], "the platform has started")
    assert platform.content().content == BODY


def test_new_keys_change_nothing_for_what_is_kept(platform: Platform) -> None:
    root = platform.live.data_dir / "root.key"
    before = root.read_bytes()
    version = platform.live.stockade("keys", "rotate-platform").strip()
    platform.live.stockade("keys", "rotate-root")
    assert root.read_bytes() != before
    keyring = Keyring.open(platform.live.data_dir / FILE_NAME, sealing_key(RootKey.open(root)))
    assert keyring.newest == version
    assert platform.content().content == BODY


def test_restore_drill(platform: Platform, tmp_path: Path) -> None:
    """All of the data directory but the root key, and three of five shares: everything opens again."""
    live = platform.live
    shares = live.stockade("keys", "recovery", "create", "--out", str(tmp_path / "shares")).split()
    assert len(shares) == 5
    live.stop()
    restored = tmp_path / "restored"
    shutil.copytree(live.data_dir, restored, ignore=shutil.ignore_patterns("root.key", "run"))
    environment = {**live.variables, "STOCKADE_DATA_DIR": str(restored)}

    def restore(*chosen: str) -> subprocess.CompletedProcess[str]:
        given = "".join(Path(one).read_text() for one in chosen)
        command = [sys.executable, "-m", "stockade", "keys", "recovery", "restore"]
        return subprocess.run(
            command, input=given, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
        )

    too_few = restore(*shares[:2])
    assert (too_few.returncode, "2 of 3 shares" in too_few.stderr) == (7, True)
    assert not (restored / "root.key").exists()
    done = restore(*shares[2:])
    assert done.returncode == 0, done.stderr
    again = start(restored, "--workers", "1")
    try:
        assert platform.content(again).content == BODY
        assert again.account("demo-openai")["AZURE_OPENAI_API_KEY"] == platform.key
    finally:
        finish(again)
