"""Two engines of one process whose bits are keys of two boxes, each asked over mutual TLS."""

import sys
from dataclasses import replace
from pathlib import Path

from keyferry.engine.block import AliceEnd, BobEnd
from keyferry.engine.budget import Budget
from keyferry.engine.seen_keys import SeenKeys
from keyferry.engine.vendor_ends import Box, VendorAlice, VendorBob, VendorEnd
from qkd_core.types.ids import Provenance, Side
from qkd_core.types.vendor import VendorSettings
from qkd_sim_link.drivers.etsi014 import Etsi014Box

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "channel"))
from two_engines import TERMS, Pair, Site
from vendor_boxes import SAES, VendorBoxes

sys.path.pop(0)
sys.path.pop(0)

N_KEYS, KEY_BITS = 40, 256
SETTINGS = VendorSettings(
    vendor="Example Optics, series 3",
    master_sae=SAES[Side.A],
    slave_sae=SAES[Side.B],
    keys_per_block=N_KEYS,
    key_bits=KEY_BITS,
)
VENDOR_TERMS = replace(TERMS, settings=SETTINGS, accept_provenance=frozenset({Provenance.VENDOR}))


def box_of(boxes: VendorBoxes, side: Side, url: str | None = None) -> Etsi014Box:
    sae = boxes.credentials.saes[side]
    return Etsi014Box(
        url=url or boxes.url(side),
        ca=boxes.credentials.ca,
        cert=sae.cert,
        key=sae.key,
        peer_sae=SAES[side.other],
        timeout_s=5.0,
    )


class VendorPair(Pair):
    """As `Pair`; of each site the box is ``site.box``."""

    def __init__(self, boxes: VendorBoxes, folder: Path, in_flight: int = 1, **more) -> None:
        super().__init__(in_flight=in_flight, **more)
        for side, site in self.sites.items():
            use_box(site, box_of(boxes, side), folder / f"{side}" / "seen.sqlite")

    def __exit__(self, *error) -> None:
        super().__exit__(*error)
        for site in self.sites.values():
            site.box.seen.close()
            site.box.device.close()


def use_box(site: Site, device: Etsi014Box, file: Path) -> None:
    terms, store, room = VENDOR_TERMS, site.store, site.engine.room
    site.box = Box(side=site.side, device=device, seen=SeenKeys(file), terms=terms, patience_s=0.5)
    if site.side is Side.A:
        link = VendorAlice(terms=terms, box=site.box, pads=store.pads)
        end = AliceEnd(link=link, blocks=store.blocks, room=room)
    else:
        end = BobEnd(link=VendorBob(terms=terms, box=site.box), blocks=store.blocks, room=room)
    site.engine.end = VendorEnd(end=end, box=site.box)
    site.engine.terms = terms
    site.engine.budget = Budget(store.epsilon, terms.policy)
