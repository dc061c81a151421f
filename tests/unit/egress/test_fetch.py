"""Fetching one content: from the host that was checked and nowhere else, bounded in every way, with nothing of the caller's along."""

from __future__ import annotations

import asyncio
import gzip
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from stockade.egress.fetch import Budget, Content, Fetcher, Trail
from stockade.kernel.faults import Fault, FaultKind
from stockade.settings import Egress
from tests.factories.certificates import Certificates, certificates
from tests.factories.egress import IMAGE_TYPE, PNG, Names, egress_settings, fetch
from tests.factories.engine import Conversation, Engine, Peer, answers, chunked, engine, reply, says_and_closes

OK = reply(PNG, IMAGE_TYPE)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return certificates(tmp_path_factory.mktemp("tls"), ["images.example.com", "other.example.com"], ["127.0.0.1"])


class Far:
    """A far side, and a fetcher that reaches it as images.example.com and other.example.com."""

    def __init__(self, running: Engine, fetcher: Fetcher, names: Names) -> None:
        self.running, self.fetcher, self.names = running, fetcher, names
        self.trail = Trail()

    def uri(self, rest: str = "/a.png", host: str = "images.example.com", scheme: str = "https") -> str:
        return f"{scheme}://{host}:{self.running.port}{rest}"

    async def fetch(self, uri: str | None = None, **more: object) -> Content:
        self.trail = Trail()
        return await fetch(self.fetcher, uri or self.uri(), trail=self.trail, **more)  # type: ignore[arg-type]

    async def fault(self, uri: str | None = None, **more: object) -> Fault:
        with pytest.raises(Fault) as caught:
            await self.fetch(uri, **more)
        return caught.value


@asynccontextmanager
async def far(
    made: Certificates, *conversations: Conversation, tls: ssl.SSLContext | bool = True, **settings: object
) -> AsyncIterator[Far]:
    context = made.server_context() if tls is True else tls or None
    async with engine(*conversations, tls=context) as running:
        names = Names({"images.example.com": ("127.0.0.1",), "other.example.com": ("127.0.0.1",)})
        yield Far(running, Fetcher(egress_settings(made.authority, **settings), names), names)


def redirect(to: str, status: bytes = b"302 Found") -> bytes:
    return reply(b"", b"location: " + to.encode(), status=status)


async def test_content_is_fetched_with_nothing_of_the_callers_along(made: Certificates) -> None:
    async with far(made, answers(OK)) as there:
        content = await there.fetch(there.uri("/a b.png?q=é#fragment"))
        assert content == Content(PNG, "image/png", "images.example.com")
        (request,) = there.running.requests
        assert request.line == "GET /a%20b.png?q=%C3%A9 HTTP/1.1"
        assert request.headers == {
            "host": f"images.example.com:{there.running.port}", "accept": "image/*", "accept-encoding": "identity",
            "user-agent": "stockade", "connection": "close",
        }  # fmt: skip
        assert (there.trail.host, there.trail.hops, there.trail.size) == ("images.example.com", 0, len(PNG))
        assert there.names.asked == ["images.example.com"]


async def test_host_that_is_an_address_is_not_looked_up(made: Certificates) -> None:
    async with far(made, answers(OK)) as there:
        assert (await there.fetch(there.uri(host="127.0.0.1"))).host == "127.0.0.1"
        assert (await there.fetch(there.uri(host="0x7f.1"))).host == "127.0.0.1"
        assert there.names.asked == []


async def test_trailing_dot_is_dropped_from_the_name_the_certificate_and_the_header(made: Certificates) -> None:
    async with far(made, answers(OK)) as there:
        assert (await there.fetch(there.uri(host="IMAGES.example.com."))).host == "images.example.com"
        assert there.running.requests[0].headers["host"].startswith("images.example.com:")


@pytest.mark.parametrize("chunks", [(PNG,), tuple(PNG[i : i + 1] for i in range(len(PNG)))])
async def test_chunked_content_is_put_together(made: Certificates, chunks: Sequence[bytes]) -> None:
    async with far(made, answers(chunked(*chunks, headers=IMAGE_TYPE + b"\r\n"))) as there:
        assert (await there.fetch()).data == PNG


