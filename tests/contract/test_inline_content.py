"""Images that a request names are fetched by the gateway and handed to the engine inline: the engine sees content, and no URI."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from stockade.settings import Model, Upstream
from tests.factories.certificates import Certificates, certificates
from tests.factories.data_plane import CHAT, Account, Answer, DataPlane, ask
from tests.factories.egress import IMAGE_TYPE, PNG, egress_settings
from tests.factories.engine import Conversation, Engine, Peer, answers, engine, reply
from tests.factories.names import Answer as NameAnswer
from tests.factories.names import NameServer, first_then, has, name_server

OK = answers(reply(b'{"choices":[]}'))
IMAGE = reply(PNG, IMAGE_TYPE)
DATA = "data:image/png;base64," + base64.b64encode(PNG).decode()
HOST = "images.example.com"
LISTED = ["images.example.com", "other.example.com"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return certificates(tmp_path_factory.mktemp("tls"), [*LISTED, "unlisted.example.com"])


class Inline:
    """A gateway with a restricted account, an engine behind it, a far side with images, and the names that lead there."""

    def __init__(
        self, folder: Path, model: Engine, far: Engine, names: NameServer, authority: Path, egress: Mapping[str, Any]
    ) -> None:
        self.model, self.far, self.names = model, far, names
        settings = egress_settings(authority, dns_servers=(names.address,), **egress)
        models = (Model("chatty", upstream=Upstream(url=f"http://127.0.0.1:{model.port}/v1", model="real")),)
        self.plane = DataPlane(folder, egress=settings, models=models)
        self.account = self.restricted("a1")
        self.gateway = self.plane.gateway()

    def restricted(self, name: str, **stockade: Any) -> Account:
        return self.plane.account(name, restrictOutboundNetworkAccess=True, allowedFqdnList=LISTED, stockade=stockade)

    def uri(self, rest: str = "/a.png", host: str = HOST) -> str:
        return f"https://{host}:{self.far.port}{rest}"

    async def chat(self, *uris: Any, account: Account | None = None) -> Answer:
        content = [{"type": "image_url", "image_url": uri} for uri in uris]
        body = json.dumps(
            {"messages": [{"role": "user", "content": [{"type": "text", "text": "what?"}, *content]}]}
        ).encode()
        account = account or self.account
        self.answer = await ask(self.gateway, account.path(CHAT), ("api-key", account.key), body=body)
        return self.answer

    def sent(self, number: int = -1) -> list[Any]:
        """Return the images of a request as the engine got them."""
        content = json.loads(self.model.requests[number].body)["messages"][0]["content"]
        return [part["image_url"] for part in content if part["type"] == "image_url"]

    def hidden(self, host: str) -> str:
        """Return what stands for a host in records."""
        return self.plane.hidden(host)

    def record(self) -> dict[str, Any]:
        """Return the record of the last request."""
        return self.plane.record_of(self.gateway, self.answer)


@asynccontextmanager
async def inline(
    folder: Path, made: Certificates, *far: Conversation, names: Mapping[str, NameAnswer] | None = None, **egress: Any
) -> AsyncIterator[Inline]:
    zone = {name.replace(".", "__"): has("127.0.0.1") for name in [*LISTED, "unlisted.example.com"]}
    zone |= {name.replace(".", "__"): answer for name, answer in (names or {}).items()}
    async with (
        engine(OK) as model,
        engine(*(far or (answers(IMAGE),)), tls=made.server_context()) as there,
        name_server(**zone) as server,
    ):
        yield Inline(folder, model, there, server, made.authority, egress)


async def test_engine_gets_the_content_and_no_uri(tmp_path: Path, made: Certificates) -> None:
    async with inline(tmp_path, made) as at:
        answer = await at.chat({"url": at.uri("/a.png?sig=s3cret"), "detail": "high"}, at.uri("/short.png"))
        assert answer.status == 200
        assert at.sent() == [{"url": DATA, "detail": "high"}, DATA]
        assert b"example.com" not in at.model.requests[0].body
        assert sorted(request.line for request in at.far.requests) == [
            "GET /a.png?sig=s3cret HTTP/1.1",
            "GET /short.png HTTP/1.1",
        ]
        for request in at.far.requests:
            assert at.account.key not in request.head.decode()


async def test_record_says_what_was_fetched_and_not_the_uri(tmp_path: Path, made: Certificates) -> None:
    async with inline(tmp_path, made) as at:
        await at.chat({"url": at.uri("/a.png?sig=s3cret")})
        record = at.record()
        (fetched,) = record["fetched"]
        assert fetched.pop("ms") > 0
        assert fetched == {"path": "messages[0].content[1].image_url.url", "host": at.hidden(HOST), "bytes": len(PNG)}
        assert "s3cret" not in json.dumps(record)


async def test_content_that_is_there_already_stays_as_it_is(tmp_path: Path, made: Certificates) -> None:
    async with inline(tmp_path, made) as at:
        assert (await at.chat({"url": DATA}, at.uri())).status == 200
        assert at.sent() == [{"url": DATA}, DATA]
        assert len(at.far.requests) == 1


async def test_one_uri_in_two_places_is_fetched_once(tmp_path: Path, made: Certificates) -> None:
    async with inline(tmp_path, made) as at:
        assert (await at.chat({"url": at.uri()}, at.uri())).status == 200
        assert at.sent() == [{"url": DATA}, DATA]
        assert len(at.far.requests) == 1


async def test_contents_are_fetched_side_by_side(tmp_path: Path, made: Certificates) -> None:
    together = asyncio.Barrier(3)

    async def meets(peer: Peer) -> None:
        await peer.request()
        await together.wait()
        await peer.send(IMAGE)

    async with inline(tmp_path, made, meets) as at:
        assert (await at.chat(*(at.uri(f"/{number}.png") for number in range(3)))).status == 200
        assert at.sent() == [DATA] * 3


async def test_unrestricted_account_is_left_alone(tmp_path: Path, made: Certificates) -> None:
    async with inline(tmp_path, made) as at:
        free = at.plane.account("free")
        assert (await at.chat({"url": at.uri()}, account=free)).status == 200
        assert at.sent() == [{"url": at.uri()}]
        assert at.far.connections == 0


async def test_account_may_have_its_engine_fetch(tmp_path: Path, made: Certificates) -> None:
    async with inline(tmp_path, made) as at:
        account = at.restricted("a2", dlp={"inlineContent": False})
        assert (await at.chat({"url": at.uri()}, account=account)).status == 200
        assert at.sent() == [{"url": at.uri()}]
        assert (await at.chat({"url": at.uri(host="unlisted.example.com")}, account=account)).status == 400
        assert at.far.connections == 0


async def test_redirect_off_the_list_is_refused_as_if_it_stood_in_the_request(
    tmp_path: Path, made: Certificates
) -> None:
    elsewhere = answers(reply(b"", b"location: https://unlisted.example.com/x?sig=s3cret", status=b"302 Found"))
    async with inline(tmp_path, made, elsewhere) as at:
        answer = await at.chat({"url": at.uri()})
        assert answer.status == 400
        assert answer.json["error"]["innererror"] == {
            "code": "OutboundUriNotAllowed",
            "path": "messages[0].content[1].image_url.url",
        }
        assert "'unlisted.example.com'" in answer.json["error"]["message"]
        assert ("unlisted.example.com", "A") not in at.names.asked
        assert at.model.requests == []
        record = at.record()
        assert (record["decision"], record["rule"], record["because"]["host"]) == (
            "deny",
            "outbound",
            at.hidden("unlisted.example.com"),
        )
        assert record["fetched"][0]["hops"] == 1
        assert "s3cret" not in answer.body.decode() + json.dumps(record)


async def test_listed_name_that_leads_inside_is_refused(tmp_path: Path, made: Certificates) -> None:
    async with inline(tmp_path, made, names={HOST: has("127.0.0.1", "10.0.0.7")}) as at:
        answer = await at.chat({"url": at.uri()})
        assert answer.status == 400
        assert answer.json["error"]["message"] == (
            "Outbound network access is restricted. The host 'images.example.com' resolves to an address this platform does not connect to."
        )
        assert "10.0.0.7" not in answer.body.decode()
        assert (at.far.connections, at.model.requests) == (0, [])
        record = at.record()
        assert (record["rule"], record["because"]["why"]) == ("egress", "address: private")


async def test_loopback_is_refused_where_nobody_has_named_it(tmp_path: Path, made: Certificates) -> None:
    async with inline(tmp_path, made, allowed_networks=()) as at:
        assert (await at.chat({"url": at.uri()})).status == 400
        assert (at.far.connections, at.record()["because"]["why"]) == (0, "address: loopback")


async def test_name_that_changes_its_mind_is_asked_once(tmp_path: Path, made: Certificates) -> None:
    """Rebinding: the address that was judged is the one that is connected to, whatever a second answer would be."""
    async with inline(tmp_path, made, names={HOST: first_then(has("127.0.0.1"), has("169.254.169.254"))}) as at:
        assert (await at.chat({"url": at.uri()})).status == 200
        assert sorted(at.names.asked) == [(HOST, "A"), (HOST, "AAAA")]
        assert (await at.chat({"url": at.uri()})).status == 400
        assert at.record()["because"]["why"] == "address: metadata"
        assert at.far.connections == 1


async def test_name_that_changes_its_mind_before_a_redirect_is_judged_again(tmp_path: Path, made: Certificates) -> None:
    again = answers(reply(b"", b"location: /b.png", status=b"302 Found"))
    async with inline(tmp_path, made, again, names={HOST: first_then(has("127.0.0.1"), has("10.0.0.1"))}) as at:
        assert (await at.chat({"url": at.uri()})).status == 400
        assert (at.far.connections, at.record()["because"]["hops"]) == (1, "1")


async def test_content_that_is_not_to_be_had_is_told_in_the_services_words(tmp_path: Path, made: Certificates) -> None:
    async with inline(tmp_path, made, answers(reply(b"", status=b"404 Not Found"))) as at:
        answer = await at.chat({"url": at.uri()})
        assert (answer.status, answer.json["error"]) == (
            400,
            {
                "code": "BadRequest",
                "message": "The content at the host 'images.example.com' cannot be used: the host answered with status 404.",
                "param": "messages[0].content[1].image_url.url",
                "type": "invalid_request_error",
            },
        )
        assert at.model.requests == []
        assert at.record()["fetched"][0]["failed"] == "Invalid"


async def test_first_failure_ends_the_other_fetches(tmp_path: Path, made: Certificates) -> None:
    given_up = asyncio.Event()

    async def by_path(peer: Peer) -> None:
        request = await peer.request()
        if "bad" in request.line:
            await peer.send(reply(b"", status=b"500 Oops"))
        else:
            await peer.closed()
            given_up.set()

    async with inline(tmp_path, made, by_path) as at:
        assert (await at.chat(at.uri("/slow.png"), at.uri("/bad.png"))).status == 400
        await asyncio.wait_for(given_up.wait(), 30)


async def test_contents_must_fit_into_what_the_operation_takes(tmp_path: Path, made: Certificates) -> None:
    big = PNG + bytes(5_000_000)
    async with inline(tmp_path, made, answers(reply(big, IMAGE_TYPE))) as at:
        assert (await at.chat(at.uri("/1.png"), at.uri("/2.png"))).status == 200
        assert len(at.model.requests[0].body) < 16 * 1024 * 1024
        answer = await at.chat(at.uri("/1.png"), at.uri("/2.png"), at.uri("/3.png"))
        assert answer.status == 413
        assert len(at.model.requests) == 1
        # The same content in three places is as large as three.
        assert (
            await at.chat(at.uri("/1.png"), {"url": at.uri("/1.png")}, {"url": at.uri("/1.png"), "detail": "low"})
        ).status == 413


async def test_too_many_contents_are_refused_before_any_is_fetched(tmp_path: Path, made: Certificates) -> None:
    async with inline(tmp_path, made, max_per_request=2) as at:
        assert (await at.chat(*(at.uri(f"/{number}") for number in range(3)))).status == 413
        assert at.far.connections == 0


async def test_client_that_goes_away_ends_its_fetch(tmp_path: Path, made: Certificates) -> None:
    async def never(peer: Peer) -> None:
        await peer.request()
        await peer.closed()

    async with inline(tmp_path, made, never) as at:
        task = asyncio.create_task(at.chat(at.uri()))
        while not at.far.requests:  # noqa: ASYNC110 - the far side is what is waited for
            await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await asyncio.wait_for(at.far.seen_closed.wait(), 30)
        assert at.model.requests == []


# Trying it before it bites


async def test_in_report_mode_a_refused_uri_passes_and_is_not_fetched(tmp_path: Path, made: Certificates) -> None:
    async with inline(tmp_path, made) as at:
        account = at.restricted("a2", controls={"dlp": "report"})
        refused, listed = at.uri(host="unlisted.example.com"), at.uri()
        assert (await at.chat(refused, listed, account=account)).status == 200
        assert at.sent() == [refused, DATA]
        assert len(at.far.requests) == 1
        record = at.record()
        assert [one["host"] for one in record["reported"]] == [at.hidden("unlisted.example.com")]
        assert [one["host"] for one in record["fetched"]] == [at.hidden(HOST)]


async def test_in_report_mode_content_that_is_refused_on_the_way_passes_as_its_uri(
    tmp_path: Path, made: Certificates
) -> None:
    elsewhere = answers(reply(b"", b"location: https://unlisted.example.com/", status=b"302 Found"))
    async with inline(tmp_path, made, elsewhere, names={"other.example.com": has("10.0.0.1")}) as at:
        account = at.restricted("a2", controls={"dlp": "report"})
        moved, inside = at.uri(), at.uri(host="other.example.com")
        assert (await at.chat(moved, inside, account=account)).status == 200
        assert at.sent() == [moved, inside]
        assert sorted((one["rule"], one["host"], one["why"]) for one in at.record()["reported"]) == [
            ("egress", at.hidden("other.example.com"), "address: private"),
            ("outbound", at.hidden("unlisted.example.com"), "host"),
        ]
        missing = at.uri(host="missing.example.com")
        at.plane.change(account, allowedFqdnList=["missing.example.com"])
        assert (await at.chat(missing, account=account)).status == 200
        assert at.sent() == [missing]


async def test_control_that_is_off_fetches_nothing(tmp_path: Path, made: Certificates) -> None:
    async with inline(tmp_path, made) as at:
        account = at.restricted("a2", controls={"dlp": "off"})
        assert (await at.chat(at.uri(), account=account)).status == 200
        assert (at.sent(), at.far.connections) == ([at.uri()], 0)
