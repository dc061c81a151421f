"""Face's operations, v1.0 to v1.2; the version is in the path.

Source: contracts, data-plane sections 3 and 4.7; data actions as in the built-in roles Cognitive Services Face Recognizer and Contributor.
"""

from __future__ import annotations

from dataclasses import replace

from stockade.kernel.operation import KiB, MiB, Operation, UriField

_IMAGE_BYTES = 6 * MiB
_SMALL = 256 * KiB
_URL = (UriField("url"),)
_BASE = "/face/{version}"


def _lists(noun: str, path: str, action: str, *, trained: bool) -> tuple[Operation, ...]:
    """Return what a face list can be asked: itself, its faces, its training."""
    one, all_ = f"{_BASE}/{path}/{{list}}", f"{_BASE}/{path}"
    faces = f"{one}/persistedfaces"
    rows = (
        Operation(f"{noun}_List", "GET", all_, f"{action}/read"),
        Operation(f"{noun}_Get", "GET", one, f"{action}/read"),
        Operation(f"{noun}_Create", "PUT", one, f"{action}/write", "json", max_body_bytes=_SMALL),
        Operation(f"{noun}_Update", "PATCH", one, f"{action}/write", "json", max_body_bytes=_SMALL),
        Operation(f"{noun}_Delete", "DELETE", one, f"{action}/delete"),
        Operation(
            f"{noun}_AddFace", "POST", faces, f"{action}/persistedfaces/write", "media", (), _IMAGE_BYTES, uris=_URL
        ),
        Operation(f"{noun}_DeleteFace", "DELETE", f"{faces}/{{face}}", f"{action}/persistedfaces/delete"),
    )
    if not trained:
        return rows
    return (
        *rows,
        Operation(f"{noun}_ListFaces", "GET", faces, f"{action}/persistedfaces/read"),
        Operation(f"{noun}_GetFace", "GET", f"{faces}/{{face}}", f"{action}/persistedfaces/read"),
        Operation(
            f"{noun}_UpdateFace", "PATCH", f"{faces}/{{face}}", f"{action}/persistedfaces/write", "json",
            max_body_bytes=_SMALL,
        ),
        Operation(f"{noun}_Train", "POST", f"{one}/train", f"{action}/train/action", "json", max_body_bytes=_SMALL),
        Operation(f"{noun}_Training", "GET", f"{one}/training", f"{action}/training/read"),
    )  # fmt: skip


def _groups(noun: str, path: str, action: str) -> tuple[Operation, ...]:
    """Return what a person group can be asked: itself, its persons, their faces, its training."""
    one, all_ = f"{_BASE}/{path}/{{group}}", f"{_BASE}/{path}"
    persons, person = f"{one}/persons", f"{one}/persons/{{person}}"
    faces = f"{person}/persistedfaces"
    return (
        Operation(f"{noun}_List", "GET", all_, f"{action}/read"),
        Operation(f"{noun}_Get", "GET", one, f"{action}/read"),
        Operation(f"{noun}_Create", "PUT", one, f"{action}/write", "json", max_body_bytes=_SMALL),
        Operation(f"{noun}_Update", "PATCH", one, f"{action}/write", "json", max_body_bytes=_SMALL),
        Operation(f"{noun}_Delete", "DELETE", one, f"{action}/delete"),
        Operation(f"{noun}_Train", "POST", f"{one}/train", f"{action}/train/action", "json", max_body_bytes=_SMALL),
        Operation(f"{noun}_Training", "GET", f"{one}/training", f"{action}/training/read"),
        Operation(f"{noun}_ListPersons", "GET", persons, f"{action}/persons/read"),
        Operation(f"{noun}_CreatePerson", "POST", persons, f"{action}/persons/action", "json", max_body_bytes=_SMALL),
        Operation(f"{noun}_GetPerson", "GET", person, f"{action}/persons/read"),
        Operation(f"{noun}_UpdatePerson", "PATCH", person, f"{action}/persons/write", "json", max_body_bytes=_SMALL),
        Operation(f"{noun}_DeletePerson", "DELETE", person, f"{action}/persons/delete"),
        Operation(
            f"{noun}_AddPersonFace", "POST", faces, f"{action}/persons/persistedfaces/write", "media", (), _IMAGE_BYTES,
            uris=_URL,
        ),
        Operation(f"{noun}_GetPersonFace", "GET", f"{faces}/{{face}}", f"{action}/persons/persistedfaces/read"),
        Operation(
            f"{noun}_UpdatePersonFace", "PATCH", f"{faces}/{{face}}", f"{action}/persons/persistedfaces/write", "json",
            max_body_bytes=_SMALL,
        ),
        Operation(f"{noun}_DeletePersonFace", "DELETE", f"{faces}/{{face}}", f"{action}/persons/persistedfaces/delete"),
    )  # fmt: skip


def _sessions(noun: str, path: str, action: str) -> tuple[Operation, ...]:
    """Return what liveness sessions can be asked. One that compares takes a picture, in a form."""
    all_, one = f"{_BASE}/{path}", f"{_BASE}/{path}/{{session}}"
    return (
        Operation(f"{noun}_Create", "POST", all_, f"{action}/sessions/action", "media", (), _IMAGE_BYTES),
        Operation(f"{noun}_List", "GET", all_, f"{action}/sessions/read"),
        Operation(f"{noun}_Get", "GET", one, f"{action}/sessions/read"),
        Operation(f"{noun}_Delete", "DELETE", one, f"{action}/sessions/delete"),
        Operation(f"{noun}_Audit", "GET", f"{one}/audit", f"{action}/sessions/audit/read"),
    )


_ROWS = (
    Operation(
        "Face_Detect", "POST", f"{_BASE}/detect", "Face/detect/action", "media", (), _IMAGE_BYTES, uris=_URL
    ),
    Operation("Face_Verify", "POST", f"{_BASE}/verify", "Face/verify/action", "json", max_body_bytes=_SMALL),
    Operation("Face_Identify", "POST", f"{_BASE}/identify", "Face/identify/action", "json", max_body_bytes=_SMALL),
    Operation("Face_FindSimilar", "POST", f"{_BASE}/findsimilars", "Face/findsimilars/action", "json"),
    Operation("Face_Group", "POST", f"{_BASE}/group", "Face/group/action", "json"),
    *_lists("FaceList", "facelists", "Face/facelists", trained=False),
    *_lists("LargeFaceList", "largefacelists", "Face/largefacelists", trained=True),
    *_groups("PersonGroup", "persongroups", "Face/persongroups"),
    *_groups("LargePersonGroup", "largepersongroups", "Face/largepersongroups"),
    # A snapshot names the subscriptions that may take it over: data leaves the account, though no URI is involved.
    Operation(
        "Snapshot_Take", "POST", f"{_BASE}/snapshots", "Face/snapshots/action", "json", max_body_bytes=_SMALL,
        uris=(UriField("applyScope[*]", use="send"),),
    ),
    *_sessions("Liveness", "detectliveness/singlemodal/sessions", "Face/detectliveness/singlemodal"),
    *_sessions("LivenessWithVerify", "detectlivenesswithverify/singlemodal/sessions", "Face/detectlivenesswithverify/singlemodal"),
    *_sessions("LivenessSessions", "detectLiveness-sessions", "Face/detectliveness/singlemodal"),
    *_sessions("LivenessWithVerifySessions", "detectLivenessWithVerify-sessions", "Face/detectlivenesswithverify/singlemodal"),
)  # fmt: skip

OPERATIONS: tuple[Operation, ...] = tuple(replace(row, versioned=False) for row in _ROWS)
