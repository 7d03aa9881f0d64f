"""An engine whose link is a vendor's box at each site."""

from collections.abc import Iterator
from contextlib import closing, contextmanager

from keyferry.config.site import SiteSettings
from keyferry.config.vendor import VendorBox
from keyferry.engine.block import AliceEnd, BobEnd, LinkEnd
from keyferry.engine.device_telling import told_each_second
from keyferry.engine.room import Room
from keyferry.engine.seen_keys import FILE, SeenKeys
from keyferry.engine.terms import LinkTerms
from keyferry.engine.vendor_ends import PATIENCE_S, Box, VendorAlice, VendorBob, VendorEnd
from keyferry.store.sqlite import Store
from qkd_core.proofs.vendor_plan import of_vendor_keys
from qkd_core.types.ids import Side
from qkd_sim_link.drivers.etsi014 import Etsi014Box


@contextmanager
def vendor_box(site: SiteSettings, terms: LinkTerms, server: VendorBox) -> Iterator[Box]:
    """This site's box; whether the link waits for it is told to the site's other processes.

    Raises ConfigError, AuditUnavailable.
    """
    with closing(box_of(site, server)) as device, closing(SeenKeys(site.state_dir / FILE)) as seen:
        box = Box(
            side=site.side,
            device=device,
            seen=seen,
            terms=terms,
            patience_s=min(PATIENCE_S, site.link.timeout_s / 2),  # the peer waits so for a plan
        )
        with told_each_second(box.figures, site.state_dir):
            yield box


def vendor_end(site: SiteSettings, terms: LinkTerms, box: Box, store: Store) -> LinkEnd:
    room = Room(store.blocks, store.pads, site.keeping)
    if site.side is Side.A:
        alice = VendorAlice(terms=terms, box=box, pads=store.pads)
        return VendorEnd(end=AliceEnd(link=alice, blocks=store.blocks, room=room), box=box)
    bob = VendorBob(terms=terms, box=box)
    return VendorEnd(end=BobEnd(link=bob, blocks=store.blocks, room=room), box=box)


def box_of(site: SiteSettings, server: VendorBox) -> Etsi014Box:
    """Raises PlanRefused when the link is not one of a vendor's keys."""
    settings = of_vendor_keys(site.link.settings)
    return Etsi014Box(
        url=server.url,
        ca=server.ca,
        cert=server.cert,
        key=server.key,
        peer_sae=settings.slave_sae if site.side is Side.A else settings.master_sae,
        timeout_s=server.timeout_s,
    )
