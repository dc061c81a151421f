"""Computer Vision's operations: v2.0 to v3.2, whose version is in the path, and image analysis 4.0.

Source: contracts, data-plane section 3; paths and data actions as Azure publishes them for Computer Vision.
"""

from __future__ import annotations

from dataclasses import replace

from stockade.kernel.operation import MiB, Operation, UriField

_IMAGE_BYTES = 20 * MiB
_URL = (UriField("url"),)
_BASE = "/vision/{version}"
_4_0 = "/computervision"

_IMAGES = {
    "Analyze": ("analyze", "analyze"),
    "Describe": ("describe", "describe"),
    "Detect": ("detect", "detect"),
    "Tag": ("tag", "tag"),
    "Ocr": ("ocr", "ocr"),
    "Thumbnail": ("generateThumbnail", "generatethumbnail"),
    "AreaOfInterest": ("areaOfInterest", "areaofinterest"),
    "RecognizeText": ("recognizeText", "recognizetext"),
    "Read": ("read/analyze", "read/analyze"),
    "ReadCore": ("read/core/asyncBatchAnalyze", "read/core/asyncbatchanalyze"),
    "ModelAnalyze": ("models/{model}/analyze", "models/analyze"),
}
"""Path and data action of each operation on one picture."""

_VERSION_IN_PATH = (
    *(
        Operation(
            f"Vision_{name}", "POST", f"{_BASE}/{path}", f"ComputerVision/{action}/action", "media", (), _IMAGE_BYTES,
            uris=_URL,
        )
        for name, (path, action) in _IMAGES.items()
    ),
    Operation("Vision_Models", "GET", f"{_BASE}/models", "ComputerVision/models/read"),
    Operation("Vision_ReadResult", "GET", f"{_BASE}/read/analyzeResults/{{operation}}", "ComputerVision/read/analyzeresults/read"),
    Operation("Vision_ReadCoreResult", "GET", f"{_BASE}/read/operations/{{operation}}", "ComputerVision/read/operations/read"),
    Operation("Vision_TextResult", "GET", f"{_BASE}/textOperations/{{operation}}", "ComputerVision/textoperations/read"),
)  # fmt: skip

OPERATIONS: tuple[Operation, ...] = (
    *(replace(row, versioned=False) for row in _VERSION_IN_PATH),
    Operation(
        "Vision_ImageAnalysis", "POST", f"{_4_0}/imageanalysis:analyze", "ComputerVision/analyze/action", "media", (),
        _IMAGE_BYTES, uris=_URL,
    ),
    Operation(
        "Vision_Segment", "POST", f"{_4_0}/imageanalysis:segment", "ComputerVision/segment/action", "media", (),
        _IMAGE_BYTES, uris=_URL,
    ),
    Operation(
        "Vision_VectorizeImage", "POST", f"{_4_0}/retrieval:vectorizeImage", "ComputerVision/retrieval/action", "media",
        (), _IMAGE_BYTES, uris=_URL,
    ),
    Operation(
        "Vision_VectorizeText", "POST", f"{_4_0}/retrieval:vectorizeText", "ComputerVision/retrieval/action", "json"
    ),
)  # fmt: skip
