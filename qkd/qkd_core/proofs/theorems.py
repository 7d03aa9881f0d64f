"""Every theorem by its name: those that make keys, and those that reproduce published figures."""

from collections.abc import Iterable
from dataclasses import asdict
from math import ceil
from typing import Any

from qkd_core.errors import PlanRefused
from qkd_core.proofs import bbm92, decoy2_exact, lim2014
from qkd_core.proofs.correctness import correctness_cost_bits
from qkd_core.proofs.fung import FUNG_ERRORS_MIN
from qkd_core.proofs.theorem import Derived, KeyTheorem, Theorem
from qkd_core.proofs.two_decoys import premises_of, secrecy
from qkd_core.types.evaluation import Spent
from qkd_core.types.plans import BlockPlan, DecoyPlan, PairPlan

DEFAULTS: dict[type[BlockPlan], str] = {
    DecoyPlan: decoy2_exact.THEOREM,
    PairPlan: bbm92.THEOREM,
}
LIGHT: dict[type[BlockPlan], str] = {DecoyPlan: "decoy pulses", PairPlan: "entangled pairs"}

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


def theorem_for(kind: type[BlockPlan], name: str | None) -> Theorem:
    """What plans of ``kind`` are made by: the named theorem, or the default where none is named.

    Raises PlanRefused for one that is unknown or makes no keys of such plans.
    """
    name = DEFAULTS[kind] if name is None else name
    theorem = _THEOREMS.get(name)
    if theorem is None:
        raise _refused(name, "is unknown", (kind,))
    if not theorem.covers(kind):
        raise _refused(name, f"makes no key of {LIGHT[kind]}", (kind,))
    return theorem


def _refused(name: str, why: str, kinds: Iterable[type[BlockPlan]]) -> PlanRefused:
    """With those that make keys of plans of such ``kinds``."""
    makers = {t.name for kind in kinds for t in _THEOREMS.values() if t.covers(kind)}
    return PlanRefused(f"theorem {name[:40]!r} {why}, allowed are {', '.join(sorted(makers))}")


def kind_of(name: str) -> type[BlockPlan]:
    """What plans the theorem of that name makes keys of. Raises PlanRefused."""
    return theorem_of(name).for_keys().plans


def names() -> tuple[str, ...]:
    """Of all theorems."""
    return tuple(_THEOREMS)


def _decoy2_exact(plan: DecoyPlan) -> Derived:
    return _derived(decoy2_exact.bounds(premises_of(plan)), secrecy(plan.policy))


def _lim2014(plan: DecoyPlan) -> Derived:
    """Raises PlanRefused for so few errors that gamma says nothing."""
    found = lim2014.bounds(premises_of(plan))
    if ceil(found.v_test_1) < FUNG_ERRORS_MIN:
        raise PlanRefused(
            f"theorem 'lim2014' is outside its domain: gamma rests on {found.v_test_1:.3g} errors"
            f" of single photons, allowed is at least {FUNG_ERRORS_MIN}"
        )
    return _derived(found, secrecy(plan.policy))


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
            keys=KeyTheorem(plans=DecoyPlan, derive=_decoy2_exact),
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
            keys=KeyTheorem(plans=DecoyPlan, derive=_lim2014),
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
            keys=KeyTheorem(plans=PairPlan, derive=_bbm92),
        ),
        _published(
            "rusca2018",
            "Rusca et al., APL 112, 171104 (2018)",
            "its treatment of acceptance tests has a gap, and gamma is no bound for few errors",
        ),
        _published(
            "wiesemann2024",
            "Wiesemann et al., arXiv:2405.16578",
            "one decoy: error correction comes before the test, which no plan does yet",
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
