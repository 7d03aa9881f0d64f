"""The audit's parts of a site's processes, put together from the site file."""

from collections.abc import Iterator
from contextlib import closing, contextmanager

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey
from flask import Blueprint

from keyferry.audit.asking import Asking
from keyferry.audit.auditor import read_auditor_public
from keyferry.audit.checkpoints import Alarms, Checkpoints
from keyferry.audit.countersigning import Countersigner
from keyferry.audit.otlp import Collector, Exporter
from keyferry.audit.peer_keys import PeerKeys
from keyferry.audit.shown import PeerAudit
from keyferry.audit.signing import SigningFile
from keyferry.clock import SystemClock
from keyferry.config.site import SiteSettings
from keyferry.jobs.auditing import Exporting, Proving
from keyferry.jobs.standing import Standing
from keyferry.peer.audit import HttpAuditPeer
from keyferry.peer.session import PeerSession
from keyferry.store.database import Database, Reader
from qkd_api.audit import audit

SOON_S = 2.0  # how often there is a look for something to countersign or to export


def auditor_of(site: SiteSettings) -> X25519PublicKey | None:
    """Who can check the MACs of this site's records. Raises ConfigError."""
    file = site.audit.auditor_key
    return None if file is None else read_auditor_public(file)


def signing_file(site: SiteSettings) -> SigningFile:
    return SigningFile(site.signing_key, site.kme_id)


def peer_keys(site: SiteSettings) -> PeerKeys:
    return PeerKeys(site.link.peer_kme, site.audit.peer_key)


@contextmanager
def audit_views(site: SiteSettings, database: Database) -> Iterator[Blueprint]:
    """What the API lets the other site ask of the audit."""
    countersigner = Countersigner(database, signing_file(site), peer_keys(site))
    with closing(Reader(database.path)) as reader:
        yield audit(PeerAudit(countersigner, reader))


@contextmanager
def audit_work(
    site: SiteSettings, database: Database, session: PeerSession
) -> Iterator[list[Standing]]:
    """What the jobs process does for the audit again and again."""
    peer = HttpAuditPeer(session)
    with closing(Checkpoints(database, signing_file(site), SystemClock())) as checkpoints:
        asking = Asking(database, peer_keys(site), peer.countersign, Alarms(database))
        proving = Proving(checkpoints, asking, site.audit.checkpoint_s)
        work = [Standing("audit checkpoints", proving.work, SOON_S, at_end=proving.finish)]
        if site.audit.otlp is not None:
            exporter = Exporter(database, Collector(site.audit.otlp, site.audit.otlp_ca))
            work.append(Standing("audit export", Exporting(exporter).work, SOON_S))
        yield work