async def test_interim_replies_are_skipped(made: Certificates) -> None:
    async with far(made, says_and_closes(b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n" * 3 + OK)) as there:
        assert (await there.fetch()).data == PNG


# Where it goes


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "10.0.0.1", "169.254.169.254", "::1", "::ffff:127.0.0.1", "fd00:ec2::254", "0.0.0.0"]
)
async def test_inside_address_is_refused_by_default_and_not_named(made: Certificates, address: str) -> None:
    async with far(made, answers(OK), allowed_networks=()) as there:
        there.names.table = {"images.example.com": ("93.184.216.34", address)}
        found = await there.fault()
        assert found.kind is FaultKind.OUTBOUND_DENIED
        assert found.message == (
            "Outbound network access is restricted. The host 'images.example.com' resolves to an address this platform does not connect to."
        )
        assert there.trail.refused.startswith("address: ")
        host = f"[{address}]" if ":" in address else address
        assert (await there.fault(there.uri(host=host))).kind is FaultKind.OUTBOUND_DENIED
        assert there.running.connections == 0


async def test_every_hop_is_allowed_or_nothing_is_asked(made: Certificates) -> None:
    asked: list[str] = []

    def allow(uri: str) -> None:
        asked.append(uri)
        if "other" in uri:
            raise Fault(FaultKind.OUTBOUND_DENIED, "not on the list")

    async with far(made, answers(redirect("//other.example.com/b?x=1"))) as there:
        assert (await there.fault(allow=allow)).message == "not on the list"
        assert asked == [there.uri(), "https://other.example.com/b?x=1"]
        assert (there.names.asked, there.trail.hops) == (["images.example.com"], 1)


@pytest.mark.parametrize("status", [b"301 Moved", b"302 Found", b"303 See Other", b"307 Temporary", b"308 Permanent"])
async def test_redirect_is_followed_with_a_new_look_up_and_a_new_connection(made: Certificates, status: bytes) -> None:
    async with far(made, says_and_closes(redirect("b.png", status)), answers(OK)) as there:
        assert (await there.fetch(there.uri("/x/a.png"))).data == PNG
        assert [request.line for request in there.running.requests] == [
            "GET /x/a.png HTTP/1.1",
            "GET /x/b.png HTTP/1.1",
        ]
        assert there.names.asked == ["images.example.com"] * 2
        assert there.trail.hops == 1


async def test_redirect_to_an_inside_address_is_refused(made: Certificates) -> None:
    for place in ("https://10.0.0.1/", "https://inside.example/", "https://[::ffff:169.254.169.254]/latest/meta-data/"):
        async with far(made, answers(redirect(place))) as there:
            there.names.table = {**there.names.table, "inside.example": ("192.168.0.1",)}
            assert (await there.fault()).kind is FaultKind.OUTBOUND_DENIED
            assert there.trail.refused.startswith("address: ")
            assert there.running.connections == 1


async def test_redirects_have_an_end(made: Certificates) -> None:
    async with far(made, answers(redirect("/again")), max_redirects=3) as there:
        found = await there.fault()
        assert (found.kind, there.trail.refused) == (FaultKind.OUTBOUND_DENIED, "redirects")
        assert len(there.running.requests) == 4


@pytest.mark.parametrize(
    ("place", "refused"),
    [
        ("ftp://images.example.com/a.png", "scheme"), ("file:///etc/passwd", "scheme"), ("gopher://x/_", "scheme"),
        ("data:image/png;base64,AAAA", "scheme"), ("javascript:alert(1)", "scheme"), ("ws://images.example.com/", "scheme"),
        ("https://user:secret@images.example.com/", "userinfo"), ("https://user@images.example.com/", "userinfo"),
        ("http://images.example.com/", "downgrade"),
    ],
)  # fmt: skip
async def test_redirect_to_another_scheme_or_with_a_password_is_refused(
    made: Certificates, place: str, refused: str
) -> None:
    async with far(made, answers(redirect(place))) as there:
        found = await there.fault(http=True)
        assert (found.kind, there.trail.refused) == (FaultKind.OUTBOUND_DENIED, refused)
        assert "secret" not in found.message
        assert there.running.connections == 1


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"location: \r\n",
        b"location: /a\r\nlocation: /b\r\n",
        "location: /é\r\n".encode(),
        b"location: https://\r\n",
    ],
)
async def test_redirect_that_says_nothing_or_too_much_is_not_followed(made: Certificates, head: bytes) -> None:
    async with far(made, says_and_closes(b"HTTP/1.1 302 Found\r\ncontent-length: 0\r\n" + head + b"\r\n")) as there:
        assert (await there.fault()).kind in (FaultKind.INVALID, FaultKind.UPSTREAM_FAILED)
        assert there.running.connections == 1


