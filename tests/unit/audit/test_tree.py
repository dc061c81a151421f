"""The tree: RFC 9162's algorithms, against the roots that Certificate Transparency publishes and against the RFC's own recursive text."""

from __future__ import annotations

import pytest

from stockade.audit import tree
from tests.factories import merkle


def nodes(lines: list[bytes]) -> tree.Node:
    stored = tree.Growing().append(lines)
    assert len(stored) == tree.hashes_of(len(lines))
    return lambda level, index: stored[tree.position(level, index)]


@pytest.mark.parametrize("size", range(9))
def test_roots_are_those_of_certificate_transparency(size: int) -> None:
    leaves = merkle.CT_LEAVES[:size]
    growing = tree.Growing()
    growing.append(leaves)
    assert growing.root() == tree.root(size, nodes(leaves)) == merkle.mth(leaves) == merkle.CT_ROOTS[size]


def test_stored_nodes_are_those_of_certificate_transparency() -> None:
    node = nodes(merkle.CT_LEAVES)
    assert node(1, 2).hex() == "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a"
    assert node(2, 1).hex() == "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4"
    assert node(3, 0) == merkle.CT_ROOTS[8]


def test_proofs_are_the_rfcs_for_every_small_tree() -> None:
    for size in range(1, 40):
        lines = [b"%d" % number for number in range(size)]
        node, root = nodes(lines), merkle.mth(lines)
        for index in range(size):
            path = tree.inclusion(index, size, node)
            assert path == merkle.path(index, lines)
            assert tree.includes(tree.leaf_hash(lines[index]), index, size, path, root)
        for first in range(1, size):
            proof = tree.consistency(first, size, node)
            assert proof == merkle.proof(first, lines)
            assert tree.continues(first, size, merkle.mth(lines[:first]), root, proof)


def test_every_tree_continues_itself_and_the_empty_one_without_proof() -> None:
    node, root = nodes([b"a", b"b"]), merkle.mth([b"a", b"b"])
    assert tree.consistency(0, 2, node) == tree.consistency(2, 2, node) == []
    assert tree.continues(0, 2, tree.EMPTY, root, [])
    assert tree.continues(2, 2, root, root, [])
    assert not tree.continues(0, 2, tree.EMPTY, root, [root])
    assert not tree.continues(0, 2, root, root, [])
    assert not tree.continues(2, 2, root, root, [root])
    assert not tree.continues(2, 2, root, tree.EMPTY, [])


@pytest.mark.parametrize(("index", "size"), [(-1, 2), (2, 2), (0, 0)])
def test_no_path_for_what_is_not_there(index: int, size: int) -> None:
    with pytest.raises(ValueError, match="is not in a tree"):
        tree.inclusion(index, size, nodes([b"a", b"b"]))
    assert tree.root_of_path(tree.EMPTY, index, size, []) is None


@pytest.mark.parametrize(("first", "second"), [(3, 2), (-1, 2)])
def test_no_proof_backwards(first: int, second: int) -> None:
    with pytest.raises(ValueError, match="does not continue"):
        tree.consistency(first, second, nodes([b"a", b"b"]))
    assert not tree.continues(first, second, tree.EMPTY, tree.EMPTY, [])


def test_a_path_of_another_length_proves_nothing() -> None:
    lines = [b"%d" % number for number in range(6)]
    node, root = nodes(lines), merkle.mth(lines)
    path, leaf = tree.inclusion(4, 6, node), tree.leaf_hash(lines[4])
    assert tree.includes(leaf, 4, 6, path, root)
    assert not tree.includes(leaf, 4, 6, path[:-1], root)
    assert not tree.includes(leaf, 4, 6, [*path, tree.EMPTY], root)
    proof = tree.consistency(3, 6, node)
    old = merkle.mth(lines[:3])
    assert not tree.continues(3, 6, old, root, proof[:-1])
    assert not tree.continues(3, 6, old, root, [*proof, tree.EMPTY])
    assert not tree.continues(3, 6, old, root, [])


def test_a_tree_grows_from_the_subtrees_it_is_made_of() -> None:
    lines = [b"%d" % number for number in range(21)]
    node = nodes(lines)
    grown = tree.Growing(13, [node(level, index) for level, index in tree.peaks(0, 13)])
    grown.append(lines[13:20])
    grown.grow([tree.leaf_hash(lines[20])])
    assert (grown.size, grown.root()) == (21, merkle.mth(lines))
    with pytest.raises(ValueError, match="do not make up"):
        tree.Growing(13, [tree.EMPTY])


def test_a_tree_of_billions_takes_no_recursion() -> None:
    """A tree of equal records has equal nodes on each level, so that one of any size can be made up."""
    levels = [tree.leaf_hash(b"same")]
    while len(levels) < 50:
        levels.append(tree.node_hash(levels[-1], levels[-1]))
    size, index = 2**49 - 12345, 2**48 + 987_654_321
    root = tree.root(size, lambda level, _: levels[level])
    path = tree.inclusion(index, size, lambda level, _: levels[level])
    assert tree.includes(levels[0], index, size, path, root)
    old = 2**40 + 77
    proof = tree.consistency(old, size, lambda level, _: levels[level])
    assert tree.continues(old, size, tree.root(old, lambda level, _: levels[level]), root, proof)
