"""JSON that a model's answer arrives in: events with pieces of text, or a whole document.

An event holds pieces that a client puts together (`choices[0].delta.content`), which are filtered as one text over all events, and values that
stand for themselves, each filtered alone: every string of an event is one or the other, and so is the name of every member that a model chose.
Serves whatever carries such events: server-sent events (`sse.py`) and messages of a WebSocket.

Most events of a stream differ from the one before in a single string. Where that string stands is remembered, so that the next event need not be
parsed: if what surrounds it is the same, byte for byte, and it is one JSON string, then so is the event.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from stockade.gateway.output.candidates import Judge, interesting
from stockade.gateway.output.findings import Findings
from stockade.gateway.output.text import TextFilter
from stockade.kernel.faults import Fault, FaultKind
from stockade.policy.uris.allowed import AllowedHosts

MAX_TEXTS: Final = 1024
"""Texts put together at the same time in one stream: choices, their tool calls, and so on."""
MAX_CLEAN: Final = 64
MIN_BASE64: Final = 256
"""From this length on, a string that has only base64's characters is a vector, a picture or sound: it can hold no name."""
MAX_DEPTH: Final = 64

# Members whose strings are pieces of a text, in the events of OpenAI, of the servers that speak its dialect, and of others known to stream.
_PIECES = frozenset(
    (
        "content", "refusal", "arguments", "text", "transcript", "reasoning_content", "reasoning", "thinking", "partial_json", "input",
        "response", "output", "output_text", "token", "generated_text", "completion", "code", "summary",
    )
)  # fmt: skip
# Below these nothing is a piece: each has its whole value in one event.
_WHOLE = frozenset(
    ("annotations", "citations", "context", "content_filter_results", "prompt_filter_results", "error", "logprobs")
)
_ENDINGS = (".done", "_done", "_stop", ".stopped", ".completed", ".incomplete", ".failed", ".cancelled")
_IDS = ("response_id", "item_id", "output_index", "content_index", "summary_index", "index")
_LEAKING = ("logprobs", "token_ids")
"""They repeat the text token by token; they go where the text does not pass as it came."""
_TEMPLATES = 4
_LEARNING = 8

_BASE64 = re.compile(r"[A-Za-z0-9+][A-Za-z0-9+/]*={0,2}")
_TOKEN = re.compile(
    rb'(?P<name>"(?:[^"\\]|\\.)*")(?:(?P<joint>\s*:\s*)(?P<number>-?[0-9][0-9.eE+-]*))?|[^"]+', re.DOTALL
)
_decode = msgspec.json.Decoder().decode
_decode_text = msgspec.json.Decoder(str).decode
_encode = msgspec.json.Encoder().encode


@dataclass(slots=True)
class _Text:
    """A text that is being put together. skeleton: an event with nothing but its place, for what is left at its end."""

    filter: TextFilter
    path: str
    ids: dict[str, Any]
    skeleton: dict[str, Any]
    holder: dict[str, Any]
    name: str


@dataclass(slots=True)
class _Template:
    """An event apart from one string."""

    before: bytes
    after: bytes
    text: _Text


@dataclass(slots=True)
class _Numbered:
    """An event apart from one string and the numbers that events count with: tokens used, sequence numbers, times."""

    pattern: re.Pattern[bytes]
    text: _Text


@dataclass(slots=True)
class _Event:
    """What is known of the event that is being walked."""

    document: dict[str, Any]
    pieces: bool
    ids: dict[str, Any]
    ended: tuple[str, ...] = ()
    changed: bool = False
    seen: list[tuple[_Text, str]] = field(default_factory=list)
    learnable: bool = True