@pytest.mark.parametrize(
    ("allow_http", "named", "works"), [(False, False, False), (True, False, True), (False, True, True)]
)
async def test_http_only_where_it_is_named(made: Certificates, allow_http: bool, named: bool, works: bool) -> None:
    async with far(made, answers(OK), tls=False, allow_http=allow_http) as there:
        uri = there.uri(scheme="http")
        if works:
            assert (await there.fetch(uri, http=named)).data == PNG
        else:
            assert (await there.fault(uri, http=named)).kind is FaultKind.OUTBOUND_DENIED
            assert (there.trail.refused, there.running.connections) == ("scheme", 0)


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "images.example.com/a.png",
        "https://",
        "https:///",
        "//x/y",
        "https://a b/",
        "https://[::1",
        "https://x:99999/",
        "https://x/" + "a" * 9000,
    ],
)
async def test_what_cannot_be_read_is_not_fetched(made: Certificates, uri: str) -> None:
    async with far(made, answers(OK)) as there:
        with pytest.raises(Fault) as caught:
            await fetch(there.fetcher, uri)
        assert caught.value.kind is FaultKind.INVALID
        assert there.names.asked == [] or "x" not in there.names.asked


# Who answers


async def test_certificate_has_to_name_the_host_that_was_checked(made: Certificates) -> None:
    async with far(made, answers(OK)) as there:
        there.names.table = {"unproven.example.com": ("127.0.0.1",)}
        found = await there.fault(there.uri(host="unproven.example.com"))
        assert (found.kind, found.message) == (
            FaultKind.UPSTREAM_FAILED,
            "The host 'unproven.example.com' does not prove who it is.",
        )
        assert there.running.requests == []


async def test_expired_certificate_is_refused(tmp_path: Path) -> None:
    over = certificates(tmp_path, ["images.example.com"], expired=True)
    async with far(over, answers(OK)) as there:
        assert (await there.fault()).kind is FaultKind.UPSTREAM_FAILED
        assert there.running.requests == []


async def test_authority_that_nobody_named_is_not_believed(made: Certificates, tmp_path: Path) -> None:
    others = certificates(tmp_path, ["images.example.com"])
    async with far(made, answers(OK), tls=others.server_context()) as there:
        assert (await there.fault()).kind is FaultKind.UPSTREAM_FAILED
        assert there.running.requests == []


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated:DeprecationWarning")
async def test_tls_1_1_is_not_spoken(made: Certificates) -> None:
    old = made.server_context()
    old.minimum_version = ssl.TLSVersion.TLSv1_1
    old.maximum_version = ssl.TLSVersion.TLSv1_1
    old.set_ciphers("ALL:@SECLEVEL=0")
    async with far(made, answers(OK), tls=old) as there:
        assert (await there.fault()).kind is FaultKind.UPSTREAM_FAILED
        assert there.running.requests == []


async def test_nobody_there_is_said_plainly(made: Certificates) -> None:
    async with far(made, answers(OK)) as there:
        uri = there.uri()
    found = await there.fault(uri)
    assert (found.kind, found.message) == (
        FaultKind.UPSTREAM_FAILED,
        "The host 'images.example.com' cannot be reached.",
    )


async def test_next_address_is_tried_when_one_is_dead_and_only_so_many(made: Certificates) -> None:
    async with far(made, answers(OK)) as there:
        # Nobody listens on 127.0.0.2 and so on: the server is bound to 127.0.0.1 alone.
        there.names.table = {"images.example.com": ("127.0.0.2", "127.0.0.3", "127.0.0.1")}
        assert (await there.fetch()).data == PNG
        there.names.table = {"images.example.com": ("127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.1")}
        assert (await there.fault()).kind is FaultKind.UPSTREAM_FAILED


# What comes back


async def slowloris(peer: Peer) -> None:
    await peer.request()
    for byte in b"HTTP/1.1 200 OK\r\nx: " + b"y" * 100_000:
        await peer.send(bytes([byte]))
        await asyncio.sleep(0.05)


async def never_answers(peer: Peer) -> None:
    await peer.request()
    await peer.closed()


