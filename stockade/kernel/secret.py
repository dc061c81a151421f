"""A value that does not leak by accident.

`Secret` has no usable text form, cannot be compared with `==`, hashed or pickled. Reading it takes the word `reveal`, which is what a
reviewer searches for.
"""

from __future__ import annotations

import hmac
from typing import NoReturn, final


@final
class Secret:
    """Bytes that do not print, log, compare or serialise."""

    __slots__ = ("_value",)

    def __init__(self, value: bytes | str) -> None:
        self._value = value.encode() if isinstance(value, str) else bytes(value)

    def reveal(self) -> bytes:
        """Return the bytes. Call it where they are used, and keep the result in no attribute."""
        return self._value

    def reveal_text(self) -> str:
        """Return the value as UTF-8 text; raises UnicodeDecodeError for binary secrets."""
        return self._value.decode()

    def matches(self, candidate: bytes | str) -> bool:
        """Compare in constant time with something a caller presented."""
        return hmac.compare_digest(self._value, candidate.encode() if isinstance(candidate, str) else candidate)

    def __repr__(self) -> str:
        return "Secret(***)"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return repr(self)

    def __eq__(self, other: object) -> NoReturn:
        raise TypeError("a Secret is compared with matches()")

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret is not serialised")

    def __len__(self) -> int:
        return len(self._value)
