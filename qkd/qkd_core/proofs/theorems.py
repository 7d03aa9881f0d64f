"""Every theorem by its name: those that make keys, and those that reproduce published figures."""

from collections.abc import Iterable
from dataclasses import asdict
from math import ceil
from typing import Any

from qkd_core.errors import PlanRefused
from qkd_core.proofs import (
    bbm92,
    decoy1_exact,
    decoy2_exact,
    lim2014,
    one_decoy,
    two_decoys,
    vendor_asserted,
)
from qkd_core.proofs.correctness import correctness_cost_bits
from qkd_core.proofs.fung import FUNG_ERRORS_MIN
from qkd_core.proofs.ledger import HEALTH_EPSILON
from qkd_core.proofs.premises import premises_of
from qkd_core.proofs.theorem import Derived, KeyTheorem, Theorem
from qkd_core.types.evaluation import Spent
from qkd_core.types.plans import DecoyPlan, LinkKind, PairPlan
from qkd_core.types.vendor import VendorPlan

DEFAULTS = {
    LinkKind.ONE_DECOY: decoy1_exact.THEOREM,
    LinkKind.TWO_DECOYS: decoy2_exact.THEOREM,
    LinkKind.PAIRS: bbm92.THEOREM,
    LinkKind.VENDOR_KEYS: vendor_asserted.THEOREM,
}

FIXED_LENGTH = (
    "Pulses, thresholds, leak budget and length are fixed before the block and enforced.",
    "The seed of the universal_2 hash is fresh and drawn after the detections are fixed.",
    "The classical channel is authentic.",
)
DECOYS = (
    "Pulses have a random phase, so that photon numbers are Poissonian with the agreed means.",
    "Intensity, basis and bit are chosen at random and independently for each pulse; nothing"
    " else about a pulse depends on them.",
    "The chance of a detection does not depend on Bob's basis, nor on earlier detections;"
    " double clicks give a random bit.",
    *FIXED_LENGTH,
)


def theorem_of(name: str) -> Theorem:
    """The theorem of that name. Raises PlanRefused."""
    if name not in _THEOREMS:
        raise _refused(name, "is unknown", DEFAULTS)
    return _THEOREMS[name]


def theorem_for(kind: LinkKind, name: str | None) -> Theorem:
    """What makes keys of such links: the named theorem, or the default where none is named.

    Raises PlanRefused for one that is unknown or makes no keys of such links.
    """
    name = DEFAULTS[kind] if name is None else name
    theorem = _THEOREMS.get(name)
    if theorem is None:
        raise _refused(name, "is unknown", (kind,))
    if not theorem.covers(kind):
        raise _refused(name, f"makes no key of {kind.value}", (kind,))
    return theorem


def _refused(name: str, why: str, kinds: Iterable[LinkKind]) -> PlanRefused:
    """With those that make keys of links of such ``kinds``."""
    makers = {t.name for kind in kinds for t in _THEOREMS.values() if t.covers(kind)}
    return PlanRefused(f"theorem {name[:40]!r} {why}, allowed are {', '.join(sorted(makers))}")


def kind_of(name: str) -> LinkKind:
    """What links the theorem of that name makes keys of. Raises PlanRefused."""
    return theorem_of(name).for_keys().kind


def names() -> tuple[str, ...]:
    """Of all theorems."""
    return tuple(_THEOREMS)


def _decoy1_exact(plan: DecoyPlan) -> Derived:
    found = decoy1_exact.bounds(one_decoy.premises_of(plan))
    return _derived(found, one_decoy.secrecy(plan.policy))


def _decoy2_exact(plan: DecoyPlan) -> Derived:
    return _derived(decoy2_exact.bounds(premises_of(plan)), two_decoys.secrecy(plan.policy))


def _lim2014(plan: DecoyPlan) -> Derived:
    """Raises PlanRefused for so few errors that gamma says nothing."""
    found = lim2014.bounds(premises_of(plan))
    if ceil(found.v_test_1) < FUNG_ERRORS_MIN:
        raise PlanRefused(
            f"theorem 'lim2014' is outside its domain: gamma rests on {found.v_test_1:.3g} errors"
            f" of single photons, allowed is at least {FUNG_ERRORS_MIN}"
        )
    return _derived(found, two_decoys.secrecy(plan.policy))


