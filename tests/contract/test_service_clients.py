"""Unmodified Azure clients of five AI services against a running server, each with a server of the operator's behind it; and `stockade dlp`."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from azure.ai.contentsafety import ContentSafetyClient
from azure.ai.contentsafety.models import AnalyzeImageOptions, AnalyzeTextOptions, ImageData
from azure.ai.documentintelligence import DocumentIntelligenceClient
from azure.ai.textanalytics import TextAnalyticsClient
from azure.ai.translation.text import TextTranslationClient
from azure.ai.vision.face import FaceClient
from azure.core.credentials import AzureKeyCredential
from azure.core.exceptions import ClientAuthenticationError, HttpResponseError

from tests.factories.azure import Account, Azure
from tests.live import Live, finish, start

OPERATORS = "operators-own-key"
FACE = [
    {"faceId": "c5c24a82-6845-4031-9d5d-978df9175426", "faceRectangle": {"top": 1, "left": 2, "width": 3, "height": 4}}
]
TRANSLATED = {"value": [{"translations": [{"language": "de", "text": "Hallo", "sourceCharacters": 5}]}]}
SENTIMENT = {
    "kind": "SentimentAnalysisResults",
    "results": {
        "documents": [
            {
                "id": "0",
                "sentiment": "positive",
                "confidenceScores": {"positive": 1.0, "neutral": 0.0, "negative": 0.0},
                "sentences": [],
                "warnings": [],
            }
        ],
        "errors": [],
        "modelVersion": "x",
    },
}
READ = {
    "status": "succeeded",
    "analyzeResult": {
        "apiVersion": "2024-11-30",
        "modelId": "prebuilt-read",
        "stringIndexType": "textElements",
        "content": "read",
        "pages": [],
    },
}
REPLIES: dict[tuple[str, str], tuple[int, Any]] = {
    ("POST", "/face/v1.2-preview.1/detect"): (200, FACE),
    ("POST", "/contentsafety/text:analyze"): (200, {"blocklistsMatch": [], "categoriesAnalysis": [{"category": "Hate", "severity": 2}]}),
    ("POST", "/contentsafety/image:analyze"): (200, {"categoriesAnalysis": []}),
    ("POST", "/translate"): (200, TRANSLATED),
    ("POST", "/language/:analyze-text"): (200, SENTIMENT),
    ("POST", "/documentintelligence/documentModels/prebuilt-read:analyze"): (202, None),
    ("GET", "/documentintelligence/documentModels/prebuilt-read/analyzeResults/1"): (200, READ),
}  # fmt: skip


@dataclass
class Stub:
    """The operator's server: what it was asked, and what it says to each operation."""

    port: int = 0
    seen: list[tuple[str, str, Mapping[str, str], bytes]] = field(default_factory=list)


@pytest.fixture(scope="module")
def stub() -> Iterator[Stub]:
    running = Stub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", "0")))
            running.seen.append((self.command, self.path, dict(self.headers.items()), body))
            status, value = REPLIES.get(
                (self.command, self.path.partition("?")[0]), (404, {"error": {"code": "x", "message": "?"}})
            )
            content = json.dumps(value).encode() if value is not None else b""
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(content)))
            if status == 202:
                place = self.path.partition(":")[0] + "/analyzeResults/1?api-version=2024-11-30"
                self.send_header("operation-location", f"http://127.0.0.1:{running.port}{place}")
                self.send_header("retry-after", "1")
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = answer

        def log_message(self, *_: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    running.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield running
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory, stub: Stub) -> Iterator[Live]:
    """A server whose settings name an upstream for each of the services; for Vision there is none."""
    names = ("face", "content_safety", "translator", "language", "document_intelligence")
    settings = "".join(
        f'[[services]]\nname = "{name}"\n[services.upstream]\nurl = "http://127.0.0.1:{stub.port}"\n'
        'credential_env = "OPERATORS_KEY"\ncredential_header = "Ocp-Apim-Subscription-Key"\n'
        for name in names
    )
    running = start(
        tmp_path_factory.mktemp("services") / "data", settings=settings, variables={"OPERATORS_KEY": OPERATORS}
    )
    yield running
    finish(running)


@pytest.fixture(scope="module")
def account(azure: Azure) -> Account:
    """One account of the kind that serves them all."""
    return azure.new_account(kind="CognitiveServices")


@pytest.fixture(scope="module")
def key(account: Account) -> AzureKeyCredential:
    return AzureKeyCredential(account.key1)


@pytest.fixture(scope="module")
def options(client_environment: Mapping[str, str]) -> dict[str, Any]:
    return {"retry_total": 0, "connection_timeout": 30, "read_timeout": 60}


def detect(client: FaceClient, url: str) -> Any:
    return client.detect_from_url(
        url=url, detection_model="detection_03", recognition_model="recognition_04", return_face_id=True
    )


