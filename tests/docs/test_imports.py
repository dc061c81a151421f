"""Imports point one way. The table is the architecture: to let a package import another, change it here and say why in the review."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.outside import ROOT

PACKAGE = ROOT / "stockade"

# From the ground up; each line may name only lines above it (a test holds the table to that).
ARROWS: dict[str, set[str]] = {
    "kernel": set(),
    "settings": {"kernel"},
    # What decides, keeps and records.
    "storage": {"kernel", "settings"},
    "policy": {"kernel", "settings", "storage"},
    # The one way out, and the connections to engines that are opened through it.
    "egress": {"kernel", "settings", "policy"},
    "upstream": {"kernel", "settings", "egress"},
    # What records; its sinks (audit/sinks) send records on by the same way out.
    "audit": {"kernel", "settings", "egress", "upstream"},
    "decisions": {"kernel", "settings", "storage", "audit", "policy"},
    # Keys, who holds them, and how the key broker is asked for them; then what accounts keep under them.
    # What approvers sign, and how it is verified.
    "lockbox": {"kernel", "settings"},
    "keys": {"kernel", "settings", "lockbox"},
    "content": {"kernel", "settings", "storage", "keys"},
    # What knows Azure's services and principals.
    "services": {"kernel", "settings", "storage", "keys", "content", "audit", "policy", "egress", "upstream"},
    "identity": {"kernel", "settings", "storage", "keys", "audit", "policy"},
    # The process that unwraps keys, on evidence that it verifies itself; and the vault's documents and wire, which ask it.
    "broker": {"kernel", "settings", "storage", "keys", "audit", "policy", "egress", "services", "identity", "lockbox"},
    "vault": {"kernel", "settings", "storage", "keys", "audit", "policy", "identity"},
    # The rim. Its packages do not import one another: they meet in boot.
    "gateway": {
        "kernel", "settings", "storage", "keys", "content", "audit", "policy", "decisions", "egress", "upstream", "services", "identity",
    },
    # Vaults are resources too: management knows their documents.
    "management": {
        "kernel", "settings", "storage", "keys", "content", "audit", "policy", "decisions", "services", "identity", "vault",
        "lockbox",
    },
    # It asks the management pipeline like any client, through what boot hands it.
    "console": {"kernel", "settings", "lockbox", "identity"},
    # What goes on without a caller, in a process of its own. A batch's line is a request like any other: the gateway's own pieces count,
    # fetch and look for it.
    "jobs": {
        "kernel", "settings", "storage", "keys", "content", "audit", "policy", "decisions", "egress", "upstream", "services", "identity",
        "vault", "gateway", "management", "lockbox",
    },
    # The one place that knows how everything is joined.
    "boot": {
        "kernel", "settings", "storage", "keys", "content", "audit", "policy", "decisions", "egress", "upstream", "services", "identity",
        "broker", "vault", "gateway", "management", "console", "jobs", "lockbox",
    },
    # Processes: a supervisor, and children that call boot's factories. Management is for the first start alone, which makes the
    # demonstration resources through the same pipeline as any client.
    "serve": {
        "kernel", "settings", "storage", "keys", "content", "audit", "policy", "decisions", "egress", "upstream", "services", "identity",
        "broker", "vault", "management", "jobs", "boot", "lockbox",
    },
    # A user's commands. They start and find servers, hence serve.
    "cli": {
        "kernel", "settings", "storage", "keys", "content", "audit", "policy", "decisions", "egress", "services", "identity", "vault", "jobs",
        "serve", "boot", "lockbox",
    },
    "__main__": {"cli"},
}  # fmt: skip

SHARED = {"services/uris"}
"""Folders on a shelf that are no plug-ins: what several of them share."""

SHELVES: dict[str, dict[str, set[str]]] = {
    # Folders of plug-ins, and which plug-in may know which other: only what the resources themselves are made of.
    "services": {},
    "services/openai/engines": {},
    "policy/rules": {},
    "keys/providers": {},
    "audit/sinks": {},
    "jobs/work": {},
    "management/resources": {
        # A role assignment, and a request for one, names a role definition.
        "role_assignments": {"role_definitions"},
        "access_role_requests": {"role_definitions"},
        # The subscription's own routes report on its accounts and deployments.
        "cognitive_services_subscription": {"cognitive_services_accounts", "cognitive_services_deployments"},
    },
}


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Yield line and full name of what the file imports from stockade, relative imports made absolute."""
    here = ["stockade", *path.relative_to(PACKAGE).with_suffix("").parts]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, name.name) for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = ".".join(here[: len(here) - node.level]) + "." if node.level else ""
            module = (start + (node.module or "")).rstrip(".")
            yield from ((node.lineno, f"{module}.{name.name}") for name in node.names)