def _bbm92(plan: PairPlan) -> Derived:
    """Raises PlanRefused where the largest key needs a longer hash than the least one pays for."""
    policy = plan.policy
    found = bbm92.bounds(
        bbm92.Premises(
            n_key=plan.key_count.low,
            n_test=plan.test_count_min,
            test_errors_max=plan.test_errors_max,
            leak_ec=plan.leak_ec_max,
            eps_sec=policy.eps_sec,
            eps_cor=policy.eps_cor,
        )
    )
    if correctness_cost_bits(policy.eps_cor, plan.n_key_max) > found.correctness_cost:
        raise PlanRefused(f"eps_cor {policy.eps_cor:g} is too small for {plan.n_key_max} bits")
    parts = (
        Spent(what="secrecy: phase errors by sampling", epsilon=found.eps_test, times=2),
        Spent(what="secrecy: privacy amplification", epsilon=found.eps_hash, times=1),
    )
    return _derived(found, parts)


def _vendor_asserted(plan: VendorPlan) -> Derived:
    policy = plan.policy
    found = vendor_asserted.bounds(plan.settings.n_bits, policy.eps_sec, policy.eps_cor)
    parts = (
        Spent(what="secrecy: privacy amplification", epsilon=found.eps_hash, times=1),
        Spent(what="secrecy: the verdict on the vendor's keys", epsilon=HEALTH_EPSILON, times=1),
    )
    return _derived(found, parts)


def _derived(found: Any, parts: tuple[Spent, ...]) -> Derived:
    bounds = asdict(found)
    return Derived(n_secret=bounds.pop("n_secret"), bounds=bounds, secrecy=parts)


def _published(name: str, source: str, why: str) -> Theorem:
    """A theorem whose length `proofs.functions` evaluates for given counts."""
    return Theorem(
        name=name,
        version="1",
        source=source,
        assumptions=FIXED_LENGTH,
        departures=(),
        domain=f"it reproduces published figures ({why})",
        keys=None,
    )


