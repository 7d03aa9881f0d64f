"""`WitnessStore` in memory."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from keyferry.store.memory.agreement import MemoryAgreement
from keyferry.store.memory.pads import MemoryPads
from keyferry.store.memory.runs import UNCLEAN, MemoryRuns
from keyferry.store.memory.site import MemoryProgress, MemorySite
from keyferry.store.segments import cut_preshared
from qkd_core.errors import PeerUnavailable, RolledBack
from qkd_core.keys.witness import (
    PARKED_AFTER_S,
    is_adopted,
    merged,
    rolled_back,
    waits_for_rekey,
)
from qkd_core.types.authentication import Lane
from qkd_core.types.ids import KeyId
from qkd_core.types.witness import Marks, Proof, Remembered, Runs, SiteState


class MemoryWitness:
    def __init__(
        self,
        site: MemorySite,
        runs: MemoryRuns,
        pads: MemoryPads,
        agreement: MemoryAgreement,
        bound: Callable[[], set[KeyId]],
    ) -> None:
        """``bound``: the keys of refresh runs that are under way, which are not burnt."""
        self._site, self._runs, self._pads = site, runs, pads
        self._agreement, self._bound = agreement, bound

    # ------------------------------------------------------------------ this site
    def marks(self) -> Marks:
        with self._site.lock:
            own = self._site.own
            return Marks(
                incarnation=own.incarnation,
                era=own.era,
                heads=self._site.heads(),
                state=own.state,
                closing=own.closing,
            )

    def judge(self, told: Remembered) -> None:
        with self._site.lock:
            own = self._site.own
            if own.state is not SiteState.ROLLED_BACK:
                if waits_for_rekey(self.marks(), told):
                    raise PeerUnavailable("the peer knows an earlier store: rekey it too")
                why = rolled_back(self.marks(), told, self._site.has_record)
                if why is None:
                    return
                own.state, own.reason = SiteState.ROLLED_BACK, why
                self._site.alarms["rolled_back"] += 1
                self._site.audit("rolled_back", reason=why)
            raise RolledBack(f"this site is rolled back: {own.reason}")

    def has_evidence(self) -> bool:
        return False  # nothing outlives the process

    def enter(self, era: int, proof: Proof) -> None:
        with self._site.lock:
            own = self._site.own
            if own.state is SiteState.ROLLED_BACK:
                raise RolledBack("this site is rolled back")
            is_news = (own.state, own.era) != (SiteState.OPEN, era)
            own.state, own.era, own.closing = SiteState.OPEN, era, False
            if proof is Proof.NONE:
                self._runs.close_all()
                self._burn(self._site.fresh, UNCLEAN)
                self._site.fresh.clear()
            if is_news:
                self._site.audit("site_opened", proof=proof.value, era=era)

    def begin_closing(self) -> None:
        with self._site.lock:
            self._site.own.closing = True

    def close(self) -> Marks:
        with self._site.lock:
            own = self._site.own
            if own.state is SiteState.OPEN:
                own.state, own.closing = SiteState.CLOSED, True
                self._site.audit("site_closed")
            return self.marks()

    def runs_wanted(self, n_bytes: int, lanes: Sequence[Lane]) -> Runs:
        with self._site.lock:
            return self._runs.wanted(n_bytes, lanes)

    def is_low(self, of_bytes: bool, lanes: Sequence[Lane]) -> bool:
        with self._site.lock:
            return self._runs.is_low(of_bytes, lanes)

    def take_runs(self, asked: Runs, opened: Runs) -> None:
        with self._site.lock:
            self._runs.take(asked, opened)

    def park(self, now: float) -> int:
        with self._site.lock:
            fresh = self._site.fresh
            due = [key_id for key_id, since in fresh.items() if since <= now - PARKED_AFTER_S]
            for key_id in due:
                del fresh[key_id]
            return len(due)

    def ask_release(self, key_ids: Sequence[KeyId]) -> None:
        with self._site.lock:
            self._site.audit("release_asked", key_ids=list(map(str, key_ids)))

    def take_release(self, key_ids: Sequence[KeyId]) -> None:
        with self._site.lock:
            for key_id in key_ids:
                self._site.fresh.setdefault(key_id, self._site.clock.now())

    # ------------------------------------------------------------------ the peer
    def remembered(self) -> Remembered:
        return self._site.peer

    def remember(self, marks: Marks) -> None:
        with self._site.lock:
            if marks.incarnation == self._site.peer.incarnation:
                self._keep(marks)

    def let_open(self, marks: Marks, proof: Proof) -> int:
        site = self._site
        with site.lock:
            if not is_adopted(site.peer, marks.incarnation):
                raise RolledBack(f"incarnation {marks.incarnation} is not the one known here")
            if site.peer.incarnation is None:
                site.audit("peer_adopted", incarnation=marks.incarnation)
            if proof is Proof.NONE:
                site.peer = replace(site.peer, era=site.peer.era + 1)
                self._runs.pass_all()
                given_up = self._burn(site.outbox, "perhaps used before the peer's unclean end")
                site.outbox = [key_id for key_id in site.outbox if key_id not in given_up]
                site.alarms["peer_unclean_start"] += 1
                site.audit("peer_unclean_start", era=site.peer.era, keys=len(given_up))
            site.peer = replace(site.peer, state=SiteState.OPEN, closing=False)
            self._keep(replace(marks, state=SiteState.OPEN, closing=False))
            return site.peer.era

    def let_run(self, marks: Marks, wanted: Runs) -> Runs:
        with self._site.lock:
            self._hear(marks)
            return self._runs.let(wanted)

    def let_release(self, marks: Marks) -> None:
        with self._site.lock:
            self._hear(marks)

    def is_untold(self, key_id: KeyId) -> bool:
        return key_id in self._site.outbox

    # ------------------------------------------------------------------ starting empty
    def start_empty(self, reason: str) -> None:
        site = self._site
        with site.lock:
            self._agreement.erase(site.newest, reason)
            site.segments.clear()
            site.outbox.clear()
            site.notices.clear()
            site.fresh.clear()
            site.own = MemoryProgress()
            site.peer = Remembered(refused=site.peer.incarnation or site.peer.refused)
            self._runs.forget()
            site.audit("started_empty", incarnation=site.own.incarnation, reason=reason)

    def rekey(self, secret: bytes, reason: str) -> None:
        with self._site.lock:
            cut_preshared(secret)
            self._pads.require_new(secret)
            self.start_empty(reason)
            self._pads.install_preshared(secret)

    # ------------------------------------------------------------------
    def _hear(self, marks: Marks) -> None:
        """Keep the marks of the peer, which must be the one that was let open."""
        known = self._site.peer
        if (known.incarnation, known.era) != (marks.incarnation, marks.era):
            raise PeerUnavailable(
                f"the peer asks as {marks.incarnation} of era {marks.era},"
                f" known here is {known.incarnation} of era {known.era}"
            )
        self._keep(marks)

    def _keep(self, marks: Marks) -> None:
        """The newest of what the peer told: a late message opens no site that has closed since."""
        known = self._site.peer
        self._site.peer = replace(
            known,
            incarnation=marks.incarnation,
            heads=merged(known.heads, marks.heads),
            state=known.state if known.state is SiteState.CLOSED else marks.state,
            closing=known.closing or marks.closing,
        )

    def _burn(self, key_ids: Sequence[KeyId] | dict[KeyId, float], reason: str) -> list[KeyId]:
        """Burn keys at both sites but those of refresh runs under way; returns the burnt ones."""
        burnt = [key_id for key_id in key_ids if key_id not in self._bound()]
        for key_id in burnt:
            self._agreement.burn_key(key_id, reason)
        self._site.keys_burnt_unclean += len(burnt)
        return burnt
