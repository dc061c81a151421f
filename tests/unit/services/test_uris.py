"""Finding URIs by declared paths."""

from __future__ import annotations

from stockade.services.uris import extract


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


def test_values_of_another_shape_hold_nothing() -> None:
    assert list(extract(("a[*].b", "c.d", "e"), {"a": {"b": "x"}, "c": ["d"], "e": {"not": "text"}})) == []
