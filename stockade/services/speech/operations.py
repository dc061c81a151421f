"""Speech's operations over REST.

Short audio, synthesis, `/speechtotext` (version in the path, or newer in the query); batch synthesis, custom voice, avatars, video translation.
Source: contracts, data-plane sections 3 and 4.10; data actions as in the built-in roles Cognitive Services Speech User and Contributor.
"""

from __future__ import annotations

from dataclasses import replace

from stockade.kernel.operation import KiB, MiB, Operation, UriField

_AUDIO_BYTES = 32 * MiB
"""Azure takes more (fast transcription: 300 MB); here a body is held in memory, and `limits.max_body_bytes` bounds it as well."""
_A = "SpeechServices"

SSML_URIS = (
    UriField("xml:*@src"),
    UriField("xml:*@uri"),
    UriField("xml:*@url"),
    UriField("xml:*@href"),
    UriField("xml:*@base"),
)
"""`audio src`, `lexicon uri`, `mstts:backgroundaudio src`, `mstts:*@url`; and `xml:base`, which would make a relative one absolute."""

_NAMES = (UriField("**.self", use="name"),)
_TRANSCRIPTION = (
    UriField("contentUrls[*]"),
    UriField("contentContainerUrl"),
    UriField("destinationContainerUrl", use="send"),
    UriField("properties.destinationContainerUrl", use="send"),
    # Not a URI, but a way out all the same: where outbound access is restricted, nothing is mailed.
    UriField("properties.email", use="send"),
    *_NAMES,
)
_COPY = (
    # The key of another account: a model leaves with it.
    UriField("targetSubscriptionKey", use="send"),
    UriField("sourceModel"),
    *_NAMES,
)
_WEBHOOK = (UriField("webUrl", use="send"),)
_BATCH_SYNTHESIS = (
    UriField("ssml:inputs[*].content"),
    UriField("destinationContainerUrl", use="send"),
    UriField("properties.destinationContainerUrl", use="send"),
    UriField("avatarConfig.backgroundImage"),
)


def _collection(
    noun: str, path: str, uris: tuple[UriField, ...] = (), *, created: bool = True
) -> tuple[Operation, ...]:
    """Return the usual rows of one kind of entity of `/speechtotext`."""
    all_, one, action = f"/{path}", f"/{path}/{{id}}", f"{_A}/speechrest/{path}"
    rows = (
        Operation(f"{noun}_List", "GET", all_, f"{action}/read"),
        Operation(f"{noun}_Get", "GET", one, f"{action}/read"),
        Operation(f"{noun}_Update", "PATCH", one, f"{action}/write", "json", uris=uris),
        Operation(f"{noun}_Delete", "DELETE", one, f"{action}/delete"),
        Operation(f"{noun}_Locales", "GET", f"{all_}/locales", f"{action}/read"),
        Operation(f"{noun}_Files", "GET", f"{one}/files", f"{action}/read"),
        Operation(f"{noun}_File", "GET", f"{one}/files/{{file}}", f"{action}/read"),
    )
    return (*rows, Operation(f"{noun}_Create", "POST", all_, f"{action}/write", "json", uris=uris)) if created else rows


_REST = (
    *_collection("Transcriptions", "transcriptions", _TRANSCRIPTION),
    *_collection("Models", "models", _NAMES),
    *_collection("Datasets", "datasets", (UriField("contentUrl"), *_NAMES)),
    *_collection("Endpoints", "endpoints", _NAMES),
    *_collection("Evaluations", "evaluations", _NAMES),
    *_collection("Projects", "projects"),
    *_collection("Webhooks", "webhooks", _WEBHOOK),
    Operation("Datasets_Upload", "POST", "/datasets/upload", f"{_A}/speechrest/datasets/write", "form", (), _AUDIO_BYTES),
    Operation("Models_ListBase", "GET", "/models/base", f"{_A}/speechrest/models/read"),
    Operation("Models_GetBase", "GET", "/models/base/{id}", f"{_A}/speechrest/models/read"),
    Operation("Models_Manifest", "GET", "/models/{id}/manifest", f"{_A}/speechrest/models/read"),
    Operation("Models_CopyTo", "POST", "/models/{id}/copyto", f"{_A}/speechrest/models/copy/action", "json", uris=_COPY),
    Operation("Models_CopyToColon", "POST", "/models/{id}:copyto", f"{_A}/speechrest/models/copy/action", "json", uris=_COPY),
    Operation("Models_Copy", "POST", "/models/{id}:copy", f"{_A}/speechrest/models/copy/action", "json", uris=_COPY),
    Operation("Models_AuthorizeCopy", "POST", "/models:authorizecopy", f"{_A}/speechrest/models/authorizecopy/action", "json"),
    Operation("Endpoints_Logs", "GET", "/endpoints/{id}/files/logs", f"{_A}/speechrest/endpoints/read"),
    Operation("Endpoints_DeleteLogs", "DELETE", "/endpoints/{id}/files/logs", f"{_A}/speechrest/endpoints/delete"),
    Operation("Endpoints_BaseLogs", "GET", "/endpoints/base/{locale}/files/logs", f"{_A}/speechrest/endpoints/read"),
    Operation("Projects_Transcriptions", "GET", "/projects/{id}/transcriptions", f"{_A}/speechrest/projects/read"),
    Operation("Projects_Models", "GET", "/projects/{id}/models", f"{_A}/speechrest/projects/read"),
    Operation("Projects_Datasets", "GET", "/projects/{id}/datasets", f"{_A}/speechrest/projects/read"),
    Operation("Webhooks_Ping", "POST", "/webhooks/{id}:ping", f"{_A}/speechrest/webhooks/write", "json"),
    Operation("Webhooks_Test", "POST", "/webhooks/{id}:test", f"{_A}/speechrest/webhooks/write", "json"),
)  # fmt: skip

