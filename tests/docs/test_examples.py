"""The examples in README.md and docs/ are run, or say why not.

Above each fenced `bash`, `console` or `python` block stands one comment:

    <!-- test: quickstart -->                               run it; blocks of one page with the same name are one session, in order
    <!-- test: quickstart; needs: account demo-openai -->   the same, with the account's endpoint and key in the environment
    <!-- test: sign-in; needs: az -->                       the same, where the az command line is installed (make test-all)
    <!-- test: deploy; needs: az signed in -->              the same, after `az login` as the administrator
    <!-- test: days; needs: simulation -->                  the same, against a server of its own whose time can be moved
    <!-- not run: needs root -->                            leave it alone, for this reason

A session runs against the server of this test run (the fixture `live` of tests/live.py) with the environment of `stockade env`, in an
empty home folder where `.venv` is the environment of the tests, so that `.venv/bin/stockade` is what it is to a reader. It ends at the
first command that fails. `console` blocks hold commands after `$ ` (continued after `> `) and what they print; `...` stands for anything,
within a line or for whole lines. A `python` block is one program. `toml` blocks are settings: each must be read as such, and with a comment
too a session runs against a server of its own that has them. Commands named in prose must exist.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import typer
from typer.core import TyperGroup

from stockade import settings
from stockade.cli.root import app
from stockade.services.openai.catalogue import catalogue
from tests.live import StartServer
from tests.outside import PROGRAMS, ROOT

LIMIT_S = 100
RUNNABLE = {"bash", "console", "python"}
FENCE = re.compile(r"^(?P<indent>\s*)(?P<fence>`{3,}|~{3,})\s*(?P<language>[\w+-]*)")
TEST = re.compile(
    r"<!-- test: (?P<name>[a-z0-9-]+)"
    r"(?:; needs: (?:account (?P<account>[\w-]+)|(?P<program>az)(?P<signed_in> signed in)?|(?P<simulation>simulation)))? -->"
)
NOT_RUN = re.compile(r"<!-- not run: \S.* -->")
SIGN_IN = """\
export AZURE_CORE_INSTANCE_DISCOVERY=false AZURE_CORE_COLLECT_TELEMETRY=false
az cloud register --name stockade --endpoint-resource-manager "$STOCKADE_ARM"
az cloud set --name stockade
az login --service-principal --username "$AZURE_CLIENT_ID" --password "$AZURE_CLIENT_SECRET" --tenant "$AZURE_TENANT_ID"
"""
STEP = "--- stockade example step ---"


@dataclass(frozen=True)
class Block:
    page: str
    line: int
    language: str
    mark: str
    """The line above, without blank lines between."""
    text: str


@dataclass(frozen=True)
class Step:
    command: str
    """Shell text."""
    prints: str | None = None
    """What it must print, with `...` for anything; None when the page does not say."""


def blocks(text: str, page: str = "page") -> Iterator[Block]:
    """Yield the fenced blocks of a Markdown text."""
    mark, fence, indent, language, start, body = "", "", "", "", 0, list[str]()
    for number, line in enumerate(text.splitlines(), 1):
        found = FENCE.match(line)
        if fence:
            if found and found["fence"].startswith(fence) and not found["language"]:
                yield Block(page, start, language, mark, "\n".join(body) + "\n")
                fence, mark = "", ""
            else:
                body.append(line.removeprefix(indent))
        elif found:
            fence, indent, language, start, body = (
                found["fence"],
                found["indent"],
                found["language"].lower(),
                number,
                [],
            )
        elif line.strip():
            mark = line.strip()
    if fence:
        raise AssertionError(f"{page}:{start}: a block that never ends")


def steps(block: Block) -> Iterator[Step]:
    """Yield the commands of a block; settings are none."""
    if block.language == "toml":
        return
    if block.language == "bash":
        yield Step(block.text)
    elif block.language == "python":
        yield Step(f"python - <<'END_OF_EXAMPLE'\n{block.text}END_OF_EXAMPLE\n")
    else:
        parts = re.split(r"^\$ ", block.text, flags=re.MULTILINE)
        assert not parts[0].strip(), f"{block.page}:{block.line}: a console block begins with `$ `"
        for part in parts[1:]:
            lines = part.splitlines()
            more = 1
            while more < len(lines) and lines[more].startswith("> "):
                more += 1
            yield Step("\n".join([lines[0], *(line[2:] for line in lines[1:more])]) + "\n", "\n".join(lines[more:]))


def matches(expected: str, printed: str) -> bool:
    """Compare what a page promises with what was printed; trailing space is nobody's promise."""
    wanted = [line.rstrip() for line in expected.strip().splitlines()]
    pattern = "\n".join(
        r"[^\n]*".join(re.escape(part) for part in line.split("...")) if line != "..." else "\0" for line in wanted
    )
    # A line of dots alone stands for any number of lines, none included.
    pattern = pattern.replace("\n\0", r"(?:\n[^\n]*)*").replace("\0\n", r"(?:[^\n]*\n)*").replace("\0", r"[\s\S]*")
    return re.fullmatch(pattern, "\n".join(line.rstrip() for line in printed.strip().splitlines())) is not None


