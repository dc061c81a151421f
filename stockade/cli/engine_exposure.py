"""Can an engine be reached around the gate? Whoever reaches it directly needs no key, no role and no rule."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from stockade.cli.diagnosis import CONNECT_TIMEOUT_S, Finding
from stockade.settings import Settings, Upstream

LISTEN: Final = "0A"
"""TCP's LISTEN in /proc/net/tcp. Source: Linux include/net/tcp_states.h."""


def engines(settings: Settings, proc: Path = Path("/proc")) -> list[Finding]:
    """Return what was found about every upstream engine of the settings, of models and of services."""
    known: list[tuple[str, Upstream | None]] = [(model.name, model.upstream) for model in settings.models]
    known += [(service.name, service.upstream) for service in settings.services]
    return [finding for name, upstream in known if upstream is not None for finding in _engine(name, upstream, proc)]


def _engine(name: str, upstream: Upstream, proc: Path) -> Iterator[Finding]:
    parts = urlsplit(upstream.url)
    host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as failure:
        yield Finding("engine", "wrong", f"{name}: {host} does not resolve: {failure.strerror}")
        return
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    if not any(_answers(address, port) for address in addresses):
        yield Finding("engine", "wrong", f"{name}: nothing answers at {host} port {port}")
        return
    if not all(_is_loopback(address) for address in addresses):
        advice = ("Let its machine take connections to that port from this machine alone.",)
        message = (
            f"{name}: it is reached over the network ({host} port {port}); who else reaches it cannot be seen from here"
        )
        yield Finding("engine", "note", message, advice)
        return
    open_to = sorted({address for address in _listening(port, proc) if not _is_loopback(address)})
    if open_to:
        message = f"{name}: its port {port} listens on {', '.join(open_to)}, so that it can be reached around Stockade, without a key"
        bind = (
            "Bind it to 127.0.0.1. Ollama: OLLAMA_HOST=127.0.0.1; vLLM and llama.cpp: --host 127.0.0.1; "
            f"a container: --publish 127.0.0.1:{port}:{port}."
        )
        yield Finding("engine", "wrong", message, (bind,))
    else:
        yield Finding("engine", "ok", f"{name}: its port {port} is on loopback alone")


def _answers(address: str, port: int) -> bool:
    try:
        socket.create_connection((address, port), CONNECT_TIMEOUT_S).close()
    except OSError:
        return False
    return True


def _is_loopback(text: str) -> bool:
    address = ip_address(text.partition("%")[0])
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return (mapped or address).is_loopback


def _listening(port: int, proc: Path) -> Iterable[str]:
    """Return the addresses on which some process of this machine listens on a port; where there is no Linux to ask, those that answer."""
    tables = [proc / "net" / name for name in ("tcp", "tcp6")]
    if not any(table.exists() for table in tables):
        return [address for address in _own_addresses() if _answers(address, port)]
    found = []
    for table in tables:
        for line in table.read_text().splitlines()[1:] if table.exists() else ():
            _, local, _, state, *_ = line.split()
            address, _, number = local.partition(":")
            if state == LISTEN and int(number, 16) == port:
                found.append(_kernel_address(address))
    return found


def _kernel_address(text: str) -> str:
    """Read an address as /proc/net/tcp writes it: 32-bit words in the machine's own order."""
    words = [bytes.fromhex(text[at : at + 8])[::-1] for at in range(0, len(text), 8)]
    raw = b"".join(words)
    return str(IPv4Address(raw) if len(raw) == 4 else IPv6Address(raw))


def _own_addresses() -> list[str]:
    try:
        found = socket.getaddrinfo(socket.gethostname(), None, type=socket.SOCK_STREAM)
    except OSError:
        return []
    return [address for entry in found if not _is_loopback(address := str(entry[4][0]))]