class EventFilter:
    """Filters the events of one stream or connection."""

    def __init__(self, allowed: AllowedHosts, findings: Findings) -> None:
        self._judge, self._findings = Judge(allowed), findings
        self._texts: dict[str, _Text] = {}
        self._templates: list[_Template] = []
        self._numbered: list[_Numbered] = []
        self._learning = _LEARNING
        """Falls with every template learnt and rises with every one used: where none fits, learning is given up."""
        self._clean: set[str] = set()
        """Short strings that hold no URI: names of members, ids, what else every event repeats."""
        self._where = ""
        self._alone = TextFilter(self._judge, self._tell)

    def event(self, data: bytes) -> list[bytes] | None:
        """Return what is to be sent in place of an event, in order; None: the event as it is.

        Fault(UPSTREAM_FAILED): it cannot be read, or it would take too much to follow the stream.
        """
        for template in self._templates:
            before, after = template.before, template.after
            if data.startswith(before) and data.endswith(after) and len(data) >= len(before) + len(after):
                try:
                    # One JSON string from quote to quote: then nothing else of the event has changed.
                    text = _decode_text(data[len(before) - 1 : len(data) - len(after) + 1])
                except (msgspec.DecodeError, UnicodeDecodeError):
                    continue
                if self._learning < _LEARNING:
                    self._learning += 1
                passed = template.text.filter.feed(text)
                return None if passed == text else [before + _encode(passed)[1:-1] + after]
        for numbered in self._numbered:
            match = numbered.pattern.fullmatch(data)
            if match is not None:
                start, end = match.span(1)
                try:
                    text = _decode_text(data[start - 1 : end + 1])
                except (msgspec.DecodeError, UnicodeDecodeError):
                    continue
                passed = numbered.text.filter.feed(text)
                return None if passed == text else [data[:start] + _encode(passed)[1:-1] + data[end:]]
        return self._parsed(data)

    def end(self) -> list[bytes]:
        """Return the events with what was held back of texts that never ended."""
        return self._finish(list(self._texts))

    def whole(self, data: bytes) -> bytes | None:
        """Filter a document that is no event; None: as it is."""
        try:
            if not interesting(data.decode()):
                return None  # embeddings, mostly
        except UnicodeDecodeError as failure:
            raise _unreadable("is not UTF-8") from failure
        document = _document(data)
        if isinstance(document, str):
            passed = self._value(document, "")
            return None if passed is document else _encode(passed)
        event = _Event({}, pieces=False, ids={})
        self._walk(document, "", event, 0, ())
        return _encode(document) if event.changed else None

    def _parsed(self, data: bytes) -> list[bytes] | None:
        document = _document(data)
        if not isinstance(document, dict):
            rewritten = self.whole(data)
            return None if rewritten is None else [rewritten]
        kind = document.get("type")
        typed = isinstance(kind, str)
        event = _Event(document, pieces=not typed or str(kind).endswith("delta"), ids={})
        if typed:
            event.ids = {name: document[name] for name in _IDS if name in document}
            if str(kind).endswith("audio.delta"):
                event.pieces = False  # sound, in base64
        else:
            event.ended = _finished_choices(document)
        self._walk(document, "", event, 0, ())
        left: list[bytes] = []
        if typed and str(kind).endswith(_ENDINGS):
            ended = _ended(document, event.ids)
            if ended is not None:
                left = self._finish([key for key, text in self._texts.items() if _same(text.ids, ended)])
        elif event.ended:
            left = self._finish([key for key, text in self._texts.items() if text.path.startswith(event.ended)])
        if not event.changed:
            if event.learnable and not left and not event.ended and len(event.seen) == 1 and self._learning > 0:
                self._learn(data, document, *event.seen[0])
            return [*left, data] if left else None
        return [*left, _encode(document)]

    def _walk(self, node: Any, path: str, event: _Event, depth: int, steps: tuple[Any, ...]) -> bool:
        """Filter everything below a node; return whether a text in it did not pass as it came."""
        if depth > MAX_DEPTH:
            raise _unreadable("is nested too deeply")
        if isinstance(node, list):
            return self._list(node, path, event, depth, steps)
        if not isinstance(node, dict):
            return False
        touched = False
        for name in tuple(node):
            value = node[name]
            if isinstance(value, str):
                at = f"{path}.{name}" if path else name
                if event.pieces and (name in _PIECES or (name == "delta" and not path)):
                    passed = self._piece(value, at, event, (*steps, name))
                else:
                    passed = self._value(value, at)
                if passed != value:
                    node[name], event.changed, touched = passed, True, True
            elif isinstance(value, (dict, list)):
                was, event.pieces = event.pieces, event.pieces and name not in _WHOLE
                at = f"{path}.{name}" if path else name
                touched |= self._walk(value, at, event, depth + 1, (*steps, name))
                event.pieces = was
            if name not in self._clean:
                touched |= self._name(node, name, path, event)
        _drop_tokens(node, event, touched=touched)
        return touched

    def _list(self, node: list[Any], path: str, event: _Event, depth: int, steps: tuple[Any, ...]) -> bool:
        touched = False
        for place, item in enumerate(node):
            if isinstance(item, str):
                passed = self._value(item, f"{path}[{place}]")
                if passed != item:
                    node[place], event.changed, touched = passed, True, True
            elif isinstance(item, (dict, list)):
                index = _index(item, place)
                touched |= self._walk(item, f"{path}[{index}]", event, depth + 1, (*steps, index))
        return touched

    def _name(self, node: dict[str, Any], name: str, path: str, event: _Event) -> bool:
        renamed = self._value(name, path)
        if renamed is name:
            return False
        node[renamed] = node.pop(name)
        event.changed = True
        return True

    def _value(self, text: str, where: str) -> str:
        if text in self._clean or (len(text) > MIN_BASE64 and _BASE64.fullmatch(text) is not None):
            return text
        self._where = where
        passed = self._alone.whole(text)
        if passed is text and len(text) <= MAX_CLEAN and len(self._clean) < MAX_TEXTS:
            self._clean.add(text)
        return passed

    def _tell(self, host: str) -> None:
        self._findings.note(host, self._where)

    def _piece(self, value: str, at: str, event: _Event, steps: tuple[Any, ...]) -> str:
        key = at if not event.ids else f"{at} {event.document['type']} {sorted(event.ids.items(), key=str)}"
        text = self._texts.get(key)
        if text is None:
            if not value:
                return value
            if len(self._texts) >= MAX_TEXTS:
                raise _unreadable("has too many parts at the same time")
            findings = self._findings
            skeleton, holder = _skeleton(event.document, steps)
            text = _Text(
                TextFilter(self._judge, lambda host: findings.note(host, at)),
                at,
                event.ids,
                skeleton,
                holder,
                steps[-1],
            )
            self._texts[key] = text
        passed = text.filter.feed(value)
        if event.ended and at.startswith(event.ended):
            passed += text.filter.end()
        elif value:
            event.seen.append((text, value))
        return passed

    def _finish(self, keys: list[str]) -> list[bytes]:
        """Forget texts; return events with what they held back."""
        left: list[bytes] = []
        for key in keys:
            text = self._texts.pop(key)
            self._templates = [template for template in self._templates if template.text is not text]
            self._numbered = [numbered for numbered in self._numbered if numbered.text is not text]
            rest = text.filter.end()
            if rest:
                text.holder[text.name] = rest
                left.append(_encode(text.skeleton))
        return left

    def _learn(self, data: bytes, document: dict[str, Any], text: _Text, value: str) -> None:
        self._learning -= 1
        encoded = _encode(value)
        for joint in (b":", b": "):
            needle = _encode(text.name) + joint + encoded
            if data.count(needle) != 1:
                continue
            at = data.index(needle) + len(needle) - len(encoded)
            before, after = data[: at + 1], data[at + len(encoded) - 1 :]
            # It is this very string only if the event without it is the document without it.
            blank = _decode(before + after)
            again = _decode(data)
            holder = _holder(again, text.skeleton, text.holder)
            if holder is None:
                return
            holder[text.name] = ""
            if blank == again and self._learning >= _LEARNING // 2:
                self._templates = [_Template(before, after, text), *self._templates[: _TEMPLATES - 1]]
            elif blank == again:
                pattern = _pattern(before + after, len(before) - 1)
                self._numbered = [_Numbered(pattern, text), *self._numbered[: _TEMPLATES - 1]]
            return


