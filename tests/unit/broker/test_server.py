"""The key broker's socket and those who ask over it."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stockade.broker import server as serving
from stockade.broker.server import BrokerServer
from stockade.kernel.evidence import ArmToken, CallerKey, CallerToken, Evidence, JobGrant
from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.secret import Secret
from stockade.keys import broker_wire as wire
from stockade.keys.broker import Binding, BrokerStatus, JobScope, ObjectKeys, ObjectRef, WrappedDataKey
from stockade.keys.broker_async import AsyncBrokerClient, BrokerInThreads
from stockade.keys.broker_client import BrokerClient
from stockade.keys.material import Jwk, KeyAnswer, KeyRequest, KeySpec
from stockade.keys.providers.provider import ProviderKey
from stockade.keys.request_receipts import Receipt
from tests.factories.broker import Brokered

MINE = frozenset({os.geteuid()})
HELD = WrappedDataKey("aaaaaaaaaaaa", 1.5, b"\x00\xff", "p", "https://v/keys/k/1")
JWK = Jwk(kty="RSA", n=b"\x01", e=b"\x01\x00\x01")


class Told:
    """A broker that answers with something of the right kind and keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self.fault: Exception | None = None

    def _answer(self, name: str, arguments: tuple[Any, ...], value: Any) -> Any:
        self.asked.append((name, *(_plain(one) for one in arguments)))
        if self.fault is not None:
            raise self.fault
        return value

    def __getattr__(self, name: str) -> Any:
        value = ANSWERS[name]
        return lambda *arguments: self._answer(name, arguments, value)


def _plain(value: Any) -> Any:
    match value:
        case Secret():
            return value.reveal()
        case CallerKey(key=inner) | CallerToken(token=inner) | JobGrant(grant=inner) | ArmToken(token=inner):
            return type(value).__name__, inner.reveal()
        case dict():
            return {name: _plain(one) for name, one in value.items()}
        case tuple() | list():
            return tuple(_plain(one) for one in value)
    return value


SPEC = KeySpec(type="EC", curve="P-256")
REF = ObjectRef("files/f", "aa", part="metadata")
TOKEN: Evidence = CallerToken(Secret("t"))
RECEIPT = Receipt(
    iss="https://x", iat=1, jti="i", method="GET", path="/p", request="A" * 43, body=False, status=200, outcome="success",
    account="/a", policy=3, stored=("files/f",),
)  # fmt: skip
CALLS: dict[str, tuple[Any, ...]] = {
    "object_keys": ("/a", (REF,), "read", "OpenAI/files/read", CallerKey(Secret("k")), "me"),
    "job_grant": ("/a", "j", JobScope(("files/f",), (), 9.0), "x", JobGrant(Secret("g"))),
    "new_data_key": ("/a", Binding("https://v", "k", "", "p"), ArmToken(Secret("t"))),
    "rewrap": ("/a", HELD, None, Binding("https://v", "k", "1", "p"), ArmToken(Secret("t"))),
    "make_key": ("software", SPEC, "/v", ArmToken(Secret("t")), "me"),
    "take_key": ("software", SPEC, {"d": Secret(b"\xff")}, "/v", TOKEN, "vault"),
    "use_key": ("/v", KeyRequest(use="sign", algorithm="ES256", value=b"d"), TOKEN, "vault"),
    "destroy_key": ("software", b"h", "/v"),
    "back_up_key": ("/v", TOKEN, "vault"),
    "restore_key": ("software", b"b", "/v", TOKEN, "vault"),
    "seal_secret": (Secret("v"), "/v"),
    "open_secret": (b"s", "/v", TOKEN, "vault"),
    "back_up_secret": (b"s", "/v", TOKEN, "vault"),
    "restore_secret": (b"b", "/v", TOKEN, "vault"),
    "random": ("software", 4),
    "purpose_key": ("x",),
    "sign": (b"s",),
    "receipt_key": (),
    "sign_tree_head": ("platform", 9, b"r" * 32, 5.0, (b"p" * 32,)),
    "tree_head_key": (),
    "sign_receipt": (RECEIPT,),
    "request_receipt_key": (),
    "rotate_platform": (),
    "status": (),
    "seal": (),
    "unseal": (Secret("words"),),
}
ANSWERS: dict[str, Any] = {
    "object_keys": ObjectKeys((Secret(b"\xff" * 32),), "bb", 5.0),
    "job_grant": Secret("grant"),
    "new_data_key": HELD,
    "rewrap": HELD,
    "make_key": ProviderKey(b"h", JWK),
    "take_key": ProviderKey(b"h", JWK),
    "use_key": KeyAnswer(value=b"s", valid=True, iv=b"i"),
    "destroy_key": None,
    "back_up_key": b"backup",
    "restore_key": ProviderKey(b"h", JWK),
    "seal_secret": b"sealed",
    "open_secret": Secret("value"),
    "back_up_secret": b"backup",
    "restore_secret": b"sealed",
    "random": b"rand",
    "purpose_key": Secret(b"p" * 32),
    "sign": b"sig",
    "receipt_key": b"pub",
    "sign_tree_head": b"note",
    "tree_head_key": b"heads",
    "sign_receipt": "a.b.c",
    "request_receipt_key": b"pub",
    "rotate_platform": "cc",
    "status": BrokerStatus(True, "shares", 3, 1, {"software": "ok"}, ""),
    "seal": None,
    "unseal": BrokerStatus(False, "shares", 0, 0, {}, "cc"),
}


