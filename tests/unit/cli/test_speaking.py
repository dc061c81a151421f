"""In whose name commands speak: by the environment, here or by the addresses of a platform elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer

from stockade.cli import speaking as module
from stockade.cli.arm import NotRunning
from stockade.cli.speaking import speaking
from stockade.settings import DATA_DIR_VARIABLE

AWAY = {
    "STOCKADE_ARM": "https://management.ai.example:8444/",
    "STOCKADE_AUTHORITY": "https://login.ai.example:8444",
    "STOCKADE_TENANT": "t",
    "STOCKADE_SUBSCRIPTION": "s",
    "STOCKADE_VAULT": "https://demo-vault.vault.ai.example:8444",
    "STOCKADE_APPROVER_ID": "a",
    "STOCKADE_APPROVER_SECRET": "b",
    "STOCKADE_CLIENT_ID": "c",
    "STOCKADE_CLIENT_SECRET": "d",
}


@pytest.fixture(autouse=True)
def nothing_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(DATA_DIR_VARIABLE, str(tmp_path))
    assert module.running.status(module.read_settings()) is None


def test_elsewhere_the_addresses_are_those_that_were_given() -> None:
    arm = speaking("APPROVER", AWAY)
    assert (arm.place.arm, arm.place.authority) == ("https://management.ai.example:8444", AWAY["STOCKADE_AUTHORITY"])
    assert (arm.administrator.client_id, arm.administrator.client_secret.reveal_text()) == ("a", "b")
    assert arm.subscription == "/subscriptions/s"
    assert arm.has_vault("https://Other.vault.ai.example:8444/keys/k")
    assert not arm.has_vault("https://other.vault.azure.net/keys/k")
    assert not arm.has_vault("https://vault.ai.example.evil.example/keys/k")
    assert speaking("OPERATOR", AWAY).administrator.client_id == "c", "nobody is named for that part"


def test_half_a_credential_is_none() -> None:
    for name in ("ID", "SECRET"):
        with pytest.raises(typer.BadParameter, match="both or neither"):
            speaking("REVIEWER", {**AWAY, f"STOCKADE_REVIEWER_{name}": "x"})


def test_what_is_missing_is_named() -> None:
    with pytest.raises(typer.BadParameter, match="STOCKADE_TENANT"):
        speaking("APPROVER", {"STOCKADE_ARM": "https://arm.example"})


def test_without_addresses_nothing_runs_here() -> None:
    with pytest.raises(NotRunning):
        speaking("APPROVER", {})
