"""Custom Vision's operations; the version is in the path.

Source: contracts, data-plane section 3 (`{"url"}`); paths, and the two addresses a project may send to, as published for training 3.3 and prediction
3.1. Data actions as in the built-in roles Cognitive Services Custom Vision Reader, Labeler, Trainer, Deployment and Contributor.
"""

from __future__ import annotations

from dataclasses import replace

from stockade.kernel.operation import MiB, Operation, UriField

_IMAGE_BYTES = 8 * MiB
_TRAIN, _PREDICT = "/customvision/{version}/training", "/customvision/{version}/prediction/{project}"
_PROJECT = f"{_TRAIN}/projects/{{project}}"
_IMAGES, _ITERATION = f"{_PROJECT}/images", f"{_PROJECT}/iterations/{{iteration}}"
_TAG = f"{_PROJECT}/tags/{{tag}}"
_P = "CustomVision/projects"
_URL = (UriField("url"),)
_SENDS = ("exportModelContainerUri", "notificationQueueUri")

_ROWS = (
    *(
        Operation(
            f"{kind.title()}_{what.title()}{'' if stored else 'NoStore'}", "POST",
            f"{_PREDICT}/{kind}/iterations/{{name}}/{what}{'' if stored else '/nostore'}",
            f"CustomVision/{kind}/iterations/{what}/action", "media", (), _IMAGE_BYTES, uris=_URL,
        )
        for kind in ("classify", "detect")
        for what in ("url", "image")
        for stored in (True, False)
    ),
    Operation("Projects_List", "GET", f"{_TRAIN}/projects", f"{_P}/read"),
    Operation("Projects_Create", "POST", f"{_TRAIN}/projects", f"{_P}/action", "json",
              uris=tuple(UriField(f"query:{name}", use="send") for name in _SENDS)),
    Operation("Projects_Import", "POST", f"{_TRAIN}/projects/import", f"{_P}/import/action", "json"),
    Operation("Projects_Get", "GET", _PROJECT, f"{_P}/read"),
    Operation("Projects_Update", "PATCH", _PROJECT, f"{_P}/write", "json",
              uris=tuple(UriField(f"settings.{name}", use="send") for name in _SENDS)),
    Operation("Projects_Delete", "DELETE", _PROJECT, f"{_P}/delete"),
    Operation("Projects_Export", "GET", f"{_PROJECT}/export", f"{_P}/export/read"),
    Operation("Projects_Train", "POST", f"{_PROJECT}/train", f"{_P}/train/action", "json"),
    Operation("Images_List", "GET", _IMAGES, f"{_P}/images/read"),
    Operation("Images_Add", "POST", _IMAGES, f"{_P}/images/action", "media", (), 16 * MiB, uris=_URL),
    Operation("Images_AddFiles", "POST", f"{_IMAGES}/files", f"{_P}/images/files/action", "json", (), 16 * MiB),
    Operation("Images_AddUrls", "POST", f"{_IMAGES}/urls", f"{_P}/images/urls/action", "json", uris=(UriField("images[*].url"),)),
    Operation("Images_AddPredictions", "POST", f"{_IMAGES}/predictions", f"{_P}/images/predictions/action", "json"),
    Operation("Images_Delete", "DELETE", _IMAGES, f"{_P}/images/delete"),
    Operation("Images_Regions", "POST", f"{_IMAGES}/regions", f"{_P}/images/regions/action", "json"),
    Operation("Images_Tags", "POST", f"{_IMAGES}/tags", f"{_P}/images/tags/action", "json"),
    Operation("Images_Tagged", "GET", f"{_IMAGES}/tagged", f"{_P}/images/read"),
    Operation("Images_Untagged", "GET", f"{_IMAGES}/untagged", f"{_P}/images/read"),
    Operation("Iterations_List", "GET", f"{_PROJECT}/iterations", f"{_P}/iterations/read"),
    Operation("Iterations_Get", "GET", _ITERATION, f"{_P}/iterations/read"),
    Operation("Iterations_Update", "PATCH", _ITERATION, f"{_P}/iterations/write", "json"),
    Operation("Iterations_Delete", "DELETE", _ITERATION, f"{_P}/iterations/delete"),
    Operation("Iterations_Performance", "GET", f"{_ITERATION}/performance", f"{_P}/iterations/performance/read"),
    Operation("Iterations_Publish", "POST", f"{_ITERATION}/publish", f"{_P}/iterations/publish/action", "json"),
    Operation("Iterations_Unpublish", "DELETE", f"{_ITERATION}/publish", f"{_P}/iterations/publish/delete"),
    Operation("Iterations_Export", "POST", f"{_ITERATION}/export", f"{_P}/iterations/export/action", "json"),
    Operation("Iterations_Exports", "GET", f"{_ITERATION}/export", f"{_P}/iterations/export/read"),
    Operation("QuickTest_Url", "POST", f"{_PROJECT}/quicktest/url", f"{_P}/quicktest/url/action", "json", uris=_URL),
    Operation("QuickTest_Image", "POST", f"{_PROJECT}/quicktest/image", f"{_P}/quicktest/image/action", "media", (), _IMAGE_BYTES, uris=_URL),
    Operation("Predictions_Query", "POST", f"{_PROJECT}/predictions/query", f"{_P}/predictions/query/action", "json"),
    Operation("Predictions_Delete", "DELETE", f"{_PROJECT}/predictions", f"{_P}/predictions/delete"),
    Operation("Tags_List", "GET", f"{_PROJECT}/tags", f"{_P}/tags/read"),
    Operation("Tags_Create", "POST", f"{_PROJECT}/tags", f"{_P}/tags/action", "json"),
    Operation("Tags_Get", "GET", _TAG, f"{_P}/tags/read"),
    Operation("Tags_Update", "PATCH", _TAG, f"{_P}/tags/write", "json"),
    Operation("Tags_Delete", "DELETE", _TAG, f"{_P}/tags/delete"),
    Operation("Domains_List", "GET", f"{_TRAIN}/domains", "CustomVision/domains/read"),
)  # fmt: skip

OPERATIONS: tuple[Operation, ...] = tuple(replace(row, versioned=False) for row in _ROWS)
