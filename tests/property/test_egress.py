"""The host that was checked is the host that is connected to: in the look-up, the address, the certificate's name and the `Host` header."""

from __future__ import annotations

import asyncio
import hashlib
import ssl
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address, ip_address
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from stockade.egress import dial
from stockade.egress.addresses import IPAddress
from stockade.egress.fetch import Budget, Fetcher, Trail
from stockade.kernel.faults import Fault, FaultKind
from stockade.policy.uris.allowed import AllowedHosts, compile_allowed
from stockade.policy.uris.found import FoundUri
from stockade.policy.uris.loss_prevention import LossPrevention
from stockade.policy.uris.parse import parse
from stockade.settings import Egress
from tests.corpora import urls
from tests.factories.certificates import certificates
from tests.factories.egress import IMAGE_TYPE, PNG
from tests.factories.engine import Peer, engine, reply

LISTED = ("good.example", "xn--bcher-kva.example", "8.8.4.4", "2606:4700::1")
LOOPBACK = ip_address("127.0.0.1")

HOSTS = st.sampled_from(
    [
        "good.example", "GOOD.example", "good.example.", "evil.example", "good.example.evil.example", "evil.example.good.example",
        "good%2eexample", "good。example", "ｇｏｏｄ.example", "bücher.example", "xn--bcher-kva.example", "good.example\u00ad",
        "good.exa\u200bmple", "good.example%00.evil.example", "127.0.0.1", "0x7f.1", "2130706433", "017700000001", "8.8.4.4", "0x08080404",
        "134743044", "8.8.1028", "[::1]", "[::ffff:8.8.4.4]", "[2606:4700::1]", "[2606:4700:0:0::0:1]", "[64:ff9b::808:404]",
        "169.254.169.254", "localhost", "", "good.example,evil.example", "good.example evil.example",
    ]
)  # fmt: skip
BEFORE = st.sampled_from(
    [
        "", "good.example@", "evil.example@", "good.example:443@", "u:p@", "@", "good.example%40", "good.example\\@", "good.example#@",
        "good.example?@", "good.example/@", "\t", "[good.example]@",
    ]
)  # fmt: skip
SCHEMES = st.sampled_from(
    [
        "https://", "http://", "HTTPS://", "https:", "https:/", "https:///", "https:\\\\", "\t https://", "ht\ntps://", "https:////", "//",
        "ftp://", "ws://", "javascript://", "file://", "data:", "https:good.example@",
    ]
)  # fmt: skip
AFTER = st.sampled_from(
    [
        "", "/", "/a.png", ":443/", ":80/", ":8443/a", ":0/", ":99999/", ":/", "\\@evil.example/", "#@evil.example", "?@evil.example",
        "/../..//evil.example", "/\r\nHost: evil.example", "/ HTTP/1.1\r\nHost: evil.example\r\n\r\n", "?q=é", "/%0d%0aX:1",
        ":443@evil.example/", ";@evil.example/",
    ]
)  # fmt: skip
URIS = st.one_of(
    st.builds("{}{}{}{}".format, SCHEMES, BEFORE, HOSTS, AFTER),
    st.builds("{}{}{}".format, SCHEMES, st.text(max_size=20), AFTER),
    st.text(max_size=40),
)


def address_of(host: str) -> IPv4Address:
    """Return the one public address that a name has here."""
    return IPv4Address(0x5DB80000 | int.from_bytes(hashlib.sha256(host.encode()).digest()[:2], "big"))


class Watched:
    """A fetcher whose connections all end at one server of ours, whatever address they were meant for."""

    def __init__(self, loop: asyncio.AbstractEventLoop, folder: Path) -> None:
        self.loop = loop
        self.asked: list[str] = []
        self.allowed: list[str] = []
        self.dialled: list[tuple[IPAddress, int, str]] = []
        self.names: list[str | None] = []
        made = certificates(folder)
        context = made.server_context()
        context.sni_callback = lambda _, name, __: self.names.append(name)
        self._secure, self._plain = engine(self.serve, tls=context), engine(self.serve)
        self.secure = loop.run_until_complete(self._secure.__aenter__())
        self.plain = loop.run_until_complete(self._plain.__aenter__())
        self.fetcher = Fetcher(Egress(allow_http=True, fetch_timeout_s=30.0, connect_timeout_s=30.0), self)
        self.fetcher._tls = ssl.create_default_context(cafile=made.authority)
        self.fetcher._tls.check_hostname = False  # this server stands for all hosts
        self.redirect_to = ""

    async def serve(self, peer: Peer) -> None:
        await peer.request()
        if self.redirect_to:
            to, self.redirect_to = self.redirect_to, ""
            await peer.send(reply(b"", b"location: " + to.encode(), status=b"302 Found"))
        else:
            await peer.send(reply(PNG, IMAGE_TYPE))

    async def resolve(self, host: str) -> tuple[IPAddress, ...]:
        self.asked.append(host)
        return (address_of(host),)

    async def dial(
        self, make: Callable[[], Any], address: IPAddress, port: int, *, tls: ssl.SSLContext | None, name: str
    ) -> Any:
        self.dialled.append((address, port, name))
        return await CHECKED(make, LOOPBACK, (self.secure if tls else self.plain).port, tls=tls, name=name)

    def fetch(self, uri: str, allowed: AllowedHosts) -> FaultKind | None:
        def allow(hop: str) -> None:
            self.allowed.append(hop)
            if allowed.refused_host(hop) is not None:
                raise Fault(FaultKind.OUTBOUND_DENIED, "not on the list")

        for kept in (self.asked, self.allowed, self.dialled, self.names, self.secure.requests, self.plain.requests):
            kept.clear()  # type: ignore[attr-defined]
        fetching = self.fetcher.fetch(
            uri, allow=allow, http=lambda _: True, account="a", budget=Budget(10_000), trail=Trail()
        )
        with mock.patch.object(dial, "checked", self.dial):
            try:
                self.loop.run_until_complete(fetching)
            except Fault as fault:
                return fault.kind
        return None

    def close(self) -> None:
        self.loop.run_until_complete(self._secure.__aexit__(None, None, None))
        self.loop.run_until_complete(self._plain.__aexit__(None, None, None))


