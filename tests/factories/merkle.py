"""RFC 9162 section 2.1 as it is written there, recursively, over whole lists of records: a second opinion that shares no code with ours."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

# What certificate-transparency's own tests hash: eight leaves, and the root of the first n of them.
CT_LEAVES = [
    bytes.fromhex(text)
    for text in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
]
CT_ROOTS = [
    bytes.fromhex(text)
    for text in (
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    )
]


def h(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def split(n: int) -> int:
    """Return the largest power of two smaller than n."""
    k = 1
    while 2 * k < n:
        k *= 2
    return k


def mth(d: Sequence[bytes]) -> bytes:
    """2.1.1."""
    if len(d) == 0:
        return h(b"")
    if len(d) == 1:
        return h(b"\x00" + d[0])
    k = split(len(d))
    return h(b"\x01" + mth(d[:k]) + mth(d[k:]))


def path(m: int, d: Sequence[bytes]) -> list[bytes]:
    """2.1.3.1."""
    if len(d) == 1:
        return []
    k = split(len(d))
    if m < k:
        return [*path(m, d[:k]), mth(d[k:])]
    return [*path(m - k, d[k:]), mth(d[:k])]


def proof(m: int, d: Sequence[bytes]) -> list[bytes]:
    """2.1.4.1, for 0 < m < len(d)."""
    return subproof(m, d, True)


def subproof(m: int, d: Sequence[bytes], b: bool) -> list[bytes]:
    if m == len(d):
        return [] if b else [mth(d)]
    k = split(len(d))
    if m <= k:
        return [*subproof(m, d[:k], b), mth(d[k:])]
    return [*subproof(m - k, d[k:], False), mth(d[:k])]


def root_by_path(m: int, n: int, leaf: bytes, given: Sequence[bytes]) -> bytes:
    """Undo 2.1.3.1: return the root that a path leads to. IndexError, AssertionError when it is too short or too long."""
    if n == 1:
        assert not given
        return leaf
    k, last = split(n), given[-1]
    if m < k:
        return h(b"\x01" + root_by_path(m, k, leaf, given[:-1]) + last)
    return h(b"\x01" + last + root_by_path(m - k, n - k, leaf, given[:-1]))


def roots_by_proof(m: int, n: int, old_root: bytes, given: Sequence[bytes], b: bool = True) -> tuple[bytes, bytes]:
    """Undo 2.1.4.1: return the old and the new root that a proof leads to. IndexError, AssertionError as above."""
    if m == n:
        if b:
            assert not given
            return old_root, old_root
        (only,) = given
        return only, only
    k, last = split(n), given[-1]
    if m <= k:
        old, new = roots_by_proof(m, k, old_root, given[:-1], b)
        return old, h(b"\x01" + new + last)
    old, new = roots_by_proof(m - k, n - k, old_root, given[:-1], False)
    return h(b"\x01" + last + old), h(b"\x01" + last + new)


def is_included(m: int, n: int, line: bytes, given: Sequence[bytes], root: bytes) -> bool:
    try:
        return root_by_path(m, n, h(b"\x00" + line), given) == root
    except (IndexError, AssertionError, ValueError):
        return False


def is_consistent(m: int, n: int, old_root: bytes, new_root: bytes, given: Sequence[bytes]) -> bool:
    try:
        return roots_by_proof(m, n, old_root, given) == (old_root, new_root)
    except (IndexError, AssertionError, ValueError):
        return False
