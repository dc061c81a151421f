"""From method and path to an operation."""

from __future__ import annotations

from typing import Any, cast

import pytest

from stockade.kernel.operation import Operation
from stockade.services.routing import Router
from stockade.services.service import Service


class Fake:
    name = "fake"
    kinds = frozenset({"Face"})

    def __init__(self, *operations: Operation) -> None:
        self.operations = operations


def router(*paths: str) -> Router:
    rows = (Operation(path, "POST", path, "A/x/action") for path in paths)
    return Router([cast("Service", cast("Any", Fake(*rows)))])


def matched(route: Router, path: str) -> tuple[str, dict[str, str]] | None:
    found = route.match("POST", path, "Face")
    return (found.operation.name, dict(found.values)) if found is not None else None


def test_a_parameter_may_have_a_fixed_end_within_its_segment() -> None:
    table = router("/m/{id}", "/m/{id}:analyze", "/m:build", "/m/{id}/r")
    assert matched(table, "/m/a:b:Analyze") == ("/m/{id}:analyze", {"id": "a:b"})
    assert matched(table, "/m/a:other") == ("/m/{id}", {"id": "a:other"})
    assert matched(table, "/m:build") == ("/m:build", {})
    assert matched(table, "/m/:analyze") == ("/m/{id}", {"id": ":analyze"})
    assert matched(table, "/m/a/r") == ("/m/{id}/r", {"id": "a"})


@pytest.mark.parametrize("version", ["v1.0", "v3.2-preview.1", "v2026-06-06", "2024-11-15"])
def test_a_version_in_the_path_is_well_formed(version: str) -> None:
    table = router("/face/{version}/detect")
    assert matched(table, f"/face/{version}/detect") is not None
    for wrong in ("..", "v", "detect", version + "%2f"):
        assert matched(table, f"/face/{wrong}/detect") is None


def test_a_slash_at_the_end_is_another_path() -> None:
    table = router("/a/b", "/a/c/")
    assert matched(table, "/a/b/") is None
    assert matched(table, "/a/c/") == ("/a/c/", {})


def test_one_place_has_one_name() -> None:
    with pytest.raises(ValueError, match="calls 'a' of another path 'b'"):
        router("/x/{a}", "/x/{b}/y")