def play(session: Iterable[Step], folder: Path, variables: Mapping[str, str]) -> None:
    """Run the steps in one shell and compare what they print.

    Raises AssertionError with the command, its output and, where promised, what it should have been.
    """
    session = list(session)
    script = "set -euo pipefail\n" + "".join(f"echo {shlex.quote(STEP)}\n{step.command}" for step in session)
    (folder / ".venv").symlink_to(sys.prefix)
    programs = [sys.prefix + "/bin", *(str(path.parent) for program in PROGRAMS.values() if (path := program.find()))]
    environment = {
        **os.environ,
        "PATH": os.pathsep.join([*programs, os.environ["PATH"]]),
        "HOME": str(folder),
        "NO_COLOR": "1",
        "COLUMNS": "120",
        **variables,
    }
    result = subprocess.run(
        ["bash", "-c", script],
        cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, errors="replace", timeout=LIMIT_S, check=False,
    )  # fmt: skip
    outputs = result.stdout.split(STEP + "\n")[1:]
    assert result.returncode == 0, (
        f"ended with {result.returncode} in\n{session[max(len(outputs), 1) - 1].command}\n{result.stdout[-4000:]}"
    )
    for step, output in zip(session, outputs, strict=True):
        if step.prints is not None:
            assert matches(step.prints, output), f"{step.command}\nprinted\n{output[-4000:]}\nand not\n{step.prints}"


def pages() -> list[Path]:
    return [path for path in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))] if path.exists()]


PAGES = [block for path in pages() for block in blocks(path.read_text(), str(path.relative_to(ROOT)))]
SESSIONS: dict[str, list[Block]] = {}
for _block in PAGES:
    if _mark := TEST.fullmatch(_block.mark):
        SESSIONS.setdefault(f"{_block.page}:{_mark['name']}", []).append(_block)


def test_every_example_is_run_or_says_why_not() -> None:
    wrong = [
        f"{block.page}:{block.line}: a {block.language} block under neither `<!-- test: NAME -->` nor `<!-- not run: REASON -->`"
        for block in PAGES
        if block.language in RUNNABLE and not TEST.fullmatch(block.mark) and not NOT_RUN.fullmatch(block.mark)
    ]
    wrong += [
        f"{block.page}:{block.line}: `{block.mark}` stands above a block of {block.language or 'no language'}"
        for block in PAGES
        if TEST.fullmatch(block.mark) and block.language not in {*RUNNABLE, "toml"}
    ]
    assert not wrong, "\n".join(wrong)


def needed(name: str) -> list[pytest.MarkDecorator]:
    """Return the markers of the programs that a session needs."""
    marks = [TEST.fullmatch(block.mark) for block in SESSIONS[name]]
    return [getattr(pytest.mark, program) for program in {mark["program"] for mark in marks if mark} if program]


def has_commands(name: str) -> bool:
    return any(block.language != "toml" for block in SESSIONS[name])


