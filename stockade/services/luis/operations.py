"""LUIS's operations; the version is in the path. Of authoring, what contracts section 4.6 calls the minimum.

Nothing in them is a URI: an imported application brings everything it is made of, and an Azure account is named by its parts.
Data actions as in the built-in roles Cognitive Services LUIS Reader, Writer and Owner.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from stockade.kernel.operation import MiB, Operation

_RUN, _APPS = "/luis/prediction/{version}/apps/{app}", "/luis/authoring/{version}/apps"
_APP = f"{_APPS}/{{app}}"
_V = f"{_APP}/versions/{{v}}"
_PARTS = {
    "intents": "Intents",
    "entities": "Entities",
    "closedlists": "ClosedLists",
    "prebuilts": "Prebuilts",
    "phraselists": "PhraseLists",
    "patternrules": "PatternRules",
}
_PREDICTING: tuple[tuple[str, Literal["none", "json"]], ...] = (("GET", "none"), ("POST", "json"))
_LARGE = 16 * MiB

_ROWS = (
    *(
        Operation(f"Predict_{name}{method.title()}", method, f"{_RUN}/{path}", "LUIS/predict/action", body)
        for name, path in (("Slot", "slots/{slot}/predict"), ("Version", "versions/{v}/predict"))
        for method, body in _PREDICTING
    ),
    Operation("Apps_List", "GET", f"{_APPS}/", "LUIS/apps/read"),
    Operation("Apps_Add", "POST", f"{_APPS}/", "LUIS/apps/write", "json"),
    Operation("Apps_Import", "POST", f"{_APPS}/import", "LUIS/apps/import/action", "json", (), _LARGE),
    Operation("Apps_Get", "GET", _APP, "LUIS/apps/read"),
    Operation("Apps_Update", "PUT", _APP, "LUIS/apps/write", "json"),
    Operation("Apps_Delete", "DELETE", _APP, "LUIS/apps/delete"),
    Operation("Apps_Publish", "POST", f"{_APP}/publish", "LUIS/apps/publish/action", "json"),
    Operation("Apps_Settings", "GET", f"{_APP}/settings", "LUIS/apps/settings/read"),
    Operation("Apps_UpdateSettings", "PUT", f"{_APP}/settings", "LUIS/apps/settings/write", "json"),
    Operation("Apps_PublishSettings", "GET", f"{_APP}/publishsettings", "LUIS/apps/publishsettings/read"),
    Operation("Apps_Endpoints", "GET", f"{_APP}/endpoints", "LUIS/apps/endpoints/read"),
    Operation("Apps_AzureAccounts", "GET", f"{_APP}/azureaccounts", "LUIS/apps/azureaccounts/read"),
    Operation("Apps_AssignAzureAccount", "POST", f"{_APP}/azureaccounts", "LUIS/apps/azureaccounts/action", "json"),
    Operation("Versions_List", "GET", f"{_APP}/versions", "LUIS/apps/versions/read"),
    Operation("Versions_Import", "POST", f"{_APP}/versions/import", "LUIS/apps/versions/import/action", "json", (), _LARGE),
    Operation("Versions_Get", "GET", f"{_V}/", "LUIS/apps/versions/read"),
    Operation("Versions_Delete", "DELETE", f"{_V}/", "LUIS/apps/versions/delete"),
    Operation("Versions_Clone", "POST", f"{_V}/clone", "LUIS/apps/versions/clone/action", "json"),
    Operation("Versions_Export", "GET", f"{_V}/export", "LUIS/apps/versions/export/read"),
    Operation("Train_Start", "POST", f"{_V}/train", "LUIS/apps/versions/train/action", "json"),
    Operation("Train_Status", "GET", f"{_V}/train", "LUIS/apps/versions/train/read"),
    Operation("Examples_Add", "POST", f"{_V}/example", "LUIS/apps/versions/example/write", "json"),
    Operation("Examples_Batch", "POST", f"{_V}/examples", "LUIS/apps/versions/examples/write", "json"),
    Operation("Examples_List", "GET", f"{_V}/examples", "LUIS/apps/versions/examples/read"),
    Operation("Examples_Delete", "DELETE", f"{_V}/examples/{{example}}", "LUIS/apps/versions/examples/delete"),
    *(
        operation
        for path, noun in _PARTS.items()
        for operation in (
            Operation(f"{noun}_List", "GET", f"{_V}/{path}", f"LUIS/apps/versions/{path}/read"),
            Operation(f"{noun}_Add", "POST", f"{_V}/{path}", f"LUIS/apps/versions/{path}/write", "json"),
            Operation(f"{noun}_Get", "GET", f"{_V}/{path}/{{part}}", f"LUIS/apps/versions/{path}/read"),
            Operation(f"{noun}_Update", "PUT", f"{_V}/{path}/{{part}}", f"LUIS/apps/versions/{path}/write", "json"),
            Operation(f"{noun}_Delete", "DELETE", f"{_V}/{path}/{{part}}", f"LUIS/apps/versions/{path}/delete"),
        )
    ),
    Operation("PatternRules_AddOne", "POST", f"{_V}/patternrule", "LUIS/apps/versions/patternrules/write", "json"),
    Operation("Package_Slot", "GET", "/luis/authoring/{version}/package/{app}/slot/{slot}/gzip", "LUIS/apps/export/read"),
    Operation("Package_Version", "GET", "/luis/authoring/{version}/package/{app}/versions/{v}/gzip", "LUIS/apps/export/read"),
)  # fmt: skip

OPERATIONS: tuple[Operation, ...] = tuple(replace(row, versioned=False) for row in _ROWS)
