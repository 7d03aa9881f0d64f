"""`verify`: does the audit of a store, or a bundle, still say what was written into it?

Every chain is recomputed from its first record; chains of one role are followed from each to the
one before; the tree is recomputed and held against each checkpoint and its signatures. What this
cannot show stands in `not_covered`.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from keyferry.audit.against_tables import missing_records
from keyferry.audit.chain import Record
from keyferry.audit.coverage import Coverage, Trust
from keyferry.audit.findings import Covered, Finding, Range, Rest, ranges_of
from keyferry.audit.offline import has_tables_of_keys, kme_of, opened, records
from keyferry.audit.walk import Links, Seen, Walk

AS_NAMED = Trust()


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """``chains``: records found in each. ``open_end``: those of them that no later chain names.

    bare  chains without MACs
    """

    kme_id: str
    chains: dict[str, int]
    open_end: dict[str, int]
    findings: tuple[Finding, ...]
    covered: Covered = field(default_factory=Covered)
    ranges: tuple[Range, ...] = ()
    bare: frozenset[str] = frozenset()
    with_auditor: bool = False
    with_tables: bool = True
    with_peer: bool = False
    trust: Trust = AS_NAMED

    @property
    def ok(self) -> bool:
        return not self.findings

    @property
    def n_records(self) -> int:
        return sum(self.chains.values())

    def n_resting_on(self, rest: Rest) -> int:
        return sum(each.last - each.first + 1 for each in self.ranges if each.rest is rest)

    def rests(self) -> str:
        """What the records rest on, in one line."""
        counts = ", ".join(f"{self.n_resting_on(rest)} {rest}" for rest in Rest)
        checked = sum(each.last - each.first + 1 for each in self.ranges if each.macs)
        return f"{counts}; {checked} MACs checked" if self.with_auditor else counts

    def summary(self) -> Iterator[str]:
        """The same in a line each, and who signed."""
        covered = self.covered
        for rest, who in (
            (Rest.COUNTERSIGNED, f" by {covered.countersigner}" if covered.countersigner else ""),
            (Rest.SIGNED, f" by {covered.signer}" if covered.signer else ""),
            (Rest.CHAINED, ""),
        ):
            if n_records := self.n_resting_on(rest):
                yield f"{n_records} records {rest}{who}"
        if self.with_auditor:
            n = sum(each.last - each.first + 1 for each in self.ranges if each.macs)
            yield f"{n} records with MACs checked"

    def compared(self, more: list[Finding]) -> "Report":
        """The same, and what a comparison with the other site's store found."""
        return replace(self, findings=(*self.findings, *more), with_peer=True)

    def as_json(self) -> dict[str, Any]:
        return {
            "kme_id": self.kme_id,
            "records": self.n_records,
            "rest": {rest.value: self.n_resting_on(rest) for rest in Rest},
            "signer": self.covered.signer,
            "countersigner": self.covered.countersigner,
            "macs_checked": self.with_auditor,
            "chains_without_macs": sorted(self.bare) if self.with_auditor else None,
            "ranges": [
                {
                    "chain": each.chain,
                    "first": each.first,
                    "last": each.last,
                    "rest": each.rest.value,
                    "macs": each.macs,
                }
                for each in self.ranges
            ],
            "findings": [str(finding) for finding in self.findings],
            "not_covered": list(self.not_covered()),
        }

    def lines(self) -> Iterator[str]:
        """For a terminal: what rests on what, findings, and what was not covered."""
        yield from self.summary()
        yield from map(str, self.ranges)
        yield from map(str, self.findings)
        yield "no finding" if self.ok else f"{len(self.findings)} findings"
        yield from self.not_covered()

    def not_covered(self) -> Iterator[str]:
        """What this verification could not have seen."""
        if self.n_resting_on(Rest.CHAINED):
            yield (
                "Not covered: records that are chained only may have been cut from the end of a"
                " chain" + ("." if self._all_macs else ", or recomputed from some record on.")
            )
        if not self.with_auditor:
            yield "MACs were not checked: that needs the auditor's key."
        elif self.bare:
            yield f"{len(self.bare)} chains carry no MACs: no auditor was named then."
        if self.trust.signing_key is None and not self.with_peer:
            yield (
                "The signing key was taken from the store itself: who can sign as the site can"
                " write the audit anew where the other site has not countersigned."
            )
        if self.covered.countersigned and self.trust.peer_key is None and not self.with_peer:
            yield (
                "The other site's key was taken from the store itself: compare with the other"
                " site's store, or name its key."
            )
        if not self.with_tables:
            yield "A bundle holds no tables of keys to compare with."

    @property
    def _all_macs(self) -> bool:
        return all(each.macs for each in self.ranges if each.rest is Rest.CHAINED)


def verify(
    path: Path, *, auditor: X25519PrivateKey | None = None, trust: Trust = AS_NAMED
) -> Report:
    """Recompute the audit of the store or bundle at ``path``, offline and read-only.

    Raises ConfigError when it cannot be read.
    """
    findings: list[Finding] = []
    chains: dict[str, int] = {}
    last: dict[str, int] = {}
    first: dict[str, Record] = {}
    seen = Seen()
    with opened(path) as connection:
        for chain, group in groupby(records(connection), key=lambda record: record.chain):
            walk = Walk(chain, seen, auditor)
            findings += walk.through(group)
            chains[chain], last[chain] = walk.n_records, walk.last_seq
            if walk.first is not None:
                first[chain] = walk.first
        links = Links(connection, first)
        findings += links.findings()
        coverage = Coverage(connection, seen, last, trust)
        coverage.check()
        findings += coverage.findings
        with_tables = has_tables_of_keys(connection)
        if with_tables:
            missing = missing_records(connection, seen.deeds)
            findings += [Finding("tables", 0, what) for what in missing]
        spans = connection.execute("SELECT start, chain, first, last FROM spans ORDER BY start")
        ranges = ranges_of(spans.fetchall(), last, coverage.covered, seen.macs)
        return Report(
            kme_id=kme_of(connection),
            chains=chains,
            open_end={chain: n - links.named.get(chain, 0) for chain, n in chains.items()},
            findings=tuple(findings),
            covered=coverage.covered,
            ranges=tuple(ranges),
            bare=frozenset(seen.bare),
            with_auditor=auditor is not None,
            with_tables=with_tables,
            trust=trust,
        )