def test_face(account: Account, key: AzureKeyCredential, options: dict[str, Any], stub: Stub) -> None:
    with FaceClient(account.endpoint, key, **options) as client:
        [face] = detect(client, "https://a.example/face.jpg")
        assert face.face_rectangle.width == 3
    _, path, headers, body = stub.seen[-1]
    assert json.loads(body) == {"url": "https://a.example/face.jpg"}
    assert "returnFaceId=true" in path
    sent = {name.lower(): value for name, value in headers.items()}
    assert sent["ocp-apim-subscription-key"] == OPERATORS
    assert account.key1 not in str(headers)
    assert "user-agent" not in sent and "x-ms-client-request-id" not in sent


def test_face_takes_a_picture_too(
    account: Account, key: AzureKeyCredential, options: dict[str, Any], stub: Stub
) -> None:
    with FaceClient(account.endpoint, key, **options) as client:
        client.detect(
            b"\xff\xd8\xff picture",
            detection_model="detection_03",
            recognition_model="recognition_04",
            return_face_id=False,
        )
    assert stub.seen[-1][3] == b"\xff\xd8\xff picture"


def test_content_safety(account: Account, key: AzureKeyCredential, options: dict[str, Any]) -> None:
    with ContentSafetyClient(account.endpoint, key, **options) as client:
        result = client.analyze_text(AnalyzeTextOptions(text="hello"))
        assert [(one.category, one.severity) for one in result.categories_analysis] == [("Hate", 2)]


def test_translator(account: Account, key: AzureKeyCredential, options: dict[str, Any], stub: Stub) -> None:
    with TextTranslationClient(endpoint=account.endpoint, credential=key, region="local", **options) as client:
        [item] = client.translate(body=["hello"], to_language=["de"])
        assert item.translations[0].text == "Hallo"
    assert stub.seen[-1][1].partition("?")[0] == "/translate"


def test_language(account: Account, key: AzureKeyCredential, options: dict[str, Any]) -> None:
    with TextAnalyticsClient(account.endpoint, key, **options) as client:
        [document] = client.analyze_sentiment(["good"])
        assert document.sentiment == "positive"


def test_document_intelligence_follows_an_operation_through_this_platform(
    account: Account, key: AzureKeyCredential, options: dict[str, Any], stub: Stub
) -> None:
    before = len(stub.seen)
    with DocumentIntelligenceClient(account.endpoint, key, **{**options, "polling_interval": 0.2}) as client:
        poller = client.begin_analyze_document("prebuilt-read", {"urlSource": "https://a.example/a.pdf"})
        assert poller.result().content == "read"
    asked = stub.seen[before:]
    assert [method for method, *_ in asked] == ["POST", "GET"]
    # It came through the gate: with the operator's key and not the caller's.
    assert asked[1][2].get("Ocp-Apim-Subscription-Key") == OPERATORS


def test_a_token_with_the_right_role_and_one_without(azure: Azure, account: Account, options: dict[str, Any]) -> None:
    allowed, other = azure.new_principal(), azure.new_principal()
    azure.assign("Cognitive Services Face Recognizer", account.id, allowed.object_id)
    with FaceClient(account.endpoint, azure.credential(allowed.client_id, allowed.client_secret), **options) as client:
        assert len(detect(client, "https://a.example/face.jpg")) == 1
    with (
        FaceClient(account.endpoint, azure.credential(other.client_id, other.client_secret), **options) as client,
        pytest.raises(ClientAuthenticationError, match="Face/detect/action"),
    ):
        detect(client, "https://a.example/face.jpg")
    # The role is for faces alone.
    with (
        ContentSafetyClient(
            account.endpoint, azure.credential(allowed.client_id, allowed.client_secret), **options
        ) as client,
        pytest.raises(ClientAuthenticationError),
    ):
        client.analyze_text(AnalyzeTextOptions(text="hello"))


@pytest.fixture(scope="module")
def restricted(azure: Azure) -> Account:
    return azure.new_account(
        kind="CognitiveServices", restrictOutboundNetworkAccess=True, allowedFqdnList=["images.example.com"]
    )


def test_a_uri_off_the_list_is_refused_in_words_that_each_client_reads(
    restricted: Account, options: dict[str, Any], stub: Stub
) -> None:
    credential, before = AzureKeyCredential(restricted.key1), len(stub.seen)
    evil = "https://evil.example/?secret=s3cr3t"
    with FaceClient(restricted.endpoint, credential, **options) as face, pytest.raises(HttpResponseError) as refused:
        detect(face, evil)
    faults = [refused.value]
    with ContentSafetyClient(restricted.endpoint, credential, **options) as safety:
        image = AnalyzeImageOptions(image=ImageData(blob_url=evil))
        with pytest.raises(HttpResponseError) as refused:
            safety.analyze_image(image)
        faults.append(refused.value)
        # Text may not carry it either: the deep scan finds it.
        with pytest.raises(HttpResponseError) as refused:
            safety.analyze_text(AnalyzeTextOptions(text=f"see {evil}"))
        faults.append(refused.value)
    with (
        TextAnalyticsClient(restricted.endpoint, credential, **options) as language,
        pytest.raises(HttpResponseError) as refused,
    ):
        language.analyze_sentiment([f"see {evil}"])
    faults.append(refused.value)
    with (
        DocumentIntelligenceClient(restricted.endpoint, credential, **options) as documents,
        pytest.raises(HttpResponseError) as refused,
    ):
        documents.begin_analyze_document("prebuilt-read", {"urlSource": evil})
    faults.append(refused.value)
    for fault in faults:
        assert fault.status_code == 400
        assert "'evil.example'" in str(fault) and "s3cr3t" not in str(fault)
    assert len(stub.seen) == before
    with FaceClient(restricted.endpoint, credential, **options) as face:
        assert len(detect(face, "https://images.example.com/face.jpg")) == 1


