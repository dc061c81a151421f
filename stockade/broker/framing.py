"""How values are joined before they are bound into a key or a tag: each with its length, so that no two lists of values look the same."""

from __future__ import annotations


def joined(*values: str) -> bytes:
    """Return the values' bytes (UTF-8), each behind its length in four bytes."""
    parts = (value.encode() for value in values)
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


def wipe(value: bytearray) -> None:
    """Overwrite a key that is no longer needed."""
    value[:] = bytes(len(value))