def top(name: str) -> str | None:
    """Return the part of the package that a full name belongs to; None outside stockade and for its own version."""
    parts = name.split(".")
    return parts[1] if parts[0] == "stockade" and len(parts) > 1 and parts[1] != "__version__" else None


def sources() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def test_each_line_of_the_table_names_only_lines_above_it() -> None:
    above: set[str] = set()
    for name, allowed in ARROWS.items():
        assert allowed <= above, f"{name} may import {sorted(allowed - above)}, which stand below it"
        above.add(name)


def test_every_part_of_the_package_is_in_the_table() -> None:
    parts = {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in sources()} - {"__init__"}
    assert parts <= set(ARROWS), f"not in the table: {sorted(parts - set(ARROWS))}"


@pytest.mark.parametrize(
    "part", [name for name in ARROWS if list(PACKAGE.glob(name)) + list(PACKAGE.glob(f"{name}.py"))]
)
def test_arrows_point_down(part: str) -> None:
    allowed = ARROWS[part] | {part}
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in sources()
        if path.relative_to(PACKAGE).parts[0].removesuffix(".py") == part
        for line, name in imports(path)
        if (target := top(name)) is not None and target not in allowed
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("shelf", [shelf for shelf in SHELVES if (PACKAGE / shelf).is_dir()])
def test_plug_ins_do_not_import_one_another(shelf: str) -> None:
    """A plug-in can be removed by removing its folder; what two of them share stands beside or above the shelf, or in the table."""
    root = PACKAGE / shelf
    plug_ins = {
        path.name for path in root.iterdir() if (path / "__init__.py").exists() and f"{shelf}/{path.name}" not in SHARED
    }
    assert SHELVES[shelf].keys() <= plug_ins
    prefix = ["stockade", *shelf.split("/")]
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for plug_in in plug_ins
        for path in sorted((root / plug_in).rglob("*.py"))
        for line, name in imports(path)
        if (parts := name.split("."))[: len(prefix)] == prefix
        and len(parts) > len(prefix)
        and parts[len(prefix)] in plug_ins - {plug_in} - SHELVES[shelf].get(plug_in, set())
    ]
    assert not wrong, "\n".join(wrong)


def test_one_module_reads_uris() -> None:
    """What is judged and what is connected to must not be read by two parsers: ada is called in one place."""
    users = {
        str(path.relative_to(PACKAGE))
        for path in sources()
        for node in ast.walk(ast.parse(path.read_text()))
        if (isinstance(node, ast.Import) and any(name.name.split(".")[0] == "ada_url" for name in node.names))
        or (isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "ada_url")
    }
    assert users == {"policy/uris/parse.py"}


@pytest.mark.parametrize("part", ["policy", "egress/fetch.py", "egress/addresses.py", "gateway", "services/uris"])
def test_no_other_parser_reads_what_a_request_names(part: str) -> None:
    """`urlsplit` and `urlparse` are for addresses that operators write into settings, never for what a caller sent."""
    for path in sources():
        if path.relative_to(PACKAGE).as_posix().startswith(part):
            names = {node.id for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Name)}
            assert not names & {"urlsplit", "urlparse"}, path
