"""No delivery may walk a table that grows with what was delivered before."""

import pytest

from keyferry.store.checks.examples import (
    LATER,
    MASTER,
    NOW,
    SLAVE,
    a_block,
    a_claim,
    a_request,
)
from keyferry.store.checks.pads import pool_name
from keyferry.store.policy_figures import ACTIVE, NEWEST, UNDER_WAY
from qkd_core.types.authentication import Lane
from qkd_core.types.ids import BlockId, Side

GROWING = ("keys", "taken", "audit", "chunks", "held", "served", "outbox", "blocks", "refreshes")


def traced(store, call):
    """The statements that ``call`` runs on the writing connection, without their values."""
    statements = []
    trace = store.database.write(lambda tx: tx.connection).set_trace_callback
    trace(statements.append)
    call()
    trace(None)
    verbs = ("SELECT", "INSERT", "UPDATE", "DELETE")
    return [text for text in statements if text.startswith(verbs)]


def plan(store, statement):
    return [str(row[3]) for row in store.database.rows(f"EXPLAIN QUERY PLAN {statement}")]


def deliver(store):
    store.allocations.deliver(a_request(3), LATER)


def accept(store):
    store.allocations.accept(a_claim("peer's", (1, 2048, 2100), owner=Side.B))


def deliver_by_id(store):
    store.allocations.deliver_by_id(SLAVE, MASTER, ["early"], NOW)


def expire(store):
    store.allocations.expire(NOW)


def acknowledge(store):
    store.allocations.acknowledge(["early"])


def verify_a_tag(store):
    store.pads.advance(pool_name(1, 0, Side.B))


def take_a_pad(store):
    store.pads.take(Lane.POOL, older_than=None, proved=False)


CALLS = [deliver, accept, deliver_by_id, expire, acknowledge, verify_a_tag, take_a_pad]


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.__name__)
def test_no_statement_walks_a_growing_table(open_site, call):
    store = open_site()
    store.blocks.store_pending(a_block(1))
    store.blocks.make_available(BlockId(1))
    store.allocations.accept(a_claim("early", (1, 3000, 3100), owner=Side.B))
    statements = traced(store, lambda: call(store))
    assert statements
    # The newest row of a table is found at the end of its own order: one row is read.
    statements = [text for text in statements if "ORDER BY block_id DESC LIMIT 1" not in text]
    steps = [step for text in statements for step in plan(store, text)]
    walks = [step for step in steps if step.startswith("SCAN") and step.split()[1] in GROWING]
    # A partial index holds only what is free or due, so walking it is the answer itself.
    walks = [step for step in walks if "USING INDEX blocks_free" not in step]
    assert walks == []


def test_a_walk_would_be_seen(open_site):
    store = open_site()
    (step,) = plan(store, "SELECT * FROM keys WHERE master = 'x'")
    assert step.startswith("SCAN keys")


def test_outbox_and_figures_walk_no_keys(open_site):
    store = open_site()
    statement = "SELECT key_id FROM outbox JOIN keys USING (key_id) ORDER BY position LIMIT 10"
    steps = plan(store, statement)
    assert steps[0].startswith("SCAN outbox")  # unacknowledged rows only, up to the limit
    assert steps[1].startswith("SEARCH keys")


def test_figures_of_policies_walk_no_runs_that_are_over(open_site):
    """What is active, in grace or under way is the answer itself."""
    store = open_site()
    statements = read_by(store, store.figures)
    about_runs = [text for text in statements if "refreshes" in text]
    assert len(about_runs) == len([NEWEST, ACTIVE, UNDER_WAY])
    steps = [step for text in about_runs for step in plan(store, text)]
    walks = [step for step in steps if step.startswith("SCAN")]
    assert walks == [
        "SCAN each VIRTUAL TABLE INDEX 1:",  # the names of the policies
        "SCAN refreshes USING INDEX refreshes_done",
        "SCAN refreshes USING INDEX refreshes_unfinished",
    ]


def read_by(store, call):
    """The statements that ``call`` runs on the reading connection."""
    statements = []
    trace = store.database.read(lambda connection: connection).set_trace_callback
    trace(statements.append)
    call()
    trace(None)
    return [text for text in statements if text.startswith("SELECT")]