def _drop_tokens(node: dict[str, Any], event: _Event, *, touched: bool) -> None:
    for name in _LEAKING:
        if node.get(name) is not None:
            event.learnable = False
            if touched:
                node[name], event.changed = None, True


def _pattern(blank: bytes, place: int) -> re.Pattern[bytes]:
    """Return what events look like that differ from one in a string and in numbers; place: of the empty string in it.

    Numbers that say which text it is (`index` and the like) are fixed.
    """
    parts: list[bytes] = []
    for token in _TOKEN.finditer(blank):
        name, joint, number = token["name"], token["joint"], token["number"]
        if token.start() == place:
            parts.append(rb'"((?:[^"\\\x00-\x1f]|\\.)*)"')
        elif number and _decode_text(name) not in _IDS:
            parts.append(re.escape(name + joint) + rb"-?[0-9][0-9.eE+-]*")
        else:
            parts.append(re.escape(token[0]))
    return re.compile(b"".join(parts), re.DOTALL)


def _document(data: bytes) -> Any:
    try:
        return _decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as failure:
        raise _unreadable("is not JSON") from failure
    except RecursionError as failure:
        raise _unreadable("is nested too deeply") from failure


def _unreadable(why: str) -> Fault:
    return Fault(FaultKind.UPSTREAM_FAILED, f"The model server's reply could not be checked: it {why}.")


