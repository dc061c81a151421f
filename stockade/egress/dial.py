"""The one place where the data plane opens a connection to somewhere else.

Three kinds, and no fourth: to an address that was checked for a request, to a host that the operator names in the settings (an engine), and to
a UNIX socket of this platform. Nobody may look a name up again on the way to an address that was checked: it goes to the kernel as a number, and
the kernel is asked afterwards where it has connected to. A test holds the whole source, and a running process, to this file.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from ipaddress import IPv6Address, ip_address
from typing import TypeVar

from stockade.egress.addresses import IPAddress

P = TypeVar("P", bound=asyncio.BaseProtocol)


def tls_context(ca_file: str = "") -> ssl.SSLContext:
    """Return how this platform speaks TLS as a client: 1.2 or later, names checked, the system's authorities or those of a PEM file.

    Raises OSError (`ssl.SSLError` too) for a file that cannot be used.
    """
    context = ssl.create_default_context(cafile=ca_file or None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context


async def checked(
    make: Callable[[], P], address: IPAddress, port: int, *, tls: ssl.SSLContext | None, name: str
) -> tuple[asyncio.BaseTransport, P]:
    """Connect to exactly this address. name: what the certificate has to say, and what is sent as the server's name.

    No time limit of its own: the caller has one around all of it. Raises OSError (`ssl.SSLError` and certificate errors too).
    """
    loop = asyncio.get_running_loop()
    family = socket.AF_INET6 if isinstance(address, IPv6Address) else socket.AF_INET
    connecting = socket.socket(family, socket.SOCK_STREAM)
    try:
        connecting.setblocking(False)
        await loop.sock_connect(connecting, (str(address), port))
        if ip_address(connecting.getpeername()[0]) != address:
            raise ConnectionError("connected to another address than the one that was checked")
        return await loop.create_connection(make, sock=connecting, ssl=tls, server_hostname=name if tls else None)
    except BaseException:
        connecting.close()
        raise


async def named(
    make: Callable[[], P], host: str, port: int, *, tls: ssl.SSLContext | None = None
) -> tuple[asyncio.BaseTransport, P]:
    """Connect to a host that the operator's settings name, never a request. Any address: engines live on loopback and private networks."""
    loop = asyncio.get_running_loop()
    return await loop.create_connection(make, host, port, ssl=tls, server_hostname=host if tls else None)


async def local(make: Callable[[], P], path: str) -> tuple[asyncio.BaseTransport, P]:
    """Connect to a UNIX socket of this platform."""
    return await asyncio.get_running_loop().create_unix_connection(make, path)


async def local_streams(path: str, limit: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect to a UNIX socket of this platform, as streams. limit: bytes of one line."""
    return await asyncio.open_unix_connection(path, limit=limit)
