"""Orders: each destructive one is asked twice, names who ordered it, and is told to the peer."""

import json

import pytest

from keyferry.operator.socket import Caller
from keyferry.store.checks.examples import LATER, a_preshared_secret, a_request
from qkd_core.errors import ConfigError, KeyNotFound, PeerViolation
from qkd_core.types.agreement import BurntKey, ZeroisedLink
from qkd_core.types.authentication import Lane
from qkd_core.types.ids import Side

ALICE, BOB = Caller(1001), Caller(1002)


def audited(store, action):
    rows = store.database.rows("SELECT event FROM audit ORDER BY chain, seq")
    events = [json.loads(row[0]) for row in rows]
    return [event["fields"] for event in events if event["action"] == action]


def test_burning_a_key_takes_two_calls_of_one_or_two_people(operated):
    (held,) = operated.store.allocations.hold(a_request(), LATER)
    request = {"order": "burn", "key_id": held.key_id}

    asked = operated.orders.handle(request, ALICE)
    assert asked["would"] == f"burn key {held.key_id} at both sites"
    operated.store.allocations.read_held(held.key_id)  # nothing has happened yet

    done = operated.orders.handle(request | {"confirm": asked["code"]}, BOB)
    assert done["was"] == "allocated"
    assert done["peer_told"] is True
    with pytest.raises(KeyNotFound):
        operated.store.allocations.read_held(held.key_id)
    assert [type(deed) for deed in operated.errands.told] == [BurntKey]
    (record,) = audited(operated.store, "burn_ordered")
    assert record["reason"] == "ordered by uid 1001, confirmed by uid 1002"


@pytest.mark.parametrize("wrong", ["code", "order", "time", "again"])
def test_a_confirmation_that_does_not_hold_does_nothing(operated, wrong):
    first, second = operated.store.allocations.hold(a_request(2), LATER)
    request = {"order": "burn", "key_id": first.key_id}
    code = operated.orders.handle(request, ALICE)["code"]
    match wrong:
        case "code":
            code = "00000000"
        case "order":
            request["key_id"] = second.key_id
        case "time":
            operated.clock.time += 301
        case "again":
            operated.orders.handle(request | {"confirm": code}, ALICE)
    told = len(operated.errands.told)
    with pytest.raises(ConfigError, match="no such code for this order"):
        operated.orders.handle(request | {"confirm": code}, ALICE)
    assert len(operated.errands.told) == told
    assert len(audited(operated.store, "order_refused")) == 1
    operated.store.allocations.read_held(second.key_id)


def test_an_unknown_key_is_said_before_anything_is_asked(operated):
    with pytest.raises(KeyNotFound, match="not known at this site"):
        operated.orders.handle({"order": "burn", "key_id": "none"}, ALICE)
    assert audited(operated.store, "order_asked") == []


def confirmed(operated, request):
    code = operated.orders.handle(request, ALICE)["code"]
    return operated.orders.handle(request | {"confirm": code}, ALICE)


def test_a_zeroised_link_is_erased_here_and_told_even_while_the_peer_is_away(operated):
    operated.store.pads.install_preshared(a_preshared_secret())
    operated.errands.away = True
    done = confirmed(operated, {"order": "zeroise", "what": "link"})
    assert done["peer_told"] is False
    assert operated.store.blocks.stored_bytes() == 0
    assert operated.store.pads.remaining(Side.A, Lane.POOL) == 0
    (notice,) = operated.store.agreement.notices(10)
    assert isinstance(notice.deed, ZeroisedLink)
    assert operated.site.root_key.exists()


def test_a_zeroised_site_has_no_data_keys_and_no_root_key(operated):
    confirmed(operated, {"order": "zeroise", "what": "site"})
    assert not operated.site.root_key.exists()
    rows = operated.store.database.rows("SELECT count(*) FROM epochs WHERE wrapped IS NOT NULL")
    assert rows == [(0,)]
    assert operated.store.figures().oldest_epoch is None
    assert operated.store.figures().alarms == {"link_zeroised": 1, "site_zeroised": 1}
    with pytest.raises(ConfigError, match="link or site"):
        operated.orders.handle({"order": "zeroise", "what": "all"}, ALICE)