def test_without_an_upstream_a_client_is_told_which_setting_is_missing(account: Account, azure: Azure) -> None:
    headers = {"Ocp-Apim-Subscription-Key": account.key1}
    answer = azure.send("POST", f"{account.endpoint}vision/v3.2/analyze", headers, {"url": "https://a.example"})
    assert answer.status == 503
    assert 'name = "vision"' in answer.json["error"]["message"]


def test_what_is_served_stands_in_the_accounts_endpoints(azure: Azure, account: Account) -> None:
    shown = azure.cognitive.accounts.get(account.group, account.name).properties
    assert {"Face", "Content Safety", "Translator", "Language", "Document Intelligence"} <= set(shown.endpoints)
    assert "Computer Vision" not in shown.endpoints
    assert set(shown.endpoints.values()) == {account.endpoint}


# stockade dlp


def test_a_request_is_tried_on_the_command_line(live: Live, restricted: Account, tmp_path: Path, stub: Stub) -> None:
    before = len(stub.seen)
    file = tmp_path / "detect.json"
    file.write_text('{"url": "https://evil.example/?secret=s3cr3t"}')
    found = json.loads(
        live.stockade("dlp", "test", restricted.name, "--file", str(file), "--no-resolve", "--format", "json")
    )
    assert (found["outcome"], found["restricted"], found["mode"], found["deepScan"]) == (
        "refused",
        True,
        "enforce",
        True,
    )
    [uri] = found["uris"]
    assert (uri["place"], uri["allowed"], uri["reason"], uri["host"]) == ("url", False, "host", "evil.example")
    assert uri["uri"] == "https://evil.example/?secret=s3cr3t"
    assert "'evil.example' for parameter 'url'" in found["message"]
    said = live.stockade(
        "dlp", "test", restricted.name, "--file", str(file), "--operation", "Face_Detect", "--no-resolve"
    )
    assert "Looked at as Face_Detect" in said and "not on the list" in said and "Refused." in said
    assert len(stub.seen) == before


def test_hosts_are_looked_up_and_judged(live: Live, restricted: Account, tmp_path: Path) -> None:
    file = tmp_path / "detect.json"
    file.write_text('{"url": "https://127.0.0.1/", "more": "https://localhost/ https://no-such-name.invalid/"}')
    found = json.loads(
        live.stockade(
            "dlp", "test", restricted.name, "--file", str(file), "--operation", "face.Face_Detect", "--format", "json"
        )
    )
    by_uri = {uri["uri"].rstrip("/"): uri for uri in found["uris"]}
    assert by_uri["https://127.0.0.1"]["egress"] == "refused: loopback"
    assert by_uri["https://localhost"]["egress"] == "refused: loopback"
    assert by_uri["https://no-such-name.invalid"]["addresses"] == []


def test_the_list_is_kept_by_commands(live: Live, azure: Azure) -> None:
    name = azure.new_account(kind="Face").name

    def state(*words: str) -> Any:
        return json.loads(live.stockade("dlp", words[0], name, *words[1:], "--format", "json"))

    assert state("show") == {"restrictOutboundNetworkAccess": False, "mode": "enforce", "allowedFqdnList": []}
    assert state("restrict", "report")["mode"] == "report"
    assert state("allow", "a.example.com", "*.b.example.com", "A.example.com")["allowedFqdnList"] == [
        "a.example.com",
        "*.b.example.com",
    ]
    assert state("remove", "A.EXAMPLE.com")["allowedFqdnList"] == ["*.b.example.com"]
    assert state("restrict", "on") == {
        "restrictOutboundNetworkAccess": True,
        "mode": "enforce",
        "allowedFqdnList": ["*.b.example.com"],
    }
    assert state("restrict", "off")["restrictOutboundNetworkAccess"] is False
    refused = live.cli("dlp", "remove", name, "c.example.com", check=False)
    assert refused.returncode == 4 and "Not on the list: c.example.com" in refused.stderr


def test_whoever_may_only_read_may_not_try(azure: Azure, account: Account) -> None:
    reader = azure.new_principal()
    azure.assign("Reader", account.id, reader.object_id)
    token = azure.token(reader, "https://management.azure.com/.default")
    url = f"{azure.live.arm}{account.id}/testLossPrevention?api-version=2025-09-01"
    answer = azure.send("POST", url, {"Authorization": f"Bearer {token}"}, {"body": "e30="})
    assert answer.status == 403
    assert "testLossPrevention/action" in answer.json["error"]["message"]
