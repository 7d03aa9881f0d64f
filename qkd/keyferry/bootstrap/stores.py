"""What each process of a site opens: its store, and its session with the peer."""

from contextlib import suppress

from keyferry.bootstrap.audit import auditor_of
from keyferry.clock import SystemClock
from keyferry.config.site import SiteSettings
from keyferry.peer.session import PeerSession
from keyferry.store.sealing import new_root_key
from keyferry.store.sqlite import Store, open_store

PEER_TIMEOUT_S = 3.0  # a request of an SAE may wait for it


def store_of(site: SiteSettings, role: str, *, witnessed: bool = True) -> Store:
    """The site's store, opened for the process ``role``. Makes the root key at the first start.

    ``witnessed``: false for a look at a site that is at rest, with no peer to ask.
    """
    if not site.root_key.exists() and not site.store.exists():
        with suppress(FileExistsError):  # another process of the site was faster
            new_root_key(site.root_key)
    return open_store(
        site.store,
        root_key=site.root_key,
        link_id=site.link.link_id,
        side=site.side,
        kme_id=site.kme_id,
        writer=role,
        clock=SystemClock(),
        epoch_s=site.keeping.erase_after_s,
        auditor=auditor_of(site),
        witnessed=witnessed,
    )


def peer_session(site: SiteSettings) -> PeerSession:
    return PeerSession(
        site.link.peer_url,
        cert=site.tls.cert,
        key=site.tls.key,
        ca=site.tls.ca,
        crl=site.tls.crl,
        timeout_s=PEER_TIMEOUT_S,
        peer_kme=site.link.peer_kme,
    )