async def body_without_end(peer: Peer) -> None:
    await peer.request()
    await peer.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
    while True:
        await peer.send(b"10000\r\n" + PNG + bytes(0x10000 - len(PNG)) + b"\r\n")


async def head_without_end(peer: Peer) -> None:
    await peer.request()
    await peer.send(b"HTTP/1.1 200 OK\r\n")
    while True:
        await peer.send(b"x-more: " + b"y" * 1000 + b"\r\n")


async def interim_without_end(peer: Peer) -> None:
    await peer.request()
    while True:
        await peer.send(b"HTTP/1.1 100 Continue\r\n\r\n" * 100)


@pytest.mark.parametrize("talk", [slowloris, never_answers, interim_without_end])
async def test_time_is_limited_whatever_the_far_side_does(made: Certificates, talk: Conversation) -> None:
    async with far(made, talk, fetch_timeout_s=1.0) as there:
        found = await there.fault()
        assert (found.kind, found.message) == (
            FaultKind.UPSTREAM_TIMEOUT, "The content at the host 'images.example.com' did not arrive in time.",
        )  # fmt: skip


async def test_far_side_that_never_speaks_tls_is_given_up(made: Certificates) -> None:
    async def mute(peer: Peer) -> None:
        await peer.closed()

    async with far(made, mute, tls=False, connect_timeout_s=0.3) as there:
        found = await there.fault()
        assert (found.kind, found.message) == (
            FaultKind.UPSTREAM_TIMEOUT,
            "The host 'images.example.com' cannot be reached.",
        )


async def test_body_without_end_is_cut_at_the_limit(made: Certificates) -> None:
    async with far(made, body_without_end, max_bytes=1_000_000) as there:
        found = await there.fault()
        assert found.kind is FaultKind.TOO_LARGE
        assert there.trail.size <= 1_000_000


async def test_declared_size_above_the_limit_is_not_read(made: Certificates) -> None:
    async with far(made, answers(reply(PNG + bytes(1000), IMAGE_TYPE)), max_bytes=1000) as there:
        assert (await there.fault()).kind is FaultKind.TOO_LARGE
        assert there.trail.size == 0


async def test_contents_of_one_request_share_what_it_may_hold(made: Certificates) -> None:
    budget = Budget(len(PNG) * 2 - 1)
    async with far(made, answers(OK)) as there:
        one = {"allow": lambda _: None, "http": lambda _: False, "account": "a1", "budget": budget}
        await there.fetcher.fetch(there.uri(), trail=Trail(), **one)  # type: ignore[arg-type]
        with pytest.raises(Fault) as caught:
            await there.fetcher.fetch(there.uri(), trail=Trail(), **one)  # type: ignore[arg-type]
        assert caught.value.kind is FaultKind.TOO_LARGE


async def test_head_without_end_is_cut(made: Certificates) -> None:
    async with far(made, head_without_end) as there:
        assert (await there.fault()).kind is FaultKind.UPSTREAM_FAILED


BROKEN = {
    "too short": b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n" + PNG,
    "no length": b"HTTP/1.1 200 OK\r\n\r\n" + PNG,
    "no length, HTTP/1.0": b"HTTP/1.0 200 OK\r\n\r\n" + PNG,
    "two lengths": b"HTTP/1.1 200 OK\r\ncontent-length: 14\r\ncontent-length: 15\r\n\r\n" + PNG,
    "length and chunks": b"HTTP/1.1 200 OK\r\ncontent-length: 14\r\ntransfer-encoding: chunked\r\n\r\ne\r\n"
    + PNG
    + b"\r\n0\r\n\r\n",
    "length that is none": b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n" + PNG,
    "chunk that is cut": chunked(PNG, end=b"fff\r\nabc"),
    "chunk without a size": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
    "no HTTP": b"SSH-2.0-OpenSSH_9.6\r\n",
    "another protocol": b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n" + PNG,
    "nothing": b"",
}


@pytest.mark.parametrize("name", BROKEN)
async def test_reply_that_is_not_whole_is_a_failure_and_no_short_success(made: Certificates, name: str) -> None:
    async with far(made, says_and_closes(BROKEN[name])) as there:
        found = await there.fault()
        assert (found.kind, "'images.example.com'" in found.message) == (FaultKind.UPSTREAM_FAILED, True)


async def test_what_follows_the_content_is_not_read(made: Certificates) -> None:
    async with far(made, says_and_closes(OK + b"HTTP/1.1 200 OK\r\n\r\nsmuggled")) as there:
        assert (await there.fetch()).data == PNG


