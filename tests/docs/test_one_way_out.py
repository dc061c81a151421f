"""Nothing but `egress/dial.py` opens a connection on behalf of a request: who could, by what it imports and calls, stands in a short table.

What the source says; `tests/contract/test_one_way_out.py` asks a running gateway.
"""

from __future__ import annotations

import ast
import itertools
from collections.abc import Iterator
from pathlib import Path

from tests.outside import ROOT

PACKAGE = ROOT / "stockade"

LIBRARIES = {
    "aiohttp", "aiosmtplib", "azure", "boto3", "botocore", "dns", "ftplib", "http.client", "httpcore", "httpcore2", "httpx", "httpx2", "hvac",
    "imaplib", "nntplib", "obstore", "pkcs11", "poplib", "requests",
    "smtplib", "socket", "telnetlib", "urllib.request", "urllib3", "websockets", "xmlrpc", "_socket", "socketserver", "multiprocessing.connection",
}  # fmt: skip
"""Modules through which a program can reach out."""

CALLS = {
    "open_connection", "open_unix_connection", "create_connection", "create_unix_connection", "create_datagram_endpoint", "sock_connect",
    "sock_sendto", "connect_ex", "connect_tcp", "connect_unix", "urlopen", "getaddrinfo", "gethostbyname", "gethostbyname_ex", "gethostbyaddr",
    "getnameinfo", "start_tls", "connect", "sendto", "sendmsg",
}  # fmt: skip
"""What they, asyncio and anyio call it."""

TABLE: dict[str, tuple[set[str], str]] = {
    # The data plane.
    "content/objects.py": ({"obstore"}, "keeps sealed bodies in the store that the settings name"),
    "egress/dial.py": (
        {"socket", "create_connection", "create_unix_connection", "open_unix_connection", "sock_connect"},
        "the one way out",
    ),
    "egress/fetch.py": (
        {"httpcore2"},
        "one HTTP connection over a stream that dial.py opened: no pool, no URL, no look-up",
    ),
    "egress/resolve.py": (
        {"socket", "dns", "getaddrinfo"},
        "asks the system, or the name servers that the settings name",
    ),
    "gateway/session.py": ({"websockets"}, "speaks on a WebSocket that a caller has opened"),
    "gateway/websocket.py": ({"websockets", "socket"}, "listens for callers' WebSockets"),
    "services/openai/engines/engine.py": ({"websockets"}, "passes on what upstream/websocket.py opened"),
    "services/openai/realtime.py": ({"websockets"}, "speaks on what upstream/websocket.py opened"),
    "upstream/websocket.py": ({"websockets"}, "WebSocket over a connection that dial.py opened"),
    "gateway/idle.py": ({"socket"}, "shuts accepted connections down"),
    "gateway/pace.py": ({"socket"}, "asks how much of an accepted connection its peer has taken"),
    # The control plane, a process of its own, by the operator's settings and never by a request.
    "identity/issuers.py": ({"httpx2"}, "fetches the keys of issuers that the settings name"),
    "identity/authorization_code.py": ({"httpx2"}, "asks issuers that the settings name to sign people in"),
    "boot/metadata.py": ({"socket"}, "binds the loopback metadata endpoint"),
    # The key broker: a socket of this machine, and what asks it. Vaults and key services that the settings name are the providers' business.
    "broker/server.py": ({"socket"}, "binds the key broker's UNIX socket"),
    "audit/asking.py": ({"socket", "connect"}, "asks the audit process for a record's place, over its UNIX socket"),
    "keys/broker_client.py": ({"socket", "connect"}, "asks the key broker, over its UNIX socket"),
    "keys/broker_async.py": ({"create_unix_connection"}, "asks the key broker, over its UNIX socket"),
    "keys/providers/aws_kms.py": ({"boto3", "botocore"}, "AWS KMS, where the settings name it as a place of keys"),
    "keys/providers/azure_key_vault.py": ({"azure"}, "a key vault elsewhere, where the settings name it"),
    "keys/providers/transit.py": ({"hvac", "requests"}, "HashiCorp Vault or OpenBao, where the settings name it"),
    "keys/providers/pkcs11.py": ({"pkcs11"}, "words of the module that _token.py loads"),
    "keys/providers/_token.py": (
        {"pkcs11"},
        "a PKCS#11 module that the settings name, which may reach its device by network",
    ),
    "jobs/notices/mail.py": ({"aiosmtplib", "connect"}, "hands notices to the mail server that the settings name"),
    # Programs that a person runs, and the supervisor.
    "cli/arm.py": ({"socket", "http.client", "create_connection"}, "the command line is a client of our own ARM"),
    "cli/lockbox_signing.py": ({"azure"}, "an approver's own key vault, where they name one to sign with"),
    "cli/diagnosis.py": ({"socket", "create_connection"}, "the doctor looks from where a caller stands"),
    "cli/engine_exposure.py": (
        {"socket", "create_connection", "getaddrinfo"},
        "the doctor looks whether an engine answers others",
    ),
    "cli/resolution.py": ({"socket", "dns", "getaddrinfo"}, "the doctor resolves names as a caller would"),
    "serve/engines.py": ({"open_unix_connection"}, "the supervisor asks its built-in engines whether they are busy"),
    "serve/private.py": ({"socket"}, "binds the listeners of private endpoints"),
    "serve/probe.py": ({"socket", "open_connection", "getaddrinfo"}, "asks our own listeners whether they answer"),
    "serve/questions.py": ({"open_unix_connection"}, "asks the supervisor, over its UNIX socket"),
    # The built-in engines, processes of their own behind a UNIX socket.
    "services/openai/engines/embedded/__main__.py": (
        {"socket", "connect"},
        "looks whether its own UNIX socket is taken",
    ),
}
"""Who does what of that, and why."""


