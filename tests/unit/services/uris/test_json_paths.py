"""Reading JSON in the one way there is, and finding URIs by declared paths."""

from __future__ import annotations

import pytest

from stockade.kernel.faults import Fault
from stockade.services.uris.json_paths import extract, put, read_json, texts


def test_every_text_at_a_path_is_found_with_its_place() -> None:
    body = {
        "messages": [
            {"content": "https://not-declared.example"},
            {
                "content": [
                    {"type": "text"},
                    {"image_url": {"url": "https://a.example/1"}},
                    {"image_url": "https://b.example"},
                ]
            },
        ],
        "data_sources": [{"parameters": {"endpoint": "https://c.example"}}],
    }
    paths = (
        "messages[*].content[*].image_url.url",
        "messages[*].content[*].image_url",
        "data_sources[*].parameters.endpoint",
    )
    assert list(extract(paths, body)) == [
        ("messages[1].content[1].image_url.url", "https://a.example/1"),
        ("messages[1].content[2].image_url", "https://b.example"),
        ("data_sources[0].parameters.endpoint", "https://c.example"),
    ]


@pytest.mark.parametrize(
    ("path", "document", "place"),
    [
        ("urls[*]", {"urls": "u"}, "urls"),
        ("url", {"url": ["u"]}, "url[0]"),
        ("url", {"url": [["u"]]}, "url[0][0]"),
        ("a.url", {"a": [{"url": "u"}]}, "a[0].url"),
        ("a[*].url", {"a": {"url": "u"}}, "a.url"),
        ("[*].url", [{"url": "u"}], "[0].url"),
        ("[*].url", {"url": "u"}, "url"),
        ("**.self", {"a": {"b": [{"self": "u"}]}}, "a.b[0].self"),
        ("**.self", {"self": "u"}, "self"),
    ],
)
def test_one_value_may_stand_for_a_list_and_a_list_for_one(path: str, document: object, place: str) -> None:
    assert list(extract((path,), document)) == [(place, "u")]


def test_members_match_in_any_case_where_servers_read_them_so() -> None:
    document = {"URL": "https://a.example", "url": "https://b.example", "\u017felf": "s"}
    assert [text for _, text in extract(("url",), document)] == ["https://b.example"]
    assert [text for _, text in extract(("Url",), document, any_case=True)] == [
        "https://a.example",
        "https://b.example",
    ]
    assert [text for _, text in extract(("self",), document, any_case=True)] == ["s"]


def test_values_of_another_shape_hold_nothing() -> None:
    document = {"a": 1, "c": "d", "e": {"not": "text"}, "f": None}
    assert list(extract(("a[*].b", "c.d", "e", "f"), document)) == []


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"a":1,"a":2}', "the member 'a' twice"),
        (b'{"x":{"a":1,"\\u0061":2}}', "the member 'a' twice"),
        (b'{"a":NaN}', "no JSON number"),
        (b'{"a":"\\ud800"}', "surrogate"),
        (b'{"a":"\xff"}', "not UTF-8"),
        ('{"a":1}'.encode("utf-16"), "not UTF-8"),
        ('{"a":1}'.encode("utf-16-le"), "not valid JSON"),
        (b'\xef\xbb\xbf{"a":1}', "not valid JSON"),
        (b'{"a":1}{"b":2}', "not valid JSON"),
        (b"", "not valid JSON"),
    ],
)
def test_json_that_can_be_read_in_two_ways_is_refused(body: bytes, said: str) -> None:
    with pytest.raises(Fault) as refused:
        read_json(body)
    assert said in refused.value.message


def test_depth_is_refused_and_not_a_crash() -> None:
    with pytest.raises(Fault, match="too deeply"):
        list(extract(("url",), read_json(b"[" * 100_000 + b"]" * 100_000)))


def test_texts_are_all_texts_and_names() -> None:
    found = set(texts({"a": ["x", {"b": "y"}], "c": 1}))
    assert found == {("a", "a"), ("a[0]", "x"), ("a[1].b", "b"), ("a[1].b", "y"), ("c", "c")}


def test_content_is_put_wherever_the_text_stands_and_nowhere_else() -> None:
    document = {"a": [{"u": "x"}, {"u": "y"}, {"v": "x"}], "b": "x", "c": {"d": {"u": "x"}}, "e": {"u": ["x", "z"]}}
    assert put(["a[*].u", "c.**.u", "e.u"], document, {"x": "X", "z": "Z"})
    assert document == {
        "a": [{"u": "X"}, {"u": "y"}, {"v": "x"}],
        "b": "x",
        "c": {"d": {"u": "X"}},
        "e": {"u": ["X", "Z"]},
    }
    assert not put(["b"], document, {"q": "Q"})


def test_names_that_are_written_alike_do_not_mislead() -> None:
    """A place is told as `a.b.u` whether its members are called so or not; content goes by what stood there."""
    document = {"a": {"b": {"u": "x"}, "b.u": "no"}, "a.b": {"u": "y"}, "a.b.u": "z", "n" * 200: {"u": "x"}}
    put(["**.u"], document, {"x": "X", "y": "Y"})
    assert document == {"a": {"b": {"u": "X"}, "b.u": "no"}, "a.b": {"u": "Y"}, "a.b.u": "z", "n" * 200: {"u": "X"}}
