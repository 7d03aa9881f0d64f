"""Site A of a pair, with a store that has delivered keys already and has many more to deliver.

Everything in the store got there through the product's own ports: blocks of random bits as a link
would have left them, and deliveries of 128 keys a request, many at a time.
"""

import secrets
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from keyferry.clock import SystemClock
from keyferry.config.site import SiteSettings, load
from keyferry.pki.authority import Authority, Credential
from keyferry.store.sealing import new_root_key
from keyferry.store.sqlite import Store, open_store
from keyferry.up.layout import StateDirectory, claimed, furnish
from keyferry.up.ports import Ports, claimed_ports
from keyferry.up.site_files import write_site_files
from qkd_core.types.ids import BlockId, Provenance, SaeId, Side
from qkd_core.types.keys import BlockLayout, KeyRequest, NewBlock
from qkd_sim_link.physics.decoy_bb84 import expected_model
from qkd_sim_link.scenarios.pulses import load as load_scenario

SCENARIO = "direct-25km"
KEY_BYTES = 32
BLOCK_BYTES = 64 << 10  # half of it is this site's own to give away
AT_ONCE, KEYS_A_REQUEST = 32, 128
LIFETIME_S = 86400.0


@dataclass(frozen=True, slots=True)
class PreparedSite:
    """The files of a pair of sites; site A's store is filled by `fill`."""

    state: StateDirectory
    ports: Ports

    def file(self, side: Side) -> Path:
        return self.state.site(side).site_file

    @property
    def settings(self) -> SiteSettings:
        """Of site A."""
        return load(self.file(Side.A))

    @property
    def authority(self) -> Authority:
        return Authority.load(self.state.pki)

    def both(self, credential: Credential) -> Path:
        """Certificate and key in one file."""
        both = self.state.root / f"{credential.cert.stem}.both.pem"
        both.touch(mode=0o600)
        both.write_bytes(credential.cert.read_bytes() + credential.key.read_bytes())
        return both

    def sae(self) -> Path:
        """Certificate and key of SAE A."""
        return self.both(Credential.at(self.state.saes, "sae-a"))


@contextmanager
def prepared_site(folder: Path) -> Iterator[PreparedSite]:
    """Certificates, ports and site files of both sites, in ``folder``."""
    scenario = load_scenario(SCENARIO)
    with claimed(folder) as state, claimed_ports(state) as ports:
        furnish(state)
        write_site_files(state, ports, state.root / "run", scenario, expected_model(scenario))
        yield PreparedSite(state, ports)


@contextmanager
def opened(site: SiteSettings) -> Iterator[Store]:
    """The store, without the rollback witness: nobody asks the peer before keys are cut."""
    if not site.root_key.exists():
        new_root_key(site.root_key)
    store = open_store(
        site.store,
        root_key=site.root_key,
        link_id=site.link.link_id,
        side=site.side,
        kme_id=site.kme_id,
        writer="api",
        clock=SystemClock(),
    )
    with closing(store):
        yield store


def fill(store: Store, *, delivered: int, stock: int) -> None:
    """Deliver ``delivered`` keys and leave ``stock`` more."""
    wanted = KEY_BYTES * (delivered + stock)
    while store.blocks.free_bytes() < wanted:
        _add_block(store)
    request = request_of(KEYS_A_REQUEST)
    whole, rest = divmod(delivered, KEYS_A_REQUEST)
    requests = [request] * whole + ([request_of(rest)] if rest else [])
    with ThreadPoolExecutor(AT_ONCE) as threads:
        for keys in threads.map(lambda each: deliver(store, each), requests):
            store.allocations.acknowledge(keys)


def deliver(store: Store, request: KeyRequest) -> list[str]:
    return [key.key_id for key in store.allocations.deliver(request, time.time() + LIFETIME_S)]


def request_of(number: int) -> KeyRequest:
    return KeyRequest(
        master=SaeId("sae-a"), slaves=(SaeId("sae-b"),), number=number, n_bits=8 * KEY_BYTES
    )


def _add_block(store: Store) -> None:
    block_id = BlockId(store.blocks.newest() + 1)
    n_secret = 8 * BLOCK_BYTES
    block = NewBlock(
        block_id=block_id,
        link_id=store.database.site.link_id,
        layout=BlockLayout(n_secret=n_secret, segment_pads=0),
        bits=np.frombuffer(secrets.token_bytes(BLOCK_BYTES), np.uint64),
        provenance=Provenance.SIMULATED,
        plan_digest=f"plan {block_id}",
        tallies_digest="tallies",
        certificate="{}",
        qber=0.01,
        link_s=1.0,
    )
    store.blocks.store_pending(block)
    store.blocks.make_available(block_id)
