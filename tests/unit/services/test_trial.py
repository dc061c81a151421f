"""A described request, looked at as the gateway would."""

from __future__ import annotations

from pathlib import Path

import pytest

from stockade.kernel.faults import Fault
from stockade.management.cognitive_services.kinds import KINDS
from stockade.policy.snapshot import AccountPolicy
from stockade.services.installed import installed
from stockade.services.trial import BATCH, Described, Looked, look
from tests.factories.data_plane import DataPlane


class Bench:
    def __init__(self, folder: Path, kind: str) -> None:
        self.plane = DataPlane(folder)
        made = self.plane.account(kind=kind, sku=KINDS[kind.lower()].skus[0].name, deployments=())
        self.snapshot = self.plane.gateway()._source.current()
        account = self.snapshot.only("account", made.id.lower())
        assert isinstance(account, AccountPolicy)
        self.account, self.services = account, installed(self.plane.settings)

    def look(self, body: bytes, *, deep: bool = True, **more: str) -> Looked:
        return look(self.services, self.account, self.snapshot, Described(body, **more), deep=deep, now=1.0)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("kind", "body", "content_type", "operation", "places"),
    [
        ("OpenAI", b'{"messages":[{"content":[{"image_url":{"url":"https://a.example"}}]}]}', "application/json",
         "ChatCompletions_Create", ["messages[0].content[0].image_url.url"]),
        ("OpenAI", b'{"messages":[{"content":"see https://a.example"}]}', "application/json", "ChatCompletions_Create", ["messages[0].content"]),
        ("Face", b'{"url":"https://a.example"}', "application/json", "Face_Detect", ["url"]),
        ("SpeechServices", b'{"contentUrls":["https://a.example"],"destinationContainerUrl":"https://b.example"}', "application/json",
         "Transcriptions_Update", ["contentUrls[0]", "destinationContainerUrl"]),
        ("SpeechServices", b"<speak><audio src='https://a.example'/></speak>", "application/ssml+xml", "Speech_Synthesize", ["xml:audio[0]@src"]),
        ("FormRecognizer", b'{"urlSource":"https://a.example"}', "application/json", "Models_Analyze", ["urlSource"]),
    ],
)  # fmt: skip
def test_the_operation_is_found_by_the_body(
    tmp_path: Path, kind: str, body: bytes, content_type: str, operation: str, places: list[str]
) -> None:
    looked = Bench(tmp_path, kind).look(body, content_type=content_type)
    assert looked.operation.name.startswith(operation)
    assert [found.path for found in looked.uris] == places


def test_an_operation_may_be_named_or_addressed(tmp_path: Path) -> None:
    bench = Bench(tmp_path, "SpeechServices")
    body = b'{"webUrl":"https://a.example"}'
    for named in (
        {"operation": "webhooks_create"},
        {"operation": "speech.Webhooks_Create"},
        {"path": "/speechtotext/v3.2/webhooks"},
    ):
        looked = bench.look(body, deep=False, **named)
        assert (looked.service, looked.operation.name) == ("speech", "Webhooks_Create")
        assert [found.uri for found in looked.uris] == ["https://a.example"]


@pytest.mark.parametrize(
    ("named", "target"),
    [
        ({"operation": "Nothing_AtAll"}, "operation"),
        ({"path": "/nothing"}, "path"),
        ({"content_type": "image/heic+xml"}, "contentType"),
    ],
)
def test_what_there_is_not_is_said(tmp_path: Path, named: dict[str, str], target: str) -> None:
    bench = Bench(tmp_path, "LUIS" if target != "contentType" else "Personalizer")
    with pytest.raises(Fault) as refused:
        bench.look(b"{}", **named)
    assert refused.value.target == target


def test_a_batch_is_looked_at_line_by_line(tmp_path: Path) -> None:
    body = (
        b'{"custom_id":"1","body":{"messages":[{"content":"hi"}]}}\n'
        b'{"custom_id":"2","body":{"messages":[{"content":[{"image_url":{"url":"https://a.example"}}]}]}}\n'
        b'{"custom_id":"https://b.example","body":{}}\n'
    )
    looked = Bench(tmp_path, "OpenAI").look(body, content_type="application/jsonl")
    assert looked.operation.name == BATCH
    assert [found.uri for found in looked.uris] == ["https://a.example", "https://b.example"]
    assert looked.uris[0].path == "line 2: body.messages[0].content[0].image_url.url"
    assert looked.uris[1].path.startswith("line 3: ")


def test_a_body_that_the_gateway_would_refuse_is_refused(tmp_path: Path) -> None:
    bench = Bench(tmp_path, "Face")
    with pytest.raises(Fault, match="twice"):
        bench.look(b'{"url":"a","url":"b"}', operation="Face_Detect")
    with pytest.raises(Fault, match="not valid JSON"):
        bench.look(b"{")
