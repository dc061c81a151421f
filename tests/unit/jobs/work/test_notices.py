"""The outbox: tried until it is delivered or given up, following the clock."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stockade.jobs.job import Work, Workplace
from stockade.jobs.notices import mail, webhook
from stockade.jobs.notices.undelivered import Undelivered
from stockade.jobs.work.notices import PLUGIN
from stockade.kernel.clock import ManualClock
from stockade.management import outbox
from stockade.management.outbox import Notice
from stockade.settings import Mail, Notices, Settings
from stockade.storage.database import Database
from tests.factories.jobs import InProcessRun, KilledAt, workplace

TOLD = Notices(
    mail=Mail(host="mail.example.com", sender="s@example.com"),
    operators=("boss@example.com",),
    webhook="https://hooks.example.com/",
    webhook_secret_env="X",
)
NOTICE = Notice("something.happened", "/subscriptions/s", "t", "x", {"a": 1}, to=("ops@example.com",), subscription="s")


class Post:
    """Stands for both ways out. wrong: what an attempt to a place ends with."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sent: list[str] = []
        self.wrong: dict[str, Exception] = {}
        monkeypatch.setattr(mail, "deliver", self.deliver)
        monkeypatch.setattr(webhook, "deliver", self.deliver)

    async def deliver(self, settings: Any, notice: Any, now: float) -> None:
        to = notice.body["to"]
        self.sent.append(to)
        if to in self.wrong:
            raise self.wrong[to]


@pytest.fixture
def post(monkeypatch: pytest.MonkeyPatch) -> Post:
    return Post(monkeypatch)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Workplace]:
    clock = ManualClock()
    database = Database(f"sqlite:///{tmp_path / 'x.db'}", clock=clock)
    database.migrate()
    yield workplace(tmp_path, database, clock=clock, settings=Settings(data_dir=tmp_path, notices=TOLD))
    database.close()


def put(place: Workplace, notice: Notice = NOTICE, settings: Settings | None = None) -> None:
    with place.database.write() as writer:
        outbox.post(writer, settings or place.settings, notice, place.clock.now())


def states(place: Workplace) -> dict[str, tuple[str, int]]:
    with place.database.read() as reader:
        return {one.body["to"]: (one.body["state"], one.body["attempts"]) for one in reader.list(outbox.TYPE)}


async def work(place: Workplace) -> int:
    """Do what is due; return how much that was."""
    pieces = list(PLUGIN.due(place))
    for piece in pieces:
        await PLUGIN.do(place, InProcessRun(piece))
    return len(pieces)


def test_it_is_work() -> None:
    assert isinstance(PLUGIN, Work)


async def test_everybody_is_told_once(place: Workplace, post: Post) -> None:
    put(place, Notice("k", "/s", "t", "x", {}, to=("ops@example.com", "boss@example.com"), operators=True))
    assert await work(place) == 3
    assert await work(place) == 0
    assert sorted(post.sent) == ["mailto:boss@example.com", "mailto:ops@example.com", "webhook"]
    assert set(states(place).values()) == {("Delivered", 1)}


def test_without_anywhere_to_send_it_nothing_is_kept(place: Workplace) -> None:
    put(place, settings=Settings())
    assert states(place) == {}


async def test_one_place_that_does_not_answer_keeps_nothing_from_another(place: Workplace, post: Post) -> None:
    post.wrong["webhook"] = Undelivered("it answered with status 500")
    put(place)
    await work(place)
    assert states(place) == {"mailto:ops@example.com": ("Delivered", 1), "webhook": ("Pending", 1)}


async def test_attempts_are_further_and_further_apart_and_end(place: Workplace, post: Post) -> None:
    clock = place.clock
    assert isinstance(clock, ManualClock)
    post.wrong["webhook"] = Undelivered("it answered with status 500")
    put(place)
    await work(place)
    began, pauses = clock.now(), []
    for attempt in range(1, outbox.MAX_ATTEMPTS):
        pause = outbox.pause_s(attempt - 1)
        pauses.append(pause)
        clock.advance(pause - 1)
        assert await work(place) == 0
        clock.advance(1)
        assert await work(place) == 1
    assert pauses == sorted(pauses) and pauses[0] == 10 and pauses[-1] == 6 * 3600
    assert 86_400 < clock.now() - began < 2 * 86_400
    assert states(place)["webhook"] == ("Failed", outbox.MAX_ATTEMPTS)
    clock.advance(86_400)
    assert await work(place) == 0
    with place.database.read() as reader:
        (failed,) = (one for one in reader.list(outbox.TYPE) if one.body["to"] == "webhook")
    assert failed.body["lastError"] == "it answered with status 500"


async def test_a_bug_in_an_attempt_is_an_attempt(place: Workplace, post: Post) -> None:
    post.wrong["webhook"] = KeyError("secret inside")
    put(place)
    await work(place)
    assert states(place)["webhook"] == ("Pending", 1)
    with place.database.read() as reader:
        assert all("secret" not in str(one.body) for one in reader.list(outbox.TYPE))


async def test_killed_before_the_attempt_is_remembered_it_is_made_again(place: Workplace, post: Post) -> None:
    put(place, Notice("k", "/s", "t", "x", {}))
    (piece,) = PLUGIN.due(place)
    run = InProcessRun(piece, kill_at="deliver")
    with pytest.raises(KilledAt):
        await PLUGIN.do(place, run)
    assert (post.sent, states(place)) == ([], {"webhook": ("Pending", 0)})
    await PLUGIN.do(place, run.again())
    await PLUGIN.do(place, run.again())  # the same piece taken up by a second node
    assert (post.sent, states(place)) == (["webhook"], {"webhook": ("Delivered", 1)})


async def test_an_attempt_of_before_is_not_noted_for_a_later_one(place: Workplace, post: Post) -> None:
    post.wrong["webhook"] = Undelivered("no")
    put(place, Notice("k", "/s", "t", "x", {}))
    (piece,) = PLUGIN.due(place)
    await PLUGIN.do(place, InProcessRun(piece))
    await PLUGIN.do(place, InProcessRun(piece))
    assert (post.sent, states(place)) == (["webhook"], {"webhook": ("Pending", 1)})


async def test_what_has_been_shown_for_long_is_forgotten(place: Workplace, post: Post) -> None:
    clock = place.clock
    assert isinstance(clock, ManualClock)
    put(place)
    await work(place)
    clock.advance(outbox.KEEP_DAYS * 86_400)
    assert await work(place) == 2
    assert (states(place), await work(place), len(post.sent)) == ({}, 0, 2)


@pytest.mark.parametrize(
    ("address", "good"),
    [
        ("ops@example.com", True),
        ("a.b+c@sub.example.co", True),
        ("ops@localhost", True),
        ("ops", False),
        ("@example.com", False),
        ("ops@", False),
        ("a@b@c", False),
        ("a b@example.com", False),
        ("a@example.com\n", False),
        ('"a b"@example.com', False),
        ("é@example.com", False),
        ("a@exa_mple.com", False),
        ("a@example.com.", False),
        ("a" * 65 + "@example.com", False),
    ],
    ids=repr,
)
def test_addresses(address: str, good: bool) -> None:
    assert outbox.is_address(address) is good
