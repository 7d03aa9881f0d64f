"""A site's store with an operator's orders over it; the other site is what it was told."""

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from keyferry.config.site import SiteSettings, load
from keyferry.operator.orders import Orders
from keyferry.reconcile.run import Report
from keyferry.store.checks.examples import SetClock, a_block
from keyferry.store.sealing import new_root_key
from keyferry.store.sqlite import Store, open_store
from qkd_core.types.ids import BlockId

EXAMPLE = Path(__file__).parents[3] / "deploy" / "site.example.toml"


@dataclass
class Errands:
    """Tells a peer that is there, or is away."""

    store: Store
    away: bool = False
    told: list = field(default_factory=list)
    report: Report = field(default_factory=Report)
    refreshes: "Peer" = field(default_factory=lambda: Peer())

    def tell(self) -> bool:
        notices = self.store.agreement.notices(100)
        if self.away:
            return not notices
        self.told += [notice.deed for notice in notices]
        self.store.agreement.told([notice.notice_id for notice in notices])
        return True

    def reconcile(self) -> Report:
        return self.report

    def peer_answers(self) -> bool:
        return not self.away


@dataclass
class Peer:
    """The other site's refresh runs, as far as orders ask for them."""

    runs_there: dict = field(default_factory=dict)
    trouble: Exception | None = None

    def agree(self, policy: str, digest: str) -> None:
        if self.trouble is not None:
            raise self.trouble

    def runs(self, run_ids: list) -> dict:
        if self.trouble is not None:
            raise self.trouble
        return {run_id: self.runs_there.get(run_id) for run_id in run_ids}


@dataclass
class Operated:
    site: SiteSettings
    store: Store
    errands: Errands
    orders: Orders
    clock: SetClock


@pytest.fixture
def site_file(tmp_path: Path) -> Path:
    """The example file, with paths of this test."""
    text = EXAMPLE.read_text()
    text = text.replace("/var/lib/keyferry", str(tmp_path / "state"))
    text = text.replace("/etc/keyferry/", f"{tmp_path}/")
    for name in re.findall(r'= "(\w+/[\w.-]+)"', text):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    file = tmp_path / "site.toml"
    file.write_text(text)
    return file


@pytest.fixture
def operated(site_file: Path) -> Iterator[Operated]:
    site = load(site_file)
    new_root_key(site.root_key)
    clock = SetClock()
    store = open_store(
        site.store,
        root_key=site.root_key,
        link_id=site.link.link_id,
        side=site.side,
        kme_id=site.kme_id,
        writer="jobs",
        clock=clock,
    )
    for number in (1, 2):
        store.blocks.store_pending(a_block(number))
        store.blocks.make_available(BlockId(number))
    errands = Errands(store)
    yield Operated(site, store, errands, Orders(site, store, errands, clock), clock)
    store.close()


@pytest.fixture
def short_folder(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "run"
    folder.mkdir(mode=0o700)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)
