"""Every service's table says where its requests carry URIs. The expected rows stand here as facts, so that none is lost by an edit of a table.

Source: contracts, data-plane section 3 (the table of URI-bearing request fields).
"""

from __future__ import annotations

import importlib.util
import re
from fnmatch import fnmatchcase
from types import ModuleType
from typing import Any

import pytest

from stockade.kernel.operation import Operation
from stockade.kernel.shelf import Shelf
from stockade.management.resources.cognitive_services_accounts.subdomains import RESERVED
from stockade.policy.builtin_roles import roles
from stockade.services.installed import BESIDE
from stockade.services.routing import Router
from tests.outside import ROOT

SHELF: Shelf[type] = Shelf.load("stockade.services", type, folders_only=True, beside=BESIDE)
TABLES: dict[str, tuple[Operation, ...]] = {service.name: tuple(service.operations) for service in SHELF}

ROWS: list[tuple[str, str, set[str]]] = [
    # Service, operation, and what has to be among its fields; "fetch" unless it says "send" or "name".
    ("openai", "ChatCompletions_Create", {"messages[*].content[*].image_url.url", "messages[*].content[*].image_url"}),
    (
        "openai",
        "ChatCompletions_Create",
        {"send data_sources[*].parameters.endpoint", "send data_sources[*].parameters.embedding_dependency.endpoint"},
    ),
    (
        "openai",
        "ChatCompletions_Create",
        {
            "send data_sources[*].parameters.environment",
            "send data_sources[*].parameters.authentication.connection_string",
        },
    ),
    (
        "openai",
        "Responses_Create",
        {
            "input[*].content[*].image_url",
            "input[*].content[*].file_url",
            "input[*].output[*].image_url",
            "send tools[*].server_url",
            "send tools[*].connector_id",
        },
    ),
    ("openai", "Realtime_Connect", {"send session.tools[*].server_url"}),
    ("speech", "Transcriptions_Create", {"contentUrls[*]", "contentContainerUrl"}),
    ("speech", "Transcriptions_Submit", {"contentUrls[*]", "contentContainerUrl", "send destinationContainerUrl"}),
    ("speech", "Transcriptions_Create", {"send properties.destinationContainerUrl", "send properties.email"}),
    ("speech", "Transcriptions_Transcribe", {"form:definition#audioUrl"}),
    ("speech", "Datasets_Create", {"contentUrl"}),
    ("speech", "Webhooks_Create", {"send webUrl"}),
    ("speech", "Webhooks_Update", {"send webUrl"}),
    ("speech", "Models_CopyTo", {"send targetSubscriptionKey", "sourceModel"}),
    ("speech", "Models_Copy", {"send targetSubscriptionKey", "sourceModel"}),
    ("speech", "Transcriptions_Create", {"name **.self"}),
    ("speech", "Speech_Synthesize", {"xml:*@src", "xml:*@uri", "xml:*@url", "xml:*@href", "xml:*@base"}),
    ("speech", "BatchSynthesis_Create", {"ssml:inputs[*].content", "send destinationContainerUrl"}),
    ("speech", "BatchAvatar_Create", {"ssml:inputs[*].content", "avatarConfig.backgroundImage"}),
    ("speech", "VoiceTrainingSets_Upload", {"audios.containerUrl", "scripts.containerUrl"}),
    ("speech", "VoiceConsents_Create", {"audioUrl"}),
    ("speech", "PersonalVoices_Create", {"audios.containerUrl"}),
    ("speech", "VideoTranslations_Create", {"input.videoFileUrl"}),
    ("face", "Face_Detect", {"url"}),
    ("face", "FaceList_AddFace", {"url"}),
    ("face", "LargeFaceList_AddFace", {"url"}),
    ("face", "PersonGroup_AddPersonFace", {"url"}),
    ("face", "LargePersonGroup_AddPersonFace", {"url"}),
    ("face", "Snapshot_Take", {"send applyScope[*]"}),
    ("content_moderator", "Image_Evaluate", {"Value"}),
    ("content_moderator", "Image_OCR", {"Value"}),
    ("content_moderator", "Image_FindFaces", {"Value"}),
    ("content_moderator", "Image_Match", {"Value"}),
    ("content_moderator", "ImageList_AddImage", {"Value"}),
    (
        "content_moderator",
        "Reviews_Create",
        {"[*].Content", "send [*].CallbackEndpoint", "[*].VideoFrames[*].FrameImage"},
    ),
    ("content_moderator", "Jobs_Create", {"ContentValue", "send query:CallBackEndpoint"}),
    ("vision", "Vision_Analyze", {"url"}),
    ("vision", "Vision_Ocr", {"url"}),
    ("vision", "Vision_Read", {"url"}),
    ("vision", "Vision_ImageAnalysis", {"url"}),
    ("document_intelligence", "Models_Analyze", {"urlSource"}),
    ("document_intelligence", "Classifiers_Classify", {"urlSource"}),
    (
        "document_intelligence",
        "Models_Build",
        {"azureBlobSource.containerUrl", "azureBlobFileListSource.containerUrl"},
    ),
    ("document_intelligence", "Models_AnalyzeBatch", {"azureBlobSource.containerUrl", "send resultContainerUrl"}),
    (
        "translator",
        "Documents_Start",
        {
            "inputs[*].source.sourceUrl",
            "send inputs[*].targets[*].targetUrl",
            "inputs[*].targets[*].glossaries[*].glossaryUrl",
        },
    ),
    ("content_safety", "Image_Analyze", {"image.blobUrl"}),
    ("personalizer", "Service_Update", {"send logMirrorSasUri"}),
    ("language", "QnA_UpdateSources", {"[*].value.sourceUri"}),
    ("language", "QnA_Import", {"fileUri", "**.sourceUri"}),
    ("language", "QnAMaker_Create", {"urls[*]", "files[*].fileUri"}),
    (
        "language",
        "AnalyzeDocumentsJobs_Submit",
        {"analysisInput.documents[*].source.location", "send analysisInput.documents[*].target.location"},
    ),
    ("custom_vision", "Classify_Url", {"url"}),
    ("custom_vision", "Detect_Url", {"url"}),
    ("custom_vision", "Images_AddUrls", {"images[*].url"}),
    ("custom_vision", "QuickTest_Url", {"url"}),
    ("custom_vision", "Projects_Create", {"send query:exportModelContainerUri", "send query:notificationQueueUri"}),
]

