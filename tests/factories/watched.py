"""A gateway whose every outward step is watched by the interpreter itself: `python -m tests.factories.watched FOLDER`, a program of its own.

Audit hooks cannot be taken away again, hence the process of its own; and they do not see what an extension does in C, hence asyncio's own loop.
It runs every operation of every service with URIs wherever they fit, for accounts of every kind of restriction, and prints as JSON what it saw.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from xml.sax.saxutils import escape

from stockade.kernel.operation import Operation
from stockade.keys.root import RootKey
from stockade.services.installed import installed
from stockade.services.service import Service
from stockade.services.upstream_service import UpstreamService
from stockade.settings import Model, Settings, Upstream
from stockade.settings import Service as ServiceSettings
from tests.factories.certificates import certificates
from tests.factories.data_plane import Account, DataPlane, ask
from tests.factories.egress import IMAGE_TYPE, PNG, egress_settings
from tests.factories.engine import answers, engine, reply
from tests.factories.names import has, name_server
from tests.outside import ROOT

LISTED = "listed.example"
SEEN = re.compile(
    r"socket\.(connect|getaddrinfo|gethostby.*|getnameinfo|sendto|sendmsg)|subprocess\.Popen|os\.(system|exec|posix_spawn)|urllib\.Request|ftplib.*|smtplib.*"
)

watching = asyncio.Event()
seen: list[dict[str, Any]] = []


def watch(event: str, arguments: tuple[Any, ...]) -> None:
    if not watching.is_set() or not SEEN.fullmatch(event):
        return
    place, frame = "", sys._getframe(1)
    while frame is not None and not place:  # type: ignore[redundant-expr]
        path = Path(frame.f_code.co_filename)
        if path.is_relative_to(ROOT / "stockade"):
            place = path.relative_to(ROOT / "stockade").as_posix()
        elif path.is_relative_to(ROOT / "tests") and path != Path(__file__):
            place = path.relative_to(ROOT).as_posix()
        elif path.is_relative_to(Path(sys.prefix)) and "/dns/" in path.as_posix():
            place = "dns"
        frame = frame.f_back  # type: ignore[assignment]
    seen.append(
        {
            "event": event,
            "to": repr(arguments[1:] if event.startswith("socket.connect") else arguments[-1:]),
            "from": place,
        }
    )


def uris(canary: int, far: int) -> Iterator[str]:
    """Yield what a hostile request would carry; all of it leads to the canary, or to the far side by the listed name."""
    yield f"http://127.0.0.1:{canary}/"
    yield f"https://127.0.0.1:{canary}/"
    yield f"//127.0.0.1:{canary}/"
    yield f"http://0x7f000001:{canary}/"
    yield f"http://[::ffff:127.0.0.1]:{canary}/"
    yield f"https://localhost:{canary}/"
    yield f"https://{LISTED}@127.0.0.1:{canary}/"
    yield f"https://{LISTED}:{far}@127.0.0.1:{canary}/"
    yield f"https:\\\\127.0.0.1:{canary}\\@{LISTED}/"
    yield f"https://{LISTED}#@127.0.0.1:{canary}/"
    yield f"https://{LISTED}:{canary}/"
    yield f"https://{LISTED}:{far}/ok.png"
    yield f"https://{LISTED}:{far}/to-canary"
    yield f"http://{LISTED}:{far}/"
    yield f"ftp://127.0.0.1:{canary}/"
    yield f"file://127.0.0.1:{canary}/etc/passwd"
    yield f"\\\\127.0.0.1@{canary}\\share"
    yield "http://169.254.169.254/latest/meta-data/"


@dataclass
class Request:
    """One hostile request: the URI in every field that is declared, and in some that are not."""

    body: bytes
    content_type: str
    query: dict[str, str]
    headers: dict[str, str]


def request(operation: Operation, uri: str) -> Request:
    at = [field.at for field in operation.uris]
    document: Any = [] if any(path.startswith("[") for path in at) else unasked(uri)
    query, headers, form = (
        {"url": uri},
        {"x-callback": uri, "referer": uri, "x-forwarded-host": uri, "forwarded": uri},
        {"url": uri},
    )
    for path in at:
        kind, found, name = path.partition(":")
        if not found:
            put(document, steps(path), uri)
        elif kind == "query":
            query[name] = uri
        elif kind == "header":
            headers[name] = uri
        elif kind == "ssml":
            put(document, steps(name), ssml(uri))
        elif kind == "form":
            name, _, inner = name.partition("#")
            form[name] = uri
            if inner:
                value: dict[str, Any] = {}
                put(value, steps(inner), uri)
                form[name] = json.dumps(value)
        elif kind != "xml":
            raise AssertionError(f"what is {path}?")
    text, content_type = {
        "xml": (ssml(uri), "application/ssml+xml"),
        "form": (urlencode(form), "application/x-www-form-urlencoded"),
        "text": (uri, "text/plain"),
        "binary": (uri, "application/octet-stream"),
    }.get(operation.body, (json.dumps(document), "application/json"))
    return Request(text.encode(), content_type, query, headers)


def unasked(uri: str) -> dict[str, Any]:
    """Return a body with the URI where no table expects it."""
    return {
        "prompt": uri, "input": uri, "tools": [{"type": "mcp", "server_url": uri}], "webhook": uri, "source": uri, "$ref": uri,
        "messages": [{"role": "user", "content": uri}, {"role": "user", "content": [{"type": "text", "text": uri}]}],
    }  # fmt: skip


def ssml(uri: str) -> str:
    attribute = escape(uri, {'"': "&quot;"})
    inner = f'<voice name="v"><audio src="{attribute}"/><lexicon uri="{attribute}"/><a href="{attribute}">{escape(uri)}</a></voice>'
    return f'<speak version="1.0" xmlns="http://www.w3.org/2001/10/synthesis" xml:lang="en-US" xml:base="{attribute}">{inner}</speak>'


def steps(path: str) -> list[str]:
    return [part or "*" for part, _ in re.findall(r"([^.\[\]]+)|\[(\*)\]", path.replace("**", "any.depth"))]


def put(body: Any, path: list[str], uri: str) -> None:
    """Put a text at a path; each list on the way gets one more item for it."""
    if isinstance(body, list) and path[0] != "*":  # some operations take an object in one form and a list in the other
        body.append({})
        body = body[-1]
    for step, following in zip(path, [*path[1:], ""], strict=True):
        fresh: Any = [] if following == "*" else {}
        if step == "*":
            body.append(fresh if following else uri)
            body = body[-1]
        elif not following:
            body[step] = uri
        else:
            if not isinstance(body.get(step), type(fresh)):
                body[step] = fresh
            body = body[step]


async def main(folder: Path) -> None:
    made = certificates(folder, [LISTED])
    touched: list[str] = []

    async def canary(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        touched.append("connected")
        writer.close()

    trap = await asyncio.start_server(canary, "127.0.0.1", 0)
    trapped = trap.sockets[0].getsockname()[1]

    async def far_side(peer: Any) -> None:
        asked = await peer.request()
        if "to-canary" in asked.line:
            await peer.send(reply(b"", b"location: https://127.0.0.1:%d/" % trapped, status=b"302 Found"))
        else:
            await peer.send(reply(PNG, IMAGE_TYPE))

    async with (
        engine(answers(reply(b'{"choices":[]}'))) as model,
        engine(far_side, tls=made.server_context()) as far,
        name_server(listed__example=has("127.0.0.1")) as names,
    ):
        upstream = Upstream(url=f"http://127.0.0.1:{model.port}/v1", model="real")
        models = (
            Model("chatty", capabilities=("chatCompletion", "completion"), upstream=upstream),
            Model("vectors", capabilities=("embeddings",), upstream=upstream),
        )
        data = folder / "data"
        data.mkdir()
        egress = egress_settings(made.authority, dns_servers=(names.address,))
        answering = [
            one.name
            for one in installed(Settings(data_dir=RootKey.create(data / "root.key") and data))
            if isinstance(one, UpstreamService)
        ]
        behind = tuple(ServiceSettings(name, Upstream(url=f"http://127.0.0.1:{model.port}")) for name in answering)
        (data / "root.key").unlink()
        plane = DataPlane(data, models=models, services=behind, egress=egress)
        accounts = Accounts(plane, f"https://{LISTED}:{far.port}")
        gateway = plane.gateway()
        statuses: dict[str, Counter[int]] = {}
        services = installed(plane.settings)
        for service in services:
            accounts.of(kind_of(service))
        watching.set()
        for service in services:
            for operation in service.operations:
                if operation.websocket:
                    continue
                free, shut, listed, tried = accounts.of(kind_of(service))
                inline = any(field.inline for field in operation.uris)
                for account in (free, shut, listed, tried) if inline else (free, listed) if operation.uris else (free,):
                    for uri in uris(trapped, far.port) if operation.uris else list(uris(trapped, far.port))[:1]:
                        found = statuses.setdefault(f"{service.name}.{operation.name}", Counter())
                        found[await one(gateway, account, operation, uri)] += 1
        watching.clear()
        allowed = {
            "egress/dial.py": [f"('127.0.0.1', {model.port})", f"('127.0.0.1', {far.port})"],
            "dns": [f"('127.0.0.1', {names.port})"],
            "names": sorted({name for name, _ in names.asked}),
        }
        print(
            json.dumps(
                {"seen": seen, "canary": touched, "allowed": allowed, "statuses": statuses, "fetched": far.connections}
            )
        )
    trap.close()


class Accounts:
    """Accounts of each kind that is asked for: unrestricted, without a list, with one entry, and the same on trial."""

    def __init__(self, plane: DataPlane, entry: str) -> None:
        self._plane, self._entry = plane, entry
        self._made: dict[str, tuple[Account, Account, Account, Account]] = {}

    def of(self, kind: str) -> tuple[Account, Account, Account, Account]:
        if kind not in self._made:
            name, both = kind.lower().replace(".", "-"), {"kind": kind, "deployments": ("chat", "vectors")}
            restricted = {**both, "restrictOutboundNetworkAccess": True}
            trial = {"controls": {"dlp": "report"}}
            self._made[kind] = (
                self._plane.account(f"free-{name}", **both),
                self._plane.account(f"shut-{name}", allowedFqdnList=[], **restricted),
                self._plane.account(f"listed-{name}", allowedFqdnList=[self._entry], **restricted),
                self._plane.account(f"tried-{name}", allowedFqdnList=[self._entry], stockade=trial, **restricted),
            )
        return self._made[kind]


def kind_of(service: Service) -> str:
    """Return a kind that the service answers for, of those with the most services."""
    return next(
        (kind for kind in ("AIServices", "CognitiveServices") if not service.kinds or kind in service.kinds),
        min(service.kinds, default=""),
    )


async def one(gateway: Any, account: Account, operation: Operation, uri: str) -> int:
    hostile = request(operation, uri)
    deployment = "vectors" if "mbeddings" in operation.name else "chat"
    path = re.sub(r"\{\w+\}", deployment, operation.path.replace("{version}", "v3.2"))
    body = hostile.body
    if hostile.content_type == "application/json" and body.startswith(b"{"):
        body = b'{"model":"%s",' % deployment.encode() + body[1:]
    sent = [
        ("api-key", account.key),
        *hostile.headers.items(),
        ("content-length", str(len(body))),
        ("content-type", hostile.content_type),
    ]
    query = urlencode({"api-version": "2024-10-21", **hostile.query})
    answer = await ask(gateway, account.path(path), *sent, body=body, query=query, method=operation.method)
    return answer.status


if __name__ == "__main__":
    sys.addaudithook(watch)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main(Path(sys.argv[1])))