@pytest.mark.parametrize("name", [pytest.param(name, marks=needed(name)) for name in SESSIONS if has_commands(name)])
def test_example(name: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    session = SESSIONS[name]
    own_settings = "".join(block.text for block in session if block.language == "toml")
    simulation = any((mark := TEST.fullmatch(block.mark)) and mark["simulation"] for block in session)
    if own_settings or simulation:
        start: StartServer = request.getfixturevalue("live_server")
        server = start(*(["--simulation"] if simulation else []), settings=own_settings)
    else:
        server = request.getfixturevalue("live")
    variables, before = dict(server.environment), list[Step]()
    for block in session:
        mark = TEST.fullmatch(block.mark)
        if mark and mark["account"]:
            variables |= server.account(mark["account"])
        if mark and mark["signed_in"]:
            before = [Step(SIGN_IN)]
    home = tmp_path / "home"
    home.mkdir()
    play([*before, *(step for block in session for step in steps(block))], home, variables)


@pytest.mark.parametrize(
    "block", [block for block in PAGES if block.language == "toml"], ids=lambda block: f"{block.page}:{block.line}"
)
def test_settings_in_examples_are_settings(block: Block, tmp_path: Path) -> None:
    (tmp_path / "settings.toml").write_text(block.text)
    read = settings.load(tmp_path, environment={})
    assert read != settings.load(tmp_path / "nothing", environment={}), "it sets nothing"
    assert set(read.models) <= set(catalogue(read))


_TEMPLATES = sorted((ROOT / "stockade" / "console" / "templates").glob("*.html"))
COMMANDS = [
    (f"{path.relative_to(ROOT)}:{number}", words)
    for path in _TEMPLATES
    for number, line in enumerate(path.read_text().splitlines(), 1)
    for words in re.findall(r"(?:<code[^>]*>|`)(stockade [a-z][^`<]*)", line)
] + [
    (f"{path.relative_to(ROOT)}:{number}", words)
    for path in pages()
    for number, line in enumerate(path.read_text().splitlines(), 1)
    for words in re.findall(r"(?:^|`|\$\(|\$ )(?:\.venv/bin/)?(stockade [a-z][^`)|]*|make [a-z-]+)", line)
]


def check_exists(words: str) -> None:
    """Raise AssertionError when there is no such command, or it has no such option."""
    program, *rest = words.split(" -- ", maxsplit=1)[0].split()
    if program == "make":
        assert re.search(rf"^{rest[0]}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
        return
    command = typer.main.get_command(app)
    while rest and isinstance(command, TyperGroup):
        assert rest[0] in command.commands, f"there is no `stockade ... {rest[0]}`"
        command = command.commands[rest.pop(0)]
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    assert {word for word in rest if word.startswith("-")} <= known


@pytest.mark.parametrize(("place", "words"), COMMANDS, ids=[f"{place} {words}" for place, words in COMMANDS])
def test_a_command_that_a_page_names_exists(place: str, words: str) -> None:
    check_exists(words)


# The mechanism itself: an example that is wrong must fail.

PAGE = """\
Text.

<!-- test: greeting -->

```console
$ export NAME=world
$ echo "hello $NAME"; \\
> echo done
hello ...
done
```

<!-- not run: it would say so -->
```bash
false
```

   <!-- test: greeting -->
   ```python
   import os
   assert os.environ["NAME"] == "world"
   ```
"""


def test_blocks_are_found_with_their_marks() -> None:
    found = list(blocks(PAGE))
    assert [(block.line, block.language, block.mark) for block in found] == [
        (5, "console", "<!-- test: greeting -->"),
        (14, "bash", "<!-- not run: it would say so -->"),
        (19, "python", "<!-- test: greeting -->"),
    ]
    assert found[2].text.startswith("import os\n")


def test_blocks_of_one_name_share_a_session(tmp_path: Path) -> None:
    console, _, python = blocks(PAGE)
    play([*steps(console), *steps(python)], tmp_path, {})


@pytest.mark.parametrize(
    "block",
    [
        Block("page", 1, "console", "", "$ echo yes\nno\n"),
        Block("page", 1, "console", "", "$ echo yes\n"),
        Block("page", 1, "console", "", "$ false\n"),
        Block("page", 1, "bash", "", "false\necho after\n"),
        Block("page", 1, "python", "", "raise SystemExit(3)\n"),
    ],
    ids=["other words", "words not shown", "console fails", "bash fails", "python fails"],
)
def test_a_wrong_example_fails(block: Block, tmp_path: Path) -> None:
    with pytest.raises(AssertionError):
        play(steps(block), tmp_path, {})


def test_an_example_sees_the_variables_it_was_given(tmp_path: Path) -> None:
    play(
        steps(Block("page", 1, "console", "", "$ echo $STOCKADE_ARM\nhttps://localhost:1\n")),
        tmp_path,
        {"STOCKADE_ARM": "https://localhost:1"},
    )


@pytest.mark.parametrize(
    ("expected", "printed", "same"),
    [
        ("a\n...\nb", "a\nb", True),
        ("a\n...\nb", "a\n1\n2\nb", True),
        ("a\n...", "a", True),
        ("...\nb", "1\nb", True),
        ("...", "", True),
        ("key: ...", "key: x y", True),
        ("key: ...", "key: x\ny", False),
        ("a", "a\nb", False),
        ("a.c", "abc", False),
    ],
)
def test_dots_stand_for_anything(expected: str, printed: str, same: bool) -> None:
    assert matches(expected, printed) is same


@pytest.mark.parametrize(
    "words", ["stockade nothing", "stockade keys nothing x", "stockade keys show x --no-such-option", "make nothing"]
)
def test_a_command_that_does_not_exist_is_found_out(words: str) -> None:
    with pytest.raises(AssertionError):
        check_exists(words)
