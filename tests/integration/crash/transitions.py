"""The transitions whose every I/O call is a crash point, and what must be there before each."""

import ctypes
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests
from flask import Flask
from laws import BLOCKS, Sites, example_block
from werkzeug.serving import make_server

from keyferry.agreement.outbox import OutboxSender
from keyferry.agreement.telling import Telling
from keyferry.peer.agreement import HttpAgreementPeer
from keyferry.peer.session import HttpPeerKme, PeerSession
from keyferry.peer.silence import Silence
from keyferry.store.checks.examples import (
    MASTER,
    NOW,
    SLAVE,
    a_preshared_secret,
    a_request,
)
from keyferry.store.runs import let_cut
from keyferry.store.sealing import new_root_key
from qkd_api.notices import notices
from qkd_api.peer import peer
from qkd_core.errors import DeliveryError
from qkd_core.types.authentication import Lane
from qkd_core.types.ids import BlockId, KmeId, Side
from qkd_core.types.keys import KeyRange
from qkd_core.types.plans import SecurityPolicy

LATER = NOW + 1000
HOUR = 3600.0
POLICY = SecurityPolicy(eps_sec=1e-9, eps_cor=1e-12, abort_rate=0.01)
PR_SET_PDEATHSIG = 1

Arm = Callable[[], None]


def nothing(sites: Sites) -> None:
    pass


@dataclass(frozen=True)
class Transition:
    """``before`` prepares both sites; ``carry_out`` arms the counter at the moment that counts.

    ``afterwards`` is done once both sites have settled, as an operator repeats an order that was
    not answered; it says what must hold then. ``alarms``: kinds that the transition may raise.
    """

    name: str
    before: Callable[[Sites], None]
    carry_out: Callable[[Sites, Arm], None]
    afterwards: Callable[[Sites], None] = nothing
    alarms: frozenset[str] = frozenset()


def prepare(folder: Path, transition: Transition) -> None:
    folder.mkdir()
    for side in Side:
        new_root_key(folder / f"{side}.key")
    sites = Sites(folder)
    for side in Side:
        for number in BLOCKS[:2]:
            sites[side].blocks.store_pending(example_block(number))
            sites[side].blocks.make_available(BlockId(number))
    transition.before(sites)
    sites.close()


def keys_at_a(sites: Sites) -> None:
    sites.a.allocations.deliver(a_request(3), LATER)


def a_key_at_a(sites: Sites) -> None:
    sites.a.allocations.deliver(a_request(), LATER)


def keys_at_both(sites: Sites) -> None:
    keys_at_a(sites)
    for row in sites.a.allocations.outbox(10):
        sites.b.allocations.accept(row)


def pads_at_a(sites: Sites) -> None:
    sites.a.pads.install_preshared(a_preshared_secret())


def held_at_a(sites: Sites) -> None:
    sites.a.allocations.hold(a_request(2), LATER)


def a_third_block(sites: Sites) -> None:
    for side in Side:
        sites[side].blocks.store_pending(example_block(3))


def a_third_block_at_b(sites: Sites) -> None:
    sites.b.blocks.store_pending(example_block(3))


def ceded_by_b(sites: Sites) -> None:
    sites.b.agreement.cede(700)


def ceded_by_b_although_open(sites: Sites) -> None:
    """A has opened some of it to B, whose store does not know: the answer was lost."""
    opened = KeyRange(BlockId(2), 600, 900)
    sites.a.database.write(lambda tx: let_cut(tx, Side.B, opened))
    ceded_by_b(sites)


def gained_from_b(sites: Sites) -> None:
    ceded_by_b(sites)
    for notice in sites.b.agreement.notices(10):
        sites.a.agreement.heed(notice)
    sites.a.allocations.deliver(a_request(37), LATER)


def burnt_at_b(sites: Sites) -> None:
    keys_at_both(sites)
    sites.b.agreement.burn_key(sites.a.allocations.outbox(1)[0].key_id, "test")


def destroyed_at_b(sites: Sites) -> None:
    sites.b.agreement.destroy_block(BlockId(1), "test")


# --------------------------------------------------------------------- one site, killed at its own
def at_a(call: Callable[[Sites], Any]) -> Callable[[Sites, Arm], None]:
    """Open the store of A, then count."""

    def carry_out(sites: Sites, arm: Arm) -> None:
        sites[Side.A].blocks.free_bytes()
        arm()
        call(sites)

    return carry_out


