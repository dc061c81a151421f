"""An account that restricts where its requests may point to (`restrictOutboundNetworkAccess`, `allowedFqdnList`)."""

from __future__ import annotations

import html
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from stockade.gateway.app import Gateway
from tests.corpora.urls import LIST, tricks
from tests.factories.data_plane import CHAT, Account, Answer, DataPlane, ask
from tests.factories.engine import Engine, answers, engine, reply

OK = reply(b'{"choices":[]}')


class Restricted:
    def __init__(self, folder: Path, running: Engine) -> None:
        self.running = running
        self.plane = DataPlane(folder, f"http://127.0.0.1:{running.port}/v1")
        self.account: Account = self.plane.account(
            restrictOutboundNetworkAccess=True,
            allowedFqdnList=["images.example.com"],
            stockade={"dlp": {"inlineContent": False}},
        )
        self.gateway: Gateway = self.plane.gateway()

    async def chat(self, *content: Any, **more: Any) -> Answer:
        return await self.post(json.dumps({"messages": [{"role": "user", "content": list(content)}], **more}).encode())

    async def post(self, body: bytes) -> Answer:
        return await ask(self.gateway, self.account.path(CHAT), ("api-key", self.account.key), body=body)


@pytest.fixture
async def restricted(tmp_path: Path) -> AsyncIterator[Restricted]:
    async with engine(answers(OK)) as running:
        yield Restricted(tmp_path, running)


def image(url: Any) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url}}


async def test_uri_off_the_list_is_refused_as_azure_words_it_and_reaches_no_engine(restricted: Restricted) -> None:
    answer = await restricted.chat(image("https://evil.example/steal?secret=s3cr3t"))
    assert answer.status == 400
    assert answer.json["error"] == {
        "requestid": answer.headers["apim-request-id"],
        "code": 400,
        "message": "Outbound network access is restricted. The hostname 'evil.example' for parameter 'url' is not in the allowed FQDN "
        "list for this resource.",
        "innererror": {"code": "OutboundUriNotAllowed", "path": "messages[0].content[0].image_url.url"},
    }
    assert "s3cr3t" not in answer.body.decode()
    assert "s3cr3t" not in json.dumps(restricted.plane.audit_lines(restricted.gateway))
    assert restricted.running.requests == []


@pytest.mark.parametrize("url", ["https://images.example.com/a.png", "data:image/png;base64,AAAA"])
async def test_uri_on_the_list_and_content_pass(restricted: Restricted, url: str) -> None:
    assert (await restricted.chat(image(url))).status == 200


async def test_uri_in_the_short_form_is_found_too(restricted: Restricted) -> None:
    assert (await restricted.chat({"type": "image_url", "image_url": "https://evil.example/"})).status == 400


async def test_data_source_is_checked(restricted: Restricted) -> None:
    source = {"type": "azure_search", "parameters": {"endpoint": "https://evil.search.example"}}
    answer = await restricted.chat({"type": "text", "text": "hi"}, data_sources=[source])
    assert "'evil.search.example' for parameter 'endpoint'" in answer.json["error"]["message"]


INNER_TWICE = '{"url":"https://evil.example/","url":"https://images.example.com/"}'
SAID_TWICE = f'{{"messages":[{{"role":"user","content":[{{"type":"image_url","image_url":{INNER_TWICE}}}]}}]}}'.encode()


async def test_member_said_twice_is_dispatched_as_it_was_checked(restricted: Restricted) -> None:
    restricted.plane.change(restricted.account, stockade={"dlp": {"deepScan": False, "inlineContent": False}})
    answer = await restricted.post(SAID_TWICE)
    assert answer.status == 200
    assert b"evil.example" not in restricted.running.requests[0].body


async def test_deep_scan_sees_both_values_of_a_member_said_twice(restricted: Restricted) -> None:
    answer = await restricted.post(SAID_TWICE)
    assert "'evil.example'" in answer.json["error"]["message"]
    assert restricted.running.requests == []


async def test_uri_in_text_is_refused_and_its_place_told(restricted: Restricted) -> None:
    answer = await restricted.chat(
        {"type": "text", "text": "Look at https://evil.example/steal?secret=s3cr3t, please."}
    )
    assert answer.status == 400
    assert answer.json["error"]["innererror"]["path"] == "messages[0].content[0].text"
    assert "The hostname 'evil.example' for parameter 'text' is not in" in answer.json["error"]["message"]
    assert "s3cr3t" not in answer.body.decode() + json.dumps(restricted.plane.audit_lines(restricted.gateway))
    assert restricted.running.requests == []