CHECKED = dial.checked
ALLOWED = compile_allowed(LISTED)


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    loop = asyncio.new_event_loop()
    found = Watched(loop, tmp_path_factory.mktemp("tls"))
    yield found
    found.close()
    loop.close()


def hold(watched: Watched) -> None:
    """Assert that whatever was connected to is on the list, and is what was allowed, asked for, proven and addressed."""
    requests = [*watched.secure.requests, *watched.plain.requests]
    assert len(watched.dialled) <= len(watched.allowed)
    assert len(requests) == len(watched.dialled)
    names = iter(watched.asked)
    for address, _, name in watched.dialled:
        assert name in LISTED
        if name in ("8.8.4.4", "2606:4700::1"):
            assert address == ip_address(name)
        else:
            assert next(names) == name
            assert address == address_of(name)
    assert list(names) == []  # and nothing was asked for that was not connected to
    for request, (_, port, name) in zip(requests, watched.dialled, strict=True) if len(requests) < 2 else ():
        host = f"[{name}]" if ":" in name else name
        assert request.headers["host"] in (host, f"{host}:{port}")
        assert request.head.count(b"\r\n") == 7  # the request line, five headers, and the end
    assert [name for name in watched.names if name is not None] in (
        [],
        [name for _, _, name in watched.dialled if name[0] not in "28"],
    )


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@example("https://good.example@evil.example/")
@example("https://evil.example\\@good.example/")
@example("https://good.example/a.png")
@example("https://0x08080404/")
@given(URIS)
def test_host_that_was_checked_is_the_host_that_is_connected_to(watched: Watched, uri: str) -> None:
    watched.redirect_to = ""
    watched.fetch(uri, ALLOWED)
    hold(watched)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@example("//good.example@evil.example/")
@example("https://good.example/b.png")
@given(URIS.filter(str.isascii).filter(lambda uri: uri.isprintable() and uri))
def test_so_it_is_for_every_hop(watched: Watched, place: str) -> None:
    watched.redirect_to = place
    watched.fetch("https://good.example/a.png", ALLOWED)
    assert watched.dialled[0] == (address_of("good.example"), 443, "good.example")
    hold(watched)


def test_no_trick_leads_anywhere_but_to_the_host_that_was_checked(watched: Watched) -> None:
    """Every spelling of the corpus, twice: as a request's own URI, judged as it was written, and as a redirect."""
    judged = LossPrevention(compile_allowed(urls.LIST))
    reached = 0
    for trick in urls.tricks():
        watched.redirect_to = ""
        refused = judged.refuse(FoundUri("url", trick.text)) is not None
        if not refused:
            watched.fetch(trick.text, judged.allowed)
        assert [name for _, _, name in watched.dialled if not refused] in ([], [trick.host]), trick.text
        assert trick.allowed or refused, trick.text
        reached += len(watched.dialled) * (not refused)
        if trick.text.isascii() and trick.text.isprintable() and trick.text:
            watched.redirect_to = trick.text
            watched.fetch("https://good.example/a.png", judged.allowed)
            # Where it goes is where the URL Standard says, which a redirect is read by, and only if the list allows that.
            for _, _, name in watched.dialled:
                parsed = parse(f"https://[{name}]/" if ":" in name else f"https://{name}/")
                http = parse(f"http://[{name}]:8080/" if ":" in name else f"http://{name}:8080/")
                assert parsed is not None and http is not None
                assert judged.allowed.allows(parsed) or judged.allowed.allows(http), trick.text
    assert reached > 20


def test_what_the_list_allows_is_really_fetched(watched: Watched) -> None:
    watched.redirect_to = ""
    for uri in (
        "https://good.example/",
        "http://good.example:8080/",
        "https://bücher.example/",
        "https://8.8.4.4/",
        "https://[2606:4700::1]:8443/",
    ):
        assert watched.fetch(uri, ALLOWED) is None, uri
        hold(watched)
        assert len(watched.dialled) == 1
