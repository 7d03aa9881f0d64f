"""An operator's orders at a site that does not run, and the orderly end of one that does."""

import logging
import os
from collections.abc import Callable, Mapping
from contextlib import closing
from typing import Any

from keyferry.bootstrap.stores import peer_session, store_of
from keyferry.clock import SystemClock
from keyferry.config.site import SiteSettings
from keyferry.operator.errands import SiteErrands
from keyferry.operator.orders import Orders
from keyferry.operator.socket import Caller
from keyferry.peer.witness import HttpWitnessPeer
from keyferry.witness.rest import come_to_rest
from qkd_core.errors import ConfigError, QkdError

log = logging.getLogger(__name__)


def carried_out_here(site: SiteSettings, request: Mapping[str, Any]) -> Mapping[str, Any]:
    """An operator's order at a site that does not run. Raises QkdError."""
    if not site.store.exists():
        raise ConfigError(f"{site.store}: no such store: the site has never run")
    with closing(store_of(site, "cli")) as store, closing(peer_session(site)) as session:
        clock = SystemClock()
        errands = SiteErrands(site.side, store, session, clock)
        return Orders(site, store, errands, clock).handle(request, Caller(os.getuid()))


def rest_site(site: SiteSettings, end_workers: Callable[[], None]) -> None:
    """The orderly end of a site whose API still runs."""
    try:
        with closing(store_of(site, "rest")) as store, closing(peer_session(site)) as session:
            come_to_rest(store.witness, HttpWitnessPeer(session), end_workers)
    except QkdError as error:
        log.warning("this site does not come to rest: %s", error)
