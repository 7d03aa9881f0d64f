"""The other site's audit, over the inter-KME API: the client half of `qkd_api.audit`."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from urllib.parse import quote, urlencode

from keyferry.audit.completeness import Completeness
from keyferry.audit.fetched import PeerLog
from keyferry.audit.offline import opened
from keyferry.audit.signing import known_peer_keys, own_keys
from keyferry.audit.story import Entry, KnownSite, in_order, story
from keyferry.config.site import SiteSettings
from keyferry.peer.session import PeerSession
from qkd_api.audit import (
    OTHER_HEAD,
    REFUSED,
    answer_from_json,
    key_records_from_json,
    log_page_from_json,
    log_place_as_json,
    offer_as_json,
)
from qkd_core.errors import BadKeyRequest, ConfigError, PeerUnavailable, PeerViolation
from qkd_core.types.audit import CheckpointAnswer, CheckpointOffer, KeyRecords, LogPage, LogPlace
from qkd_core.types.ids import KeyId

TIMEOUT_S = 60.0  # for a story the other site walks over its whole log


class HttpAuditPeer:
    """Raises PeerUnavailable; PeerViolation for an answer that makes no sense."""

    def __init__(self, session: PeerSession) -> None:
        self._session = session

    def countersign(self, offer: CheckpointOffer) -> CheckpointAnswer:
        answer = self._session.call("POST", "/peer/v1/audit/checkpoints", offer_as_json(offer))
        if not answer.ok and answer.status not in (OTHER_HEAD, REFUSED):
            raise PeerUnavailable(f"a checkpoint: the peer answered {answer.status}")
        try:
            return answer_from_json(answer.status, answer.fields)
        except BadKeyRequest as error:
            raise PeerViolation(f"a checkpoint: {error}") from None

    def records_of(self, key_id: KeyId) -> KeyRecords:
        answer = self._session.call("GET", f"/peer/v1/audit/keys/{quote(key_id, safe='')}")
        if not answer.ok:
            raise PeerUnavailable(f"records of key {key_id}: the peer answered {answer.status}")
        try:
            return key_records_from_json(answer.fields)
        except BadKeyRequest as error:
            raise PeerViolation(f"records of key {key_id}: {error}") from None

    def log_page(self, place: LogPlace | None) -> LogPage:
        query = "" if place is None else f"?{urlencode(log_place_as_json(place))}"
        answer = self._session.call("GET", f"/peer/v1/audit/log{query}")
        if not answer.ok:
            raise PeerUnavailable(f"the audit log: the peer answered {answer.status}")
        try:
            return log_page_from_json(answer.fields)
        except BadKeyRequest as error:
            raise PeerViolation(f"the audit log: {error}") from None


def story_over_api(site: SiteSettings, key_id: KeyId) -> list[Entry]:
    """A key's story out of this site's store and the answer of the other site's KME.

    What the other site shows is proved by the checkpoint that it signed, and that this site may
    have countersigned. Raises ConfigError, PeerUnavailable, PeerViolation.
    """
    with opened(site.store) as connection:
        known_key, own = _known_key(site, connection), own_keys(connection)
    with asking(site) as audit:
        told = audit.records_of(key_id)
    peer = KnownSite(site.link.peer_kme, known_key, site.kme_id, own)
    return in_order([*story(key_id, [site.store]), *peer.entries(told, key_id)])


def completeness_over_api(site: SiteSettings) -> Completeness:
    """Compare this site's store with the log that the other site's KME shows, once it verifies.

    Raises ConfigError, PeerUnavailable, PeerViolation.
    """
    with opened(site.store) as connection:
        known_key = _known_key(site, connection)
    with asking(site) as audit:
        return PeerLog(site.link.peer_kme, known_key, audit.log_page).completeness(site.store)


def _known_key(site: SiteSettings, connection: sqlite3.Connection) -> str:
    """The other site's signing key: named in the site file, or pinned. Raises ConfigError."""
    pinned = known_peer_keys(connection)
    known_key = site.audit.peer_key or (pinned[-1].public_key if pinned else None)
    if known_key is None:
        raise ConfigError(f"the signing key of {site.link.peer_kme} is not known here yet")
    return known_key


@contextmanager
def asking(site: SiteSettings) -> Iterator[HttpAuditPeer]:
    """The other site's KME, asked with this site's certificate. Raises ConfigError."""
    session = PeerSession(
        site.link.peer_url,
        cert=site.tls.cert,
        key=site.tls.key,
        ca=site.tls.ca,
        crl=site.tls.crl,
        timeout_s=TIMEOUT_S,
        peer_kme=site.link.peer_kme,
    )
    with closing(session):
        yield HttpAuditPeer(session)