_THEOREMS = {
    theorem.name: theorem
    for theorem in (
        Theorem(
            name=decoy1_exact.THEOREM,
            version="1",
            source="Rusca et al., APL 112, 171104 (2018), appendix, with exact tails",
            assumptions=DECOYS,
            departures=(
                "The most vacuum events of both bases from the errors of the decoy in the test"
                " basis by exact binomial tails; Rusca et al. and Wiesemann et al."
                " (arXiv:2405.16578) take the errors of each basis, those of the key known after"
                " error correction only. Thresholds come before it here, as in Lim et al., PRA 89,"
                " 022307 (2014), whose composition and length this is.",
                "Expected counts by Clopper-Pearson limits (Hoeffding 1956, Anderson and Samuels"
                " 1967), not by Hoeffding's inequality of 1963.",
                "Single-photon errors from all errors of each intensity, the smaller of the two,"
                " not from their difference.",
                "Phase errors by exact sampling without replacement, not by gamma.",
                "17 parts of eps_sec, not 19; Wiesemann et al. leave the vacuum events out of the"
                " length and need fewer.",
                "Evaluated at the weakest ends of accepted intervals.",
                "Clipped to what was counted, rounded outward, one bit off for the last steps.",
            ),
            domain="any counts of fewer than 2^46 events",
            keys=KeyTheorem(kind=LinkKind.ONE_DECOY, derive=_decoy1_exact),
        ),
        Theorem(
            name=decoy2_exact.THEOREM,
            version="1",
            source="Lim et al., PRA 89, 022307 (2014), Eqs (1) to (4), with exact tails",
            assumptions=DECOYS,
            departures=(
                "Expected counts by Clopper-Pearson limits (Hoeffding 1956, Anderson and Samuels"
                " 1967), not by Hoeffding's inequality of 1963.",
                "Phase errors by exact sampling without replacement, not by gamma.",
                "Evaluated at the weakest ends of accepted intervals.",
                "Clipped to what was counted, rounded outward, one bit off for the last steps.",
            ),
            domain="any counts of fewer than 2^46 events",
            keys=KeyTheorem(kind=LinkKind.TWO_DECOYS, derive=_decoy2_exact),
        ),
        Theorem(
            name=lim2014.THEOREM,
            version="1",
            source="Lim et al., PRA 89, 022307 (2014), Eqs (1) to (5)",
            assumptions=DECOYS,
            departures=(
                "Phase errors not below the exact bound of sampling without replacement.",
                "Evaluated at the weakest ends of accepted intervals.",
                "Clipped to what was counted, rounded outward, one bit off for the last steps.",
            ),
            domain=f"at least {FUNG_ERRORS_MIN} single-photon errors of the test",
            keys=KeyTheorem(kind=LinkKind.TWO_DECOYS, derive=_lim2014),
        ),
        Theorem(
            name=bbm92.THEOREM,
            version="1",
            source="Tomamichel, Lim, Gisin, Renner, Nat. Commun. 3:634 (2012)",
            assumptions=(
                "Squashing at both ends; double clicks give a random bit.",
                "The chance of a detection does not depend on the basis, nor on earlier ones.",
                "Bases are chosen at random and independently, and said after the detections.",
                "Which clicks are a coincidence depends on their times alone.",
                "Announced times tell nothing of the outcomes: the delays of the detectors are"
                " alike as far as the resolution shows.",
                "A block is fixed in time, never by its counts; all of its coincidences are used.",
                *FIXED_LENGTH,
            ),
            departures=(
                "Phase errors by exact sampling without replacement, not by Serfling's inequality.",
                "Thresholds of the key and the test are least numbers, and all coincidences are"
                " hashed or tested; the paper fixes both numbers.",
                "eps_sec is split 62 : 2 between sampling and hashing.",
                "The errors of the key are given away, so only bits about the key count.",
                "One bit off for rounding.",
            ),
            domain="any counts of fewer than 2^46 events",
            keys=KeyTheorem(kind=LinkKind.PAIRS, derive=_bbm92),
        ),
        Theorem(
            name=vendor_asserted.THEOREM,
            version="1",
            source="the word of the vendor who is named in the plan: no theorem",
            assumptions=(
                "Every key of the vendor's boxes is uniform and known to nobody else: this is the"
                " vendor's word, and nothing here can check it.",
                "The boxes give each key once, to the two sites alone; that none comes twice is"
                " checked by its ID.",
                "Nobody listens between a site and its box: the way there is TLS, which is secure"
                " against bounded computers only.",
                "The length is fixed before a key is asked for.",
                "The seed of the universal_2 hash is fresh and drawn after the keys are taken.",
                "The classical channel is authentic.",
            ),
            departures=(),
            domain="any number of whole keys, fewer than 2^46 bits; eps_sec of at least 2^-59",
            keys=KeyTheorem(kind=LinkKind.VENDOR_KEYS, derive=_vendor_asserted),
        ),
        _published(
            "rusca2018",
            "Rusca et al., APL 112, 171104 (2018)",
            "its treatment of acceptance tests has a gap, and gamma is no bound for few errors",
        ),
        _published(
            "wiesemann2024",
            "Wiesemann et al., arXiv:2405.16578",
            "its error correction comes before the test; 'decoy1-exact' has no need of that",
        ),
        _published(
            "tomamichel2012",
            "Tomamichel, Lim, Gisin, Renner, Nat. Commun. 3:634 (2012), Theorem 2",
            "'bbm92' is the same with exact sampling",
        ),
        _published(
            "tomamichel_leverrier2017",
            "Tomamichel and Leverrier, Quantum 1, 14 (2017)",
            "'bbm92' samples exactly",
        ),
        _published(
            "lim2021",
            "Lim, Xu, Pan, Ekert, PRL 126, 100501 (2021)",
            "its parameters are chosen for each length, which no plan does yet",
        ),
    )
}