def deliver(sites: Sites) -> None:
    sites.answer(sites.a.allocations.deliver(a_request(2), LATER))


def deliver_across_runs(sites: Sites) -> None:
    sites.answer(sites.a.allocations.deliver(a_request(8), LATER))


def open_site(sites: Sites, arm: Arm) -> None:
    arm()
    sites[Side.A].blocks.free_bytes()


def armed_at_heed(sites: Sites, arm: Arm) -> None:
    """B's notices are read before counting begins: only A is killed."""
    notices_of_b = sites.b.agreement.notices(10)
    sites[Side.A].blocks.free_bytes()
    arm()
    for notice in notices_of_b:
        sites.a.agreement.heed(notice)


def armed_at_accept(sites: Sites, arm: Arm) -> None:
    rows = sites.a.allocations.outbox(10)
    sites[Side.B].blocks.free_bytes()
    arm()
    for row in rows:
        sites.b.allocations.accept(row)


def armed_at_fetch(sites: Sites, arm: Arm) -> None:
    key_ids = [row.key_id for row in sites.a.allocations.outbox(2)]
    sites[Side.B].blocks.free_bytes()
    arm()
    sites.answer(sites.b.allocations.deliver_by_id(SLAVE, MASTER, key_ids, NOW))


def acknowledge(sites: Sites) -> None:
    rows = sites.a.allocations.outbox(10)
    sites.a.allocations.acknowledge([row.key_id for row in rows])


def expire_and_retire(sites: Sites) -> None:
    sites.clock.time = NOW + 2 * HOUR
    sites.a.allocations.expire(sites.clock.time)


def burn_one(sites: Sites) -> None:
    sites.a.agreement.burn_key(sites.a.allocations.outbox(1)[0].key_id, "test")


def drop_one(sites: Sites) -> None:
    sites.a.allocations.drop_held(sites.a.allocations.outbox(1)[0].key_id, burnt=True)


def take_a_pad(sites: Sites) -> None:
    sites.a.pads.take(Lane.POOL, older_than=None, proved=False)


def begin_a_block(sites: Sites) -> None:
    sites.a.blocks.begin(BlockId(3), POLICY)


def its_cost_is_spent(sites: Sites) -> None:
    """Its number is used exactly if what it costs is spent; else both can be done now."""
    begun = sites.a.blocks.newest() == BLOCKS[2]
    assert sites.a.epsilon.figures().n_blocks == int(begun)
    if not begun:
        begin_a_block(sites)
        assert sites.a.epsilon.figures().n_blocks == 1


ALONE = [
    Transition("open a store", nothing, open_site),
    Transition("deliver", nothing, at_a(deliver)),
    Transition("deliver from a gained range", gained_from_b, at_a(deliver_across_runs)),
    Transition("hold", nothing, at_a(lambda s: s.a.allocations.hold(a_request(2), LATER))),
    Transition("acknowledge", keys_at_both, at_a(acknowledge)),
    Transition("expire and retire a data key", held_at_a, at_a(expire_and_retire)),
    Transition("drop a held key", held_at_a, at_a(drop_one)),
    Transition("take a pad", pads_at_a, at_a(take_a_pad)),
]
TAKEN_OVER = [
    Transition("accept", a_key_at_a, armed_at_accept),
    Transition("deliver by key ID", keys_at_both, armed_at_fetch),
    Transition("heed a cession", ceded_by_b, armed_at_heed),
    Transition("heed a cession of what was open", ceded_by_b_although_open, armed_at_heed),
    Transition("heed a burnt key", burnt_at_b, armed_at_heed),
    Transition("heed a destroyed block", destroyed_at_b, armed_at_heed),
]
BLOCK_MOVES = [
    Transition("begin a block", nothing, at_a(begin_a_block), afterwards=its_cost_is_spent),
    Transition(
        "store a block",
        a_third_block_at_b,
        at_a(lambda s: s.a.blocks.store_pending(example_block(3))),
    ),
    Transition(
        "make a block available",
        a_third_block,
        at_a(lambda s: s.a.blocks.make_available(BlockId(3))),
    ),
    Transition("cede", nothing, at_a(lambda s: s.a.agreement.cede(700))),
    Transition("burn a key", held_at_a, at_a(burn_one)),
    Transition(
        "destroy a block at both",
        nothing,
        at_a(lambda s: s.a.agreement.destroy_block(BlockId(1), "test")),
    ),
]


