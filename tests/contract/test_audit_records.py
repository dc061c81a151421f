"""What a running platform's records hold, and what they never do: secrets, bodies, and hosts out of them other than as keyed hashes."""

from __future__ import annotations

from typing import Any

import httpx

from stockade.audit.ledger import PLATFORM_LOG
from stockade.audit.store import Logs
from stockade.settings import Settings
from tests.factories.audit import logged
from tests.factories.canary import canary, where
from tests.live import Live, wait_for

NAME = "records-hold-no-content"
VERSION = "api-version=2024-10-21"


def test_records_hold_no_secret_and_nothing_out_of_a_body(live: Live) -> None:
    marker = canary().decode()
    host = f"{marker}.example.com"
    path = live.account_id(NAME)
    body = {
        "location": live.location,
        "kind": "OpenAI",
        "sku": {"name": "S0"},
        "tags": {"purpose": marker},
        "properties": {
            "customSubDomainName": NAME,
            "restrictOutboundNetworkAccess": True,
            "allowedFqdnList": ["a.example.com"],
        },
    }
    assert live.request("PUT", path, body).status_code in (200, 201)
    model = {"format": "OpenAI", "name": "smollm2-135m-instruct", "version": "1"}
    deployment = {"sku": {"name": "Standard", "capacity": 10}, "properties": {"model": model}}
    assert live.request("PUT", f"{path}/deployments/chat", deployment).status_code in (200, 201)
    key = live.request("POST", f"{path}/listKeys").json()["key1"]
    told = []
    with httpx.Client(verify=live.trust(), timeout=30) as client:

        def chat(content: Any, shown: str = key, name: str = marker) -> int:
            url = f"{live.data}/{NAME}/openai/deployments/chat/chat/completions?{VERSION}"
            asked = {"messages": [{"role": "user", "content": content, "name": name}], "user": marker, "max_tokens": 0}
            answer = client.post(url, json=asked, headers={"api-key": shown})
            told.append(answer.headers["apim-request-id"])
            return answer.status_code

        assert chat([{"type": "image_url", "image_url": {"url": f"https://{host}/{marker}"}}]) == 400
        assert chat(f"look at https://{host}/?{marker} please") == 400
        assert chat(marker) == 400  # max_tokens
        assert chat("hello", shown=f"{marker}{'0' * 40}") == 401
        form = {"grant_type": "client_credentials", "client_id": live.admin[0], "client_secret": f"{marker}~secret"}
        form["scope"] = "https://management.azure.com/.default"
        assert client.post(f"{live.authority}/{live.tenant}/oauth2/v2.0/token", data=form).status_code == 401
        vault = live.token("https://vault.azure.net")
        at = f"{live.arm}/secrets/{NAME}?api-version=7.6"
        bearer = {"authorization": f"Bearer {vault}"}
        assert client.put(at, json={"value": marker, "tags": {"t": marker}}, headers=bearer).status_code == 200
        assert client.get(at, headers=bearer).json()["value"] == marker
        assert client.get(at, headers={"authorization": f"Bearer {marker}.{marker}.x"}).status_code == 401
        refused = live.request("PUT", path, {"properties": {marker: marker}}, token=f"{marker}.{marker}.x")
        assert refused.status_code == 401
        assert live.request("PUT", f"{path}x", {"location": marker}).status_code == 400
    hidden = live.stockade("audit", "hash", host.upper()).strip()
    wanted = set(told)

    def taken_in() -> bool:
        found = logged(live.data_dir)
        late = [one for one in found if one.get("operation") == "SecretGet" or "secrets" in str(one.get("because"))]
        return wanted <= {one["id"] for one in found} and bool(late)

    wait_for(taken_in, "the records of all that are in the logs")
    assert where(marker.encode(), live.data_dir / "audit") == []
    by_host = [one["operation"] for one in logged(live.data_dir) if (one.get("because") or {}).get("host") == hidden]
    assert len(by_host) == 2, "a known host can be looked for all the same"
    shown = live.stockade("explain", told[0])
    assert host in shown, "who may see the decision sees which host it was"


def test_refusals_and_changes_are_in_their_logs(live: Live) -> None:
    logs = Logs(Settings(data_dir=live.data_dir).audit_dir)
    with httpx.Client(verify=live.trust(), timeout=30) as client:
        made_up = "00000000-1111-4222-8333-444444444444"
        answer = client.get(f"{live.arm}/subscriptions/{made_up}/resourceGroups?api-version=2022-12-01")
        assert answer.status_code == 401
        decision = answer.headers["x-ms-request-id"]
    wait_for(lambda: decision in {one["id"] for one in logged(live.data_dir)}, "the refusal is in a log")
    assert PLATFORM_LOG in logs.names()
    assert made_up not in logs.names(), "nobody makes a log by asking for what is not there"
