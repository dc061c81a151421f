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
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from stockade.kernel.operation import Operation
from stockade.settings import Model, Upstream
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


def request(operation: Operation, uri: str) -> tuple[dict[str, Any], dict[str, str], dict[str, str]]:
    """Return body, query and headers with the URI in every field that is declared, and in some that are not."""
    body: dict[str, Any] = {
        "model": "chat", "prompt": uri, "input": uri, "tools": [{"type": "mcp", "server_url": uri}], "webhook": uri, "source": uri, "$ref": uri,
        "messages": [{"role": "user", "content": uri}, {"role": "user", "content": [{"type": "text", "text": uri}]}],
    }  # fmt: skip
    query, headers = {"url": uri}, {"x-callback": uri, "referer": uri, "x-forwarded-host": uri, "forwarded": uri}
    for field in operation.uris:
        kind, found, name = field.at.partition(":")
        if found and kind == "query":
            query[name] = uri
        elif found and kind == "header":
            headers[name] = uri
        elif not found:
            put(body, [part or "*" for part, _ in re.findall(r"([^.\[\]]+)|\[(\*)\]", field.at)], uri)
    return body, query, headers


def put(body: Any, steps: list[str], uri: str) -> None:
    """Put a text at a path; each list on the way gets one more item for it."""
    for step, following in zip(steps, [*steps[1:], ""], strict=True):
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
        plane = DataPlane(
            data,
            models=models,
            egress=egress_settings(
                made.authority, dns_servers=(names.address,), connect_timeout_s=5.0, fetch_timeout_s=10.0
            ),
        )
        # With its port: whoever lists a host alone means every port of it, the canary's too.
        entry = f"https://{LISTED}:{far.port}"
        both = {"kind": "AIServices", "deployments": ("chat", "vectors")}
        restricted = {**both, "restrictOutboundNetworkAccess": True}
        accounts: list[Account] = [
            plane.account("free", **both),
            plane.account("shut", allowedFqdnList=[], **restricted),
            plane.account("listed", allowedFqdnList=[entry], **restricted),
            plane.account("tried", allowedFqdnList=[entry], stockade={"controls": {"dlp": "report"}}, **restricted),
        ]
        gateway = plane.gateway()
        services = {route[0] for node in walk(gateway._admission._router._root) for route in node.operations.values()}
        statuses: dict[str, list[int]] = {}
        watching.set()
        for service in sorted(services, key=lambda one: one.name):
            for operation in service.operations:
                for account in accounts:
                    for uri in uris(trapped, far.port):
                        statuses.setdefault(operation.name, []).append(await one(gateway, account, operation, uri))
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


async def one(gateway: Any, account: Account, operation: Operation, uri: str) -> int:
    body, query, headers = request(operation, uri)
    deployment = "vectors" if "mbeddings" in operation.name else "chat"
    body["model"] = deployment
    path = re.sub(r"\{\w+\}", deployment, operation.path)
    text = json.dumps(body).encode()
    sent = [("api-key", account.key), *headers.items(), ("content-length", str(len(text)))]
    sent.append(
        ("content-type", "application/json" if operation.body in ("json", "none") else "application/octet-stream")
    )
    pairs = "&".join(f"{name}={value}" for name, value in {"api-version": "2024-10-21", **query}.items())
    answer = await ask(gateway, account.path(path), *sent, body=text, query=pairs, method=operation.method)
    return answer.status


def walk(node: Any) -> Iterator[Any]:
    yield node
    for child in (*node.children.values(), *([node.parameter[1]] if node.parameter else [])):
        yield from walk(child)


if __name__ == "__main__":
    sys.addaudithook(watch)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main(Path(sys.argv[1])))
