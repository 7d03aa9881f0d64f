"""Two sites that refresh a key into a KMS each, and the laws of refresh between them.

With `FileSites` the KMSs are of the kind ``file`` and stand in the folder of the stores, so that a
copy of the folder is a copy of all that a killed process leaves.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from laws import Sites, check_audits, check_keys, check_rest, settle

from keyferry.refresh.refreshing import Refreshing, RefreshSite
from keyferry.store.sqlite import Store
from qkd_core.errors import PeerUnavailable, SinkError
from qkd_core.keys.refresh import RELEASED
from qkd_core.keys.refresh_proposals import RefreshProposals
from qkd_core.ports import ReadableSink, RefreshPeer
from qkd_core.types.ids import KmeId, Side
from qkd_core.types.keys import RefreshRun, RefreshState
from qkd_core.types.refresh import RefreshPolicy
from qkd_kms_adapters.file import FileSink, FileTarget

S = RefreshState
POLICY = RefreshPolicy(
    name="payments",
    kmes=(KmeId("kme-a"), KmeId("kme-b")),
    n_bits=256,
    interval_s=3600,
    initiator=Side.A,
    grace_s=60,
)
MOST_STEPS = 40
FOREIGN = b"a key of somebody else"
REFRESH_ALARMS = frozenset({"refresh_blocked", "refresh_aborted"})
Arm = Callable[[], None]


@dataclass(frozen=True)
class InProcess:
    """The other site's answers without a network: `RefreshPeer` over its `RefreshProposals`."""

    proposals: RefreshProposals

    def __getattr__(self, name: str):
        return getattr(self.proposals, "accept" if name == "propose" else name)


def proposals_at(store: Store, side: Side) -> RefreshProposals:
    return RefreshProposals(side, [POLICY], store.allocations, store.refreshes, store.policies)


class RefreshSites(Sites):
    """Two stores, and beside each one a KMS."""

    def sink(self, side: Side) -> ReadableSink:
        raise NotImplementedError

    def agreed(self, side: Side) -> int:
        """The agreed generation, as a consumer of the KMS would look it up."""
        raise NotImplementedError

    def peer(self, side: Side) -> RefreshPeer:
        """Whom the site at ``side`` asks."""
        return InProcess(proposals_at(self[side.other], side.other))


class FileSites(RefreshSites):
    """The KMSs are files in the folder of the stores."""

    def sink(self, side: Side) -> FileSink:
        return FileSink(FileTarget(path=key_file(self, side).absolute()))

    def agreed(self, side: Side) -> int:
        noted = key_file(self, side).parent / ".key.generations" / "state.json"
        return int(json.loads(noted.read_text())["agreed"]) if noted.exists() else 0


def key_file(sites: Sites, side: Side) -> Path:
    return sites.folder / f"kms-{side}" / "key"


def refreshing_at(sites: RefreshSites, side: Side, peer: RefreshPeer | None = None) -> Refreshing:
    """The jobs of one site; ``peer``: whom it asks, if not its own."""
    store = sites[side]
    site = RefreshSite(
        side=side,
        allocations=store.allocations,
        refreshes=store.refreshes,
        peer=peer or sites.peer(side),
        clock=sites.clock,
    )
    return Refreshing(site, POLICY, sites.sink(side))


def newest_at(sites: Sites, side: Side) -> RefreshRun | None:
    return sites[side].refreshes.newest(POLICY.name)


def state_at(sites: Sites, side: Side) -> RefreshState | None:
    newest = newest_at(sites, side)
    return newest.state if newest else None


def put_something_foreign(sites: Sites, side: Side) -> None:
    """From now on the KMS refuses whatever comes, for good."""
    path = key_file(sites, side)
    if path.exists():
        path.rename(path.with_name("aside"))
    path.write_bytes(FOREIGN)
    path.chmod(0o600)


def take_it_away(sites: Sites, side: Side) -> None:
    path = key_file(sites, side)
    if path.exists() and path.read_bytes() == FOREIGN:
        aside = path.with_name("aside")
        path.unlink()
        if aside.exists():
            aside.rename(path)