def _finished_choices(document: dict[str, Any]) -> tuple[str, ...]:
    """Return the paths of the choices that end with this event."""
    choices = document.get("choices")
    if document.get("done") is True:
        return ("",)
    if not isinstance(choices, list):
        return ()
    return tuple(
        f"choices[{_index(choice, place)}]"
        for place, choice in enumerate(choices)
        if isinstance(choice, dict) and choice.get("finish_reason") is not None
    )


def _index(item: Any, place: int) -> int:
    """Return which item of its list this is: events name it, since each holds only some of them."""
    index = item.get("index") if isinstance(item, dict) else None
    return index if type(index) is int else place


def _ended(document: dict[str, Any], ids: dict[str, Any]) -> dict[str, Any] | None:
    """Return which texts an event ends, by what names them; None for none: only of a response is it said as a whole."""
    if ids:
        return ids
    response = document.get("response")
    if not str(document["type"]).startswith("response."):
        return None
    return {"response_id": response["id"]} if isinstance(response, dict) and isinstance(response.get("id"), str) else {}


def _same(ids: dict[str, Any], ended: dict[str, Any]) -> bool:
    return all(ids[name] == value for name, value in ended.items() if name in ids)


def _skeleton(document: dict[str, Any], steps: tuple[Any, ...]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return an event that has only one text, and the object in it that holds the text.

    steps: names, and the indexes of list items. Below `delta` nothing else is repeated: clients add up what stands there.
    """
    top: dict[str, Any] = {}
    made: Any = top
    node: Any = document
    bare = False
    for number, step in enumerate(steps):
        last = number == len(steps) - 1
        if isinstance(node, list):
            items = [item for place, item in enumerate(node) if _index(item, place) == step]
            made.append({})
            made, node = made[-1], items[0]
            continue
        for name, value in node.items():
            if name in ("finish_reason", *_LEAKING):
                made[name] = None
            elif name == "index" or (not bare and name != step and not isinstance(value, (dict, list))):
                made[name] = value
        if last:
            made[step] = ""
            return top, made
        bare = bare or step == "delta"
        node = node[step]
        made[step] = [] if isinstance(node, list) else {}
        made = made[step]
    return top, made


def _holder(document: Any, skeleton: Any, holder: dict[str, Any]) -> dict[str, Any] | None:
    """Return the object of a document that stands where the holder does in the skeleton."""
    if skeleton is holder:
        return document if isinstance(document, dict) else None
    if isinstance(skeleton, list):
        if not skeleton or not isinstance(document, list):
            return None
        wanted = skeleton[0].get("index") if isinstance(skeleton[0], dict) else None
        for item in document:
            if isinstance(item, dict) and (wanted is None or item.get("index") == wanted):
                return _holder(item, skeleton[0], holder)
        return None
    if isinstance(skeleton, dict) and isinstance(document, dict):
        for name, value in skeleton.items():
            if isinstance(value, (dict, list)) and name in document:
                return _holder(document[name], value, holder)
    return None
