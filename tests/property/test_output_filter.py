"""However an answer is cut, into pieces by the model and into chunks by the network, what the client puts together is the same."""

from __future__ import annotations

import json
from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from stockade.gateway.output.candidates import Judge
from stockade.gateway.output.findings import Findings
from stockade.gateway.output.sse import SseFilter
from stockade.gateway.output.text import TextFilter
from stockade.policy.uris.allowed import compile_allowed

ALLOWED = compile_allowed(["good.example", "*.cdn.good.example"])
PARTS = st.sampled_from(
    [
        "https", "http", ":", "/", "//", "\\", "www.", "ftp", "h", "w", "java", "javascript:", "mailto:", "good.example", "evil.example",
        "evil.com", ".", "@", "?a=b", "#", "&", ";", "&#", "&#58;", "&colon;", "&sol;", "&#x2F;", "%", "%2f", "%3A", "\\u002f", "\\x3a",
        "\\n", "\\\\", "\n", "\t", "\r", " ", "](", ")", "<", ">", '"', "'", "src=", "]: ", "url(", "\u3002", "\u8bf7", "\u200b", "\U0001f600", "1",
        "[", "]", "secret", "**", "a-b_c",
    ]
)  # fmt: skip
TEXTS = st.lists(PARTS | st.text(st.characters(exclude_categories=("Cs",)), max_size=4), max_size=30).map("".join)
CUTS = st.lists(st.integers(1, 7), min_size=1, max_size=50)


def cut(text: str, sizes: Sequence[int]) -> list[str]:
    pieces, at, turn = [], 0, 0
    while at < len(text):
        size = sizes[turn % len(sizes)]
        pieces.append(text[at : at + size])
        at, turn = at + size, turn + 1
    return pieces


def redacted(text: str) -> tuple[str, list[str]]:
    hosts: list[str] = []
    return TextFilter(Judge(ALLOWED), hosts.append).whole(text), hosts


def event(index: int, delta: dict[str, object], finish: str | None = None) -> bytes:
    choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}
    chunk = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "gpt", "choices": [choice]}
    return b"data: " + json.dumps(chunk, ensure_ascii=index % 2 == 1, separators=(",", ":")).encode() + b"\n\n"


def put_together(stream: bytes) -> dict[int, str]:
    """Return the text of each choice, as a client adds it up; every event must be one."""
    texts: dict[int, str] = {}
    finished: set[int] = set()
    *events, rest = stream.split(b"\n\n")
    assert rest == b""
    assert events[-1] == b"data: [DONE]"
    for one in events[:-1]:
        assert one.startswith(b"data: ")
        for choice in json.loads(one[6:])["choices"]:
            assert choice["index"] not in finished
            texts[choice["index"]] = texts.get(choice["index"], "") + choice["delta"].get("content", "")
            if choice["finish_reason"]:
                finished.add(choice["index"])
    return texts


@settings(max_examples=400, deadline=None)
@given(text=TEXTS, sizes=CUTS)
def test_a_text_in_pieces_is_filtered_as_the_whole(text: str, sizes: list[int]) -> None:
    hosts: list[str] = []
    filtering = TextFilter(Judge(ALLOWED), hosts.append)
    passed = "".join([filtering.feed(piece) for piece in cut(text, sizes)]) + filtering.end()
    assert (passed, hosts) == redacted(text)


@settings(max_examples=200, deadline=None)
@given(text=TEXTS)
def test_a_text_that_was_filtered_is_clean(text: str) -> None:
    passed, hosts = redacted(text)
    assert bool(hosts) or passed == text
    assert "https://evil.example" not in passed


@settings(max_examples=200, deadline=None)
@given(
    texts=st.lists(TEXTS.filter(bool), min_size=1, max_size=3),
    sizes=CUTS,
    chunks=st.lists(st.integers(1, 400), min_size=1, max_size=20),
    order=st.randoms(use_true_random=False),
    last_with_text=st.booleans(),
)
def test_a_stream_is_filtered_choice_by_choice_however_it_is_cut(
    texts: list[str], sizes: list[int], chunks: list[int], order: object, last_with_text: bool
) -> None:
    waiting = {index: cut(text, sizes) for index, text in enumerate(texts)}
    stream = b"".join(event(index, {"role": "assistant", "content": ""}) for index in waiting)
    while waiting:
        index = order.choice(sorted(waiting))  # type: ignore[attr-defined]
        piece = waiting[index].pop(0)
        last = not waiting[index]
        stream += event(index, {"content": piece}, "stop" if last and last_with_text else None)
        if last:
            del waiting[index]
            stream += b"" if last_with_text else event(index, {}, "stop")
    stream += b"data: [DONE]\n\n"

    filtering = SseFilter(ALLOWED, Findings(enforced=True))
    out, at, turn = b"", 0, 0
    while at < len(stream):
        size = chunks[turn % len(chunks)]
        out += filtering.feed(stream[at : at + size])
        at, turn = at + size, turn + 1
    out += filtering.end()
    assert put_together(out) == {index: redacted(text)[0] for index, text in enumerate(texts)}
    if all(redacted(text)[0] == text for text in texts):
        assert put_together(out) == put_together(stream)