class Served:
    """A server in a thread with a loop of its own."""

    def __init__(self, path: Path, broker: Any, uids: frozenset[int] = MINE) -> None:
        self.path = path
        self._loop = asyncio.new_event_loop()
        self._server = BrokerServer(path, broker, uids)
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._do(self._server.open())

    def close(self) -> None:
        self._do(self._server.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _do(self, what: Any) -> None:
        asyncio.run_coroutine_threadsafe(what, self._loop).result(10)


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def served(tmp_path: Path, told: Told) -> Iterator[Served]:
    found = Served(tmp_path / "broker.sock", told)
    yield found
    found.close()


@pytest.fixture
def client(served: Served) -> Iterator[BrokerClient]:
    found = BrokerClient(served.path, 5)
    yield found
    found.close()


def refused(call: Any) -> Fault:
    with pytest.raises(Fault) as caught:
        call()
    return caught.value


@pytest.mark.parametrize("method", CALLS)
def test_every_call_arrives_as_it_was_made_and_its_answer_as_it_was_given(
    told: Told, served: Served, client: BrokerClient, method: str
) -> None:
    async def asynchronously() -> list[Any]:
        over_socket, in_threads = AsyncBrokerClient(served.path, 5), BrokerInThreads(told)
        found = [await getattr(one, method)(*CALLS[method]) for one in (over_socket, in_threads)]
        over_socket.close()
        return found

    answers = [getattr(client, method)(*CALLS[method]), *asyncio.run(asynchronously())]
    assert told.asked == [(method, *(_plain(one) for one in CALLS[method]))] * 3
    for answer in answers:
        assert type(answer) is type(ANSWERS[method])
        if method == "object_keys":
            assert [key.reveal() for key in answer.keys] == [b"\xff" * 32]
            assert (answer.data_key, answer.lease_s) == ("bb", 5.0)
        else:
            assert _plain(answer) == _plain(ANSWERS[method])


def test_a_refusal_arrives_whole_and_a_bug_says_nothing(told: Told, client: BrokerClient) -> None:
    told.fault = Fault(
        FaultKind.CUSTOMER_KEY_UNAVAILABLE, "No.", code="C", target="t", retry_after_s=2, details={"problem": "P"}
    )
    fault = refused(client.status)
    assert (fault.kind, fault.message, fault.code, fault.target) == (told.fault.kind, "No.", "C", "t")
    assert (fault.retry_after_s, fault.details) == (2, {"problem": "P"})
    told.fault = RuntimeError("with a secret inside")
    fault = refused(client.status)
    assert (fault.kind, fault.message) == (FaultKind.INTERNAL, "The key broker failed.")
    told.fault = None
    assert client.random("software", 4) == b"rand", "and it goes on"


def test_the_socket_is_its_users_alone(served: Served) -> None:
    assert served.path.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in served.path.parent.iterdir()] == ["broker.sock"]


def test_another_user_is_not_answered(tmp_path: Path, told: Told) -> None:
    served = Served(tmp_path / "other.sock", told, frozenset({os.geteuid() + 1}))
    assert refused(BrokerClient(served.path, 5).status).kind is FaultKind.UNAVAILABLE
    served.close()
    assert told.asked == []


