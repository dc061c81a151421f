"""Whatever a value holds, each form gives it back to the program that reads it."""

from __future__ import annotations

import json
import shutil
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stockade.cli.arm import Account
from stockade.cli.variables import Format, account_variables, key_names, write
from stockade.kernel.secret import Secret
from stockade.management.cognitive_services.kinds import KINDS

# What a path may hold, except the newline: no reader of dotenv files agrees with another about that one.
values = st.text(st.characters(blacklist_categories=("Cs", "Cc")), max_size=40)


def read_by(shell: str, script: str) -> str:
    done = subprocess.run([shell, "-c", f'{script}\nprintf %s "$NAME"'], capture_output=True, timeout=30, check=True)
    return done.stdout.decode()


@settings(max_examples=60)
@given(values)
def test_shell_reads_back_what_was_written(value: str) -> None:
    assert read_by("sh", write({"NAME": value}, Format.SHELL)) == value


@settings(max_examples=60)
@given(values)
def test_dotenv_reads_back_what_was_written(value: str) -> None:
    assert read_by("sh", write({"NAME": value}, Format.DOTENV)) == value


@given(st.dictionaries(st.sampled_from(["A", "B", "C"]), values))
def test_json_reads_back_what_was_written(found: dict[str, str]) -> None:
    assert json.loads(write(found, Format.JSON)) == found


@given(values)
def test_powershell_string_ends_where_it_should(value: str) -> None:
    line = write({"NAME": value}, Format.POWERSHELL).removesuffix("\n")
    inside = line.removeprefix("$env:NAME = '").removesuffix("'")
    for quote in "'‘’‚‛":
        assert inside.replace(quote * 2, "").count(quote) == 0, "a single quote would end the string"
        inside = inside.replace(quote * 2, quote)
    assert inside == value


@pytest.mark.skipif(shutil.which("pwsh") is None, reason="PowerShell is not installed")
def test_powershell_reads_back_what_was_written() -> None:
    value = "a 'b' ‘c’ $d `e"
    script = write({"NAME": value}, Format.POWERSHELL) + "[Console]::Out.Write($env:NAME)"
    assert (
        subprocess.run(["pwsh", "-c", script], capture_output=True, text=True, timeout=60, check=True).stdout == value
    )


def account(kind: str) -> Account:
    return Account("/id", "name", kind, "local", "https://localhost/name/", {}, local_auth=True)


@pytest.mark.parametrize(
    ("kind", "wanted"),
    [
        ("OpenAI", {"AZURE_OPENAI_ENDPOINT", "AZURE_OPENAI_API_KEY", "OPENAI_API_VERSION"}),
        ("TextAnalytics", {"LANGUAGE_ENDPOINT", "LANGUAGE_KEY"}),
        ("SpeechServices", {"SPEECH_KEY", "SPEECH_REGION", "SPEECH_ENDPOINT", "ENDPOINT"}),
    ],
)
def test_a_kind_gets_the_names_its_clients_read(kind: str, wanted: set[str]) -> None:
    assert set(account_variables(account(kind), Secret("key"))) == wanted


@pytest.mark.parametrize("kind", sorted(kind.name for kind in KINDS.values()))
def test_every_kind_has_an_address_and_one_key(kind: str) -> None:
    found = account_variables(account(kind), Secret("the-key"))
    assert "https://localhost/name/" in found.values()
    carrying = {name for name, value in found.items() if value == "the-key"}
    assert carrying
    assert carrying <= key_names()
    without = account_variables(account(kind), None)
    assert without == {name: value for name, value in found.items() if value != "the-key"}