def drive(sites: RefreshSites) -> None:
    """Both jobs processes start afresh and go on until neither has anything to do."""
    jobs = [refreshing_at(sites, side) for side in Side]
    for each in jobs:
        each.forget_given_up()
    for _ in range(MOST_STEPS):
        if not any([moved(each) for each in jobs]):
            return
    raise AssertionError("the sites do not come to rest")


def moved(refreshing: Refreshing) -> bool:
    try:
        return refreshing.advance()
    except (PeerUnavailable, SinkError):
        return False


def refreshed(sites: RefreshSites) -> None:
    """One more generation at both sites."""
    assert refreshing_at(sites, Side.A).begin()
    drive(sites)
    assert [state_at(sites, side) for side in Side] == [S.DONE, S.DONE]


# ------------------------------------------------------------------------------------------- laws
def check_at_once(sites: RefreshSites) -> None:
    """What a consumer sees, whatever has just happened, and before anything is set right."""
    newest = {side: sites.sink(side).state()[0] for side in Side}
    for side in Side:
        agreed = sites.agreed(side)
        assert agreed <= min(newest.values()), "agreed on what is not at both sites"
        assert agreed >= newest_done(sites, side), "done and not agreed on"
        if agreed and not is_retired(sites, side, agreed):
            assert sites.sink(side).read(agreed) is not None, "an agreed generation is gone"
    check_bytes(sites)


def check_refreshed(sites: RefreshSites, alarms: frozenset[str]) -> None:
    """The laws of rest, then one more generation and those of the stores."""
    check_alike(sites)
    check_bytes(sites)
    for side in Side:
        for run in history(sites, side):
            if run.state in RELEASED:
                assert not is_held(sites[side], run), "bytes of a run that is over"
    refreshed(sites)
    check_alike(sites)
    answered = check_bytes(sites)
    settle(sites)
    check_rest(sites, check_keys(sites, answered))
    for side in Side:
        raised = sites[side].figures().alarms.keys()
        assert raised <= alarms, raised
    sites.close()
    check_audits(sites)


def check_alike(sites: RefreshSites) -> int:
    """Each run ended alike at both sites, and what is agreed on is the newest that is done: it."""
    theirs = {run.run_id: run.state for run in history(sites, Side.B)}
    states = set()
    for run in history(sites, Side.A):
        state = theirs.pop(run.run_id, S.ABORTED)
        pair = {S.DONE if each is S.RETIRED else each for each in (run.state, state)}
        assert len(pair) == 1, (run.generation, run.state, state)
        states |= pair
    assert not theirs, "a run that its initiator does not know"
    assert states <= {S.DONE, S.ABORTED, S.SUPERSEDED}, states
    done = newest_done(sites, Side.A)
    assert [sites.agreed(side) for side in Side] == [done, done]
    return done


def check_bytes(sites: RefreshSites) -> dict[str, str]:
    """Under one generation the same bytes everywhere, in one generation only; they by key ID."""
    by_generation: dict[int, bytes] = {}
    keys: dict[str, str] = {}
    for side in Side:
        sink = sites.sink(side)
        standing = [version.generation for version in sink.versions()]
        assert len(set(standing)) == len(standing), "one generation stands there twice"
        for run in history(sites, side):
            secret = sink.read(run.generation)
            if secret is None:
                continue
            assert by_generation.setdefault(run.generation, secret) == secret, "other bytes"
            assert keys.setdefault(run.key_id, secret.hex()) == secret.hex(), "other bytes"
    assert len(set(by_generation.values())) == len(by_generation), "one key in two generations"
    return keys


def history(sites: Sites, side: Side) -> tuple[RefreshRun, ...]:
    return sites[side].refreshes.history(POLICY.name, 100)


def newest_done(sites: Sites, side: Side) -> int:
    return max([run.generation for run in history(sites, side) if is_done(run)], default=0)


def is_done(run: RefreshRun) -> bool:
    return run.state in (S.DONE, S.RETIRED)


def is_retired(sites: Sites, side: Side, generation: int) -> bool:
    runs = [run for run in history(sites, side) if run.generation == generation]
    return bool(runs) and runs[0].state is S.RETIRED


def is_held(store: Store, run: RefreshRun) -> bool:
    return bool(store.database.rows("SELECT 1 FROM held WHERE key_id = ?", run.key_id))
