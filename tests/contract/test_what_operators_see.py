"""What operators see without Lockbox is what `lockbox/visible.py` says: each row of it is shown, and nothing that a customer gave is anywhere in it.

Canaries are planted in a file's name and body, in a batch's metadata, in a prompt and in a response's metadata; then everything that an operator can
ask is asked: every GET that ARM has, the command line, health, the records and the log on disk.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
import requests

from stockade.lockbox import visible
from stockade.management.routing import Registry
from tests.factories.canary import canary, forms
from tests.factories.commands import command
from tests.live import Live

ACCOUNT = "watched-from-outside"
VERSION = "2024-10-21"


@dataclass(frozen=True)
class Watched:
    """An account with things in it, and an operator with the roles that operators have: no data role, no keys."""

    live: Live
    file: str
    decision: str
    markers: Mapping[str, bytes]
    token: str
    variables: Mapping[str, str]
    session: requests.Session

    @property
    def account(self) -> str:
        return self.live.account_id(ACCOUNT)

    def get(self, path: str) -> requests.Response:
        version = "" if "api-version=" in path else f"{'&' if '?' in path else '?'}api-version=2025-09-01"
        headers = {"Authorization": f"Bearer {self.token}"}
        return self.session.get(f"{self.live.arm}{path}{version}", headers=headers, timeout=30)

    def command(self, *arguments: str) -> str:
        done = command(self.live, *arguments, **self.variables)
        assert done.returncode in (0, 4, 5, 6), (arguments, done.stderr)
        return done.stdout + done.stderr


@pytest.fixture(scope="module")
def watched(live: Live) -> Iterator[Watched]:
    body = {"kind": "OpenAI", "location": live.location, "sku": {"name": "S0"}}
    live.request(
        "PUT", live.account_id(ACCOUNT), {**body, "properties": {"customSubDomainName": ACCOUNT}}
    ).raise_for_status()
    markers = {name: canary() for name in ("name", "body", "metadata", "prompt", "note")}
    told = {name: marker.decode() for name, marker in markers.items()}
    found = live.account(ACCOUNT)

    def send(path: str, **content: Any) -> requests.Response:
        return requests.post(
            f"{found['AZURE_OPENAI_ENDPOINT']}openai/{path}?api-version={VERSION}",
            headers={"api-key": found["AZURE_OPENAI_API_KEY"]},
            verify=str(live.bundle),
            timeout=60,
            **content,
        )

    line = {"custom_id": told["body"], "method": "POST", "url": "/chat/completions", "body": {"model": "none"}}
    lines = {"file": (f"{told['name']}.jsonl", json.dumps(line))}
    kept = send("files", files=lines, data={"purpose": "batch"})
    assert kept.status_code in (200, 201), kept.text
    batch = {"input_file_id": kept.json()["id"], "endpoint": "/chat/completions", "completion_window": "24h"}
    send("batches", json={**batch, "metadata": {told["metadata"]: told["metadata"]}})
    messages = [{"role": "user", "content": told["prompt"]}]
    asked = send("deployments/none/chat/completions", json={"messages": messages, "metadata": {"k": told["note"]}})
    made = json.loads(command(live, "identity", "create", "outsider", "--format", "json").stdout)
    for role in ("Stockade Support Engineer", "Stockade Lockbox Reviewer", "Reader"):
        assert command(live, "identity", "assign", "outsider", role).returncode == 0
    with live.credential(made["clientId"], made["clientSecret"]) as credential:
        token = str(credential.get_token("https://management.azure.com/.default").token)
    variables = {"STOCKADE_OPERATOR_ID": made["clientId"], "STOCKADE_OPERATOR_SECRET": made["clientSecret"]}
    shown = requests.get(
        f"{found['AZURE_OPENAI_ENDPOINT']}openai/files/{kept.json()['id']}?api-version={VERSION}",
        headers={"api-key": found["AZURE_OPENAI_API_KEY"]},
        verify=str(live.bundle),
        timeout=60,
    )
    assert told["name"] in shown.text, "the customer sees it"
    session = requests.Session()
    session.verify = str(live.bundle)
    yield Watched(live, kept.json()["id"], asked.headers["apim-request-id"], markers, token, variables, session)
    assert live.request("DELETE", live.account_id(ACCOUNT)).status_code in (200, 202, 204)


def test_nothing_that_a_customer_gave_is_in_what_an_operator_can_ask(watched: Watched) -> None:
    looked: dict[str, str] = {}
    for path in dict.fromkeys(paths(watched)):
        reply = watched.get(path)
        assert reply.status_code < 500, (path, reply.text)
        looked[f"GET {path}"] = reply.text + json.dumps(dict(reply.headers))
    assert sum('"value"' in text for text in looked.values()) > 20, "it has been let in"
    for arguments in (*COMMANDS, ("explain", watched.decision)):
        looked[" ".join(arguments)] = watched.command(*arguments)
    for origin in (watched.live.arm, watched.live.data):
        looked[origin] = requests.get(f"{origin}/healthz", verify=str(watched.live.bundle), timeout=10).text
    for file in sorted((watched.live.data_dir / "audit").rglob("*")):
        if file.is_file():
            looked[str(file)] = file.read_text(errors="replace")
    looked["log"] = watched.live.log()
    found = [
        f"{name} ({form}) in {where}"
        for name, marker in watched.markers.items()
        for form, written in forms(marker).items()
        for where, text in looked.items()
        if written in text.encode(errors="replace")
    ]
    assert found == []


@pytest.mark.parametrize("name", [one.name for one in visible.SEEN])
def test_each_row_of_the_table_is_really_shown(watched: Watched, name: str) -> None:
    assert SHOWN[name](watched)


def test_of_objects_exactly_the_table_is_shown(watched: Watched) -> None:
    listed = watched.get(f"{watched.account}/providers/Stockade.Lockbox/objects").json()["value"]
    [file] = [one for one in listed if one["id"] == watched.file]
    assert list(file) == [one.member for one in visible.OBJECT]
    assert (file["path"], file["kind"], file["state"]) == (f"files/{watched.file}", "files", "live")
    assert file["bytes"] > 50 and re.fullmatch(r"[0-9a-f]{12}", file["dataKey"])
    stranger = watched.live.request("GET", f"{watched.account}/providers/Stockade.Lockbox/objects", token="none")
    assert stranger.status_code == 401


def test_objects_come_in_pages(watched: Watched) -> None:
    path = f"{watched.account}/providers/Stockade.Lockbox/objects"
    whole = [one["path"] for one in watched.get(path).json()["value"]]
    first = watched.get(f"{path}?$top=1").json()
    assert [one["path"] for one in first["value"]] == whole[:1]
    rest = watched.get(first["nextLink"].removeprefix(watched.live.arm).replace("$top=1", "$top=500")).json()
    assert [one["path"] for one in rest["value"]] == whole[1:]
    assert watched.get(f"{path}?$top=x").status_code == 400


COMMANDS = (
    ("account", "list"),
    ("status",),
    ("report", ACCOUNT, "--control", "network"),
    ("audit", "tail"),
    ("audit", "search", "--account", ACCOUNT),
    ("jobs", "list"),
    ("lockbox", "objects", "--account", ACCOUNT),
    ("lockbox", "filed", "--all"),
    ("keys", "encryption", ACCOUNT),
    ("keys", "show", ACCOUNT),
    ("access", "list", "--all"),
    ("approvals", "list", "--all"),
)


def paths(watched: Watched) -> Iterator[str]:
    """Yield every path of ARM that can be GET, as far as it can be filled in."""
    live, registry = watched.live, Registry.load()
    base = f"/subscriptions/{live.subscription}"
    for kind in registry:
        yield f"{base}/providers/{kind.type}"
        for scope in (base, live.group_id, watched.account):
            yield f"{scope}/providers/{kind.type}"
        if kind.type.startswith("Microsoft.CognitiveServices/accounts"):
            yield f"{watched.account}/{kind.type.partition('/accounts')[2].strip('/')}".rstrip("/")
        for action in kind.actions:
            if action.method == "GET" and kind.type == "Microsoft.CognitiveServices/accounts":
                yield f"{watched.account}/{action.name}"
    for template in routes():
        yield from filled(template, watched)


def routes() -> list[str]:
    from stockade.kernel.shelf import Shelf
    from stockade.management.resource_type import Plugin

    plugins = Shelf.load("stockade.management.resources", Plugin)
    return [route.template for plugin in plugins for route in plugin.routes if route.method == "GET"]


def filled(template: str, watched: Watched) -> Iterator[str]:
    live = watched.live
    known = {
        "subscription": live.subscription,
        "group": live.resource_group,
        "account": ACCOUNT,
        "location": live.location,
        "tenant": live.tenant,
    }
    scopes = (f"/subscriptions/{live.subscription}", watched.account) if template.startswith("/{scope}") else ("",)
    for scope in scopes:
        text = template.replace("/{scope}", scope, 1)
        yield re.sub(r"\{(\w+)\}", lambda found: known.get(found[1], "none"), text)


def _told(watched: Watched, *arguments: str, of: tuple[str, ...]) -> bool:
    text = watched.command(*arguments)
    return all(one in text for one in of)


SHOWN: Mapping[str, Callable[[Watched], bool]] = {
    "accounts": lambda w: w.get(w.account).json()["kind"] == "OpenAI" and _told(w, "account", "list", of=(ACCOUNT,)),
    "objects": lambda w: _told(w, "lockbox", "objects", "--account", ACCOUNT, of=(f"files/{w.file}", "live")),
    "decisions": lambda w: _told(w, "explain", w.decision, of=("127.0.0.1", "Key1")),
    "records": lambda w: _told(w, "audit", "tail", of=("127.0.0.1",)),
    "health": lambda w: _told(w, "status", of=("running",)),
    "requests": lambda w: any(
        one in w.command("lockbox", "filed", "--all") for one in ("There are none.", "Request  ")
    ),
}
