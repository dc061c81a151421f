"""The server as its operator meets it: start, crash, reload, end."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import requests

from tests import outside
from tests.live import Live, StartServer, free_ports, wait_for


def processes(session_of: int) -> dict[int, str]:
    """Return the process's descendants, by pid, with their command lines."""
    found: dict[int, str] = {}
    parents: dict[int, int] = {}
    commands: dict[int, str] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text()
                commands[int(entry.name)] = (entry / "cmdline").read_text().replace("\0", " ")
            except OSError:
                continue  # it ended meanwhile
            fields = stat.rpartition(")")[2].split()
            if fields[0] != "Z":
                parents[int(entry.name)] = int(fields[1])
    frontier = [session_of]
    while frontier:
        here = frontier.pop()
        for pid, parent in parents.items():
            if parent == here and pid not in found:
                found[pid] = commands[pid]
                frontier.append(pid)
    return found


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def chat(live: Live, **options: Any) -> requests.Response:
    account = live.account("demo-openai")
    return requests.post(
        f"{account['AZURE_OPENAI_ENDPOINT']}openai/deployments/chat/chat/completions?api-version=2024-10-21",
        json={"messages": [{"role": "user", "content": "Say hello."}], "max_tokens": 8},
        headers={"api-key": account["AZURE_OPENAI_API_KEY"]},
        verify=str(live.bundle),
        timeout=90,
        **options,
    )


def test_ctrl_c_in_a_terminal_ends_everything_cleanly(live_server: StartServer) -> None:
    live = live_server("--workers", "2")
    assert chat(live).status_code == 200
    family = processes(live.pid)
    assert sum("serve.listener data" in command for command in family.values()) == 3  # one that binds, two that work
    assert sum("engines.embedded" in command for command in family.values()) == 1
    # A terminal sends the signal to every process of its group; only the supervisor is in it.
    os.kill(live.pid, signal.SIGINT)
    assert live.process.wait(60) == 0
    assert [pid for pid in family if alive(pid)] == []
    assert not (live.data_dir / "run" / "serve.json").exists()


def test_children_are_not_in_the_terminals_process_group(live: Live) -> None:
    own = os.getpgid(live.pid)
    assert all(os.getpgid(pid) != own for pid in processes(live.pid))


def test_a_killed_supervisor_takes_everything_with_it(live_server: StartServer) -> None:
    live = live_server("--workers", "2")
    assert chat(live).status_code == 200
    family = processes(live.pid)
    live.kill()
    wait_for(lambda: not any(alive(pid) for pid in family), "no process is left", 30)
    live.start_again()
    assert chat(live).status_code == 200


def test_crashed_listeners_and_workers_are_started_again(live_server: StartServer) -> None:
    live = live_server("--workers", "1")
    mains = {
        plane: next(pid for pid, command in processes(live.pid).items() if f"listener {plane}" in command)
        for plane in ("data", "control")
    }
    for plane, main in mains.items():
        os.kill(main, signal.SIGKILL)
        wait_for(lambda plane=plane: f'"plane":"{plane}"' in live.log(), f"the end of the {plane} plane is noticed")
    wait_for(lambda: answers(live), "both planes answer again", 60)
    worker = next(
        pid for pid in processes(live.pid) if "listener data" in processes(live.pid)[pid] and not processes(pid)
    )
    os.kill(worker, signal.SIGKILL)
    wait_for(lambda: not alive(worker) and answers(live), "a new worker answers", 60)


def answers(live: Live) -> bool:
    try:
        return all(
            requests.get(f"https://localhost:{port}/healthz", verify=str(live.ca), timeout=5).status_code == 200
            for port in live.ports[:2]
        )
    except requests.ConnectionError:
        return False


def test_a_crashed_engine_comes_back_with_the_next_request(live_server: StartServer) -> None:
    live = live_server("--workers", "1")
    assert chat(live).status_code == 200
    engine = next(pid for pid, command in processes(live.pid).items() if "engines.embedded" in command)
    os.kill(engine, signal.SIGKILL)
    wait_for(lambda: not alive(engine), "the engine is gone")
    assert chat(live).status_code == 200


