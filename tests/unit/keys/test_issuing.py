"""The rules of ETSI GS QKD 014 that are not HTTP; two KMEs that call each other directly."""

from dataclasses import dataclass, field

import pytest

from keyferry.store.checks.examples import LINK, SetClock, a_block
from keyferry.store.memory import MemoryStore
from qkd_core.errors import (
    BadKeyRequest,
    ConfigError,
    KeyNotFound,
    KeysExhausted,
    NotAuthorised,
    PeerUnavailable,
    PeerViolation,
)
from qkd_core.keys.issuing import DAY_S, NOT_FOUND, Issuing, Limits, Neighbourhood
from qkd_core.keys.quotas import Quotas
from qkd_core.types.ids import BlockId, KeyId, KmeId, Provenance, SaeId, Side
from qkd_core.types.keys import Allocation, KeyRequest

ALICE, BOB, BEN, CAROL = SaeId("alice"), SaeId("bob"), SaeId("ben"), SaeId("carol")
KME_A, KME_B, KME_C = KmeId("kme-a"), KmeId("kme-b"), KmeId("kme-c")
SAES = {ALICE: KME_A, SaeId("anna"): KME_A, BOB: KME_B, BEN: KME_B, CAROL: KME_C}
SAES |= {SaeId(f"b{i}"): KME_B for i in range(10)}


@dataclass
class Neighbour:
    """The other KME, reached by a call; ``store`` is None while it cannot be reached."""

    store: MemoryStore | None = None
    pulled: list[KeyId] = field(default_factory=list)

    def pull(self, key_id: KeyId) -> Allocation:
        if self.store is None:
            raise PeerUnavailable("no answer")
        self.pulled.append(key_id)
        found = self.store.allocations.allocation(key_id)
        if found is None:
            raise KeyNotFound(f"key {key_id} is not of this KME")
        return found


class Town:
    """Both KMEs of one link."""

    def __init__(self) -> None:
        self.clock = SetClock()
        self.a, self.b = (
            MemoryStore(link_id=LINK, side=side, kme_id=kme, clock=self.clock)
            for side, kme in ((Side.A, KME_A), (Side.B, KME_B))
        )
        self.to_a, self.to_b = Neighbour(self.a), Neighbour(self.b)
        self.at_a = self._issuing(self.a, self.to_b, KME_A, KME_B)
        self.at_b = self._issuing(self.b, self.to_a, KME_B, KME_A)
        for store in (self.a, self.b):
            store.blocks.store_pending(a_block(1, n_bytes=8192))
            store.blocks.make_available(BlockId(1))

    def _issuing(self, store, peer, kme_id, peer_kme_id) -> Issuing:
        return Issuing(
            blocks=store.blocks,
            allocations=store.allocations,
            peer=peer,
            clock=self.clock,
            neighbours=Neighbourhood(kme_id=kme_id, peer_kme_id=peer_kme_id, saes=SAES),
            quotas=Quotas({}, store.pool, self.clock.now),
        )


@pytest.fixture
def town() -> Town:
    return Town()


def request(**changes) -> KeyRequest:
    asked = {"master": ALICE, "slaves": (BOB,), "number": 1, "n_bits": 256}
    return KeyRequest(**(asked | changes))


def ids(keys):
    return [key.key_id for key in keys]


def test_master_and_slave_get_equal_keys(town):
    keys = town.at_a.get_keys(request(number=3))
    assert town.at_b.get_keys_with_ids(BOB, ALICE, ids(keys)) == keys
    assert len({key.secret for key in keys}) == 3


def test_keys_are_given_in_the_order_that_was_asked(town):
    keys = town.at_a.get_keys(request(number=3))
    backwards = tuple(reversed(keys))
    assert town.at_b.get_keys_with_ids(BOB, ALICE, ids(backwards)) == backwards


def test_a_known_key_is_not_asked_of_the_peer(town):
    keys = town.at_a.get_keys(request())
    town.b.allocations.accept(town.a.allocations.outbox(1)[0])
    town.to_a.store = None
    assert town.at_b.get_keys_with_ids(BOB, ALICE, ids(keys)) == keys


