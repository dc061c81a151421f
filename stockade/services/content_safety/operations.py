"""Content Safety's operations.

Source: contracts, data-plane sections 3 and 4.8; paths as in azure-ai-contentsafety 1.0 and the later GA versions.
"""

from __future__ import annotations

from stockade.kernel.operation import MiB, Operation, UriField

_BASE = "/contentsafety"
_LIST = f"{_BASE}/text/blocklists/{{blocklist}}"
_ACTION = "ContentSafety/text/blocklists"

OPERATIONS: tuple[Operation, ...] = (
    Operation("Text_Analyze", "POST", f"{_BASE}/text:analyze", "ContentSafety/text:analyze/action", "json"),
    Operation(
        "Image_Analyze", "POST", f"{_BASE}/image:analyze", "ContentSafety/image:analyze/action", "json", (), 8 * MiB,
        uris=(UriField("image.blobUrl"),),
    ),
    Operation("Text_ShieldPrompt", "POST", f"{_BASE}/text:shieldPrompt", "ContentSafety/text:shieldprompt/action", "json"),
    Operation(
        "Text_DetectProtected", "POST", f"{_BASE}/text:detectProtectedMaterial",
        "ContentSafety/text:detectprotectedmaterial/action", "json",
    ),
    # Groundedness names the customer's own model for its reasons: the text goes there.
    Operation(
        "Text_DetectGroundedness", "POST", f"{_BASE}/text:detectGroundedness",
        "ContentSafety/text:detectgroundedness/action", "json",
        uris=(UriField("llmResource.azureOpenAIEndpoint", use="send"),),
    ),
    Operation("Blocklists_List", "GET", f"{_BASE}/text/blocklists", f"{_ACTION}/read"),
    Operation("Blocklists_Get", "GET", _LIST, f"{_ACTION}/read"),
    Operation("Blocklists_CreateOrUpdate", "PATCH", _LIST, f"{_ACTION}/write", "json"),
    Operation("Blocklists_Delete", "DELETE", _LIST, f"{_ACTION}/delete"),
    Operation("Blocklists_Items", "GET", f"{_LIST}/blocklistItems", f"{_ACTION}/read"),
    Operation("Blocklists_Item", "GET", f"{_LIST}/blocklistItems/{{item}}", f"{_ACTION}/read"),
    Operation("Blocklists_AddItems", "POST", f"{_LIST}:addOrUpdateBlocklistItems", f"{_ACTION}/write", "json"),
    Operation("Blocklists_RemoveItems", "POST", f"{_LIST}:removeBlocklistItems", f"{_ACTION}/write", "json"),
)  # fmt: skip
