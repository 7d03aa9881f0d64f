"""Refresh between two real OpenBao servers while connections break and servers are killed.

Whatever is broken, both sites end in the same generation or in none, with the bytes read back from
both servers. Here some points of a run; `make campaign` takes all of them.
"""

import gc
import os
import shutil
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from keyferry.refresh.resolving import retry, supersede
from keyferry.up.openbao import ROLE
from qkd_core.types.ids import Side
from qkd_kms_adapters.vault_kv import VaultKvSink, data_of

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parent.parent / "crash"))
from cut_calls import broken_network
from refresh_breaks import Lines, Point, Rig, VaultSites, quiet
from refresh_sites import (
    REFRESH_ALARMS,
    S,
    check_at_once,
    check_refreshed,
    drive,
    newest_at,
    refreshed,
    refreshing_at,
    state_at,
)
from refresh_transitions import bring

del sys.path[:2]

IN_MEMORY = Path("/dev/shm")  # noqa: S108  a private folder is made in it
WRITES = ("POST /v1/secret/data/", "POST /v1/secret/metadata/", "POST /peer/v1/refresh/runs")
EACH = 23  # of the calls that write nothing
# A connection that is broken on purpose in the middle of a call is nobody's to close.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed <ssl.SSLSocket:ResourceWarning")


@pytest.fixture(autouse=True)
def broken_connections_end_here() -> Iterator[None]:
    """And not in a later test, which would be blamed for them."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.fixture(scope="module")
def rig(server_a, server_b, tmp_path_factory) -> Iterator[Rig]:
    """In memory if possible: processes are killed here, not machines, and there are many runs."""
    where = IN_MEMORY if os.access(IN_MEMORY, os.W_OK) else tmp_path_factory.mktemp("rig")
    folder = Path(tempfile.mkdtemp(dir=where, prefix="refresh-kills-"))
    servers = {Side.A: server_a, Side.B: server_b}
    try:
        with Lines().open() as lines, broken_network() as network:
            yield Rig.furnished(servers, lines, network, folder)
    finally:
        shutil.rmtree(folder)


def those(calls: list[str], name: str, request: str) -> list[str]:
    """Those of ``calls`` with such a name and request."""
    return [call for call in calls if call.startswith(f"{name} ") and f" {request}" in call]


def test_a_connection_that_breaks_in_a_run_changes_nothing_of_its_end(rig) -> None:
    calls = rig.calls()
    others = [Point(call, after=bool(n % 2)) for n, call in enumerate(calls[::EACH])]
    writes: list[Point] = []
    for request in WRITES:
        sent = those(calls, "sendall", request)
        assert len(sent) in (2, 4), "a request is its head and its body"
        writes += [Point(call) for call in sent[::2]]
        writes += [Point(call, after=True) for call in sent[1::2]]
        writes += [Point(call, after=True) for call in those(calls, "recv_into", request)]
    ended = Counter(rig.outcome(point) for point in writes)
    ended.update(rig.outcome(point, earlier=False) for point in others)
    points = [*writes, *others]
    print(f"{len(points)} of {2 * len(calls)} points: {dict(ended)}")
    assert ended["missed"] <= len(WRITES)  # an answer does not always come in two parts
    assert ended["neither"] <= 1  # only before the first look a run is given up


@pytest.mark.parametrize("side", list(Side))
def test_a_kms_that_is_killed_at_a_write_gets_the_key_once(rig, side) -> None:
    calls = rig.calls()

    def at_this_kms(name: str, request: str) -> str:
        return next(call for call in those(calls, name, request) if rig.kms_of(call) is side)

    points = [
        Point(at_this_kms("sendall", "POST /v1/sys/capabilities-self"), kills=side),
        Point(at_this_kms("sendall", "POST /v1/secret/data/"), kills=side),
        Point(at_this_kms("recv_into", "POST /v1/secret/data/"), after=True, kills=side),
        Point(at_this_kms("recv_into", "POST /v1/secret/metadata/"), after=True, kills=side),
    ]
    assert [rig.outcome(point) for point in points] == ["both"] * len(points)


def test_a_sink_that_writes_without_looking_is_found_out(rig, monkeypatch) -> None:
    """The points can fail: a lost reply would make a second version of the same generation."""

    def careless(sink, client, key, generation) -> int:
        head = sink._secret.metadata(client).head
        return sink._secret.write(client, data_of(key, generation), head)

    monkeypatch.setattr(VaultKvSink, "_publish", careless)
    replies = those(rig.calls(), "recv_into", WRITES[0])
    with pytest.raises(AssertionError, match="one generation stands there twice"):
        rig.outcome(Point(replies[0], after=True), earlier=False)


class Permission:
    """What the KME's login may do at one server; the test's administrator takes it away."""

    def __init__(self, server) -> None:
        self._policies = server.admin.sys
        self._granted = self._policies.read_policy(ROLE)["data"]["rules"]

    def withdraw(self) -> None:
        self._policies.create_or_update_policy(ROLE, 'path "nothing" { capabilities = ["read"] }')

    def restore(self) -> None:
        self._policies.create_or_update_policy(ROLE, self._granted)


@pytest.fixture(params=list(Side))
def blocked(rig, request) -> Iterator[tuple[VaultSites, Side, Permission]]:
    """Generation 1 is done; of generation 2 one site was denied what is committed."""
    side, permission = request.param, Permission(rig.servers[request.param])
    with quiet(), rig.sites() as sites:
        try:
            refreshed(sites)
            assert refreshing_at(sites, Side.A).begin()
            bring(sites, a=S.COMMITTED, b=S.COMMITTED)
            permission.withdraw()
            drive(sites)
            yield sites, side, permission
        finally:
            permission.restore()


def check_blocked(sites: VaultSites, side: Side) -> None:
    """One site waits for an operator, and says why; consumers keep the generation before."""
    run = newest_at(sites, side)
    assert run is not None
    assert (run.state, state_at(sites, side.other)) == (S.BLOCKED, S.PUBLISHED)
    assert "permission denied" in (run.reason or "")
    assert sites[side].figures().alarms["refresh_blocked"] == 1
    assert not sites[side.other].figures().alarms
    assert [sites.agreed(each) for each in Side] == [1, 1]
    assert not refreshing_at(sites, Side.A).begin(), "no other run begins meanwhile"


def test_a_run_that_one_kms_denied_is_done_at_both_once_it_is_allowed_and_tried_again(
    blocked,
) -> None:
    sites, side, permission = blocked
    check_blocked(sites, side)
    permission.restore()
    check_at_once(sites)
    drive(sites)
    check_blocked(sites, side)

    run = newest_at(sites, side)
    assert run is not None
    retry(sites[side], run.run_id, "operator")
    drive(sites)

    assert [state_at(sites, each) for each in Side] == [S.DONE, S.DONE]
    assert [sites.agreed(each) for each in Side] == [2, 2]
    check_refreshed(sites, REFRESH_ALARMS)


def test_a_run_that_one_kms_denied_is_superseded_at_both_and_the_next_one_is_done(
    blocked,
) -> None:
    sites, side, permission = blocked
    run = newest_at(sites, side)
    assert run is not None
    supersede(sites[side], sites.peer(side), run.run_id, "operator")
    drive(sites)
    assert [state_at(sites, each) for each in Side] == [S.SUPERSEDED, S.SUPERSEDED]
    assert [sites.agreed(each) for each in Side] == [1, 1]
    permission.restore()
    check_at_once(sites)
    check_refreshed(sites, REFRESH_ALARMS)
