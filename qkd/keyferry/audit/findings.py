"""What a verification finds, and on what each range of records rests."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class Finding:
    """One record that is not as it was written, or is not there; ``seq`` 0 is the chain itself."""

    chain: str
    seq: int
    what: str

    def __str__(self) -> str:
        return f"{self.chain} record {self.seq}: {self.what}"


class Rest(StrEnum):
    """What stands for a record, from the strongest on."""

    COUNTERSIGNED = "countersigned"
    SIGNED = "signed"
    CHAINED = "chained only"


@dataclass(frozen=True, slots=True)
class Range:
    """Records ``first`` to ``last`` of a chain, and what they rest on.

    macs  whether each of them was checked against the auditor's key
    """

    chain: str
    first: int
    last: int
    rest: Rest
    macs: bool

    def __str__(self) -> str:
        macs = ", MACs checked" if self.macs else ""
        return f"{self.chain} {self.first}-{self.last}: {self.rest}{macs}"


@dataclass(frozen=True, slots=True)
class Covered:
    """How far the good checkpoints reach, in records of the whole log.

    signer, countersigner  whose key it was, with a short name of the key; empty for none
    """

    signed: int = 0
    countersigned: int = 0
    signer: str = ""
    countersigner: str = ""


def ranges_of(
    spans: list[tuple[int, str, int, int]], chains: dict[str, int], covered: Covered, macs: set[str]
) -> Iterator[Range]:
    """The records of each chain, cut where they rest on something else.

    spans   (number in the log, chain, first, last)
    chains  number of the last record of each chain
    """
    parts: dict[str, list[tuple[int, int, Rest]]] = {chain: [] for chain in chains}
    for start, chain, first, last in spans:
        for n_log, rest in (
            (covered.countersigned, Rest.COUNTERSIGNED),
            (covered.signed, Rest.SIGNED),
        ):
            end = min(last, first + n_log - start - 1)
            if end >= first:
                parts.setdefault(chain, []).append((first, end, rest))
                start, first = start + end - first + 1, end + 1
    for chain, newest in chains.items():
        done = max((end for _, end, _ in parts[chain]), default=0)
        if newest > done:
            parts[chain].append((done + 1, newest, Rest.CHAINED))
        for first, last, rest in _joined(parts[chain]):
            yield Range(chain, first, last, rest, chain in macs)


def _joined(parts: list[tuple[int, int, Rest]]) -> list[tuple[int, int, Rest]]:
    joined: list[tuple[int, int, Rest]] = []
    for first, last, rest in sorted(parts):
        if joined and joined[-1][2] is rest and joined[-1][1] + 1 == first:
            joined[-1] = (joined[-1][0], last, rest)
        else:
            joined.append((first, last, rest))
    return joined
