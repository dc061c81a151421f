"""Whatever bytes a caller sends: an answer of ours, never an exception, and no entry without the exact key."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Iterator
from ipaddress import ip_address
from urllib.parse import parse_qsl

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from stockade.gateway.address import AddressBook, ClientAddresses
from stockade.gateway.app import Gateway
from stockade.kernel.faults import Fault, FaultKind
from stockade.keys import subscription
from stockade.policy.snapshot import Snapshot
from stockade.services.openai.operations import OPERATIONS
from stockade.services.openai.service import OpenAIService
from stockade.services.service import Call
from stockade.settings import Settings
from tests.factories import policy
from tests.factories.data_plane import Account, DataPlane, ask

MODELS = "/openai/v1/models"
TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=40)
NAMES = st.sampled_from(
    [
        "api-key",
        "ocp-apim-subscription-key",
        "authorization",
        "x-forwarded-for",
        "content-type",
        "content-length",
        "transfer-encoding",
        "x-ms-client-request-id",
        "host",
        "user-agent",
        "content-encoding",
    ]
)
SCHEMES = st.sampled_from(["Bearer ", "bearer aad#", "Basic ", "Bearer aad#/a#", "", "Bearer a.b."])
QUERIES = st.one_of(
    TEXT,
    st.lists(
        st.tuples(st.sampled_from(["subscription-key", "Subscription-Key", "api-version", "a"]), TEXT), max_size=4
    ).map(lambda pairs: "&".join(f"{a}={b}" for a, b in pairs)),
)


class Ground:
    def __init__(self, plane: DataPlane) -> None:
        self.account: Account = plane.account()
        self.gateway: Gateway = plane.gateway()
        self.gateway._audit.record = lambda _: None  # type: ignore[method-assign]
        self.loop = asyncio.new_event_loop()


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    made = Ground(DataPlane(tmp_path_factory.mktemp("input")))
    yield made
    made.loop.close()


def near(key: str) -> st.SearchStrategy[str]:
    """Texts that resemble the key: cut, doubled, with one character changed, with something around it."""
    changed = st.tuples(st.integers(0, len(key) - 1), st.sampled_from("aZ0_-")).map(
        lambda at: key[: at[0]] + at[1] + key[at[0] + 1 :]
    )
    around = st.tuples(TEXT, TEXT).map(lambda both: both[0] + key + both[1])
    return st.one_of(
        TEXT,
        changed,
        around,
        st.integers(0, len(key)).map(lambda n: key[:n]),
        st.sampled_from([key.upper(), key * 2, key[::-1]]),
    )


@given(st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_headers_and_no_query_open_an_account_without_its_key(ground: Ground, data: st.DataObject) -> None:
    key, other = ground.account.keys
    values = near(key)
    headers = data.draw(
        st.lists(st.tuples(NAMES, st.one_of(values, st.tuples(SCHEMES, values).map("".join))), max_size=5)
    )
    query = data.draw(st.one_of(QUERIES, values.map(lambda text: f"subscription-key={text}")))
    answer = ground.loop.run_until_complete(
        ask(ground.gateway, ground.account.path(MODELS), *headers, query=query, method="GET", body=None)
    )
    assert answer.status < 500
    if answer.status == 200:
        presented = [
            value.strip(" \t").removeprefix("Bearer ").removeprefix("bearer ").strip(" \t")
            for name, value in headers
            if name in {"api-key", "ocp-apim-subscription-key", "authorization"}
        ]
        pairs = parse_qsl(query, keep_blank_values=True)
        presented += [value.strip(" \t") for name, value in pairs if name.lower() == "subscription-key"]
        assert key in presented or other in presented


@given(st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_path_or_host_is_an_error_of_ours(ground: Ground, data: st.DataObject) -> None:
    piece = st.one_of(
        TEXT,
        st.sampled_from(
            [
                "",
                ".",
                "..",
                "a1",
                "openai",
                "v1",
                "models",
                "deployments",
                "chat",
                "completions",
                "%2e",
                "\\",
                ";",
                "\x00",
            ]
        ),
    )
    path = "/" + "/".join(data.draw(st.lists(piece, max_size=8)))
    host = data.draw(
        st.one_of(
            TEXT,
            st.sampled_from(
                ["localhost", "a1.ai.stockade.localhost", "[::1", "local.api.stockade.localhost:1", ":", "."]
            ),
        )
    )
    answer = ground.loop.run_until_complete(
        ask(
            ground.gateway,
            path,
            ("api-key", ground.account.key),
            host=host,
            method="GET",
            body=None,
            query=data.draw(QUERIES),
        )
    )
    assert answer.status < 500


@given(st.text(max_size=60), st.text(max_size=80))
def test_address_is_nobodys_or_clean(host: str, path: str) -> None:
    book = AddressBook(Settings(), frozenset({"openai"}))
    located = book.locate(Snapshot(), host, path)
    assert located.account is None
    if located.regional:
        assert "//" not in located.path and "\\" not in located.path and "/../" not in located.path + "/"


@given(st.one_of(st.ip_addresses().map(str), TEXT), st.lists(st.one_of(st.ip_addresses().map(str), TEXT), max_size=4))
@example("0.0.0.1", ["::ffff:0:0"])
def test_client_is_the_peer_or_named_by_a_trusted_one(peer: str, chain: list[str]) -> None:
    forwarded = ", ".join(chain)
    direct = ClientAddresses(()).client(f"[{peer}]:1", forwarded)
    assert direct == ClientAddresses(()).client(f"[{peer}]:1", "")  # nobody is trusted: the header changes nothing
    client = ClientAddresses(("0.0.0.0/0", "::/0")).client(f"[{peer}]:1", forwarded)
    named = set()
    for entry in forwarded.split(","):
        with contextlib.suppress(ValueError):
            address = ip_address(entry.strip())
            named.add(str(getattr(address, "ipv4_mapped", None) or address))
    assert client == direct or client in forwarded or client in named or ":" in client
    with contextlib.suppress(ValueError):
        assert getattr(ip_address(client), "ipv4_mapped", None) is None


SERVICE = OpenAIService(Settings())
SNAPSHOT = Snapshot().with_changes(
    1, {"d": (("deployment", (policy.ACCOUNT, "chat"), policy.deployment(model="smollm2-135m-instruct")),)}
)
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), TEXT),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.one_of(st.sampled_from(["model", "messages", "stream", "prompt", "input"]), TEXT), inner, max_size=4
        ),
    ),
    max_leaves=12,
)
BODIES = st.one_of(
    st.binary(max_size=60),
    JSON.map(lambda value: json.dumps(value).encode()),
    st.builds(
        lambda value, at, byte: (text := json.dumps(value).encode())[:at] + bytes([byte]) + text[at:],
        JSON,
        st.integers(0, 60),
        st.integers(0, 255),
    ),
)


@given(st.sampled_from(OPERATIONS), BODIES)
@example(OPERATIONS[0], b'{"messages":' + b"[" * 100_000)
@example(OPERATIONS[0], b'{"messages":"\xff"}')
def test_service_reads_any_body_or_refuses_it(operation: object, body: bytes) -> None:
    call = Call(
        operation,
        policy.account(),
        policy.KEY,
        SNAPSHOT,
        {"deployment": "chat", "model": "x"},
        {},
        "application/json",
        body,
        "id",
        0.0,
    )  # type: ignore[arg-type]
    try:
        SERVICE.read(call)
    except Fault as fault:
        # any of three, or no fault at all
        assert fault.kind in {FaultKind.INVALID, FaultKind.DEPLOYMENT_NOT_FOUND, FaultKind.UNSUPPORTED}  # noqa: PT017
    else:
        if operation.body == "json":  # type: ignore[attr-defined]
            assert isinstance(json.loads(body), dict)


@given(st.text(max_size=80))
def test_text_is_a_key_only_when_its_checksum_says_so(text: str) -> None:
    assert not subscription.is_well_formed(text)
    whole = subscription.generate().reveal_text()
    assert subscription.is_well_formed(whole)
    assert not subscription.is_well_formed(text + whole) or not text


@given(st.integers(0, 57), st.characters(codec="ascii"))
def test_one_wrong_character_is_always_noticed(place: int, character: str) -> None:
    whole = subscription.generate().reveal_text()
    changed = whole[:place] + character + whole[place + 1 :]
    assert subscription.is_well_formed(changed) is (changed == whole)