def test_an_unreachable_peer_consumes_nothing(town):
    known, unknown = town.at_a.get_keys(request(number=2))
    town.b.allocations.accept(town.a.allocations.outbox(1)[0])
    town.to_a.store = None
    with pytest.raises(PeerUnavailable):
        town.at_b.get_keys_with_ids(BOB, ALICE, ids([known, unknown]))
    town.to_a.store = town.a
    assert town.at_b.get_keys_with_ids(BOB, ALICE, ids([known, unknown])) == (known, unknown)


def test_a_key_expires_after_its_time_to_live(town):
    town.at_a.get_keys(request())
    (row,) = town.a.allocations.outbox(1)
    assert row.expires_at == town.clock.time + DAY_S
    town.clock.time += DAY_S
    with pytest.raises(KeyNotFound, match=NOT_FOUND) as refusal:
        town.at_b.get_keys_with_ids(BOB, ALICE, [row.key_id])
    assert refusal.value.reason == "expired"


def test_one_missing_key_consumes_none(town):
    keys = town.at_a.get_keys(request(number=2))
    with pytest.raises(KeyNotFound, match=NOT_FOUND) as refusal:
        town.at_b.get_keys_with_ids(BOB, ALICE, [*ids(keys), KeyId("none")])
    assert refusal.value.reason is None  # nobody is entitled to a key that does not exist
    town.at_b.get_keys_with_ids(BOB, ALICE, ids(keys)[:1])
    with pytest.raises(KeyNotFound, match=NOT_FOUND) as refusal:
        town.at_b.get_keys_with_ids(BOB, ALICE, ids(keys))
    assert refusal.value.reason == "consumed"
    assert town.at_b.get_keys_with_ids(BOB, ALICE, ids(keys)[1:]) == keys[1:]


def test_an_sae_that_was_not_named_is_not_authorised(town):
    keys = town.at_a.get_keys(request())
    with pytest.raises(NotAuthorised):
        town.at_b.get_keys_with_ids(BEN, ALICE, ids(keys))
    assert town.at_b.get_keys_with_ids(BOB, ALICE, ids(keys)) == keys


def test_each_additional_slave_gets_its_copy(town):
    keys = town.at_a.get_keys(request(slaves=(BOB, BEN)))
    for slave in (BOB, BEN):
        assert town.at_b.get_keys_with_ids(slave, ALICE, ids(keys)) == keys


def test_an_answer_for_another_key_is_a_violation(town):
    first, second = ids(town.at_a.get_keys(request(number=2)))
    pull = town.to_a.pull
    town.to_a.pull = lambda key_id: pull(second)
    with pytest.raises(PeerViolation, match=f"asked for key {first}"):
        town.at_b.get_keys_with_ids(BOB, ALICE, [first])


