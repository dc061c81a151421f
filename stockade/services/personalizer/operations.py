"""Personalizer's operations; the version is in the path. Source: contracts, data-plane sections 3 and 4.9."""

from __future__ import annotations

from dataclasses import replace

from stockade.kernel.operation import MiB, Operation, UriField

_BASE = "/personalizer/{version}"
_EVENT, _SLOTS = f"{_BASE}/events/{{event}}", f"{_BASE}/multislot/events/{{event}}"
_SERVICE, _POLICY = f"{_BASE}/configurations/service", f"{_BASE}/configurations/policy"
_A = "Personalizer"

_ROWS = (
    Operation("Rank", "POST", f"{_BASE}/rank", f"{_A}/rank/action", "json"),
    Operation("Events_Reward", "POST", f"{_EVENT}/reward", f"{_A}/events/reward/action", "json"),
    Operation("Events_Activate", "POST", f"{_EVENT}/activate", f"{_A}/events/activate/action", "json"),
    Operation("MultiSlot_Rank", "POST", f"{_BASE}/multislot/rank", f"{_A}/multislot/rank/action", "json"),
    Operation("MultiSlot_Reward", "POST", f"{_SLOTS}/reward", f"{_A}/multislot/events/reward/action", "json"),
    Operation("MultiSlot_Activate", "POST", f"{_SLOTS}/activate", f"{_A}/multislot/events/activate/action", "json"),
    Operation("Service_Get", "GET", _SERVICE, f"{_A}/configurations/service/read"),
    Operation(
        "Service_Update", "PUT", _SERVICE, f"{_A}/configurations/service/write", "json",
        uris=(UriField("logMirrorSasUri", use="send"),),
    ),
    Operation("Policy_Get", "GET", _POLICY, f"{_A}/configurations/policy/read"),
    Operation("Policy_Update", "PUT", _POLICY, f"{_A}/configurations/policy/write", "json"),
    Operation("Policy_Reset", "DELETE", _POLICY, f"{_A}/configurations/policy/delete"),
    Operation(
        "Service_ApplyFromEvaluation", "POST", f"{_BASE}/configurations/applyFromEvaluation",
        f"{_A}/configurations/applyfromevaluation/action", "json",
    ),
    Operation("Evaluations_List", "GET", f"{_BASE}/evaluations", f"{_A}/evaluations/read"),
    Operation("Evaluations_Create", "POST", f"{_BASE}/evaluations", f"{_A}/evaluations/write", "json"),
    Operation("Evaluations_Get", "GET", f"{_BASE}/evaluations/{{evaluation}}", f"{_A}/evaluations/read"),
    Operation("Evaluations_Delete", "DELETE", f"{_BASE}/evaluations/{{evaluation}}", f"{_A}/evaluations/delete"),
    Operation("Logs_Delete", "DELETE", f"{_BASE}/logs", f"{_A}/logs/delete"),
    Operation("Logs_Properties", "GET", f"{_BASE}/logs/properties", f"{_A}/logs/properties/read"),
    Operation("Model_Get", "GET", f"{_BASE}/model", f"{_A}/model/read"),
    Operation("Model_Import", "PUT", f"{_BASE}/model", f"{_A}/model/write", "binary", (), 16 * MiB),
    Operation("Model_Reset", "DELETE", f"{_BASE}/model", f"{_A}/model/delete"),
    Operation("Model_Properties", "GET", f"{_BASE}/model/properties", f"{_A}/model/properties/read"),
)  # fmt: skip

OPERATIONS: tuple[Operation, ...] = tuple(replace(row, versioned=False) for row in _ROWS)
