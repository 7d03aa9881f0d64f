"""One refresh run between two sites with a real OpenBao server each, broken once; then the laws.

The sites ask each other over HTTP and their KMSs over TLS, all from one thread, so that a run is
the same calls each time and any one of them can be broken. Nothing here is pytest's: the tests take
some of the points, the campaign takes all of them.
"""

import logging
import shutil
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flask import Flask
from hvac import exceptions as vault
from werkzeug.serving import make_server

from keyferry.peer.refresh import HttpRefreshPeer
from keyferry.store.sealing import new_root_key
from qkd_api.refresh import refresh
from qkd_core.errors import PeerUnavailable, SinkError
from qkd_core.types.ids import BlockId, Side
from qkd_kms_adapters.targets import Servers

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parent.parent / "crash"))
from cut_calls import Network
from laws import BLOCKS, example_block
from refresh_sites import (
    POLICY,
    RefreshSites,
    S,
    check_alike,
    check_at_once,
    check_refreshed,
    drive,
    proposals_at,
    refreshed,
    refreshing_at,
    state_at,
)
from transitions import PlainSession

del sys.path[:2]

TIMEOUT_S = 5.0


class VaultSites(RefreshSites):
    """The KMSs are OpenBao servers; the other site is asked over HTTP."""

    def __init__(self, folder: Path, servers: dict[Side, Any], lines: "Lines") -> None:
        super().__init__(folder)
        self.servers, self._lines = servers, lines
        self.targets = {side: servers[side].new_target(timeout_s=TIMEOUT_S) for side in Side}
        self.new_process()
        lines.sites = self

    def new_process(self) -> None:
        """From here on with nothing in memory: no login, no connection."""
        shared = Servers()
        self._sinks = {side: self.targets[side].sink(POLICY, shared) for side in Side}
        self._peers = {
            side: HttpRefreshPeer(PlainSession(self._lines.url(side.other))) for side in Side
        }

    def sink(self, side: Side):
        return self._sinks[side]

    def peer(self, side: Side) -> HttpRefreshPeer:
        return self._peers[side]

    def agreed(self, side: Side) -> int:
        try:
            answer = (
                self.servers[side]
                .reader()
                .secrets.kv.v2.read_secret_metadata(self.targets[side].path, mount_point="secret")
            )
        except vault.InvalidPath:
            return 0
        return int((answer["data"]["custom_metadata"] or {}).get("agreed_generation", 0))


class Lines:
    """The inter-KME API of both sites, for the sites that are looked at now."""

    def __init__(self) -> None:
        self.sites: VaultSites | None = None
        self._servers: dict[Side, Any] = {}
        for side in Side:
            app = Flask(f"kme-{side}")
            app.register_blueprint(refresh(Current(self, side)))  # type: ignore[arg-type]
            self._servers[side] = make_server("127.0.0.1", 0, app, threaded=False)
            self._servers[side].log = lambda *arguments, **named: None

    def url(self, side: Side) -> str:
        return f"http://127.0.0.1:{self._servers[side].server_port}"

    @contextmanager
    def open(self) -> Iterator["Lines"]:
        threads = [
            threading.Thread(target=server.serve_forever, args=(0.02,))
            for server in self._servers.values()
        ]
        for thread in threads:
            thread.start()
        try:
            yield self
        finally:
            for server in self._servers.values():
                server.shutdown()
            for thread in threads:
                thread.join(10)
            for server in self._servers.values():
                server.server_close()


@dataclass(frozen=True)
class Current:
    """`RefreshProposals` of the sites that are looked at now."""

    lines: Lines
    side: Side

    def __getattr__(self, name: str) -> Any:
        assert self.lines.sites is not None
        return getattr(proposals_at(self.lines.sites[self.side], self.side), name)


@dataclass(frozen=True)
class Point:
    """Which call is broken, and how; ``at`` as in `Network.labels`, empty for none.

    kills   the KMS is killed at this moment, and started again when both sites are at rest
    after   the call is made first: for the last bytes of a request, the server has had it
    """

    at: str = ""
    after: bool = False
    kills: Side | None = None


@contextmanager
def quiet() -> Iterator[None]:
    """What is broken on purpose is no news."""
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


@dataclass(frozen=True)
class Rig:
    """``prepared``: a folder with two stores that share blocks, copied for each run."""

    servers: dict[Side, Any]
    lines: Lines
    network: Network
    prepared: Path

    @classmethod
    def furnished(
        cls, servers: dict[Side, Any], lines: Lines, network: Network, folder: Path
    ) -> "Rig":
        prepared = folder / "prepared"
        prepared.mkdir()
        made = RefreshSites(prepared)
        for side in Side:
            new_root_key(prepared / f"{side}.key")
            for number in BLOCKS[:2]:
                made[side].blocks.store_pending(example_block(number))
                made[side].blocks.make_available(BlockId(number))
        made.close()
        return cls(servers, lines, network, prepared)

    @contextmanager
    def sites(self) -> Iterator[VaultSites]:
        folder = self.prepared.with_name("run")
        shutil.copytree(self.prepared, folder)
        sites = VaultSites(folder, self.servers, self.lines)
        try:
            yield sites
        finally:
            sites.close()
            shutil.rmtree(folder)

    def calls(self) -> list[str]:
        """What a run that is not broken calls."""
        with quiet(), self.sites() as sites:
            self._run(sites, Point())
            return list(self.network.labels)

    def kms_of(self, call: str) -> Side | None:
        """Whose KMS a call as in `calls` goes to; None for one to the other site."""
        port = call.split()[1]
        return next((side for side in Side if str(self.servers[side].port) == port), None)

    def outcome(self, point: Point, *, earlier: bool = True) -> str:
        """How the run ended that was broken there; ``missed`` when it has no such call.

        ``earlier``: another generation is there already. Raises AssertionError when a law is
        broken.
        """
        with quiet(), self.sites() as sites:
            if earlier:
                refreshed(sites)
                sites.new_process()
            self._run(sites, point)
            if not self.network.hit:
                return "missed"
            sites.new_process()
            check_at_once(sites)
            drive(sites)
            states = {state_at(sites, side) for side in Side}
            assert S.BLOCKED not in states, "nothing was refused for good"
            ended = "both" if check_alike(sites) > int(earlier) else "neither"
            check_refreshed(sites, frozenset())
            return ended

    def _run(self, sites: VaultSites, point: Point) -> None:
        """Begin a run and go on until both sites are at rest; what was killed is started again."""
        for side in Side:
            sites[side].blocks.free_bytes()
        deed = None if point.kills is None else self.servers[point.kills].process.kill
        self.network.arm(point.at, after=point.after, deed=deed)
        try:
            refreshing_at(sites, Side.A).begin()
        except (PeerUnavailable, SinkError):
            pass
        drive(sites)
        self.network.disarm()
        if point.kills is not None and self.network.hit:
            self.servers[point.kills].process.wait(20)
            self.servers[point.kills].start()
