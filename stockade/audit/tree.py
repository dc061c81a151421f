"""The Merkle tree of RFC 9162 section 2 (and RFC 6962): hashes, proofs and their verification, over stored nodes.

A stored node is the hash of a complete subtree: `node(level, index)` stands for the 2**level records from `index * 2**level` on. Every
algorithm here climbs from the leaves, so that a log of any size takes a few steps per level and no recursion.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from hashlib import sha256
from typing import Final, TypeAlias

HASH: Final = 32
"""Bytes of a hash (SHA-256)."""
EMPTY: Final = sha256(b"").digest()
"""The root of the tree of no records (section 2.1.1)."""
MAX_PATH: Final = 64
"""Hashes in a proof of a tree that has fewer than 2**63 records, and one more."""

Node: TypeAlias = Callable[[int, int], bytes]


def leaf_hash(line: bytes) -> bytes:
    """Return the hash of a record (section 2.1.1)."""
    return sha256(b"\x00" + line).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of two subtrees side by side (section 2.1.1)."""
    return sha256(b"\x01" + left + right).digest()


def position(level: int, index: int) -> int:
    """Return which hash a node is when each record's leaf is written down, and behind it every node that it completes.

    Before leaf i stand i leaves and, of the trees they made, all inner nodes: 2i less one for each tree that is still open.
    """
    leaf = ((index + 1) << level) - 1
    return 2 * leaf - leaf.bit_count() + level


def hashes_of(size: int) -> int:
    """Return how many hashes are written down for so many records."""
    return 2 * size - size.bit_count()


def peaks(start: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield level and index of the complete subtrees that make up the records from start to before end, left to right.

    start: 0, or where one of the largest subtrees of the tree of `end` records begins.
    """
    while start < end:
        level = (end - start).bit_length() - 1
        yield level, start >> level
        start += 1 << level


def fold(hashes: Sequence[bytes]) -> bytes:
    """Return the root over subtrees that stand side by side, each larger than the one to its right."""
    if not hashes:
        return EMPTY
    right = hashes[-1]
    for left in reversed(hashes[:-1]):
        right = node_hash(left, right)
    return right


def root(size: int, node: Node) -> bytes:
    """Return the root of the tree of the first `size` records (section 2.1.1)."""
    return fold([node(level, index) for level, index in peaks(0, size)])


def inclusion(index: int, size: int, node: Node) -> list[bytes]:
    """Return the path that proves a record to be in a tree (section 2.1.3.1). ValueError for a record that is not in it."""
    if not 0 <= index < size:
        raise ValueError(f"record {index} is not in a tree of {size}")
    return _climb(0, index, size, node)


def consistency(first: int, second: int, node: Node) -> list[bytes]:
    """Return what proves a tree to continue a smaller one (section 2.1.4.1). ValueError unless first <= second.

    Empty where there is nothing to prove: from an empty tree, and from a tree to itself.
    """
    if not 0 <= first <= second:
        raise ValueError(f"a tree of {second} does not continue one of {first}")
    if first in (0, second):
        return []
    # The last complete subtree of the smaller tree, taken as large as it gets: both trees have it.
    level, index = 0, first - 1
    while index & 1:
        level, index = level + 1, index >> 1
    start = [] if index == 0 else [node(level, index)]
    return start + _climb(level, index, second, node)


def _climb(level: int, index: int, size: int, node: Node) -> list[bytes]:
    """Return what stands beside each node on the way from a complete subtree up to the root."""
    path, last = [], (size - 1) >> level
    while last:
        if index & 1:
            path.append(node(level, index - 1))
        elif index < last:
            beside = (index + 1) << level
            whole = beside + (1 << level) <= size
            path.append(node(level, index + 1) if whole else fold([node(*at) for at in peaks(beside, size)]))
        level, index, last = level + 1, index >> 1, last >> 1
    return path


def root_of_path(leaf: bytes, index: int, size: int, path: Sequence[bytes]) -> bytes | None:
    """Return the root that a path leads to from a record (section 2.1.3.2); None when a path of that length cannot be right."""
    if not 0 <= index < size:
        return None
    at, last, found = index, size - 1, leaf
    for beside in path:
        if last == 0:
            return None
        if at & 1 or at == last:
            found = node_hash(beside, found)
            while at and not at & 1:
                at, last = at >> 1, last >> 1
        else:
            found = node_hash(found, beside)
        at, last = at >> 1, last >> 1
    return found if last == 0 else None


def includes(leaf: bytes, index: int, size: int, path: Sequence[bytes], root: bytes) -> bool:
    """Say whether a path proves that a record stands at an index of the tree with a root (section 2.1.3.2)."""
    return root_of_path(leaf, index, size, path) == root


def continues(first: int, second: int, first_root: bytes, second_root: bytes, path: Sequence[bytes]) -> bool:
    """Say whether a proof shows that the second tree begins with the whole of the first one (section 2.1.4.2).

    The empty tree is continued by every tree, and each tree by itself; both need, and take, no proof.
    """
    if not 0 <= first <= second:
        return False
    if first == second:
        return not path and first_root == second_root
    if first == 0:
        return not path and first_root == EMPTY
    hashes = list(path)
    if first & (first - 1) == 0:
        hashes.insert(0, first_root)
    if not hashes:
        return False
    at, last = first - 1, second - 1
    while at & 1:
        at, last = at >> 1, last >> 1
    old = new = hashes[0]
    for beside in hashes[1:]:
        if last == 0:
            return False
        if at & 1 or at == last:
            old, new = node_hash(beside, old), node_hash(beside, new)
            while at and not at & 1:
                at, last = at >> 1, last >> 1
        else:
            new = node_hash(new, beside)
        at, last = at >> 1, last >> 1
    return last == 0 and old == first_root and new == second_root


class Growing:
    """A tree that records are added to: the subtrees it is made of now, and nothing else.

    size, hashes: where it begins, and the hashes of the subtrees that make up that many records, the largest first.
    """

    def __init__(self, size: int = 0, hashes: Iterable[bytes] = ()) -> None:
        self.size, self.hashes = size, list(hashes)
        if len(self.hashes) != size.bit_count():
            raise ValueError(f"{len(self.hashes)} subtrees do not make up {size} records")

    def copy(self) -> Growing:
        return Growing(self.size, self.hashes)

    def append(self, lines: Iterable[bytes]) -> list[bytes]:
        """Add records and return the hashes to write down for them, in the order of `position`."""
        new = sha256
        return self.grow([new(b"\x00" + line).digest() for line in lines])

    def grow(self, leaves: Iterable[bytes]) -> list[bytes]:
        """Add records of which the leaf hashes are known, and return these with each node that is completed by them."""
        made: list[bytes] = []
        add, open_trees, size, new = made.append, self.hashes, self.size, sha256
        for found in leaves:
            add(found)
            at = size
            while at & 1:
                found = new(b"\x01" + open_trees.pop() + found).digest()  # noqa: PLW2901 - it climbs
                add(found)
                at >>= 1
            open_trees.append(found)
            size += 1
        self.size = size
        return made

    def root(self) -> bytes:
        """Return the root of what there is now."""
        return fold(self.hashes)
