"""Diagnostic settings with Azure's unmodified clients against a server of their own, and what its audit process then sends to real receivers.

azure-mgmt-monitor has no operations for diagnostic settings since 7.0.0: its own pipeline sends the requests that its earlier versions sent, and
azure-mgmt-resource's operations by id do the same. `tests/clients/test_az.py` has the command line's.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from azure.core.exceptions import HttpResponseError, ResourceNotFoundError
from azure.core.rest import HttpRequest
from azure.mgmt.monitor import MonitorManagementClient
from azure.mgmt.resource.resources import ResourceManagementClient
from azure.mgmt.resource.resources.models import GenericResource

from stockade.audit.witnesses import newest_notes
from tests.factories.receivers import HttpCollector, OtlpCollector, Receiver, SyslogServer
from tests.live import Live, StartServer, wait_for

VERSION = "2021-05-01-preview"
ARM_SCOPE = "https://management.azure.com/.default"
TYPE = "providers/Microsoft.Insights/diagnosticSettings"
ACCEPT = "Stockade.Audit/logs/acceptRollback/action"
SINKS = "/providers/Stockade.Audit/sinks"


class Receivers:
    """Three receivers in a thread of their own, for a platform that runs in other processes."""

    def __init__(self, folder: Path) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        kinds: dict[str, type[Receiver]] = {"siem": HttpCollector, "otel": OtlpCollector, "log": SyslogServer}
        self.all = {name: self._run(self._made(kind, folder / name)) for name, kind in kinds.items()}
        self.files = folder / "files"
        self.witness = folder / "witness"

    @property
    def settings(self) -> str:
        """What tells a platform of them, TOML. `log` gets everything."""
        parts = [f'[audit]\nhead_every_s = 1.0\n[[audit.witnesses]]\nurl = "file://{self.witness}"\n']
        for name, receiver in self.all.items():
            one = receiver.settings(name)
            everything = str(name == "log").lower()
            parts.append(
                f'[[audit.sinks]]\nname = "{name}"\ntype = "{one.type}"\nurl = "{one.url}"\nca_file = "{one.ca_file}"\n'
                f"everything = {everything}\n"
            )
        parts.append(f'[[audit.sinks]]\nname = "files"\ntype = "file"\nurl = "file://{self.files}"\n')
        return "".join(parts)

    def records(self, name: str) -> list[dict[str, Any]]:
        return list(self.all[name].records)

    def stop(self, name: str) -> None:
        self._run(self.all[name].stop())

    def start(self, name: str) -> None:
        self._run(self.all[name].start())

    def close(self) -> None:
        for name in self.all:
            self.stop(name)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _made(self, kind: type[Receiver], folder: Path) -> Receiver:
        made = kind(folder)
        await made.start()
        return made

    def _run(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(10)


@pytest.fixture
def receivers(tmp_path: Path) -> Iterator[Receivers]:
    made = Receivers(tmp_path / "receivers")
    yield made
    made.close()


class Clients:
    """The administrator's."""

    def __init__(self, live: Live) -> None:
        self._credential = live.credential()
        options = {"base_url": live.arm, "credential_scopes": [ARM_SCOPE], "connection_verify": str(live.bundle)}
        self.monitor = MonitorManagementClient(self._credential, live.subscription, **options)
        self.resources = ResourceManagementClient(self._credential, live.subscription, **options)

    def send(self, method: str, path: str, body: Any = None, version: str = VERSION) -> Any:
        """Send a request through azure-mgmt-monitor's pipeline; return what it says."""
        request = HttpRequest(method, path, params={"api-version": version}, json=body)
        response = self.monitor._send_request(request)
        response.raise_for_status()
        return response.json() if response.content else None