async def test_compressed_content_is_not_unpacked(made: Certificates) -> None:
    bomb = gzip.compress(PNG + bytes(10_000_000))
    async with far(made, answers(reply(bomb, IMAGE_TYPE, b"content-encoding: gzip"))) as there:
        assert (await there.fault()).kind is FaultKind.INVALID
    async with far(made, answers(reply(bomb, IMAGE_TYPE))) as there:  # without saying so it is no image
        assert (await there.fault()).kind is FaultKind.INVALID


@pytest.mark.parametrize(
    "answer",
    [
        reply(b'{"token": "s3cret"}', b"content-type: application/json"),
        reply(b"<html>", IMAGE_TYPE),
        reply(b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"content-type: image/svg+xml"),
        reply(PNG, b"content-type: text/html"),
        reply(PNG, IMAGE_TYPE, status=b"404 Not Found"),
        reply(PNG, IMAGE_TYPE, status=b"206 Partial Content"),
        reply(b"", status=b"204 No Content"),
        reply(b"", IMAGE_TYPE),
    ],
)
async def test_what_is_no_image_is_not_passed_on_nor_shown(made: Certificates, answer: bytes) -> None:
    async with far(made, says_and_closes(answer)) as there:
        found = await there.fault()
        assert found.kind is FaultKind.INVALID
        assert "s3cret" not in found.message


@pytest.mark.parametrize(
    "media", [b"content-type: application/octet-stream", b"content-type: IMAGE/PNG; q=1", b"x-none: 1"]
)
async def test_image_that_its_server_does_not_know_is_one_by_its_bytes(made: Certificates, media: bytes) -> None:
    async with far(made, answers(reply(PNG, media))) as there:
        assert (await there.fetch()).media_type == "image/png"


# How many


async def test_fetches_are_bounded_and_those_who_wait_are_too(made: Certificates) -> None:
    asked, go_on = asyncio.Queue[None](), asyncio.Event()

    async def slow(peer: Peer) -> None:
        await peer.request()
        asked.put_nowait(None)
        await go_on.wait()
        await peer.send(OK)

    async with far(made, slow, max_concurrent=3, max_concurrent_per_account=2) as there:
        first = [asyncio.create_task(fetch(there.fetcher, there.uri(), account="a")) for _ in range(4)]
        for _ in range(2):
            await asked.get()
        assert (await there.fault(account="a")).kind is FaultKind.LIMIT
        other = [asyncio.create_task(fetch(there.fetcher, there.uri(), account="b")) for _ in range(2)]
        await asked.get()
        assert (await there.fault(account="c")).kind is FaultKind.UNAVAILABLE
        assert there.running.connections == 3
        go_on.set()
        assert [content.data for content in await asyncio.gather(*first, *other)] == [PNG] * 6
        assert there.fetcher._places._of == {} and not there.fetcher._places._present


async def test_who_waits_for_a_place_in_vain_is_refused_in_time(made: Certificates) -> None:
    async with far(made, never_answers, max_concurrent=1, fetch_timeout_s=1.0) as there:
        first = asyncio.create_task(fetch(there.fetcher, there.uri()))
        while not there.running.requests:  # noqa: ASYNC110 - the far side is what is waited for
            await asyncio.sleep(0.01)
        found = await there.fault()
        assert (
            found.kind is FaultKind.UNAVAILABLE or there.trail.host
        )  # the first one's time may have been over just before
        await asyncio.gather(first, return_exceptions=True)


async def test_fetch_that_is_given_up_closes_its_connection(made: Certificates) -> None:
    async with far(made, never_answers) as there:
        task = asyncio.create_task(there.fetch())
        while not there.running.requests:  # noqa: ASYNC110 - the far side is what is waited for
            await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await asyncio.wait_for(there.running.seen_closed.wait(), 30)


@pytest.mark.parametrize(
    ("setting", "value"),
    [("allowed_networks", ("10.1.2.3/8",)), ("allowed_networks", ("inside",)), ("ca_file", "/nowhere/ca.pem")],
)
def test_setting_that_cannot_be_used_is_named(setting: str, value: object) -> None:
    with pytest.raises(ValueError, match=rf"egress\.{setting}"):
        Fetcher(Egress(**{setting: value}), Names())  # type: ignore[arg-type]
