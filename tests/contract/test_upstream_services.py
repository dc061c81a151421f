"""The AI services that an operator's own server answers for: what passes, what stays here, and how each of them words a refusal."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from stockade.gateway.app import Gateway
from stockade.management.cognitive_services.kinds import KINDS
from stockade.settings import Limits, Service, Upstream
from tests.factories.data_plane import Account, Answer, DataPlane, ask
from tests.factories.engine import Conversation, Peer, answers, engine, reply

URL = b'{"url":"https://evil.example/steal?secret=s3cr3t"}'
ALL = {
    "face": "Face",
    "vision": "ComputerVision",
    "content_moderator": "ContentModerator",
    "content_safety": "ContentSafety",
    "document_intelligence": "FormRecognizer",
    "translator": "TextTranslation",
    "language": "TextAnalytics",
    "luis": "LUIS",
    "speech": "SpeechServices",
    "custom_vision": "CustomVision.Training",
    "personalizer": "Personalizer",
}


class Served:
    """An account of one kind, and the server behind it."""

    def __init__(self, folder: Path, name: str, port: int | None, **properties: Any) -> None:
        upstream = Upstream(url=f"http://127.0.0.1:{port}/base", credential_env="", timeout_s=10.0)
        services = (Service(name=name, upstream=upstream),) if port is not None else ()
        limits = Limits(request_timeout_s=30.0, body_timeout_s=5.0)
        self.plane = DataPlane(folder, services=services, limits=limits)
        self.account: Account = self.plane.account(
            kind=ALL[name], sku=KINDS[ALL[name].lower()].skus[0].name, deployments=(), **properties
        )
        self.gateway: Gateway = self.plane.gateway()

    async def ask(
        self, path: str, body: bytes = b"{}", *, kind: str = "application/json", query: str = "", **more: Any
    ) -> Answer:
        headers = [
            ("ocp-apim-subscription-key", self.account.key),
            ("content-type", kind),
            ("content-length", str(len(body))),
            *more.pop("headers", ()),
        ]
        return await ask(self.gateway, self.account.path(path), *headers, body=body, query=query, **more)


def restricted(*allowed: str) -> dict[str, Any]:
    return {"restrictOutboundNetworkAccess": True, "allowedFqdnList": list(allowed)}


OK = answers(reply(b'{"ok":true}', b"content-type: application/json"))


async def test_what_the_table_names_passes_and_nothing_else(tmp_path: Path) -> None:
    async with engine(OK) as running:
        served = Served(tmp_path, "face", running.port)
        answer = await served.ask(
            "/FACE/v1.0/Detect",
            b'{ "url": "https://a.example" }',
            query="returnFaceId=true&Subscription-Region=local&recognitionModel=a%26b",
            headers=[("x-secret", "1"), ("cookie", "a=b"), ("x-forwarded-for", "10.0.0.1"), ("user-agent", "me")],
        )
    assert (answer.status, answer.json) == (200, {"ok": True})
    seen = running.requests[0]
    assert seen.line == "POST /base/face/v1.0/detect?returnFaceId=true&recognitionModel=a%26b HTTP/1.1"
    assert seen.body == b'{ "url": "https://a.example" }'
    assert set(seen.headers) == {"host", "content-type", "accept", "content-length"}


async def test_declared_headers_pass(tmp_path: Path) -> None:
    async with engine(answers(reply(b"RIFF", b"content-type: audio/x-wav"))) as running:
        served = Served(tmp_path, "speech", running.port)
        answer = await served.ask(
            "/cognitiveservices/v1",
            b"<speak>hi</speak>",
            kind="application/ssml+xml",
            headers=[("x-microsoft-outputformat", "riff-16khz"), ("user-agent", "me"), ("x-other", "1")],
        )
    assert (answer.status, answer.body, answer.headers["content-type"]) == (200, b"RIFF", "audio/x-wav")
    assert running.requests[0].headers["x-microsoft-outputformat"] == "riff-16khz"
    assert running.requests[0].headers["user-agent"] == "me"
    assert "x-other" not in running.requests[0].headers


async def test_the_upstream_gets_the_operators_credential(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACE_KEY", "operators-own")
    async with engine(OK) as running:
        upstream = Upstream(
            url=f"http://127.0.0.1:{running.port}",
            credential_env="FACE_KEY",
            credential_header="Ocp-Apim-Subscription-Key",
        )
        plane = DataPlane(tmp_path, services=(Service(name="face", upstream=upstream),))
        account = plane.account(kind="Face", deployments=())
        path = account.path("/face/v1.0/verify")
        answer = await ask(plane.gateway(), path, ("ocp-apim-subscription-key", account.key), body=b"{}", query="")
    assert answer.status == 200
    headers = running.requests[0].headers
    assert headers["ocp-apim-subscription-key"] == "operators-own"
    assert account.key not in running.requests[0].head.decode()


async def test_addresses_of_the_upstream_become_ours(tmp_path: Path) -> None:
    def conversation() -> Conversation:
        async def talk(peer: Peer) -> None:
            await peer.request()
            base = f"http://127.0.0.1:{peer.engine.port}/base"
            body = json.dumps({"self": f"{base}/speechtotext/v3.2/transcriptions/1", "other": f"see {base}/x"}).encode()
            place = f"operation-location: {base}/speechtotext/v3.2/transcriptions/1?a=b".encode()
            await peer.send(
                reply(
                    body,
                    b"content-type: application/json",
                    place,
                    b"set-cookie: a=b",
                    b"server: theirs",
                    status=b"202 Accepted",
                )
            )

        return talk

    async with engine(conversation()) as running:
        served = Served(tmp_path, "speech", running.port)
        answer = await served.ask("/speechtotext/v3.2/transcriptions")
    ours = served.plane.settings.account_endpoint("a1")
    assert answer.status == 202
    assert answer.headers["operation-location"] == f"{ours}speechtotext/v3.2/transcriptions/1?a=b"
    assert answer.json["self"] == f"{ours}speechtotext/v3.2/transcriptions/1"
    assert answer.json["other"].startswith("see http://127.0.0.1")
    assert "set-cookie" not in answer.headers and "server" not in answer.headers


async def test_an_address_of_ours_names_what_the_upstream_has(tmp_path: Path) -> None:
    async with engine(OK) as running:
        served = Served(tmp_path, "speech", running.port, **restricted("audio.example"))
        ours = served.plane.settings.account_endpoint("a1")
        body = {"contentUrls": ["https://audio.example/1.wav"], "model": {"self": f"{ours}speechtotext/v3.2/models/7"}}
        answer = await served.ask("/speechtotext/v3.2/transcriptions", json.dumps(body).encode())
        assert answer.status == 200
        assert json.loads(running.requests[0].body) == {
            "contentUrls": ["https://audio.example/1.wav"],
            "model": {"self": f"http://127.0.0.1:{running.port}/base/speechtotext/v3.2/models/7"},
        }
        body["model"] = {"self": "https://elsewhere.example/models/7"}
        answer = await served.ask("/speechtotext/v3.2/transcriptions", json.dumps(body).encode())
        assert (answer.status, answer.json["target"]) == (400, "model.self")


@pytest.mark.parametrize(
    ("status", "ours"),
    [(b"404 Not Found", 404), (b"429 Too Many", 429), (b"401 No", 502), (b"403 No", 502), (b"302 Found", 502), (b"500 Oh", 502), (b"503 Oh", 503)],
)  # fmt: skip
async def test_what_an_upstream_may_tell_the_caller(tmp_path: Path, status: bytes, ours: int) -> None:
    more = (b"retry-after: 100000", b"location: https://evil.example/")
    async with engine(answers(reply(b'{"error":{"code":"x"}}', *more, status=status))) as running:
        answer = await Served(tmp_path, "face", running.port).ask("/face/v1.0/verify")
    assert answer.status == ours
    assert answer.headers.get("retry-after") in (None, "60", "2")
    assert "evil.example" not in json.dumps(answer.headers)


@pytest.mark.parametrize("name", [name for name in ALL if name != "luis"])
async def test_without_an_upstream_the_controls_are_real_and_the_answer_says_what_is_missing(
    tmp_path: Path, name: str
) -> None:
    served = Served(tmp_path, name, None, **restricted())
    method, path, where, body, kind, query = URIS[name]
    refused = await served.ask(path, body, kind=kind, query=query, method=method)
    assert refused.status == 400
    message = refused.json
    for member in where:
        message = message[member]
    assert "'evil.example' for parameter" in message
    assert "s3cr3t" not in refused.body.decode()
    unknown = await ask(
        served.gateway, served.account.path(path), ("api-key", "0" * 84), body=body, query=query, method=method
    )
    assert unknown.status == 401
    served.plane.change(served.account, restrictOutboundNetworkAccess=False)
    missing = await served.ask(path, body, kind=kind, query=query, method=method)
    assert missing.status == 503
    assert f'name = \\"{name}\\"' in missing.body.decode()
    assert [line["decision"] for line in served.plane.audit_lines(served.gateway)] == ["deny", "deny", "allow"]


V = "api-version=2024-11-15"
JSON = "application/json"
EVIL = "https://evil.example/?s3cr3t"
_DOCUMENT = "/documentintelligence/documentModels/prebuilt-read:analyze"
_SOURCES = "/language/query-knowledgebases/projects/p/sources"


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()


Row = tuple[str, str, tuple[str, ...], bytes, str, str]
G = ("error", "message")
URIS: dict[str, Row] = {
    # A URI in each service's request, and where its refusal has the text. LUIS declares none.
    "face": ("POST", "/face/v1.0/detect", G, URL, JSON, ""),
    "vision": ("POST", "/vision/v3.2/analyze", G, URL, JSON, ""),
    "content_moderator": (
        "POST", "/contentmoderator/moderate/v1.0/ProcessImage/Evaluate", ("Error", "Message"),
        _json({"DataRepresentation": "URL", "Value": EVIL}), JSON, "",
    ),
    "content_safety": ("POST", "/contentsafety/image:analyze", G, _json({"image": {"blobUrl": EVIL}}), JSON, V),
    "document_intelligence": ("POST", _DOCUMENT, G, _json({"urlSource": EVIL}), JSON, V),
    "translator": (
        "POST", "/translator/document/batches", G, _json({"inputs": [{"source": {"sourceUrl": EVIL}}]}), JSON, V
    ),
    "language": ("PATCH", _SOURCES, G, _json([{"op": "add", "value": {"sourceUri": EVIL}}]), JSON, V),
    "speech": (
        "POST", "/cognitiveservices/v1", ("message",), f'<speak><audio src="{EVIL}"/></speak>'.encode(),
        "application/ssml+xml", "",
    ),
    "custom_vision": ("POST", "/customvision/v3.3/training/projects/1/quicktest/url", ("message",), URL, JSON, ""),
    "personalizer": (
        "PUT", "/personalizer/v1.0/configurations/service", G, _json({"logMirrorSasUri": EVIL}), JSON, ""
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "path", "body", "kind", "said"),
    [
        ("face", "/face/v1.0/detect", b'{"url":"a","url":"b"}', JSON, "twice"),
        ("face", "/face/v1.0/detect", b'{"url":', JSON, "not valid JSON"),
        ("face", "/face/v1.0/detect", b'{"url":"a"}', "application/octet-stream", "looks like JSON"),
        ("face", "/face/v1.0/detect", b'{"url":"a"}', "application/json; charset=utf-16", "charset"),
        ("luis", "/luis/prediction/v3.0/apps/1/slots/production/predict", b"[1", JSON, "not valid JSON"),
        ("speech", "/cognitiveservices/v1", b"<!DOCTYPE a><speak/>", "application/ssml+xml", "document type"),
        ("speech", "/cognitiveservices/v1", b"<speak>", "application/ssml+xml", "not well formed"),
        ("speech", "/cognitiveservices/v1", b"{}", JSON, "application/ssml+xml"),
        ("speech", "/speechtotext/v3.2/datasets/upload", b"--b--", "multipart/form-data", "boundary"),
        ("content_moderator", "/contentmoderator/moderate/v1.0/ProcessText/Screen/", b"\xff", "text/plain", "UTF-8"),
        ("translator", "/translator/text/v3.0/translate", b'[{"Text":NaN}]', JSON, "not valid JSON"),
    ],
)
async def test_what_cannot_be_read_in_one_way_is_refused_on_every_account_in_the_services_words(
    tmp_path: Path, name: str, path: str, body: bytes, kind: str, said: str
) -> None:
    async with engine(OK) as running:
        served = Served(tmp_path, name, running.port)
        answer = await served.ask(path, body, kind=kind)
    assert answer.status in (400, 415)
    message = answer.json
    for member in {"content_moderator": ("Error", "Message"), "speech": ("message",)}.get(name, G):
        message = message[member]
    assert said in message
    assert running.requests == []
    if name == "translator":
        assert answer.code == 400_000


async def test_a_token_needs_the_services_data_action(tmp_path: Path) -> None:
    async with engine(OK) as running:
        served = Served(tmp_path, "face", running.port)
        path = served.account.path("/face/v1.0/detect")
        for role, status in (
            ("Cognitive Services Face Recognizer", 200),
            ("Cognitive Services Speech User", 401),
            (None, 401),
        ):
            _, token = served.plane.caller(f"app {role}", role)
            answer = await ask(
                served.gateway, path, ("authorization", f"Bearer {token}"), body=b'{"url":"https://a.example"}'
            )
            assert answer.status == status, role


async def test_an_account_answers_only_for_the_services_of_its_kind(tmp_path: Path) -> None:
    async with engine(OK) as running:
        served = Served(tmp_path, "face", running.port)
        assert (await served.ask("/vision/v3.2/analyze")).status == 404
        assert (await served.ask("/face/v1.0/verify")).status == 200


async def test_long_replies_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stockade.services.upstream_service.MAX_REPLY_BYTES", 2_000_000)
    async with engine(answers(reply(b"x" * 3_000_000, b"content-type: audio/wav"))) as running:
        served = Served(tmp_path, "speech", running.port)
        answer = await served.ask("/cognitiveservices/v1", b"<speak/>", kind="application/ssml+xml")
    assert answer.status == 502