# ----------------------------------------------------------------- two sites over HTTP, one killed
class PlainSession(PeerSession):
    """Without TLS: the calls of a socket are what is counted."""

    def __init__(self, base_url: str) -> None:
        self._base_url, self._peer, self._timeout_s = base_url, KmeId("kme-b"), 5.0
        self._ca = ""
        self._session = requests.Session()
        self._session.trust_env = False
        self._rider = None
        self._silence = Silence(KmeId("kme-b"))

    def _mount_current(self) -> None:
        pass


def serve_b(sites: Sites) -> Any:
    app = Flask(__name__)
    app.register_blueprint(peer(sites.b.allocations, Side.B, lambda key_id: True))
    app.register_blueprint(notices(sites.b.agreement))
    server = make_server("127.0.0.1", 0, app, threaded=False)
    server.log = lambda *arguments, **named: None
    return server


def served_apart(
    work: Callable[[Sites, str, Arm], None],
    *,
    kill_b: bool,
    serve: Callable[[Sites], Any] = serve_b,
):
    """B serves in a process of its own; either B or the process that asks it is killed."""

    def carry_out(sites: Sites, arm: Arm) -> None:
        read_end, write_end = os.pipe()
        pid = os.fork()
        if pid == 0:
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
            server = serve(sites)
            if kill_b:
                arm()
            os.write(write_end, f"{server.server_port}\n".encode())
            server.serve_forever(0.01)
            os._exit(0)
        port = int(os.read(read_end, 16))
        try:
            sites[Side.A].blocks.free_bytes()
            if not kill_b:
                arm()
            work(sites, f"http://127.0.0.1:{port}", arm)
        finally:
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended == 0:
                os.kill(pid, signal.SIGKILL)
                _, status = os.waitpid(pid, 0)
        if kill_b and os.WIFEXITED(status):
            os._exit(os.WEXITSTATUS(status))

    return carry_out


def tell_keys(sites: Sites, url: str, arm: Arm) -> None:
    sender = OutboxSender(sites.a.allocations, HttpPeerKme(PlainSession(url), KmeId("kme-b")))
    try:
        sender.send_batch()
    except DeliveryError:
        time.sleep(0)  # B was killed while it answered


def tell_notices(sites: Sites, url: str, arm: Arm) -> None:
    telling = Telling(sites.a.agreement, HttpAgreementPeer(PlainSession(url)))
    try:
        telling.tell_some()
    except DeliveryError:
        time.sleep(0)


def a_notice_at_a(sites: Sites) -> None:
    sites.a.agreement.cede(300)


OVER_HTTP = [
    Transition("tell keys, A killed", a_key_at_a, served_apart(tell_keys, kill_b=False)),
    Transition("tell keys, B killed", a_key_at_a, served_apart(tell_keys, kill_b=True)),
    Transition("tell notices, A killed", a_notice_at_a, served_apart(tell_notices, kill_b=False)),
    Transition("tell notices, B killed", a_notice_at_a, served_apart(tell_notices, kill_b=True)),
]


def cede_in_two_steps(sites: Sites) -> None:
    """A broken build: the loss and its notice are not one transaction."""
    sites.a.database.write(
        lambda tx: tx.write("UPDATE blocks SET own_stop = own_stop - 64 WHERE block_id = 2")
    )
    sites.a.database.write(
        lambda tx: tx.write("UPDATE blocks SET own_stop = own_stop + 64 WHERE block_id = 2")
    )
    sites.a.agreement.cede(64)


def zeroise_in_two_steps(sites: Sites) -> None:
    """A broken build: bytes go in one transaction, and what says so in another."""
    sites.a.database.write(lambda tx: tx.write("DELETE FROM chunks"))
    sites.a.agreement.zeroise_link("test")


BROKEN = [Transition("cede in two steps", nothing, at_a(cede_in_two_steps))]
BROKEN_ORDER = [Transition("zeroise in two steps", nothing, at_a(zeroise_in_two_steps))]

GROUPS: dict[str, list[Transition]] = {
    "alone": ALONE,
    "taken over": TAKEN_OVER,
    "blocks": BLOCK_MOVES,
    "over http": OVER_HTTP,
    "broken": BROKEN,
    "broken order": BROKEN_ORDER,
}
