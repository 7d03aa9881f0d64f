"""The audit's Merkle trees against the vectors that Certificate Transparency published."""

import json
from pathlib import Path

import pytest

from keyferry.audit.tree import (
    EMPTY_ROOT,
    Frontier,
    check_consistency,
    check_inclusion,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
)

VECTORS = json.loads((Path(__file__).parent / "merkle_tree.json").read_text())
LEAVES = [leaf_hash(bytes.fromhex(text)) for text in VECTORS["leaves"]]
ROOTS = [bytes.fromhex(text) for text in VECTORS["roots"]]


def node_at(level: int, number: int) -> bytes:
    frontier = Frontier()
    for leaf in LEAVES[number << level : (number + 1) << level]:
        frontier.add(leaf)
    return frontier.root()


def proof_of(vector) -> list[bytes]:
    return [bytes.fromhex(text) for text in vector["proof"]]


def test_every_root_is_the_published_one():
    frontier = Frontier()
    roots = [frontier.root()]
    for leaf in LEAVES:
        frontier.add(leaf)
        roots.append(frontier.root())
    assert roots == ROOTS
    assert EMPTY_ROOT == ROOTS[0]


@pytest.mark.parametrize("vector", VECTORS["inclusion"])
def test_inclusion_proofs_are_the_published_ones(vector):
    leaf, size = vector["leaf"], vector["size"]
    assert inclusion_proof(node_at, leaf, size) == proof_of(vector)
    check_inclusion(LEAVES[leaf], leaf, size, proof_of(vector), ROOTS[size])


@pytest.mark.parametrize("vector", VECTORS["consistency"])
def test_consistency_proofs_are_the_published_ones(vector):
    old, new = vector["old"], vector["new"]
    assert consistency_proof(node_at, old, new) == proof_of(vector)
    check_consistency(old, ROOTS[old], new, ROOTS[new], proof_of(vector))
