"""Merkle trees over a growing list, as in RFC 6962: roots, and proofs that one can check alone.

A leaf hash is SHA-256(0x00 || entry), an inner node SHA-256(0x01 || left || right). Node
``(level, number)`` stands over the leaves ``number * 2**level`` up to the next multiple.
Source: RFC 6962, section 2.1; checking of proofs: RFC 9162, sections 2.1.3.2 and 2.1.4.2.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha256

from qkd_core.errors import NotProved

EMPTY_ROOT = sha256(b"").digest()

NodeAt = Callable[[int, int], bytes]
"""The hash of the full node at (level, number); all its leaves are in the list."""


def leaf_hash(entry: bytes) -> bytes:
    return sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    return sha256(b"\x01" + left + right).digest()


@dataclass(slots=True)
class Frontier:
    """The full subtrees that a list of ``size`` leaves is made of, the largest first.

    It is all that is needed to go on appending; a list of a million leaves has at most twenty.
    """

    size: int = 0
    hashes: list[bytes] = field(default_factory=list)

    def append(self, leaf: bytes) -> Iterator[tuple[int, int, bytes]]:
        """Add one leaf hash; yields each node that it completes as (level, number, hash)."""
        index, node, level = self.size, leaf, 0
        self.size += 1
        yield 0, index, leaf
        while index & 1:
            node = node_hash(self.hashes.pop(), node)
            index >>= 1
            level += 1
            yield level, index, node
        self.hashes.append(node)

    def add(self, leaf: bytes) -> None:
        for _ in self.append(leaf):
            pass

    def root(self) -> bytes:
        if not self.hashes:
            return EMPTY_ROOT
        root = self.hashes[-1]
        for larger in reversed(self.hashes[:-1]):
            root = node_hash(larger, root)
        return root


def frontier_at(node_at: NodeAt, size: int) -> Frontier:
    """The frontier of the first ``size`` leaves."""
    hashes, start = [], 0
    for level in reversed(range(size.bit_length())):
        if size >> level & 1:
            hashes.append(node_at(level, start >> level))
            start += 1 << level
    return Frontier(size, hashes)


def root_at(node_at: NodeAt, size: int) -> bytes:
    """The root over the first ``size`` leaves."""
    return frontier_at(node_at, size).root()


def inclusion_proof(node_at: NodeAt, index: int, size: int) -> list[bytes]:
    """PATH(index, D[size]) of RFC 6962: what leaf ``index`` needs to arrive at the root."""
    return _path(node_at, index, 0, size)


def consistency_proof(node_at: NodeAt, old: int, new: int) -> list[bytes]:
    """PROOF(old, D[new]) of RFC 6962; empty when there is nothing to show."""
    if not 0 < old < new:
        return []
    return _subproof(node_at, old, 0, new, whole=True)


def check_inclusion(
    leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes
) -> None:
    """Raises NotProved unless ``leaf`` is leaf ``index`` of the tree of ``size`` and ``root``."""
    if not 0 <= index < size:
        raise NotProved(f"leaf {index} is in no tree of {size}")
    fn, sn, node = index, size - 1, leaf
    for part in proof:
        if sn == 0:
            raise NotProved(f"the inclusion proof of leaf {index} is too long")
        if fn & 1 or fn == sn:
            node = node_hash(part, node)
            while not fn & 1 and fn:
                fn, sn = fn >> 1, sn >> 1
        else:
            node = node_hash(node, part)
        fn, sn = fn >> 1, sn >> 1
    if sn or node != root:
        raise NotProved(f"leaf {index} is not in the tree of {size}")


def check_consistency(
    old: int, old_root: bytes, new: int, new_root: bytes, proof: Sequence[bytes]
) -> None:
    """Raises NotProved unless the tree of ``new`` leaves begins with the tree of ``old``."""
    if not 0 <= old <= new:
        raise NotProved(f"a tree of {new} does not begin with one of {old}")
    if old in (0, new):
        if proof or (old == new and old_root != new_root):
            raise NotProved(f"the trees of {old} and of {new} are not the same")
        return
    _check_growth(old, old_root, new, new_root, list(proof))


def _check_growth(old: int, old_root: bytes, new: int, new_root: bytes, path: list[bytes]) -> None:
    """RFC 9162, 2.1.4.2, for 0 < old < new."""
    if old & (old - 1) == 0:
        path.insert(0, old_root)
    if not path:
        raise NotProved("the consistency proof is empty")
    fn, sn = old - 1, new - 1
    while fn & 1:
        fn, sn = fn >> 1, sn >> 1
    of_old = of_new = path[0]
    for part in path[1:]:
        if sn == 0:
            raise NotProved("the consistency proof is too long")
        if fn & 1 or fn == sn:
            of_old, of_new = node_hash(part, of_old), node_hash(part, of_new)
            while not fn & 1 and fn:
                fn, sn = fn >> 1, sn >> 1
        else:
            of_new = node_hash(of_new, part)
        fn, sn = fn >> 1, sn >> 1
    if sn or of_old != old_root or of_new != new_root:
        raise NotProved(f"the tree of {new} does not begin with the tree of {old}")


def _path(node_at: NodeAt, index: int, start: int, stop: int) -> list[bytes]:
    if stop - start == 1:
        return []
    middle = start + _left(stop - start)
    if index < middle:
        return [*_path(node_at, index, start, middle), _root_of(node_at, middle, stop)]
    return [*_path(node_at, index, middle, stop), _root_of(node_at, start, middle)]


def _subproof(node_at: NodeAt, old: int, start: int, stop: int, *, whole: bool) -> list[bytes]:
    """SUBPROOF, ``old`` counted from the list's beginning. ``whole``: this root is known."""
    if old == stop:
        return [] if whole else [_root_of(node_at, start, stop)]
    middle = start + _left(stop - start)
    if old <= middle:
        inner = _subproof(node_at, old, start, middle, whole=whole)
        return [*inner, _root_of(node_at, middle, stop)]
    inner = _subproof(node_at, old, middle, stop, whole=False)
    return [*inner, _root_of(node_at, start, middle)]


def _root_of(node_at: NodeAt, start: int, stop: int) -> bytes:
    """MTH(D[start:stop]) of a range that the tree's own splitting leads to."""
    n = stop - start
    if n & (n - 1) == 0:
        level = n.bit_length() - 1
        return node_at(level, start >> level)
    middle = start + _left(n)
    return node_hash(_root_of(node_at, start, middle), _root_of(node_at, middle, stop))


def _left(n: int) -> int:
    """The largest power of two below ``n``."""
    return 1 << ((n - 1).bit_length() - 1)
