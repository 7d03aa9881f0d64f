"""What an `EpsilonLedger` promises, and who spends: begun blocks and tags."""

from fractions import Fraction

from keyferry.store.checks.examples import (
    SiteStore,
    TwoSites,
    a_block,
    a_preshared_secret,
    expect,
    refuses,
)
from keyferry.store.checks.pads import pool_name, take
from qkd_core.errors import AuthenticationFailed, BlockDiscarded
from qkd_core.types.epsilon import EpsilonLimits
from qkd_core.types.ids import BlockId, Side
from qkd_core.types.plans import SecurityPolicy

POLICY = SecurityPolicy(eps_sec=1e-9, eps_cor=1e-12, abort_rate=0.01)
FINER = SecurityPolicy(eps_sec=4e-26, eps_cor=4e-26, abort_rate=0.01)  # lost in a sum of floats
TAG = Fraction((1 << 32) // 16 + 1, 1 << 128)  # (L + 1) / 2^128, of a message of 4 GiB
HEALTH = Fraction(1, 1 << 60)  # of the verdict on a key's health
PAD_RUN = 16  # the most pads that one mark may cover


def begin(site: SiteStore, *numbers: int, policy: SecurityPolicy = POLICY) -> None:
    for number in numbers:
        site.blocks.begin(BlockId(number), policy)


def exactly(policy: SecurityPolicy) -> Fraction:
    return Fraction(policy.eps_sec) + Fraction(policy.eps_cor) + HEALTH


def nothing_is_spent_at_first(sites: TwoSites) -> None:
    figures = sites.a.epsilon.figures()
    expect(figures.n_blocks == figures.n_tags == 0, "nothing happened")
    expect(figures.total == figures.blocks == figures.tags == 0, "nothing is spent")
    expect(figures.since is None, "no secret came")
    expect(figures.limits == EpsilonLimits(), "nothing is limited")
    expect(sites.a.epsilon.allows(POLICY), "a block may begin")


def a_block_that_begins_spends_whatever_becomes_of_it(sites: TwoSites) -> None:
    blocks = sites.a.blocks
    begin(sites.a, 1, 2, 3)
    expect(blocks.newest() == 3, "the number is used at once")
    blocks.store_pending(a_block(1))
    blocks.make_available(BlockId(1))
    blocks.store_pending(a_block(2))
    blocks.destroy(BlockId(2), "test")
    blocks.record_discarded(BlockId(3), "NotAccepted", "too many errors")
    figures = sites.a.epsilon.figures()
    expect(figures.n_blocks == 3, "each, once")
    spent = Fraction(figures.blocks)
    expect(3 * exactly(POLICY) <= spent, "not less than was spent")
    expect(spent < 3 * exactly(POLICY) * Fraction(1 + 1e-12), "nor more but for rounding")
    expect(sites.a.figures().epsilon == figures, "shown with the other figures")


def a_number_that_is_only_used_spends_nothing(sites: TwoSites) -> None:
    """Settling learns of blocks that only the peer began."""
    sites.a.blocks.note_used(BlockId(5))
    sites.a.blocks.record_discarded(BlockId(6), "PlanRefused", "no key")
    expect(sites.a.epsilon.figures().n_blocks == 0, "no block began here")


def no_block_begins_twice(sites: TwoSites) -> None:
    begin(sites.a, 2)
    sites.a.blocks.note_used(BlockId(4))
    for number in (2, 1, 4):
        refuses(BlockDiscarded, begin, sites.a, number)
    expect(sites.a.epsilon.figures().n_blocks == 1, "what is refused spends nothing")
    begin(sites.a, 5)
    expect(sites.a.epsilon.figures().n_blocks == 2, "a new number does")


def small_costs_are_not_lost_beside_large_ones(sites: TwoSites) -> None:
    begin(sites.a, 1)
    before = sites.a.epsilon.figures()
    for number in range(2, 12):
        begin(sites.a, number, policy=FINER)
    after = sites.a.epsilon.figures()
    expect(after.n_blocks == 11, "blocks of all policies count")
    expect(Fraction(after.blocks) >= exactly(POLICY) + 10 * exactly(FINER), "nothing is lost")
    expect(after.blocks > before.blocks, "also where the sum of floats would stand still")


def every_tag_spends(sites: TwoSites) -> None:
    sites.share(a_block(1))
    for _ in range(3):
        take(sites.a)
    sent = sites.a.epsilon.figures()
    expect(3 <= sent.n_tags <= PAD_RUN, "at least those that were sent, at most their run")
    expect(Fraction(sent.tags) >= sent.n_tags * TAG, "each by the longest message")

    pads = sites.b.pads
    pads.advance(pool_name(1, 0))
    pads.burn(pool_name(1, 2))
    pads.burn(pool_name(1, 2))
    for used in (pool_name(1, 0), pool_name(1, 2), pool_name(1, 4, Side.B)):
        refuses(AuthenticationFailed, pads.expected, used)
    seen = sites.b.epsilon.figures()
    expect(seen.n_tags == 2, "one verified, one failed; what is not looked at is no try")
    expect(Fraction(seen.total) >= 2 * TAG, "tags alone are a sum too")


def the_alarm_comes_once_with_the_block_that_reaches_it(sites: TwoSites) -> None:
    site = sites.a
    site.epsilon.set_limits(EpsilonLimits(alarm=3e-9))
    begin(site, 1, 2)
    expect(not site.epsilon.figures().alarmed, "two blocks are below")
    expect("epsilon" not in site.figures().alarms, "no alarm")
    begin(site, 3, 4)
    expect(site.epsilon.figures().alarmed, "shown")
    expect(site.figures().alarms["epsilon"] == 1, "one alarm")
    expect(site.epsilon.allows(POLICY), "an alarm stops nothing")
    site.epsilon.set_limits(EpsilonLimits(alarm=3e-9))
    expect(site.figures().alarms["epsilon"] == 1, "the same limits again are no news")
    site.epsilon.set_limits(EpsilonLimits(alarm=6e-9))
    expect(not site.epsilon.figures().alarmed, "a higher value is not reached")
    site.epsilon.set_limits(EpsilonLimits(alarm=4e-9))
    expect(site.figures().alarms["epsilon"] == 2, "one below the sum is, at once")


def no_block_is_allowed_beyond_the_limit(sites: TwoSites) -> None:
    site = sites.a
    site.epsilon.set_limits(EpsilonLimits(alarm=2e-9, limit=4e-9))
    begin(site, 1, 2)
    expect(site.epsilon.allows(POLICY), "a third block fits")
    begin(site, 3)
    for _ in range(2):
        expect(not site.epsilon.allows(POLICY), "a fourth would cost the thousandth part too much")
    expect(site.epsilon.figures().exhausted, "shown")
    expect(site.figures().alarms["epsilon_exhausted"] == 1, "one alarm")
    expect(
        site.epsilon.figures().limits == EpsilonLimits(alarm=2e-9, limit=4e-9), "with its limits"
    )
    site.epsilon.set_limits(EpsilonLimits(limit=4.1e-9))
    expect(site.epsilon.allows(POLICY), "a higher limit lets it go on")
    expect(not site.epsilon.figures().exhausted, "which is shown")


def a_new_secret_begins_a_new_sum(sites: TwoSites) -> None:
    site = sites.a
    site.pads.install_preshared(a_preshared_secret())
    since = site.epsilon.figures().since
    expect(since is not None, "the sum is since the secret came")
    site.epsilon.set_limits(EpsilonLimits(alarm=1e-9, limit=1.5e-9))
    begin(site, 1)
    take(site)
    expect(not site.epsilon.allows(POLICY), "the limit is reached")
    site.pads.install_preshared(a_preshared_secret())
    expect(site.epsilon.figures().n_blocks == 1, "the same secret again changes nothing")

    site.witness.rekey(a_preshared_secret(seed=2), "test")
    figures = site.epsilon.figures()
    expect(figures.n_blocks == figures.n_tags == 0, "another one begins anew")
    expect(figures.limits == EpsilonLimits(alarm=1e-9, limit=1.5e-9), "under the same limits")
    expect(not figures.alarmed and not figures.exhausted, "which are not reached")
    expect(site.epsilon.allows(POLICY), "the link goes on")
    begin(site, 2)
    expect(site.figures().alarms["epsilon"] == 2, "and alarms again")


EPSILON_CHECKS = [
    nothing_is_spent_at_first,
    a_block_that_begins_spends_whatever_becomes_of_it,
    a_number_that_is_only_used_spends_nothing,
    no_block_begins_twice,
    small_costs_are_not_lost_beside_large_ones,
    every_tag_spends,
    the_alarm_comes_once_with_the_block_that_reaches_it,
    no_block_is_allowed_beyond_the_limit,
    a_new_secret_begins_a_new_sum,
]
