"""What the doctor says of names, listeners and certificates, for every way in which they do not fit together."""

from __future__ import annotations

import dataclasses
import http.server
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stockade.cli import diagnosis
from stockade.cli.diagnosis import Diagnosis, Finding, Subject, recipe, subject
from stockade.cli.resolution import Resolved
from stockade.serve import tls
from stockade.serve.private_states import ListenerState
from stockade.settings import Listen, Names, Settings

ACCOUNT = "/subscriptions/s/resourcegroups/g/providers/microsoft.cognitiveservices/accounts/a1"
OTHER = ACCOUNT.replace("a1", "a2")
NAME = "a1.ai.example.test"
PUBLIC, PRIVATE = "127.0.0.1", "127.20.0.4"


class Quiet(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


@dataclasses.dataclass
class Place:
    """A data directory whose listener stands at the public and at the private address."""

    settings: Settings
    zone: dict[str, Resolved] = dataclasses.field(default_factory=dict)

    @property
    def port(self) -> int:
        return self.settings.listen.data_port

    def state(self, address: str = PRIVATE, account: str = ACCOUNT, reason: str = "") -> ListenerState:
        state: Any = "waiting" if reason else "listening"
        return ListenerState(f"{account}/pe", account, address, 0 if reason else self.port, state, reason)

    def look(self, one: Subject, *everyone: ListenerState) -> list[Finding]:
        return Diagnosis(self.settings, "", everyone).account(one)


def account(*listeners: ListenerState, public: bool = True, approved: int | None = None) -> Subject:
    return Subject("a1", "a1", public, len(listeners) if approved is None else approved, listeners)


def serve(settings: Settings, address: str, port: int) -> http.server.ThreadingHTTPServer:
    server = http.server.ThreadingHTTPServer((address, port), Quiet)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tls.active_file(settings))
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    return server


