"""The tables of docs/lockbox.md that code has too say what the code says."""

from __future__ import annotations

import pytest

from stockade.lockbox import attackers, visible
from stockade.lockbox.attackers import Attacker
from stockade.lockbox.services import CLOSED_KINDS, OWN_STORAGE_KINDS, treatment
from tests.outside import ROOT

ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in (ROOT / "docs" / "lockbox.md").read_text().splitlines()
    if line.startswith("|")
]


@pytest.mark.parametrize("one", attackers.ATTACKERS, ids=lambda one: one.who[:30])
def test_whom_callers_stop(one: Attacker) -> None:
    [row] = [row for row in ROWS if row[0] == one.who]
    for cell, way in zip(row[1:], ("platform", "issuers", "keys"), strict=True):
        if way in one.lets_in:
            assert cell == "**gets in**"
        else:
            # A batch's own keys are chosen beside the others.
            assert cell == ("stopped, without `--jobs`" if "jobs" in one.lets_in else "stopped")


def test_what_operators_see() -> None:
    for seen in visible.SEEN:
        assert [seen.what, seen.where] in ROWS
    members = [row for row in ROWS if row[0].strip("`") in {one.member for one in visible.OBJECT}]
    assert members == [[f"`{one.member}`", one.what] for one in visible.OBJECT]


def test_which_services_ask() -> None:
    asks, never, own = (
        next(row[0].lower() for row in ROWS if word in row[1]) for word in ("**ask**", "**never**", "own storage")
    )
    assert all(kind in never for kind in CLOSED_KINDS) and "e0" in never
    assert any(kind in own for kind in OWN_STORAGE_KINDS)
    assert all(
        treatment(kind.strip(), "S0") == "ask" for kind in ("OpenAI", "AIServices", "TextTranslation", "TextAnalytics")
    )
    assert all(kind in asks for kind in ("openai", "aiservices", "texttranslation", "textanalytics"))