def test_a_request_under_way_is_finished_before_the_end(live_server: StartServer) -> None:
    live = live_server("--workers", "1")
    assert chat(live).status_code == 200  # the engine runs
    account = live.account("demo-openai")
    first, done = threading.Event(), []

    def stream() -> None:
        with requests.post(
            f"{account['AZURE_OPENAI_ENDPOINT']}openai/deployments/chat/chat/completions?api-version=2024-10-21",
            json={"messages": [{"role": "user", "content": "Tell me a story."}], "max_tokens": 60, "stream": True},
            headers={"api-key": account["AZURE_OPENAI_API_KEY"]},
            verify=str(live.bundle),
            stream=True,
            timeout=90,
        ) as reply:
            for line in reply.iter_lines():
                first.set()
                done.append(line)

    thread = threading.Thread(target=stream)
    thread.start()
    assert first.wait(60)
    assert live.stop() == 0
    thread.join(60)
    assert [line for line in done if line][-1] == b"data: [DONE]"


def test_a_second_server_on_the_same_folder_is_refused(live: Live) -> None:
    done = live.cli("serve", check=False)
    assert (done.returncode, done.stderr) == (1, f"Stockade is already running on {live.data_dir}.\n")


def test_a_port_in_use_is_one_clear_line(live: Live, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        free = [str(one) for one in free_ports(3)]
        done = live.cli(
            *("serve", "--data-dir", str(tmp_path / "data"), "--log-level", "error"),
            *("--control-port", str(port), "--data-port", free[0], "--metadata-port", free[1]),
            *("--websocket-port", free[2]),
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr == (
        f"Port {port} is in use by another program; choose others with --data-port, --control-port, --metadata-port, --websocket-port.\n"
    )


def test_an_address_of_another_machine_is_one_clear_line(live: Live, tmp_path: Path) -> None:
    done = live.cli(
        "serve", "--data-dir", str(tmp_path / "data"), "--host", "192.0.2.1", "--log-level", "error", check=False
    )
    assert done.returncode == 1
    assert "listening on 192.0.2.1, so other machines can reach it" in done.stderr
    assert done.stderr.endswith("cannot listen on 192.0.2.1:8443: Cannot assign requested address.\n")


def test_a_mistake_in_the_settings_names_the_file_and_the_field(live: Live, tmp_path: Path) -> None:
    (tmp_path / "settings.toml").write_text("[listen]\ndata_prot = 1\n")
    # Wide enough for any folder's path: the frame around the message breaks lines where the terminal ends.
    done = live.cli("serve", "--data-dir", str(tmp_path), check=False, COLUMNS="500")
    assert done.returncode == 2
    assert "settings.toml" in done.stderr
    assert "data_prot" in done.stderr


def test_a_folder_with_a_long_path_works(live_server: StartServer, tmp_path: Path) -> None:
    live = live_server("--workers", "1", data_dir=tmp_path / ("long" * 20) / ("path" * 20))
    assert chat(live).status_code == 200


def test_the_log_is_json_lines_of_the_level_asked_for(live: Live) -> None:
    assert chat(live).status_code == 200  # starting an engine is worth a line at the level info
    lines = [json.loads(line) for line in live.log().splitlines()]
    assert lines
    assert all({"time", "level", "process", "logger", "message"} <= set(line) for line in lines)
    assert all(line["level"] != "debug" for line in lines)


def test_make_up_shows_a_screen_whose_example_works(tmp_path: Path) -> None:
    """Start as `make up` does, paste what the screen says into a shell, and end with Ctrl-C."""
    ports = free_ports(4)
    names = ("--data-port", "--control-port", "--metadata-port", "--websocket-port")
    flags = zip(names, map(str, ports), strict=True)
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(outside.ROOT), "HOME": str(tmp_path)}
    server = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "stockade",
            "up",
            "--data-dir",
            str(tmp_path / "data"),
            *(word for pair in flags for word in pair),
        ],
        cwd=outside.ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert server.stdout is not None
        screen = ""
        while "audit tail" not in screen:
            line = server.stdout.readline()
            assert line, f"it ended: {screen}"
            screen += line
        assert "\x1b" not in screen, "colours only for a terminal"
        assert "not for real answers" in screen
        assert str(tmp_path / "data" / "tls" / "ca.pem") in screen
        pasted = screen[screen.index("  eval") : screen.index("or, in the same shell")]
        done = subprocess.run(
            ["bash", "-ec", pasted],
            cwd=outside.ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["choices"][0]["message"]["content"]
        server.send_signal(signal.SIGINT)
        assert server.wait(60) == 0
    finally:
        server.kill()
        _, errors = server.communicate()
    assert "Traceback" not in errors