WITHOUT: dict[str, dict[str, str]] = {
    # Operations that read a body and carry no URI, by pattern, each with the reason.
    "openai": {
        "Completions_Create": "prompt text",
        "Embeddings_Create": "input text",
        "StoredCompletions_Update": "metadata",
        "Files_Create": "a file is judged when it is used: each line of a batch like a request of its own",
    },
    "session_tokens": {"IssueToken": "no body to speak of"},
    "face": {
        "Face_*": "face ids",
        "*_Create": "names, or a picture in a form",
        "*_Update*": "names and user data",
        "*_CreatePerson": "names and user data",
        "*_Train": "no body to speak of",
    },
    "vision": {"Vision_VectorizeText": "text"},
    "content_moderator": {
        "Text_*": "text",
        "*List_*": "names and terms",
        "Reviews_AddTranscript": "WebVTT text",
        "Reviews_TranscriptResult": "terms",
        "Reviews_Publish": "no body to speak of",
    },
    "content_safety": {"Text_*": "text", "Blocklists_*": "terms"},
    "custom_vision": {
        "Images_AddFiles": "pictures as base64",
        "Images_AddPredictions": "ids",
        "Images_Regions": "ids and boxes",
        "Images_Tags": "ids",
        "Iterations_*": "names; a platform",
        "Predictions_Query": "a filter",
        "Projects_Import": "a token of another project's export",
        "Projects_Train": "tags and a budget",
        "Tags_*": "names",
    },
    "document_intelligence": {"*_AuthorizeCopy": "a name for the copy", "Models_Compose": "names of models"},
    "translator": {"Text_*": "text", "Documents_Translate": "the documents themselves"},
    "language": {
        "Analyze*": "text, or the name of a project",
        "Generate": "text",
        "Query*": "text",
        "Conversations_*": "a project brings everything it is made of; other projects are named by name",
        "CustomText_*": "a project brings everything it is made of; documents are named within the account's own storage",
        "QnAMaker_*": "questions and answers",
        "QnA_*": "questions and answers, names",
        "TextAnalytics_*": "text",
    },
    "luis": {"*": "an application brings everything it is made of; an Azure account is named by its parts"},
    "personalizer": {
        "*Rank": "features of actions",
        "Events_*": "a number",
        "MultiSlot_*": "features and numbers",
        "Policy_Update": "learning settings",
        "Evaluations_Create": "dates and settings",
        "Service_ApplyFromEvaluation": "names",
        "Model_Import": "a model file",
    },
    "speech": {
        "Speech_Recognize": "audio",
        "Datasets_Upload": "the file itself",
        "Projects_*": "names",
        "Models_AuthorizeCopy": "an ARM id",
        "Webhooks_Ping": "no body",
        "Webhooks_Test": "no body",
        "Voice*": "names, ids of entities of the same account, or the file itself",
    },
}


def declared(operation: Operation) -> set[str]:
    return {field.at if field.use == "fetch" else f"{field.use} {field.at}" for field in operation.uris}


