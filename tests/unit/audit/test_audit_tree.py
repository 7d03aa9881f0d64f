"""Merkle trees: the laws of RFC 6962, and the same results as an independent library."""

from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymerkle import InmemoryTree

from keyferry.audit.tree import (
    Frontier,
    check_consistency,
    check_inclusion,
    consistency_proof,
    frontier_at,
    inclusion_proof,
    leaf_hash,
    root_at,
)
from qkd_core.errors import NotProved

MOST = 70


def leaves(n: int) -> list[bytes]:
    return [leaf_hash(f"record {i}".encode()) for i in range(n)]


def nodes(of: list[bytes]):
    """Every full node, as a frontier yields them."""
    found = {}
    frontier = Frontier()
    for leaf in of:
        for level, number, node in frontier.append(leaf):
            found[level, number] = node
    return lambda level, number: found[level, number]


def library_tree(n: int) -> InmemoryTree:
    tree = InmemoryTree(algorithm="sha256")
    for i in range(n):
        tree.append_entry(f"record {i}".encode())
    return tree


NODE_AT = nodes(leaves(MOST))
ROOTS = [root_at(NODE_AT, n) for n in range(MOST + 1)]
LIBRARY = library_tree(MOST)


@pytest.mark.parametrize("n", range(1, MOST + 1))
def test_roots_are_those_of_the_library(n):
    assert ROOTS[n] == LIBRARY.get_root(n)


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_inclusion_proofs_hold_and_are_those_of_the_library(data):
    size = data.draw(st.integers(1, MOST))
    index = data.draw(st.integers(0, size - 1))
    proof = inclusion_proof(NODE_AT, index, size)

    check_inclusion(leaves(MOST)[index], index, size, proof, ROOTS[size])

    theirs = LIBRARY.prove_inclusion(index + 1, size).path  # they count from 1, the leaf is in it
    assert leaves(MOST)[index] in theirs
    assert sorted(proof) == sorted(part for part in theirs if part != leaves(MOST)[index])


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_consistency_proofs_hold_between_any_two_sizes(data):
    new = data.draw(st.integers(1, MOST))
    old = data.draw(st.integers(0, new))
    check_consistency(old, ROOTS[old], new, ROOTS[new], consistency_proof(NODE_AT, old, new))


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_a_proof_that_was_touched_proves_nothing(data):
    new = data.draw(st.integers(2, MOST))
    old = data.draw(st.integers(1, new - 1))
    index = data.draw(st.integers(0, new - 1))
    leaf = leaves(MOST)[index]
    grown, inside = consistency_proof(NODE_AT, old, new), inclusion_proof(NODE_AT, index, new)
    for proof, check in (
        (grown, lambda touched: check_consistency(old, ROOTS[old], new, ROOTS[new], touched)),
        (inside, lambda touched: check_inclusion(leaf, index, new, touched, ROOTS[new])),
    ):
        for touched in damaged(data, proof):
            with pytest.raises(NotProved):
                check(touched)


def damaged(data, proof):
    """The proof with one part changed, left out, or added."""
    at = data.draw(st.integers(0, len(proof) - 1))
    yield proof[:at] + proof[at + 1 :]
    yield [*proof[:at], sha256(proof[at]).digest(), *proof[at + 1 :]]
    yield [*proof, proof[at]]


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_a_rewritten_history_is_not_consistent(data):
    new = data.draw(st.integers(2, MOST))
    old = data.draw(st.integers(1, new - 1))
    changed = leaves(new)
    changed[data.draw(st.integers(0, old - 1))] = leaf_hash(b"written anew")
    node_at = nodes(changed)
    proof = consistency_proof(node_at, old, new)
    with pytest.raises(NotProved):
        check_consistency(old, ROOTS[old], new, root_at(node_at, new), proof)


@pytest.mark.parametrize(
    ("old", "new", "proof"), [(5, 3, []), (-1, 3, []), (3, 3, [b"x" * 32]), (0, 3, [b"x" * 32])]
)
def test_a_shorter_tree_and_a_needless_proof_are_refused(old, new, proof):
    with pytest.raises(NotProved):
        check_consistency(old, ROOTS[max(old, 0)], new, ROOTS[new], proof)


def test_other_roots_of_one_size_are_refused():
    with pytest.raises(NotProved, match="not the same"):
        check_consistency(3, ROOTS[3], 3, ROOTS[4], [])


def test_a_leaf_outside_the_tree_is_refused():
    with pytest.raises(NotProved, match="in no tree"):
        check_inclusion(leaves(4)[3], 3, 3, [], ROOTS[3])


@given(st.integers(0, MOST))
def test_a_frontier_taken_up_again_goes_on_as_if_never_left(size):
    frontier = frontier_at(NODE_AT, size)
    for leaf in leaves(MOST)[size:]:
        frontier.add(leaf)
    assert frontier.root() == ROOTS[MOST]
