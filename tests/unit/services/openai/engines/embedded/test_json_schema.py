import pytest

from stockade.kernel.faults import Fault, FaultKind
from stockade.services.openai.engines.embedded.json_schema import MAX_DEPTH, MAX_NODES, bounded


def test_an_ordinary_shape_is_kept_and_its_prose_dropped():
    person = {
        "title": "Person",
        "type": "object",
        "properties": {
            "name": {"type": "string", "description": "as in the passport"},
            "age": {"type": ["integer", "null"]},
            "tags": {"type": "array", "items": {"enum": ["a", 1, None]}},
        },
        "required": ["name"],
        "additionalProperties": False,
    }
    assert bounded(person, "schema") == {
        "type": "object",
        "properties": {
            "name": {"type": "string"},
            "age": {"type": ["integer", "null"]},
            "tags": {"type": "array", "items": {"enum": ["a", 1, None]}},
        },
        "required": ["name"],
        "additionalProperties": False,
    }


@pytest.mark.parametrize(
    "keyword",
    [
        {"pattern": "^(a+)+$"},
        {"$ref": "https://example.com/x"},
        {"minItems": 10**9},
        {"maxLength": 10**9},
        {"allOf": []},
    ],
)
def test_what_could_make_a_grammar_explode_is_refused_by_name(keyword):
    with pytest.raises(Fault) as refused:
        bounded({"type": "object", "properties": {"x": keyword}}, "schema")
    assert refused.value.kind is FaultKind.UNSUPPORTED
    assert refused.value.target == "schema.properties.x"
    assert next(iter(keyword)) in refused.value.message


def test_deep_and_wide_schemas_are_refused():
    deep: dict = {"type": "string"}
    for _ in range(MAX_DEPTH + 1):
        deep = {"type": "array", "items": deep}
    wide = {"type": "object", "properties": {f"p{i}": {"type": "string"} for i in range(MAX_NODES)}}
    many = {"enum": list(range(MAX_NODES + 1))}
    for schema in (deep, wide, {"type": "object", "properties": {"x": many, "y": {"type": "null"}}}):
        with pytest.raises(Fault):
            bounded(schema, "schema")


@pytest.mark.parametrize(
    "schema",
    [
        None,
        [],
        {"type": "banana"},
        {"type": 5},
        {"type": {}},
        {"properties": []},
        {"properties": {"x": 5}},
        {"required": ["unknown"]},
        {"required": [5]},
        {"required": "name"},
        {"additionalProperties": True},
        {"additionalProperties": {"type": "string"}},
        {"items": []},
        {"anyOf": []},
        {"anyOf": 5},
        {"enum": []},
        {"enum": [{}]},
        {"const": "x" * 300},
    ],
)
def test_a_schema_that_is_none_is_a_fault_and_nothing_else(schema):
    with pytest.raises(Fault):
        bounded(schema, "schema")
