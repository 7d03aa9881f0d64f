from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from keyferry.store.checks.examples import LINK, SetClock, SiteStore, TwoSites
from keyferry.store.conformance import WITNESS_CHECKS
from keyferry.store.memory import MemoryStore
from keyferry.store.sealing import new_root_key
from keyferry.store.sqlite import open_store
from qkd_core.types.ids import KmeId, Side


def memory_site(tmp_path: Path, side: Side) -> SiteStore:
    kme_id = KmeId(f"kme-{side}")
    return MemoryStore(link_id=LINK, side=side, kme_id=kme_id, clock=SetClock(), witnessed=True)


def sqlite_site(tmp_path: Path, side: Side) -> SiteStore:
    root_key = tmp_path / f"{side}.key"
    new_root_key(root_key)
    return open_store(
        tmp_path / side / "keys.db",
        root_key=root_key,
        link_id=LINK,
        side=side,
        kme_id=KmeId(f"kme-{side}"),
        writer="engine",
        clock=SetClock(),
        witnessed=True,
    )


@pytest.fixture(params=[memory_site, sqlite_site], ids=["memory", "sqlite"])
def sites(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[TwoSites]:
    both = TwoSites(lambda side: request.param(tmp_path, side))
    yield both
    both.a.close()
    both.b.close()


@pytest.mark.parametrize("check", WITNESS_CHECKS, ids=lambda check: check.__name__)
def test_witnessed_store_keeps_its_promises(check: Callable[[TwoSites], None], sites: TwoSites):
    check(sites)
