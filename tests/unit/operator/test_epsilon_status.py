"""What a security officer reads of the link's epsilon: in JSON, as a line, and in the audit."""

import json
import time

import pytest

from keyferry.cli.operate import status_lines
from keyferry.operator.socket import Caller
from keyferry.store.checks.examples import a_preshared_secret
from qkd_core.types.authentication import Lane
from qkd_core.types.epsilon import EpsilonLimits
from qkd_core.types.ids import BlockId
from qkd_core.types.plans import SecurityPolicy

POLICY = SecurityPolicy(eps_sec=1e-9, eps_cor=1e-12, abort_rate=0.01)


def status(operated):
    told = operated.orders.handle({"order": "status"}, Caller(1001))
    assert json.loads(json.dumps(told)) == told
    return told


def line(told, **changes):
    epsilon = told["epsilon"]
    if epsilon["since"] is not None:
        epsilon = epsilon | {"since": time.time() - 3 * 3600 - 5} | changes
    lines = {each[:12].strip(): each[13:] for each in status_lines(told | {"epsilon": epsilon})}
    return lines["epsilon"]


def said(store, prefix):
    rows = store.database.rows("SELECT event FROM audit ORDER BY chain, seq")
    events = [json.loads(row[0]) for row in rows]
    return [(e["action"], e["fields"]) for e in events if e["action"].startswith(prefix)]


def test_status_shows_the_sum_its_parts_and_its_limits(operated):
    store = operated.store
    assert line(status(operated)) == "none: no pre-shared secret came yet"
    store.pads.install_preshared(a_preshared_secret())
    store.blocks.begin(BlockId(11), POLICY)
    store.blocks.record_discarded(BlockId(11), "NotAccepted", "too many errors")
    store.pads.take(Lane.POOL, older_than=None, proved=False)
    told = status(operated)
    assert told["epsilon"] == {
        "link_id": operated.site.link.link_id,
        "n_blocks": 1,
        "blocks": pytest.approx(1.001e-9, rel=1e-12),
        "n_tags": 16,
        "tags": 16 * (2**28 + 1) / 2**128,
        "total": pytest.approx(1.001e-9, rel=1e-12),
        "since": operated.clock.time,
        "limits": {"alarm": None, "limit": None},
        "alarmed": False,
        "exhausted": False,
    }
    assert line(told) == "1.01e-9 in 3 h: 1 blocks 1.01e-9, 16 tags 1.27e-29; no limit"


def test_an_alarm_and_the_end_are_shown_and_recorded_once(operated):
    store = operated.store
    store.pads.install_preshared(a_preshared_secret())
    store.epsilon.set_limits(EpsilonLimits(alarm=1e-9, limit=2.5e-9))
    store.blocks.begin(BlockId(11), POLICY)
    assert line(status(operated)).endswith("; alarm 1e-09, limit 2.5e-09; ALARM")
    store.blocks.begin(BlockId(12), POLICY)
    for _ in range(3):
        assert not store.epsilon.allows(POLICY)
    assert line(status(operated)).endswith("; EXHAUSTED: no block is begun")
    assert status(operated)["alarms"] == {"epsilon": 1, "epsilon_exhausted": 1}
    limits = {"alarm": 1e-9, "limit": 2.5e-9}
    spent = pytest.approx(1.001e-9, rel=1e-12)
    assert said(store, "epsilon_") == [
        ("epsilon_limits", limits),
        ("epsilon_alarm", {"spent": spent} | limits),
        ("epsilon_exhausted", {"spent": pytest.approx(2.002e-9, rel=1e-12)} | limits),
    ]
    begun = {"eps_sec": 1e-9, "eps_cor": 1e-12}
    assert said(store, "block_begun") == [
        ("block_begun", {"block_id": 11} | begun),
        ("block_begun", {"block_id": 12} | begun),
    ]


def test_the_audit_keeps_what_the_secret_before_has_cost(operated):
    store = operated.store
    store.pads.install_preshared(a_preshared_secret())
    store.blocks.begin(BlockId(11), POLICY)
    store.witness.rekey(a_preshared_secret(seed=3), "test")
    spent = pytest.approx(1.001e-9, rel=1e-12)
    assert said(store, "epsilon_") == [("epsilon_closed", {"spent": spent, "blocks": 1, "tags": 0})]
    assert status(operated)["epsilon"]["total"] == 0
