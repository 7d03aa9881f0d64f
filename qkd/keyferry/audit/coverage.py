"""Do the checkpoints still fit the records, and who signed them?

The tree is computed again from the first record on, in the order that the checkpoints fixed. Where
a root differs, the records between that checkpoint and the one before are not those that were
signed, however well their hashes fit together.
"""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from keyferry.audit.findings import Covered, Finding
from keyferry.audit.log_tree import LogTree, Span
from keyferry.audit.notes import (
    Checkpoint,
    check_cosignature,
    check_note,
    key_name,
    public_key,
    read_note,
)
from keyferry.audit.signing import check_succession, followed_from, known_peer_keys
from keyferry.audit.tree import Frontier
from keyferry.audit.walk import Seen
from qkd_core.errors import NotProved
from qkd_core.types.audit import SigningKey
from qkd_core.types.ids import KmeId

CHECKPOINTS = "checkpoints"  # where a finding about one of them stands


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """Public keys that the verifier knows from elsewhere; None: as the store names them."""

    signing_key: str | None = None
    peer_key: str | None = None


@dataclass(frozen=True, slots=True)
class KeyInForce:
    """``since``: the number of its record in the log; ``trusted``: follows from a named key."""

    since: int
    key: SigningKey
    trusted: bool


@dataclass(slots=True)
class Coverage:
    """Checks the checkpoints of one store or bundle. ``last``: the last record of each chain."""

    connection: sqlite3.Connection
    seen: Seen
    last: dict[str, int]
    trust: Trust
    covered: Covered = field(default_factory=Covered)
    findings: list[Finding] = field(default_factory=list)

    def check(self) -> None:
        """Fill ``covered`` and ``findings``; stops at the first checkpoint that does not fit."""
        keys = self._own_keys()
        rows = self.connection.execute(
            "SELECT size, note, countersignature FROM checkpoints ORDER BY size"
        ).fetchall()
        spans = self._spans(rows[-1][0] if rows else 0)
        tree, frontier, at, before = LogTree(self.connection), Frontier(), 0, 0
        for size, note, countersignature in rows:
            try:
                while at < len(spans) and spans[at].stop <= size:
                    for leaf in tree.leaves_of(spans[at].chain, spans[at].first, spans[at].last):
                        frontier.add(leaf)
                    at += 1
                checkpoint = read_note(note)
            except (NotProved, ValueError) as error:
                self._find(CHECKPOINTS, size, str(error))
                return
            if (checkpoint.size, frontier.size, frontier.root()) != (size, size, checkpoint.root):
                self._find(CHECKPOINTS, size, _suspects(spans, before, size))
                return
            self._signatures(checkpoint, note, countersignature, keys)
            before = size

    def _find(self, chain: str, seq: int, what: str) -> None:
        self.findings.append(Finding(chain, seq, what))

    def _own_keys(self) -> list[KeyInForce]:
        """The keys that follow from each other."""
        tree = LogTree(self.connection)
        named = self.trust.signing_key
        good: list[KeyInForce] = []
        kme_id = KmeId(self.connection.execute("SELECT kme_id FROM site").fetchone()[0])
        for chain, seq, key in sorted(self.seen.keys, key=lambda entry: entry[2].number):
            index = tree.index_of(chain, seq)
            try:
                public_key(key.public_key)
                if key.public_key != named:  # that one is known, whoever endorses it
                    _check_follows(kme_id, good[-1].key if good else None, key)
            except NotProved as error:
                self._find(chain, seq, str(error))
                continue
            trusted = named in (None, key.public_key) or bool(good and good[-1].trusted)
            good.append(KeyInForce(-1 if index is None else index, key, trusted))
        if named is not None and named not in {entry.key.public_key for entry in good}:
            self._find("signing keys", 0, "the one that was named is not among them")
        return good

    def _spans(self, n_covered: int) -> list[Span]:
        """The order of the records, up to where it is whole."""
        good: list[Span] = []
        n_log, done = 0, dict.fromkeys(self.last, 0)
        for row in self.connection.execute(
            "SELECT start, chain, first, last FROM spans ORDER BY start"
        ):
            span = Span(*row)
            whole = span.start == n_log and span.first == done.get(span.chain, 0) + 1
            if not whole or span.last < span.first:
                self._find(span.chain, span.first, "its place in the order of records is wrong")
                break
            found = self.last.get(span.chain, 0)
            if found < span.last:
                lost = max(found + 1, span.first)
                rest = "" if lost == span.last else f", and all up to {span.last}"
                self._find(span.chain, lost, f"was removed{rest}: a checkpoint covers it")
            good.append(span)
            n_log, done[span.chain] = span.stop, span.last
        if n_log < n_covered:
            what = f"covers {n_covered} records, the order of {n_log} is known"
            self._find(CHECKPOINTS, n_covered, what)
        return good

    def _signatures(
        self,
        checkpoint: Checkpoint,
        note: str,
        countersignature: str | None,
        keys: Sequence[KeyInForce],
    ) -> None:
        """Note how far signatures reach; a finding for each that is wrong."""
        in_force = [entry for entry in keys if 0 <= entry.since < checkpoint.size]
        try:
            if not in_force:
                raise NotProved("no signing key is recorded before it")
            public = in_force[-1].key.public_key
            check_note(note, public_key(public))
            if not in_force[-1].trusted:
                return
            signer = f"{checkpoint.origin.split('/')[0]} key {key_name(public)}"
            self.covered = replace(self.covered, signed=checkpoint.size, signer=signer)
            if countersignature is not None:
                who = self._countersigner(checkpoint, countersignature)
                size = checkpoint.size
                self.covered = replace(self.covered, countersigned=size, countersigner=who)
        except NotProved as error:
            self._find(CHECKPOINTS, checkpoint.size, str(error))

    def _countersigner(self, checkpoint: Checkpoint, line: str) -> str:
        """Raises NotProved unless a known key of the other site signed."""
        name = line.split(" ")[1] if line.count(" ") > 1 else ""
        known = known_peer_keys(self.connection)
        if self.trust.peer_key is not None:
            known = tuple(followed_from(KmeId(name), self.trust.peer_key, known))
        for key in reversed(known):
            try:
                check_cosignature(checkpoint, line, name, public_key(key.public_key))
            except NotProved:
                continue
            return f"{name} key {key_name(key.public_key)}"
        raise NotProved(f"no known key of {name or 'the other site'} countersigned it")


def _check_follows(kme_id: KmeId, before: SigningKey | None, key: SigningKey) -> None:
    if before is not None:
        check_succession(kme_id, before, key)
    elif key.number != 1:
        raise NotProved(f"signing key {key.number} is the first one that is recorded")


def _suspects(spans: Sequence[Span], before: int, size: int) -> str:
    """The records that a checkpoint brought which does not fit, and no earlier one covers."""
    suspect = [
        f"{span.chain} {span.seq(max(before, span.start))}-{span.last}"
        for span in spans
        if span.stop > before and span.start < size
    ]
    which = f"one of {', '.join(suspect)} is not what was signed" if suspect else "they are gone"
    return f"is not over the records that are here: {which}"
