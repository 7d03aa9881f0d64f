"""The inter-KME views for notices, cessions and comparing: strict in, and no key byte out."""

import json

import pytest
from flask import Flask

from keyferry.reconcile.responder import ReconcileResponder
from keyferry.store.checks.examples import (
    LATER,
    LINK,
    SetClock,
    a_block,
    a_claim,
    a_request,
)
from keyferry.store.memory import MemoryStore
from qkd_api import problems
from qkd_api.cessions import cessions
from qkd_api.notices import notice_as_json, notice_from_json, notices
from qkd_api.reconcile import reconcile, view_as_json, view_from_json
from qkd_core.types.agreement import (
    BurntKey,
    Cession,
    DestroyedBlock,
    Notice,
    ZeroisedLink,
)
from qkd_core.types.ids import BlockId, KmeId, Side
from qkd_core.types.keys import BlockState, KeyRange

DEEDS = [
    Cession(KeyRange(BlockId(1), 32, 64), Side.B),
    BurntKey(a_claim("one", (1, 0, 32)), "test"),
    DestroyedBlock(BlockId(1), "test"),
    ZeroisedLink(BlockId(1), "test"),
]


@pytest.fixture
def store():
    made = MemoryStore(link_id=LINK, side=Side.B, kme_id=KmeId("kme-b"), clock=SetClock())
    made.blocks.store_pending(a_block(1))
    made.blocks.make_available(BlockId(1))
    return made


@pytest.fixture
def ask(store):
    app = Flask(__name__)
    problems.install(app)
    app.register_blueprint(notices(store.agreement))
    app.register_blueprint(cessions(lambda stock: int(stock.free_bytes)))
    app.register_blueprint(reconcile(ReconcileResponder(store)))
    client = app.test_client()

    def post(path, body):
        answer = client.post(f"/peer/v1/{path}", json=body)
        return answer.status_code, answer.get_json()

    return post


@pytest.mark.parametrize("deed", DEEDS, ids=lambda deed: type(deed).__name__)
def test_a_notice_comes_back_from_json_as_it_went(deed):
    notice = Notice("id", deed)
    assert notice_from_json(json.loads(json.dumps(notice_as_json(notice)))) == notice


@pytest.mark.parametrize("deed", DEEDS, ids=lambda deed: type(deed).__name__)
def test_every_notice_is_acted_on_once(ask, deed):
    body = {"notices": [notice_as_json(Notice("id", deed))] * 2}
    answers = [{"notice_id": "id", "state": "done"}] * 2
    assert ask("notices", body) == (200, {"answers": answers})


def test_a_notice_that_is_a_violation_is_refused_and_the_others_are_acted_on(ask, store):
    bad = Notice("bad", Cession(KeyRange(BlockId(1), 3000, 3032), Side.B))
    good = Notice("good", DestroyedBlock(BlockId(1), "test"))
    status, answer = ask("notices", {"notices": [notice_as_json(bad), notice_as_json(good)]})
    assert status == 200
    assert [each["state"] for each in answer["answers"]] == ["refused", "done"]
    assert store.blocks.state(BlockId(1)) is BlockState.DESTROYED


GOOD = notice_as_json(Notice("id", DEEDS[0]))


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"notices": "all"},
        {"notices": [{}]},
        {"notices": [GOOD | {"kind": "gift"}]},
        {"notices": [GOOD | {"notice_id": ""}]},
        {"notices": [GOOD | {"notice_id": "x" * 65}]},
        {"notices": [GOOD | {"range": [1, 2]}]},
        {"notices": [GOOD | {"range": [1, "2", 3]}]},
        {"notices": [GOOD | {"owner": "c"}]},
        {"notices": [{"notice_id": "id", "kind": "burnt_key", "reason": "x"}]},
        {"notices": [{"notice_id": "id", "kind": "destroyed_block", "block_id": 1}]},
        {"notices": [GOOD] * 101},
    ],
)
def test_a_malformed_notice_is_400_and_changes_nothing(ask, store, body):
    before = len(store.events)
    status, answer = ask("notices", body)
    assert (status, "message" in answer) == (400, True)
    assert len(store.events) == before


def test_a_site_that_is_short_is_told_how_much_it_gets(ask):
    stock = {"free_bytes": 7, "drained_bytes_per_s": 1.5}
    assert ask("cessions/wanted", stock) == (200, {"ceded_bytes": 7})
    for wrong in ({}, {"free_bytes": -1, "drained_bytes_per_s": 0}, {"free_bytes": 1.5}):
        assert ask("cessions/wanted", wrong)[0] == 400


def test_records_of_the_asked_interval_are_shown(ask, store):
    store.allocations.accept(a_claim("one", (1, 0, 32)))
    status, answer = ask("reconcile/records", {"blocks": [9], "after": 0, "up_to": 5})
    assert status == 200
    view = view_from_json(answer)
    assert [(record.block_id, record.state.value) for record in view.records] == [
        (1, "available"),
        (9, "none"),
    ]
    assert view_from_json(json.loads(json.dumps(view_as_json(view)))) == view
    assert view.records[0].taken[0].key_id == "one"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("records", {}),
        ("records", {"blocks": ["1"], "after": 0, "up_to": 0}),
        ("records", {"blocks": list(range(257)), "after": 0, "up_to": 0}),
        ("hash", {}),
        ("hash", {"key": {}, "ranges": [], "digest": "00" * 16}),
        ("hash", {"key": "x", "ranges": [], "digest": "zz"}),
        ("repair", {}),
        ("repair", {"destroy": [1.5], "lost": [], "burn": []}),
        ("repair", {"destroy": [], "lost": [{"block_id": 1, "state": "odd"}], "burn": []}),
        ("repair", {"destroy": [], "lost": [], "burn": [1]}),
    ],
)
def test_a_malformed_comparison_is_400_and_changes_nothing(ask, store, path, body):
    before = len(store.events)
    assert ask(f"reconcile/{path}", body)[0] == 400
    assert len(store.events) == before


def test_a_hash_under_a_key_that_cannot_be_had_is_refused(ask, store):
    key = {
        "key_id": "k",
        "link_id": LINK,
        "owner": "a",
        "master": "m",
        "slaves": ["s"],
        "ranges": [[7, 0, 32]],
        "n_bits": 256,
        "expires_at": LATER,
    }
    body = {"key": key, "ranges": [[1, 0, 8]], "digest": "00" * 16}
    status, answer = ask("reconcile/hash", body)
    assert status == 409
    assert "one-time key cannot be had" in answer["message"]


def test_no_answer_of_these_views_has_a_key_byte(ask, store):
    (key,) = store.allocations.deliver(a_request(), LATER)
    texts = [
        json.dumps(ask("reconcile/records", {"blocks": [1], "after": 0, "up_to": 9})[1]),
        json.dumps(ask("notices", {"notices": [GOOD]})[1]),
    ]
    for text in texts:
        assert key.secret.hex() not in text