@pytest.fixture
def place(tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    domain = getattr(request, "param", "example.test")
    settings = Settings(data_dir=tmp_path, names=Names(domain=domain))
    tls.prepare(settings)
    public = serve(settings, PUBLIC, 0)
    port = public.server_address[1]
    private = serve(settings, PRIVATE, port)
    found = Place(Settings(data_dir=tmp_path, names=Names(domain=domain), listen=Listen(data_port=port)))

    def resolve(name: str, server: str) -> Resolved:
        return found.zone.get(name, Resolved(name, "the test", failure="there is no such name"))

    monkeypatch.setattr(diagnosis, "resolve", resolve)
    yield found
    for server in (public, private):
        server.shutdown()
        server.server_close()


def named(place: Place, *addresses: str, name: str = NAME) -> None:
    place.zone[name] = Resolved(name, "the test", addresses)


def levels(found: list[Finding], check: str) -> list[str]:
    return [one.level for one in found if one.check == check]


def said(found: list[Finding], check: str) -> str:
    return " / ".join(line for one in found if one.check == check for line in (one.message, *one.advice))


def test_a_public_account_whose_name_leads_to_the_public_listener_is_well(place: Place) -> None:
    named(place, PUBLIC)
    found = place.look(account())
    assert {one.level for one in found} == {"ok"}
    assert f"TLS at {PUBLIC}:{place.port} is accepted for {NAME}" in said(found, "connection")


def test_a_private_account_whose_name_leads_to_its_endpoint_is_well(place: Place) -> None:
    named(place, PRIVATE)
    found = place.look(account(place.state(), public=False), place.state())
    assert {one.level for one in found} == {"ok"}
    assert f"TLS at {PRIVATE}:{place.port} is accepted for {NAME}" in said(found, "connection")


def test_public_access_disabled_and_the_name_still_public_is_wrong_and_says_the_record(place: Place) -> None:
    named(place, PUBLIC)
    found = place.look(account(place.state(), public=False), place.state())
    assert levels(found, "name") == ["wrong"]
    text = said(found, "name")
    assert "Public access is disabled. Please configure private endpoint." in text
    assert f"the A record has to be {PRIVATE}" in text
    assert f"address=/{NAME}/{PRIVATE}" in text


def test_public_access_disabled_without_any_endpoint_is_wrong(place: Place) -> None:
    named(place, PUBLIC)
    found = place.look(account(public=False))
    assert levels(found, "public access") == ["wrong"]


def test_a_public_account_with_an_endpoint_and_a_public_name_gets_a_note(place: Place) -> None:
    named(place, PUBLIC)
    assert levels(place.look(account(place.state()), place.state()), "name") == ["note"]


def test_a_name_with_both_addresses_is_wrong(place: Place) -> None:
    named(place, PUBLIC, PRIVATE)
    found = place.look(account(place.state()), place.state())
    assert levels(found, "name") == ["wrong"]
    assert "by chance" in said(found, "name")


def test_a_name_that_leads_to_another_accounts_endpoint_is_wrong(place: Place) -> None:
    named(place, PRIVATE)
    found = place.look(account(), place.state(account=OTHER))
    assert levels(found, "name") == ["wrong"]
    assert "another account (a2)" in said(found, "name")


def test_a_name_without_an_address_is_wrong_and_says_which_it_needs(place: Place) -> None:
    found = place.look(account())
    assert levels(found, "name") == ["wrong"]
    assert f"the A record has to be {PUBLIC}" in said(found, "name")


def test_a_port_of_its_own_is_pointed_out(place: Place) -> None:
    named(place, PUBLIC)
    state = dataclasses.replace(place.state(), port=place.port + 1)
    assert f"listen.private_port = {place.port}" in said(place.look(account(state), state), "name")


def test_an_endpoint_that_is_not_listened_for_says_why(place: Place) -> None:
    named(place, PUBLIC)
    state = place.state(reason="it is in none of settings.listen.private_networks")
    text = said(place.look(account(state), state), "private endpoint")
    assert "in none of settings.listen.private_networks" in text
    assert "127.0.0.0/8" in text


def test_an_endpoint_that_is_listened_for_in_part_is_noted(place: Place) -> None:
    named(place, PRIVATE)
    state = dataclasses.replace(place.state(), reason="WebSockets are not listened for: its port 8447 is in use")
    found = place.look(account(state), state)
    assert levels(found, "private endpoint") == ["note"]
    assert "8447 is in use" in said(found, "private endpoint")


@pytest.mark.parametrize(("listeners", "why"), [(None, "does not run"), ((), "no address")])
def test_an_approved_connection_without_a_listener_is_wrong(
    place: Place, listeners: tuple[ListenerState, ...] | None, why: str
) -> None:
    named(place, PUBLIC)
    found = place.look(Subject("a1", "a1", True, 2, listeners))
    assert levels(found, "private endpoint") == ["wrong"]
    assert why in said(found, "private endpoint")


def test_nothing_at_the_address_is_wrong(place: Place) -> None:
    named(place, "127.20.0.99")
    found = place.look(account())
    assert levels(found, "connection") == ["wrong"]
    assert f"127.20.0.99:{place.port}" in said(found, "connection")
    assert f"public listener stands at {PUBLIC}:{place.port}" in said(found, "connection")


def test_a_certificate_for_other_names_is_wrong(place: Place, tmp_path: Path) -> None:
    other = Settings(data_dir=tmp_path / "other")
    tls.prepare(other)
    place.settings.ca_bundle_file.write_bytes(other.ca_bundle_file.read_bytes())
    server = serve(other, "127.20.0.7", place.port)
    named(place, "127.20.0.7")
    try:
        found = place.look(account())
    finally:
        server.shutdown()
        server.server_close()
    assert levels(found, "connection") == ["wrong"]
    assert f"is not accepted for {NAME}" in said(found, "connection")


def test_a_certificate_callers_do_not_trust_is_wrong(place: Place, tmp_path: Path) -> None:
    other = Settings(data_dir=tmp_path / "other")
    tls.prepare(other)
    place.settings.ca_bundle_file.write_bytes(other.ca_file.read_bytes())
    named(place, PUBLIC)
    found = place.look(account())
    assert levels(found, "connection") == ["wrong"]
    assert "stockade ca" in said(found, "connection")


def test_a_proxy_in_front_is_noted(place: Place, tmp_path: Path) -> None:
    named(place, PUBLIC)
    tls.active_file(place.settings).write_text("another certificate is in force")
    found = place.look(account())
    assert levels(found, "connection") == ["note"]
    assert "trusted_proxies" in said(found, "connection")


@pytest.mark.parametrize("place", [""], indirect=True)
def test_path_style_says_what_it_means_for_names(place: Place) -> None:
    found = place.look(account())
    assert levels(found, "name") == ["note"]
    assert f"https://localhost:{place.port}/a1/" in said(found, "name")
    assert levels(found, "connection") == ["ok"]


@pytest.mark.parametrize("place", [""], indirect=True)
def test_a_private_endpoint_has_a_name_even_in_path_style(place: Place) -> None:
    name = "a1.ai.stockade.localhost"
    named(place, PUBLIC, name=name)
    found = place.look(account(place.state(), public=False), place.state())
    assert levels(found, "name") == ["note", "wrong"]
    assert f"{PRIVATE} {name}" in said(found, "name")
    assert f"https://{name}:{place.port}/" in said(found, "name")
    named(place, PRIVATE, name=name)
    found = place.look(account(place.state(), public=False), place.state())
    assert "wrong" not in {one.level for one in found}


def test_without_a_subdomain_the_regional_name_is_looked_at(place: Place) -> None:
    named(place, PUBLIC, name="local.api.example.test")
    found = place.look(Subject("a1", None, True, 0, ()))
    assert {one.level for one in found} == {"ok"}


def test_a_recipe_names_the_kind_of_the_record() -> None:
    assert "AAAA record has to be 2001:db8::1" in recipe("n.example", "2001:db8::1")[0]
    assert any(
        'local-data: "n.example. 300 IN AAAA 2001:db8::1"' in line for line in recipe("n.example", "2001:db8::1")
    )


def test_an_account_is_read_from_arm() -> None:
    approved = {"properties": {"privateLinkServiceConnectionState": {"status": "Approved"}}}
    pending = {"properties": {"privateLinkServiceConnectionState": {"status": "Pending"}}}
    state = ListenerState(f"{ACCOUNT}/pe", ACCOUNT, PRIVATE, 8446, "listening")
    other = ListenerState(f"{OTHER}/pe", OTHER, "127.20.0.5", 8446, "listening")
    properties = {
        "customSubDomainName": "a1",
        "publicNetworkAccess": "Disabled",
        "privateEndpointConnections": [approved, pending, {}],
    }
    entry = {"id": ACCOUNT.replace("resourcegroups", "resourceGroups"), "name": "a1", "properties": properties}
    assert subject(entry, [state, other]) == Subject("a1", "a1", False, 1, (state,))
    assert subject({**entry, "properties": {}}, None) == Subject("a1", None, True, 0, None)