@pytest.mark.parametrize(("service", "name", "fields"), ROWS)
def test_each_row_of_the_contract_is_declared_on_every_path_of_the_operation(
    service: str, name: str, fields: set[str]
) -> None:
    rows = [operation for operation in TABLES[service] if operation.name == name]
    assert rows, f"{service} has no operation {name}"
    for row in rows:
        assert fields <= declared(row), row.path


@pytest.mark.parametrize("service", TABLES)
def test_every_operation_with_a_body_declares_uris_or_is_known_to_carry_none(service: str) -> None:
    """A read without a body has nothing but ids and filters in its path and query; the deep scan looks at those too."""
    known = WITHOUT.get(service, {})
    bare = {operation.name for operation in TABLES[service] if operation.body != "none" and not operation.uris}
    unknown = sorted(name for name in bare if not any(fnmatchcase(name, pattern) for pattern in known))
    assert not unknown
    assert all(any(fnmatchcase(name, pattern) for name in bare) for pattern in known), "a pattern that fits nothing"


def test_fields_are_written_in_a_form_that_is_read() -> None:
    path = r"(?:\*\*|\[\*\]|[A-Za-z_]\w*)(?:\[\*\])?(?:\.(?:\*\*|[A-Za-z_]\w*)(?:\[\*\])?)*"
    form = re.compile(
        rf"{path}|(?:query|header):[\w-]+|form:\w+(?:#{path})?|xml:(?:\*|[\w-]+)@[\w-]+|(?:ssml|lines):{path}"
    )
    for table in TABLES.values():
        for operation in table:
            for field in operation.uris:
                assert form.fullmatch(field.at), f"{operation.name}: {field.at}"
                kind = field.at.partition(":")[0] if ":" in field.at else "json"
                fits = {
                    "json": {"json", "media"},
                    "ssml": {"json"},
                    "xml": {"xml"},
                    "form": {"form", "media"},
                    "lines": {"form"},
                }
                if not operation.websocket:  # its messages are JSON
                    assert operation.body in fits.get(kind, {operation.body}), f"{operation.name} reads no {kind}"
                assert kind != "header" or field.at.partition(":")[2].lower() in operation.headers


def test_no_header_that_says_who_calls_or_how_reaches_an_upstream() -> None:
    kept = {
        "host",
        "authorization",
        "cookie",
        "connection",
        "transfer-encoding",
        "content-length",
        "content-type",
        "accept",
        "expect",
        "te",
    }
    kept |= {
        "ocp-apim-subscription-key",
        "api-key",
        "x-forwarded-for",
        "proxy-authorization",
        "upgrade",
        "content-encoding",
    }
    named = {name for table in TABLES.values() for operation in table for name in operation.headers}
    assert not named & kept
    assert all(name == name.lower() for name in named)


def test_no_subdomain_can_stand_where_a_service_begins() -> None:
    assert Router(_instances()).roots <= RESERVED


def test_every_data_action_is_in_some_role() -> None:
    """Each is covered by Cognitive Services User; the more exact roles cover what contracts, data-plane names for them."""
    granted = {
        "Cognitive Services Face Recognizer": ["Face/detect/action", "Face/verify/action", "Face/identify/action"],
        "Cognitive Services Speech User": [
            "SpeechServices/speechrest/transcriptions/write",
            "SpeechServices/speechrest/transcriptions/read",
            "SpeechServices/synthesis/frontend/action",
            "SpeechServices/recognition/frontend/action",
        ],
        "Cognitive Services Language Reader": ["Language/analyze-text/action", "Language/analyze-conversations/action", "Language/query-text/action"],
        "Cognitive Services Custom Vision Deployment": [
            "CustomVision/classify/iterations/url/action",
            "CustomVision/projects/iterations/publish/action",
        ],
        "Cognitive Services LUIS Writer": ["LUIS/apps/versions/train/action", "LUIS/apps/write"],
    }  # fmt: skip
    actions = {operation.data_action for table in TABLES.values() for operation in table}
    known = {role.role_name: role for role in roles().values()}
    for name, wanted in granted.items():
        patterns = [
            pattern.removeprefix("Microsoft.CognitiveServices/accounts/").lower()
            for permission in known[name].permissions
            for pattern in permission.data_actions
        ]
        for action in wanted:
            assert action in actions
            assert any(fnmatchcase(action.lower(), pattern) for pattern in patterns), f"{name} lacks {action}"


def test_the_table_in_the_documentation_is_current() -> None:
    """`python tools/uri_fields.py` writes it."""
    text = (ROOT / "docs" / "loss-prevention.md").read_text()
    assert tool().replaced(text) == text


def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("uri_fields", ROOT / "tools" / "uri_fields.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _instances() -> Any:
    """Return services as far as a router asks: a class says all of it."""
    return list(SHELF)