_NEW_REST = (
    Operation("Transcriptions_Submit", "POST", "/transcriptions:submit", f"{_A}/speechrest/transcriptions/write", "json", uris=_TRANSCRIPTION),
    Operation(
        "Transcriptions_Transcribe", "POST", "/transcriptions:transcribe", f"{_A}/speechrest/transcriptions/action", "form", (), _AUDIO_BYTES,
        uris=(UriField("form:definition#audioUrl"),),
    ),
)  # fmt: skip


def _spoken(base: str) -> tuple[Operation, ...]:
    """Return what is answered with a voice; custom domains put `/tts` before it."""
    return (
        Operation(
            "Speech_Synthesize", "POST", f"{base}/cognitiveservices/v1", f"{_A}/synthesis/frontend/action", "xml",
            ("x-microsoft-outputformat", "user-agent"), 256 * KiB, uris=SSML_URIS,
        ),
        Operation("Speech_Voices", "GET", f"{base}/cognitiveservices/voices/list", f"{_A}/voices/read"),
    )  # fmt: skip


def _heard(base: str) -> Operation:
    return Operation(
        "Speech_Recognize", "POST", f"{base}/speech/recognition/{{mode}}/cognitiveservices/v1",
        f"{_A}/recognition/frontend/action", "binary", ("pronunciation-assessment",), 8 * MiB,
    )  # fmt: skip


def _synthesis(noun: str, path: str, action: str) -> tuple[Operation, ...]:
    one = f"{path}/{{id}}"
    return (
        Operation(f"{noun}_List", "GET", path, f"{action}/read"),
        Operation(f"{noun}_Get", "GET", one, f"{action}/read"),
        Operation(f"{noun}_Create", "PUT", one, f"{action}/write", "json", uris=_BATCH_SYNTHESIS),
        Operation(f"{noun}_Delete", "DELETE", one, f"{action}/delete"),
    )


def _voice(noun: str, path: str, uris: tuple[UriField, ...] = ()) -> tuple[Operation, ...]:
    all_, one, action = f"/customvoice/{path}", f"/customvoice/{path}/{{id}}", f"CustomVoice/{path}"
    return (
        Operation(f"{noun}_List", "GET", all_, f"{action}/read"),
        Operation(f"{noun}_Get", "GET", one, f"{action}/read"),
        Operation(f"{noun}_Create", "PUT", one, f"{action}/write", "media", (), _AUDIO_BYTES, uris=uris),
        Operation(f"{noun}_CreateFromFile", "POST", one, f"{action}/write", "media", (), _AUDIO_BYTES, uris=uris),
        Operation(f"{noun}_Delete", "DELETE", one, f"{action}/delete"),
    )


_CONTAINERS = (UriField("audios.containerUrl"), UriField("scripts.containerUrl"))
_VOICE = (
    *_voice("VoiceProjects", "projects"),
    *_voice("VoiceConsents", "consents", (UriField("audioUrl"),)),
    *_voice("VoiceTrainingSets", "trainingsets", _CONTAINERS),
    Operation(
        "VoiceTrainingSets_Upload",
        "POST",
        "/customvoice/trainingsets/{id}:upload",
        "CustomVoice/trainingsets/write",
        "json",
        uris=_CONTAINERS,
    ),
    *_voice("VoiceModels", "models"),
    *_voice("VoiceEndpoints", "endpoints"),
    *_voice("PersonalVoices", "personalvoices", _CONTAINERS),
)
_VIDEO = "/videotranslation/translations"
_ITERATIONS = f"{_VIDEO}/{{id}}/iterations"
_VIDEOS = (
    Operation("VideoTranslations_List", "GET", _VIDEO, "VideoTranslation/translations/read"),
    Operation("VideoTranslations_Get", "GET", f"{_VIDEO}/{{id}}", "VideoTranslation/translations/read"),
    Operation(
        "VideoTranslations_Create", "PUT", f"{_VIDEO}/{{id}}", "VideoTranslation/translations/write", "json",
        uris=(UriField("input.videoFileUrl"), UriField("input.audioFileUrl")),
    ),
    Operation("VideoTranslations_Delete", "DELETE", f"{_VIDEO}/{{id}}", "VideoTranslation/translations/delete"),
    Operation("VideoIterations_List", "GET", _ITERATIONS, "VideoTranslation/translations/read"),
    Operation("VideoIterations_Get", "GET", f"{_ITERATIONS}/{{iteration}}", "VideoTranslation/translations/read"),
    Operation(
        "VideoIterations_Create", "PUT", f"{_ITERATIONS}/{{iteration}}", "VideoTranslation/translations/write", "json",
        uris=(UriField("input.webvttFile.url"),),
    ),
)  # fmt: skip


def _below(base: str, rows: tuple[Operation, ...], *, versioned: bool) -> tuple[Operation, ...]:
    return tuple(replace(row, path=base + row.path, versioned=versioned) for row in rows)


OPERATIONS: tuple[Operation, ...] = (
    *_below("/speechtotext/{version}", _REST, versioned=False),
    *_below("/speechtotext", (*_REST, *_NEW_REST), versioned=True),
    *_below("", (*_spoken(""), *_spoken("/tts"), _heard(""), _heard("/stt")), versioned=False),
    *_synthesis("BatchSynthesis", "/texttospeech/batchsyntheses", "BatchTextToSpeech"),
    *_synthesis("BatchAvatar", "/avatar/batchsyntheses", "BatchAvatar"),
    *_VOICE,
    *_VIDEOS,
)