def module_names(node: ast.AST) -> Iterator[str]:
    match node:
        case ast.Import(names=names):
            yield from (name.name for name in names)
        case ast.ImportFrom(module=module, names=names, level=0):
            yield module or ""
            yield from (f"{module}.{name.name}" for name in names)


def found_in(path: Path) -> set[str]:
    """Return which of the above a file names, whether it calls it, passes it on or only imports it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        for name in module_names(node):
            parts = name.split(".")
            found |= {whole for whole in itertools.accumulate(parts, "{}.{}".format) if whole in LIBRARIES}
            found |= {parts[-1]} & CALLS if parts[0] != "stockade" else set()
        match node:
            case ast.Attribute(attr=name) if name in CALLS:
                found.add(name)
            case ast.Call(
                func=ast.Name(id="getattr" | "__import__" | "exec" | "eval" as name),
                args=[*_, ast.Constant(value=str(text))],
            ):
                found |= ({text} & (CALLS | LIBRARIES)) | ({name} if name in {"exec", "eval", "__import__"} else set())
            # What is imported by its name: of libraries that are only needed where the settings say so.
            case ast.Call(
                func=ast.Name(id="library" | "import_module") | ast.Attribute(attr="import_module"),
                args=[ast.Constant(value=str(text)), *_],
            ):
                found |= {
                    whole for whole in itertools.accumulate(text.split("."), "{}.{}".format) if whole in LIBRARIES
                }
    # A word for many things, and a connection's only where there are sockets.
    return found if found & LIBRARIES else found - {"connect"}


def test_who_could_open_a_connection_stands_in_the_table() -> None:
    found = {path.relative_to(PACKAGE).as_posix(): found_in(path) for path in sorted(PACKAGE.rglob("*.py"))}
    assert {name: what for name, what in found.items() if what} == {name: what for name, (what, _) in TABLE.items()}


def test_the_look_finds_what_it_looks_for(tmp_path: Path) -> None:
    """A look that finds nothing would let everything pass."""
    for source, expected in {
        "import socket": {"socket"},
        "from socket import create_connection as innocent": {"socket", "create_connection"},
        "import urllib.request as r\nr.urlopen('x')": {"urllib.request", "urlopen"},
        "from http import client": {"http.client"},
        "loop.sock_connect(s, a)": {"sock_connect"},
        "open_it = asyncio.open_connection": {"open_connection"},
        "getattr(loop, 'create_connection')": {"create_connection"},
        "__import__('socket')": {"__import__", "socket"},
        "importlib.import_module('http.client')": {"http.client"},
        "library('azure.identity', 'azure')": {"azure"},
        "from urllib.parse import urlsplit": set(),
        "engine.connect()": set(),
        "import socket\nsocket.socket().connect(a)": {"socket", "connect"},
    }.items():
        (tmp_path / "one.py").write_text(source)
        assert found_in(tmp_path / "one.py") == expected, source