def test_a_rekey_starts_the_link_afresh_and_erases_the_file(operated, tmp_path):
    operated.store.pads.install_preshared(a_preshared_secret())
    file = tmp_path / "new.secret"
    file.write_bytes(a_preshared_secret(seed=9))
    file.chmod(0o600)
    done = confirmed(operated, {"order": "rekey", "file": str(file)})
    assert done["rekeyed"] == operated.site.link.link_id
    assert not file.exists()
    assert operated.store.blocks.stored_bytes() == 0
    assert operated.store.pads.remaining(Side.A, Lane.POOL) > 0


def test_the_peer_is_told_before_the_root_key_goes_and_it_goes_whatever_the_peer_answers(
    operated, monkeypatch
):
    seen = []

    def tell() -> bool:
        seen.append(operated.site.root_key.exists())
        raise PeerViolation("test")

    monkeypatch.setattr(operated.errands, "tell", tell)
    with pytest.raises(PeerViolation):
        confirmed(operated, {"order": "zeroise", "what": "site"})
    assert seen == [True]
    assert not operated.site.root_key.exists()


def test_a_zeroised_site_is_not_rekeyed_since_it_could_never_be_opened_again(operated, tmp_path):
    file = tmp_path / "new.secret"
    file.write_bytes(a_preshared_secret(seed=9))
    file.chmod(0o600)
    confirmed(operated, {"order": "zeroise", "what": "site"})
    with pytest.raises(ConfigError, match="root key is gone"):
        operated.orders.handle({"order": "rekey", "file": str(file)}, ALICE)


def test_a_rekey_that_is_ordered_again_after_a_kill_only_erases_the_file(operated, tmp_path):
    operated.store.witness.rekey(a_preshared_secret(seed=9), "killed after it")
    operated.store.pads.take(Lane.POOL, older_than=None, proved=False)
    left = operated.store.pads.remaining(Side.A, Lane.POOL)
    file = tmp_path / "new.secret"
    file.write_bytes(a_preshared_secret(seed=9))
    file.chmod(0o600)
    confirmed(operated, {"order": "rekey", "file": str(file)})
    assert not file.exists()
    assert operated.store.pads.remaining(Side.A, Lane.POOL) == left


def test_a_file_of_zeros_is_no_secret(operated, tmp_path):
    file = tmp_path / "new.secret"
    file.write_bytes(bytes(len(a_preshared_secret())))
    file.chmod(0o600)
    with pytest.raises(ConfigError, match="all zeros"):
        confirmed(operated, {"order": "rekey", "file": str(file)})
    assert operated.store.blocks.stored_bytes() > 0


@pytest.mark.parametrize("mode", [0o644, None])
def test_a_secret_that_cannot_be_used_is_refused_before_anything_is_asked(operated, tmp_path, mode):
    file = tmp_path / "new.secret"
    if mode is not None:
        file.write_bytes(a_preshared_secret(seed=9))
        file.chmod(mode)
    with pytest.raises(ConfigError):
        operated.orders.handle({"order": "rekey", "file": str(file)}, ALICE)
    assert audited(operated.store, "order_asked") == []


def test_status_says_what_an_operator_wants_to_know(operated):
    operated.store.allocations.deliver(a_request(3), LATER)
    told = operated.orders.handle({"order": "status"}, ALICE)
    assert json.loads(json.dumps(told)) == told
    assert told["blocks"] == {"available": 2, "pending": 0}
    assert told["free_bytes"] == {"a": 4096 - 96, "b": 4096}
    assert told["store"]["stored_bytes"] == 8192 - 96
    assert told["untold"] == {"allocations": 3, "notices": 0}
    assert told["oldest_epoch"] == {"epoch": 1, "created_at": operated.clock.time}
    assert told["peer"] == {"kme": "kme-b", "answers": True}
    assert told["alarms"] == {}
    assert told["witness"]["state"] == "new"
    assert told["audit"] == {"writable": True, "signed": 0, "countersigned": 0}
    assert told["reconciled_at"] is None
    operated.store.records.note_reconciled(2, 8192, 0)
    again = operated.orders.handle({"order": "status"}, ALICE)
    assert again["reconciled_at"] == int(operated.clock.time)


@pytest.mark.parametrize("request_", [{}, {"order": "format"}, {"order": 3}, {"order": "burn"}])
def test_an_order_that_is_not_known_or_not_whole_is_refused(operated, request_):
    with pytest.raises(ConfigError):
        operated.orders.handle(request_, ALICE)
