"""One text that arrives in pieces, with the URIs taken out that the account's list does not allow.

However a text is cut, what comes out is the same when put together. Held back is only what may be the beginning of a URI whose host is not known
yet: most pieces pass at once. A URI that is refused goes from its beginning to its end, however long, and leaves a fixed text in its place; one
that is allowed passes as soon as its host is known, and what follows is looked at anew, so that a URI inside its query is found too.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from stockade.gateway.output.candidates import (
    BEGINNING,
    ESCAPING,
    HOLD,
    HOST_ENDS,
    LOOK_BACK,
    MAX_AUTHORITY,
    UNFINISHED,
    Candidate,
    Judge,
    Refused,
    Unescaped,
    interesting,
)

IN_TEXT: Final = "[link removed: host not allowed]"
IN_LINK: Final = "about:blank#link-removed"
"""Where Markdown or HTML has a destination, or a string begins: a URI that goes nowhere, so that what surrounds it stays valid."""
IN_PATH: Final = "#link-removed"

_SLICE: Final = 4096
"""Characters looked at in one go, so that work and memory do not grow faster than the text."""

# Brackets end a URI only when they were opened before it.
_URI_ENDS = re.compile(
    r"""[\s\x00-\x20<>"`|'()\[\]{}\u201d\u2019\u3001\u3002\uff0c\uff1b\uff1a\uff01\uff1f\uff09\u300d\u300f\u3011\u300b]"""
)
_TRAILING = "*_~.,;:!?'\\"
_MAX_TRAILING = 64
_OPENING, _CLOSING = "([{", ")]}"

Told = Callable[[str], None]