def test_an_answer_that_claims_this_sites_half_is_a_violation(town):
    (row,) = town.b.allocations.hold(request(master=BOB, slaves=(ALICE,)), 2e9)
    town.to_a.pull = lambda key_id: row
    town.b = MemoryStore(link_id=LINK, side=Side.B, kme_id=KME_B, clock=town.clock)
    fresh = town._issuing(town.b, town.to_a, KME_B, KME_A)
    with pytest.raises(PeerViolation, match="claimed as of side b"):
        fresh.get_keys_with_ids(BOB, ALICE, [row.key_id])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_bits": 257}, "^size shall be a multiple of 8$"),
        ({"n_bits": 7}, "^size shall be a multiple of 8$"),
        ({"n_bits": 56}, "size is 56, allowed are 64 to 65536"),
        ({"n_bits": 65544}, "size is 65544, allowed are 64 to 65536"),
        ({"n_bits": 0}, "size is 0, allowed are 64 to 65536"),
        ({"n_bits": -64}, "size is -64, allowed are 64 to 65536"),
        ({"number": 0}, "number is 0, allowed are 1 to 128"),
        ({"number": 129}, "number is 129, allowed are 1 to 128"),
        ({"slaves": ()}, "no slave SAE is named"),
        ({"slaves": (SaeId("zoe"),)}, "slave SAE zoe is unknown"),
        ({"slaves": (ALICE,)}, "master and slave are both SAE alice"),
        ({"slaves": (SaeId("anna"),)}, "slave SAE anna belongs to this KME too"),
        ({"slaves": (CAROL,)}, "slave SAE carol belongs to KME kme-c: no link there"),
        ({"slaves": (BOB, BOB)}, "slave SAE bob is named twice"),
        ({"slaves": (BOB, ALICE)}, "master and slave are both SAE alice"),
        ({"slaves": (BOB, CAROL)}, "additional slave SAE carol belongs to KME kme-c"),
        (
            {"slaves": (BOB, *(SaeId(f"b{i}") for i in range(9)))},
            "9 additional slave SAEs, the limit is 8",
        ),
    ],
)
def test_a_bad_request_is_told_value_and_limit(town, changes, message):
    free = town.a.blocks.free_bytes()
    with pytest.raises(BadKeyRequest, match=message):
        town.at_a.get_keys(request(**changes))
    assert town.a.blocks.free_bytes() == free


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        ((BOB, ALICE, []), BadKeyRequest, "0 key IDs, allowed are 1 to 128"),
        ((BOB, ALICE, [str(i) for i in range(129)]), BadKeyRequest, "129 key IDs"),
        ((BOB, ALICE, ["x", "y", "x"]), BadKeyRequest, "key ID x is named twice"),
        ((BOB, BOB, ["x"]), BadKeyRequest, "master and slave are both SAE bob"),
        ((BOB, SaeId("zoe"), ["x"]), BadKeyRequest, "master SAE zoe is unknown"),
        ((BOB, BEN, ["x"]), BadKeyRequest, "master SAE ben belongs to this KME too"),
        ((ALICE, BOB, ["x"]), NotAuthorised, "alice does not belong to KME kme-b"),
        ((SaeId("zoe"), ALICE, ["x"]), NotAuthorised, "zoe does not belong to KME kme-b"),
    ],
)
def test_a_bad_call_with_key_ids_is_told_why(town, call, error, message):
    with pytest.raises(error, match=message):
        town.at_b.get_keys_with_ids(*call)
    assert town.to_a.pulled == []


@pytest.mark.parametrize("master", [SaeId("zoe"), BOB, CAROL])
def test_a_master_of_another_kme_is_not_authorised(town, master):
    with pytest.raises(NotAuthorised):
        town.at_a.get_keys(request(master=master))
    with pytest.raises(NotAuthorised):
        town.at_a.status(master, BEN)


def test_an_empty_store_says_when_to_come_back(town):
    town.at_a.get_keys(request(n_bits=8 * 4000))
    with pytest.raises(KeysExhausted, match="1024 bits asked, 768 are free") as refusal:
        town.at_a.get_keys(request(number=4))
    assert refusal.value.retry_after_s == 1


def test_status_counts_what_could_be_served(town):
    status = town.at_a.status(ALICE, BOB)
    assert (status.source_kme, status.target_kme) == (KME_A, KME_B)
    assert (status.key_size, status.min_key_size, status.max_key_size) == (256, 64, 65536)
    assert (status.max_key_per_request, status.max_sae_id_count) == (128, 8)
    assert status.stored_key_count == 128
    assert status.provenances == (Provenance.SIMULATED,)
    town.at_a.get_keys(request(n_bits=64))
    assert town.at_a.status(ALICE, BOB).stored_key_count == 127
    with pytest.raises(BadKeyRequest, match="zoe is unknown"):
        town.at_a.status(ALICE, SaeId("zoe"))


def test_stored_keys_never_exceed_the_greatest_count(town):
    small = Limits(max_key_count=5)
    at_a = Issuing(
        blocks=town.a.blocks,
        allocations=town.a.allocations,
        peer=town.to_b,
        clock=town.clock,
        neighbours=town.at_a.neighbours,
        quotas=town.at_a.quotas,
        limits=small,
    )
    status = at_a.status(ALICE, BOB)
    assert status.stored_key_count <= status.max_key_count


@pytest.mark.parametrize(
    "changes",
    [
        {"key_size": 100},
        {"min_key_size": 512},
        {"max_key_size": 128},
        {"max_keys_per_request": 0},
        {"max_key_count": 0},
        {"time_to_live_s": 0.0},
        {"max_additional_slaves": -1},
    ],
)
def test_limits_that_make_no_sense_are_refused(changes):
    with pytest.raises(ConfigError):
        Limits(**changes)