def test_who_asks_an_absent_broker_hears_so_at_once_and_recovers_when_it_is_back(tmp_path: Path, told: Told) -> None:
    path = tmp_path / "broker.sock"
    client = BrokerClient(path, 5)
    assert refused(client.status).retry_after_s == 1
    for _ in range(2):  # the second one finds connections that the first has left
        served = Served(path, told)
        assert client.random("software", 4) == b"rand"

        async def asynchronously(served: Served) -> None:
            over_socket = AsyncBrokerClient(path, 5)
            assert await over_socket.random("software", 4) == b"rand"
            await asyncio.to_thread(served.close)
            with pytest.raises(Fault) as caught:
                await over_socket.random("software", 4)
            assert caught.value.kind is FaultKind.UNAVAILABLE
            over_socket.close()

        asyncio.run(asynchronously(served))
        assert refused(client.status).kind is FaultKind.UNAVAILABLE


def test_a_broker_that_does_not_answer_in_time_is_unavailable(tmp_path: Path) -> None:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "s"))
    listener.listen()
    assert refused(BrokerClient(tmp_path / "s", 0.05).status).kind is FaultKind.UNAVAILABLE

    async def asynchronously() -> None:
        with pytest.raises(Fault):
            await AsyncBrokerClient(tmp_path / "s", 0.05).status()

    asyncio.run(asynchronously())
    listener.close()


@pytest.mark.parametrize(
    "sent",
    [
        b"\xff\xff\xff\xff",
        (wire.MAX_FRAME + 1).to_bytes(4, "big"),
        b"\x00\x00\x00\x00",
        b"\x00\x00\x00\x01\xc0",
        b"\x00\x00\x00\x05hello",
        b"GET / HTTP/1.1\r\n\r\n",
    ],
    ids=range(6),
)
def test_what_is_no_call_ends_its_connection_and_nothing_else(
    served: Served, client: BrokerClient, told: Told, sent: bytes
) -> None:
    with socket.socket(socket.AF_UNIX) as raw:
        raw.settimeout(5)
        raw.connect(str(served.path))
        raw.sendall(sent)
        assert raw.recv(1) == b""
    assert client.random("software", 4) == b"rand"
    assert len(told.asked) == 1


def test_half_a_frame_is_waited_for_only_so_long(
    served: Served, client: BrokerClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "READ_TIMEOUT_S", 0.05)
    with socket.socket(socket.AF_UNIX) as raw:
        raw.settimeout(5)
        raw.connect(str(served.path))
        raw.sendall(b"\x00\x00")
        assert raw.recv(1) == b""
    client.status()


def test_too_much_for_one_call_is_refused_before_it_is_sent(told: Told, client: BrokerClient) -> None:
    fault = refused(lambda: client.sign(b"x" * (wire.MAX_FRAME + 1)))
    assert fault.kind is FaultKind.TOO_LARGE
    assert told.asked == []


def test_many_ask_at_once(client: BrokerClient, told: Told) -> None:
    failures: list[BaseException] = []

    def ask() -> None:
        try:
            for _ in range(20):
                assert client.random("software", 4) == b"rand"
        except BaseException as failure:  # noqa: BLE001 - told to the test's own thread
            failures.append(failure)

    threads = [threading.Thread(target=ask) for _ in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert len(told.asked) == 480


def test_whoever_speaks_to_the_socket_without_evidence_undoes_no_customers_key(tmp_path: Path) -> None:
    world = Brokered(tmp_path)
    account = world.plane.account()
    world.key()
    _, binding = world.bound(account)
    held = world.broker.new_data_key(account.id, binding, world.writer())
    world.store_data_keys(account, held)
    served = Served(tmp_path / "broker.sock", world.broker)
    stranger = ArmToken(Secret("a.b.c"))
    try:
        client = BrokerClient(served.path, 5)
        for call, kind in (
            (lambda: client.rewrap(account.id, held, binding, None, None), FaultKind.PERMISSION_DENIED),
            (lambda: client.rewrap(account.id, held, binding, None, stranger), FaultKind.UNAUTHENTICATED),
            (lambda: client.new_data_key(account.id, None, stranger), FaultKind.UNAUTHENTICATED),
        ):
            with pytest.raises(Fault) as caught:
                call()
            assert caught.value.kind is kind
        assert client.rewrap(account.id, held, binding, binding, None).customer == held.customer
        client.close()
    finally:
        served.close()
        world.close()
