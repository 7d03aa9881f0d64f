"""What the campaign's verdict calls a loss, over two stores that were made for it."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from keyferry.store.checks.examples import (
    LINK,
    MASTER,
    NOW,
    SLAVE,
    SetClock,
    a_block,
    a_request,
)
from keyferry.store.sealing import new_root_key
from keyferry.store.sqlite import Store, open_store
from qkd_client.wire import Key
from qkd_core.types.ids import BlockId, KmeId, Side

FOREVER = 4e9


@pytest.fixture(scope="module")
def campaign() -> Iterator[object]:
    """Its modules import each other by their bare names."""
    folder = str(Path(__file__).parents[2] / "campaign")
    sys.path.insert(0, folder)
    import customers
    import verdict

    yield type("Campaign", (), {"verdict": verdict, "Given": customers.Given})
    sys.path.remove(folder)


@pytest.fixture
def sites(tmp_path) -> Iterator[list[Store]]:
    stores = []
    for side in Side:
        new_root_key(tmp_path / f"{side}.key")
        store = open_store(
            tmp_path / side / "keys.db",
            root_key=tmp_path / f"{side}.key",
            link_id=LINK,
            side=side,
            kme_id=KmeId(side),
            writer="api",
            clock=SetClock(),
        )
        for number in (1, 2):
            store.blocks.store_pending(a_block(number))
            store.blocks.make_available(BlockId(number))
        stores.append(store)
    yield stores
    for store in stores:
        store.close()


def files(sites) -> list[Path]:
    return [store.database.writer.path for store in sites]


def a_master_key(sites, given):
    (key,) = sites[0].allocations.deliver(a_request(), FOREVER)
    given.to_master(Key(key.key_id, key.secret))
    return key


def tell(sites) -> None:
    for here, there in (sites, sites[::-1]):
        rows, notices = here.allocations.outbox(100), here.agreement.notices(100)
        for row in rows:
            there.allocations.accept(row)
        for notice in notices:
            there.agreement.heed(notice)
        here.allocations.acknowledge([row.key_id for row in rows])
        here.agreement.told([notice.notice_id for notice in notices])


def fetch(sites, key) -> None:
    sites[1].allocations.deliver_by_id(SLAVE, MASTER, [key.key_id], NOW)


def lost(campaign, sites, given) -> list[str]:
    stores = files(sites)
    return [
        *campaign.verdict.unexplained(stores, given),
        *campaign.verdict.without_an_owner(stores),
    ]


def test_a_key_that_both_have_is_no_loss(campaign, sites):
    given = campaign.Given()
    key = a_master_key(sites, given)
    tell(sites)
    fetch(sites, key)
    given.to_slave(Key(key.key_id, key.secret))
    assert lost(campaign, sites, given) == []


def test_a_key_that_waits_and_cannot_be_fetched_in_peace_is_a_loss(campaign, sites):
    given = campaign.Given()
    key = a_master_key(sites, given)
    tell(sites)
    given.was_refused(key.key_id)
    assert lost(campaign, sites, given) == [
        f"{key.key_id} is not to be had for its slave, no record says why: refused"
    ]


def test_a_delivery_is_an_explanation_only_when_an_answer_was_lost(campaign, sites):
    given = campaign.Given()
    key = a_master_key(sites, given)
    tell(sites)
    fetch(sites, key)
    assert len(lost(campaign, sites, given)) == 1
    given.no_answer("dec_keys", [key.key_id])
    assert lost(campaign, sites, given) == []


@pytest.mark.parametrize("where", ["burn_ordered", "orphaned"])
def test_a_key_that_was_given_up_at_its_masters_site_is_explained(campaign, sites, where):
    given = campaign.Given()
    key = a_master_key(sites, given)
    if where == "burn_ordered":
        sites[0].agreement.burn_key(key.key_id, "test")
    else:
        sites[0].agreement.destroy_block(BlockId(1), "test")
    assert lost(campaign, sites, given) == []


def test_more_keys_astray_than_lost_answers_can_hold_are_a_loss(campaign, sites):
    given = campaign.Given()
    sites[0].allocations.deliver(a_request(21), FOREVER)
    tell(sites)
    given.no_answer("enc_keys")
    assert lost(campaign, sites, given) == [
        "21 keys are recorded as delivered, 1 answers were lost"
    ]
    given.no_answer("enc_keys")
    assert lost(campaign, sites, given) == []


def test_bytes_that_no_site_owns_are_a_loss_and_a_cession_on_its_way_is_none(campaign, sites):
    given = campaign.Given()
    sites[0].agreement.cede(300)
    assert lost(campaign, sites, given) == []
    tell(sites)
    assert lost(campaign, sites, given) == []
    sites[0].database.write(
        lambda tx: tx.write("UPDATE blocks SET own_stop = own_stop - 64 WHERE block_id = 1")
    )
    (said,) = lost(campaign, sites, given)
    assert said.startswith("block 1: ")


def test_a_key_on_its_way_when_the_sites_stop_is_no_disagreement(campaign, sites):
    given = campaign.Given()
    a_master_key(sites, given)
    assert list(campaign.verdict.disagreements(files(sites))) == []
    tell(sites)
    sites[1].allocations.deliver(a_request(), FOREVER)
    sites[1].database.write(lambda tx: tx.write("DELETE FROM outbox"))
    assert len(list(campaign.verdict.disagreements(files(sites)))) == 1