async def test_uri_in_text_that_is_on_the_list_passes(restricted: Restricted) -> None:
    answer = await restricted.chat({"type": "text", "text": "Look at https://images.example.com/a, not C:\\a // b."})
    assert answer.status == 200


async def test_uri_in_a_member_nobody_declared_is_refused(restricted: Restricted) -> None:
    answer = await restricted.chat({"type": "text", "text": "hi"}, user={"home": ["", "//evil.example/x"]})
    assert answer.json["error"]["innererror"]["path"] == "user.home[1]"


async def test_spelling_that_programs_read_differently_is_refused_with_its_own_reason(restricted: Restricted) -> None:
    answer = await restricted.chat(image("https://evil.example\\@images.example.com/"))
    assert "programs disagree" in answer.json["error"]["message"] or "user name" in answer.json["error"]["message"]
    assert restricted.running.requests == []


async def test_deep_scan_can_be_switched_off(restricted: Restricted) -> None:
    restricted.plane.change(restricted.account, stockade={"dlp": {"deepScan": False}})
    assert (await restricted.chat({"type": "text", "text": "https://evil.example/"})).status == 200
    assert (await restricted.chat(image("https://evil.example/"))).status == 400


async def test_no_trick_of_the_corpus_reaches_the_engine(restricted: Restricted) -> None:
    """Each as the value of a declared field and inside text, sent to a gateway whose engine would take anything."""
    restricted.plane.change(restricted.account, allowedFqdnList=LIST, stockade={"dlp": {"inlineContent": False}})
    passed = []
    for trick in tricks():
        if trick.allowed:
            continue
        answer = await restricted.chat(image(trick.text))
        if answer.status != 400:
            passed.append(trick.text)
        if trick.in_text:
            answer = await restricted.chat(
                {"type": "text", "text": f"<img src='{html.escape(trick.text)}'>"}, note=trick.text
            )
            if answer.status != 400:
                passed.append(trick.text)
    assert passed == []
    assert restricted.running.requests == []


async def test_plain_uris_of_the_corpus_pass(restricted: Restricted) -> None:
    restricted.plane.change(restricted.account, allowedFqdnList=LIST, stockade={"dlp": {"inlineContent": False}})
    plain = [trick.text for trick in tricks() if trick.allowed]
    for text in plain:
        assert (await restricted.chat(image(text), {"type": "text", "text": f"See {text}, please."})).status == 200
    assert len(restricted.running.requests) == len(plain) > 20


async def test_rule_for_the_rest_of_a_uri_is_named_in_the_refusal_and_the_rest_is_not(restricted: Restricted) -> None:
    rule = {"name": "plain images", "allowedParameters": ["w"], "reason": "ask the image team"}
    dlp = {"inlineContent": False, "refuseSecrets": True, "uriRules": [rule]}
    restricted.plane.change(restricted.account, stockade={"dlp": dlp})
    assert (await restricted.chat(image("https://images.example.com/a?w=1"))).status == 200
    answer = await restricted.chat(image("https://images.example.com/a?s3cr3t=1"))
    assert answer.json["error"]["message"] == (
        "Outbound network access is restricted. The URI with the hostname 'images.example.com' for parameter 'url' is refused: "
        "it has a query parameter that is not allowed, by the rule 'plain images' (ask the image team)."
    )
    answer = await restricted.chat({"type": "text", "text": "https://images.example.com/?w=AKIAABCDEFGHIJKLMNOP"})
    assert "is refused: it holds an AWS access key." in answer.json["error"]["message"]
    told = json.dumps(restricted.plane.audit_lines(restricted.gateway))
    assert "s3cr3t" not in told
    assert "AKIA" not in told
    assert len(restricted.running.requests) == 1


async def test_change_of_the_list_is_in_force_for_the_next_request(restricted: Restricted) -> None:
    assert (await restricted.chat(image("https://new.example/"))).status == 400
    restricted.plane.change(restricted.account, allowedFqdnList=["new.example"])
    assert (await restricted.chat(image("https://new.example/"))).status == 200
    assert (await restricted.chat(image("https://images.example.com/"))).status == 400
    restricted.plane.change(restricted.account, restrictOutboundNetworkAccess=False)
    assert (await restricted.chat(image("https://anything.example/"))).status == 200