class TextFilter:
    """Filters one text. told: is called with the host of each URI that is refused, "" for one that cannot be read."""

    __slots__ = (
        "_before",
        "_depth",
        "_dropping",
        "_held",
        "_judge",
        "_quote",
        "_tail",
        "_told",
        "_trailing",
        "_waiting",
    )

    def __init__(self, judge: Judge, told: Told) -> None:
        self._judge, self._told = judge, told
        self._tail = ""
        """What was looked at last, as it stood: it says what the next beginning is."""
        self._before = ""
        """The last character of it with escapes undone, where it was one."""
        self._held = ""
        self._waiting = False
        """What is held is the beginning of a URI, and its host has not ended."""
        self._dropping = False
        self._trailing = ""
        """Punctuation at the end of what was dropped so far: the sentence's, when nothing more of the URI comes."""
        self._depth = [0, 0, 0]
        self._quote = ""

    @property
    def waits(self) -> bool:
        """Whether there is more to come at the end than was given out."""
        return bool(self._held or self._trailing)

    def feed(self, text: str) -> str:
        """Take the next piece and return what of the text is decided now."""
        if self._waiting:
            if len(self._held) + len(text) <= MAX_AUTHORITY and HOST_ENDS.search(text) is None:
                self._held += text  # the host goes on
                return ""
        elif not self._held and not self._dropping and not interesting(text):
            if text:
                self._tail = (self._tail + text)[-LOOK_BACK:]
                self._before = ""
            return text
        if len(text) <= _SLICE:
            return self._work(text, final=False)
        return "".join(self._work(text[at : at + _SLICE], final=False) for at in range(0, len(text), _SLICE))

    def end(self) -> str:
        """Return the rest: nothing more will come. The filter can be used for another text then."""
        rest = self._work("", final=True)
        self._tail = self._before = self._trailing = ""
        self._dropping = False
        return rest

    def whole(self, text: str) -> str:
        """Return a text that is all there; the very same object when nothing is refused."""
        if not interesting(text):
            return text
        done = self.feed(text) + self.end()
        return text if done == text else done

    def _work(self, new: str, *, final: bool) -> str:
        out: list[str] = []
        rest: str | None = self._held + new
        self._held, self._waiting = "", False
        while rest is not None:
            if self._dropping:
                rest = self._drop(rest, out, final=final)
            if rest is not None:
                rest = self._keep(rest, out, final=final)
        return "".join(out)

    def _keep(self, new: str, out: list[str], *, final: bool) -> str | None:
        """Give out what is no refused URI; return what follows the beginning of one that is, None when all is done."""
        text, base = self._tail + new, len(self._tail)
        escapes = self._before or ESCAPING.search(new)
        undone = Unescaped(new, self._before or self._tail[-1:], final=final) if escapes else None
        raw_from, undone_from = base, len(undone.before) if undone is not None else 0
        raw = BEGINNING.search(text, raw_from)
        other = BEGINNING.search(undone.text, undone_from) if undone is not None else None
        given = base
        while raw is not None or other is not None:
            place = base + undone.raw(other.start()) if undone is not None and other is not None else -1
            if raw is not None and (other is None or raw.start() <= place):
                candidate = _candidate(raw, raw.start(), raw.end(), escaped=False)
            else:
                assert undone is not None and other is not None
                candidate = _candidate(other, place, base + undone.raw(other.end()), escaped=True)
            seen = self._judge.look(text, candidate, final=final)
            if isinstance(seen, Refused):
                out.append(text[given : candidate.start])
                self._refuse(candidate, seen, out)
                to = max(candidate.end, seen.to)
                self._remember(text, to, base, undone)
                return text[to:]
            if seen == HOLD:
                self._hold(text, given, candidate.start, base, undone, out)
                self._waiting = candidate.kind in ("scheme", "www", "slashes")
                return None
            if candidate.escaped:
                assert undone is not None and other is not None
                other = BEGINNING.search(undone.text, max(other.end(), other.start() + 1))
            else:
                assert raw is not None
                raw = BEGINNING.search(text, raw.end())
        self._hold(text, given, len(text) if final else _unfinished(text, base, undone), base, undone, out)
        return None

    def _hold(self, text: str, given: int, at: int, base: int, undone: Unescaped | None, out: list[str]) -> None:
        out.append(text[given:at])
        self._held = text[at:]
        self._remember(text, at, base, undone)

    def _remember(self, text: str, at: int, base: int, undone: Unescaped | None) -> None:
        if undone is not None:
            last = undone.last(at - base)
            self._before = last if last != text[at - 1 : at] else ""
        elif at > base:
            self._before = ""
        self._tail = text[max(0, at - LOOK_BACK) : at]

    def _refuse(self, candidate: Candidate, refused: Refused, out: list[str]) -> None:
        if candidate.kind == "path":
            out.append(IN_PATH if refused.link else IN_TEXT)
        else:
            out.append(IN_LINK if refused.link else IN_TEXT)
        self._told(refused.host)
        self._dropping, self._quote, self._depth = True, refused.quote, [0, 0, 0]

    def _drop(self, text: str, out: list[str], *, final: bool) -> str | None:
        """Take away the rest of a refused URI; return what follows it, None when it may go on."""
        stop = len(text)
        for match in _URI_ENDS.finditer(text):
            sign = match[0]
            if sign in _OPENING:
                self._depth[_OPENING.index(sign)] += 1
                continue
            if sign in _CLOSING:
                kind = _CLOSING.index(sign)
                if self._depth[kind]:
                    self._depth[kind] -= 1
                    continue
            elif sign == "'" and self._quote != "'":
                continue
            stop = match.start()
            break
        ended = stop < len(text) or final
        gone = self._trailing + text[:stop]
        trailing = gone[len(gone.rstrip(_TRAILING)) :]
        self._trailing = trailing if len(trailing) <= _MAX_TRAILING else ""
        self._tail = (self._tail + text[:stop])[-LOOK_BACK:]
        if stop:
            self._before = ""
        if not ended:
            return None
        out.append(self._trailing)
        self._trailing = ""
        self._dropping = False
        return text[stop:] if stop < len(text) else None


def _candidate(match: re.Match[str], start: int, end: int, *, escaped: bool) -> Candidate:
    position = match.start()
    before = match.string[position - 1 : position] if position else ""
    return Candidate(match.lastgroup or "", match[0], start, end, before, escaped)


def _unfinished(text: str, base: int, undone: Unescaped | None) -> int:
    """Return where the end begins that the next piece may turn into a beginning; the text's end when there is none."""
    at = len(text)
    match = UNFINISHED.search(text, base)
    if match is not None:
        at = match.start()
    if undone is not None:
        if undone.open_at >= 0:
            at = min(at, base + undone.open_at)
        match = UNFINISHED.search(undone.closed, len(undone.before))
        if match is not None:
            at = min(at, base + undone.raw(match.start()))
    return at