@pytest.mark.timeout(180)
def test_settings_made_with_azures_clients_send_records_where_they_say(
    receivers: Receivers, live_server: StartServer
) -> None:
    live = live_server("--workers", "1", settings=receivers.settings)
    clients, account = Clients(live), live.account_id("demo-openai")
    setting = f"{account}/{TYPE}/one"

    # By id, as azure-mgmt-resource and ARM templates do it.
    body = {"workspaceId": f"{SINKS}/siem", "logs": [{"categoryGroup": "allLogs", "enabled": True}]}
    made = clients.resources.resources.begin_create_or_update_by_id(
        setting, GenericResource(properties=body), api_version=VERSION
    ).result()
    assert (made.id, made.type) == (setting, "Microsoft.Insights/diagnosticSettings")
    assert (
        clients.resources.resources.get_by_id(setting, api_version=VERSION).properties["workspaceId"] == f"{SINKS}/siem"
    )

    # As azure-mgmt-monitor's earlier versions did it.
    stream = {"eventHubAuthorizationRuleId": f"{SINKS}/otel", "logs": [{"category": "Audit", "enabled": True}]}
    clients.send("PUT", f"{account}/{TYPE}/two", {"properties": stream})
    assert [one["name"] for one in clients.send("GET", f"{account}/{TYPE}")["value"]] == ["one", "two"]
    of_subscription = {"storageAccountId": f"{SINKS}/files", "logs": [{"category": "Administrative", "enabled": True}]}
    subscription = f"/subscriptions/{live.subscription}"
    clients.send("PUT", f"{subscription}/{TYPE}/all", {"properties": of_subscription}, "2017-05-01-preview")
    categories = clients.send("GET", f"{account}/providers/Microsoft.Insights/diagnosticSettingsCategories")
    assert {one["name"] for one in categories["value"]} == {"Audit", "RequestResponse"}

    # What cannot be reached is refused, in a form the client reads.
    azures = f"{live.group_id}/providers/Microsoft.OperationalInsights/workspaces/w"
    with pytest.raises(HttpResponseError) as caught:
        clients.resources.resources.begin_create_or_update_by_id(
            f"{setting}-3", GenericResource(properties={**body, "workspaceId": azures}), api_version=VERSION
        ).result()
    assert caught.value.status_code == 400
    assert caught.value.error is not None
    assert caught.value.error.code == "DestinationNotSupported"

    # A call of the data plane, and one that changes the account.
    import requests

    environment = live.account("demo-openai")
    url = f"{environment['AZURE_OPENAI_ENDPOINT']}openai/models?api-version=2024-10-21"
    reply = requests.get(
        url, headers={"api-key": environment["AZURE_OPENAI_API_KEY"]}, verify=str(live.bundle), timeout=30
    )
    decision = reply.headers["apim-request-id"]
    changed = live.request("POST", f"{account}/regenerateKey", {"keyName": "Key2"})
    changed_by = changed.headers["x-ms-correlation-request-id"], changed.headers.get("x-stockade-decision")

    [found] = wait_for(
        lambda: [one for one in receivers.records("siem") if one["correlationId"] == decision], "siem has the request"
    )
    assert found["category"] == "RequestResponse"
    assert found["resourceId"] == account.upper()
    assert found["properties"]["log"] == live.subscription
    wait_for(lambda: _outcomes(receivers.records("siem"), "regenerateKey"), "siem has the change")
    [outcome] = wait_for(lambda: _outcomes(receivers.records("otel"), "regenerateKey"), "otel has the change")
    assert outcome["correlationId"] in changed_by
    assert {one["category"] for one in receivers.records("otel")} == {"Audit"}
    wait_for(lambda: _outcomes(_lines(receivers.files), "regenerateKey"), "files have the change")
    assert {one["category"] for one in _lines(receivers.files)} <= {"Audit", "AuditEvent"}
    wait_for(
        lambda: {"RequestResponse", "Audit"} <= {one["category"] for one in receivers.records("log")},
        "log has everything",
    )
    assert {one["properties"]["log"] for one in receivers.records("log")} >= {live.subscription}

    # A receiver that is away gets it all when it is back; the others do not wait.
    receivers.stop("siem")
    live.request("POST", f"{account}/regenerateKey", {"keyName": "Key1"})
    wait_for(lambda: len(_outcomes(receivers.records("otel"), "regenerateKey")) == 2, "otel has the next change")
    state = wait_for(lambda: _failing(live, "siem"), "the listing says that siem fails")
    assert "cannot be reached" in state["properties"]["lastError"]
    receivers.start("siem")
    wait_for(lambda: len(_outcomes(receivers.records("siem"), "regenerateKey")) == 2, "siem has caught up")
    places = [one["properties"]["index"] for one in receivers.records("siem")]
    assert list(dict.fromkeys(places)) == sorted(set(places)), "in order"

    # Taken away, nothing follows.
    clients.resources.resources.begin_delete_by_id(setting, api_version=VERSION).result()
    with pytest.raises(ResourceNotFoundError):
        clients.resources.resources.get_by_id(setting, api_version=VERSION)
    before = len(_outcomes(receivers.records("siem"), "regenerateKey"))
    live.request("POST", f"{account}/regenerateKey", {"keyName": "Key1"})
    wait_for(lambda: len(_outcomes(receivers.records("otel"), "regenerateKey")) == 3, "otel has the last change")
    assert len(_outcomes(receivers.records("siem"), "regenerateKey")) == before

    # A log that is not what its witness knows: nothing is served until an operator has said that it is known why.
    wait_for(lambda: _pinned(receivers.witness, "platform"), "the platform's log is pinned")
    live.stop()
    shutil.rmtree(live.data_dir / "audit" / "logs" / "platform")
    live.start_again()
    assert live.request("GET", account).status_code == 503
    assert "was rolled back or rewritten: the log platform" in live.log()
    live.stockade("audit", "accept-rollback", "--reason", "a disk was replaced")
    wait_for(lambda: live.request("GET", account).status_code == 200, "it serves again")
    wait_for(
        lambda: [one for one in receivers.records("log") if one["operationName"] == ACCEPT and one["identity"]],
        "it is on record",
    )


def _outcomes(records: list[dict[str, Any]], action: str) -> list[dict[str, Any]]:
    found = {
        one["properties"]["index"]: one
        for one in records
        if one["operationName"].lower().endswith(f"/{action}/action".lower()) and one["resultType"] == "Succeeded"
    }
    return list(found.values())


def _lines(folder: Path) -> list[dict[str, Any]]:
    path = folder / "files.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def _pinned(witness: Path, log: str) -> bool:
    return any(note.partition(b"\n")[0].endswith(b"/" + log.encode()) for note in newest_notes(witness))


def _failing(live: Live, name: str) -> Any:
    found = live.request("GET", SINKS).json()["value"]
    return next((one for one in found if one["name"] == name and one["properties"]["failing"]), None)
