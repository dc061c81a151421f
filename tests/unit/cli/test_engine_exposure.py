"""Whether an engine can be reached around the gate."""

from __future__ import annotations

import socket
from ipaddress import ip_address
from pathlib import Path

import pytest

from stockade.cli import engine_exposure
from stockade.cli.diagnosis import Finding
from stockade.cli.engine_exposure import engines
from stockade.settings import Model, Service, Settings, Upstream
from tests.live import free_ports


def look(url: str, proc: Path = Path("/proc")) -> Finding:
    (found,) = engines(Settings(models=(Model("m", upstream=Upstream(url)),)), proc)
    return found


@pytest.mark.parametrize(
    ("address", "family", "level"),
    [
        ("127.0.0.1", socket.AF_INET, "ok"),
        ("127.9.9.9", socket.AF_INET, "ok"),
        ("0.0.0.0", socket.AF_INET, "wrong"),
        ("::", socket.AF_INET6, "wrong"),
    ],
)
def test_only_loopback_is_behind_the_gate(address: str, family: socket.AddressFamily, level: str) -> None:
    with socket.create_server((address, 0), family=family, dualstack_ipv6=False) as engine:
        port = engine.getsockname()[1]
        host = {"::": "[::1]", "127.9.9.9": "127.9.9.9"}.get(address, "127.0.0.1")
        found = look(f"http://{host}:{port}/v1")
    assert found.level == level
    if level == "wrong":
        assert f"listens on {address}" in found.message
        assert f"127.0.0.1:{port}:{port}" in found.advice[0]


def test_an_engine_that_is_not_there_is_wrong() -> None:
    found = look(f"http://127.0.0.1:{free_ports(1)[0]}/v1")
    assert (found.level, "nothing answers" in found.message) == ("wrong", True)


def test_a_name_that_does_not_resolve_is_wrong() -> None:
    found = look("http://no-such-engine.invalid:8000/v1")
    assert (found.level, "does not resolve" in found.message) == ("wrong", True)


def test_an_engine_over_the_network_is_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_exposure, "_answers", lambda *_: True)
    found = look("https://192.0.2.7/v1")
    assert found.level == "note"
    assert "192.0.2.7 port 443" in found.message


def test_engines_of_services_are_looked_at_too() -> None:
    with socket.create_server(("0.0.0.0", 0)) as engine:
        url = f"http://127.0.0.1:{engine.getsockname()[1]}"
        (found,) = engines(Settings(services=(Service("face", Upstream(url)),)))
    assert (found.level, found.message.startswith("face: ")) == ("wrong", True)


def test_built_in_models_are_nobodys_business() -> None:
    assert engines(Settings(models=(Model("m"),))) == []


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("0100007F", "127.0.0.1"),
        ("00000000", "0.0.0.0"),
        ("00000000000000000000000001000000", "::1"),
        ("0000000000000000FFFF00000100007F", "::ffff:127.0.0.1"),
        ("B80D0120000000000000000007000000", "2001:db8::7"),
    ],
)
def test_addresses_as_the_kernel_writes_them(text: str, address: str) -> None:
    assert engine_exposure._kernel_address(text) == str(ip_address(address))


def test_where_the_kernel_cannot_be_asked_the_machines_addresses_are_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def answers(address: str, _: int) -> bool:
        asked.append(address)
        return True

    monkeypatch.setattr(engine_exposure, "_own_addresses", lambda: ["192.0.2.1"])
    monkeypatch.setattr(engine_exposure, "_answers", answers)
    assert look("http://127.0.0.1:8000/v1", tmp_path).level == "wrong"
    assert asked == ["127.0.0.1", "192.0.2.1"]
