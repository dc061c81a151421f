"""Content Moderator's operations, v1.0; the version is in the path.

Source: contracts, data-plane sections 3 and 4.8. A picture is named as `{"DataRepresentation": "URL", "Value": ...}`; with another representation
the value is the picture itself.
"""

from __future__ import annotations

from dataclasses import replace

from stockade.kernel.operation import KiB, MiB, Operation, UriField

_IMAGE_BYTES = 6 * MiB
_SMALL = 256 * KiB
_VALUE = (UriField("Value"),)
_REVIEW = (
    UriField("[*].Content"),
    UriField("[*].CallbackEndpoint", use="send"),
    UriField("[*].VideoFrames[*].FrameImage"),
)
_MODERATE, _LISTS, _TEAM = (
    "/contentmoderator/moderate/v1.0",
    "/contentmoderator/lists/v1.0",
    "/contentmoderator/review/v1.0/teams/{team}",
)
_REVIEWS = f"{_TEAM}/reviews"


def _lists(noun: str, path: str, action: str) -> tuple[Operation, ...]:
    one = f"{_LISTS}/{path}/{{list}}"
    return (
        Operation(f"{noun}_All", "GET", f"{_LISTS}/{path}", f"{action}/read"),
        Operation(f"{noun}_Create", "POST", f"{_LISTS}/{path}", f"{action}/action", "json", max_body_bytes=_SMALL),
        Operation(f"{noun}_Get", "GET", one, f"{action}/read"),
        Operation(f"{noun}_Update", "PUT", one, f"{action}/write", "json", max_body_bytes=_SMALL),
        Operation(f"{noun}_Delete", "DELETE", one, f"{action}/delete"),
        Operation(f"{noun}_Refresh", "POST", f"{one}/RefreshIndex", f"{action}/refreshindex/action", "json", max_body_bytes=_SMALL),
    )  # fmt: skip


_IMAGES, _TERMS = f"{_LISTS}/imagelists/{{list}}/images", f"{_LISTS}/termlists/{{list}}/terms"
_REVIEW_PATH = f"{_REVIEWS}/{{review}}"
_A = "ContentModerator"
_A_REVIEWS = f"{_A}/teams/reviews"
_FRAMES = (UriField("[*].FrameImage"), UriField("[*].VideoFrames[*].FrameImage"))
_JOB = (UriField("ContentValue"), UriField("query:CallBackEndpoint", use="send"))

_ROWS = (
    *(
        Operation(
            f"Image_{name}", "POST", f"{_MODERATE}/ProcessImage/{name}", f"{_A}/processimage/{name.lower()}/action",
            "media", (), _IMAGE_BYTES, uris=_VALUE,
        )
        for name in ("Evaluate", "OCR", "FindFaces", "Match")
    ),
    *(
        Operation(
            f"Text_{name}", "POST", f"{_MODERATE}/ProcessText/{name}", f"{_A}/processtext/{name.lower()}/action", "text",
            max_body_bytes=_SMALL,
        )
        for name in ("Screen", "DetectLanguage")
    ),
    *_lists("ImageList", "imagelists", f"{_A}/imagelists"),
    *_lists("TermList", "termlists", f"{_A}/termlists"),
    Operation("ImageList_Images", "GET", _IMAGES, f"{_A}/imagelists/read"),
    Operation("ImageList_AddImage", "POST", _IMAGES, f"{_A}/imagelists/action", "media", (), _IMAGE_BYTES, uris=_VALUE),
    Operation("ImageList_DeleteImages", "DELETE", _IMAGES, f"{_A}/imagelists/delete"),
    Operation("ImageList_DeleteImage", "DELETE", f"{_IMAGES}/{{image}}", f"{_A}/imagelists/delete"),
    Operation("TermList_Terms", "GET", _TERMS, f"{_A}/termlists/read"),
    Operation("TermList_DeleteTerms", "DELETE", _TERMS, f"{_A}/termlists/delete"),
    Operation("TermList_AddTerm", "POST", f"{_TERMS}/{{term}}", f"{_A}/termlists/action", "json", (), _SMALL),
    Operation("TermList_DeleteTerm", "DELETE", f"{_TERMS}/{{term}}", f"{_A}/termlists/delete"),
    Operation("Reviews_Create", "POST", _REVIEWS, f"{_A_REVIEWS}/action", "json", uris=_REVIEW),
    Operation("Reviews_Get", "GET", _REVIEW_PATH, f"{_A_REVIEWS}/read"),
    Operation("Reviews_Frames", "GET", f"{_REVIEW_PATH}/frames", f"{_A_REVIEWS}/read"),
    Operation(
        "Reviews_AddFrames", "POST", f"{_REVIEW_PATH}/frames", f"{_A_REVIEWS}/action", "media", (), _IMAGE_BYTES, uris=_FRAMES
    ),
    Operation("Reviews_AddTranscript", "PUT", f"{_REVIEW_PATH}/transcript", f"{_A_REVIEWS}/action", "text", (), MiB),
    Operation("Reviews_TranscriptResult", "PUT", f"{_REVIEW_PATH}/transcriptmoderationresult", f"{_A_REVIEWS}/action", "json"),
    Operation("Reviews_Publish", "POST", f"{_REVIEW_PATH}/publish", f"{_A_REVIEWS}/publish/action", "json", (), _SMALL),
    Operation("Jobs_Create", "POST", f"{_TEAM}/jobs", f"{_A}/teams/jobs/action", "media", (), _IMAGE_BYTES, uris=_JOB),
    Operation("Jobs_Get", "GET", f"{_TEAM}/jobs/{{job}}", f"{_A}/teams/jobs/read"),
)  # fmt: skip

OPERATIONS: tuple[Operation, ...] = (
    *(replace(row, versioned=False) for row in _ROWS),
    # Azure's own client writes this path with a slash at its end.
    *(replace(row, versioned=False, path=f"{row.path}/") for row in _ROWS if row.name == "Text_Screen"),
)
