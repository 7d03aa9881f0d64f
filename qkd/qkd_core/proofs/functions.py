"""Every formula by name: from a JSON object of inputs to every intermediate, under their names.

``in_domain`` says whether the conditions of the theorem hold for the inputs; if not,
``out_of_domain`` says which do not. Where nothing can be evaluated, every number is None and a
length is 0.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from qkd_core.errors import ConfigError
from qkd_core.proofs.formulas import (
    asymptotic,
    device_independent,
    lim2014,
    link_models,
    repeaters,
    rusca2018,
    sampling_bound,
    single_photon,
    stated,
    wiesemann2024,
)

OUT_OF_RANGE = ["the numbers leave the range of double precision"]


def _none(*_: object) -> list[str]:
    return []


@dataclass(frozen=True, slots=True)
class Function:
    """A formula, and what it is about in one line.

    undefined  from the inputs: why nothing can be evaluated, one line each
    unproved   from the inputs and the outcome: why the numbers are those of no theorem
    """

    about: str
    inputs: type[Any]
    outcome: type[Any]
    evaluate: Callable[[Any], Any]
    undefined: Callable[[Any], list[str]] = _none
    unproved: Callable[[Any, Any], list[str]] = _none


FUNCTIONS: Mapping[str, Function] = {
    "bbpssw": Function(
        "Purify two Werner pairs: Bennett et al., PRL 76, 722 (1996).",
        repeaters.Bbpssw,
        repeaters.Purified,
        repeaters.bbpssw,
    ),
    "dejmps": Function(
        "Purify two Bell-diagonal pairs: Deutsch et al., PRL 77, 2818 (1996).",
        repeaters.Dejmps,
        repeaters.DejmpsPurified,
        repeaters.dejmps,
        repeaters.dejmps_undefined,
    ),
    "di_acin2007": Function(
        "Device-independent key per pair, asymptotic: Acin et al., PRL 98, 230501 (2007).",
        device_independent.Violation,
        device_independent.Rate,
        device_independent.di_acin2007,
        device_independent.undefined,
    ),
    "hypergeom_upper_errors": Function(
        "Most errors outside a random sample, exactly.",
        sampling_bound.Sample,
        sampling_bound.ErrorsOutside,
        sampling_bound.hypergeom_upper_errors,
        sampling_bound.undefined,
    ),
    "lim2014": Function(
        "Finite key, two decoys: Lim et al., PRA 89, 022307 (2014), as printed.",
        lim2014.Inputs,
        lim2014.Bounds,
        lim2014.bounds,
        lim2014.undefined,
        lim2014.unproved,
    ),
    "lim2021": Function(
        "Finite key, entangled pairs: Lim et al., PRL 126, 100501 (2021).",
        single_photon.Lim2021,
        single_photon.Lim2021Bounds,
        single_photon.lim2021,
        single_photon.lim2021_undefined,
        single_photon.lim2021_unproved,
    ),
    "ma2005_infinite": Function(
        "Key per pulse, infinitely many decoys: Ma et al., PRA 72, 012326 (2005).",
        asymptotic.InfiniteDecoys,
        asymptotic.InfiniteDecoysRate,
        asymptotic.ma2005_infinite,
        asymptotic.ma2005_infinite_undefined,
    ),
    "ma2005_vacuum_weak": Function(
        "Key per pulse, vacuum and weak decoy: Ma et al., PRA 72, 012326 (2005).",
        asymptotic.VacuumWeak,
        asymptotic.VacuumWeakRate,
        asymptotic.ma2005_vacuum_weak,
        asymptotic.ma2005_vacuum_weak_undefined,
        asymptotic.ma2005_vacuum_weak_unproved,
    ),
    "mfl2007_gain": Function(
        "Coincidences of a pulsed pair source: Ma, Fung, Lo, PRA 76, 012307 (2007).",
        link_models.PairGain,
        link_models.PairGains,
        link_models.mfl2007_gain,
    ),
    "neumann2021": Function(
        "Coincidences of a continuous pair source: Neumann et al., PRA 104, 022406 (2021).",
        link_models.ContinuousPairs,
        link_models.Coincidences,
        link_models.neumann2021,
    ),
    "plob": Function(
        "Most key over a lossy channel: Pirandola et al., Nat. Commun. 8:15043 (2017).",
        asymptotic.Plob,
        asymptotic.PlobBound,
        asymptotic.plob,
    ),
    "rusca2018": Function(
        "Finite key, one decoy: Rusca et al., APL 112, 171104 (2018).",
        rusca2018.Inputs,
        rusca2018.Bounds,
        rusca2018.bounds,
        rusca2018.undefined,
        rusca2018.unproved,
    ),
    "tomamichel2012": Function(
        "Finite key, single photons: Tomamichel et al., Nat. Commun. 3:634 (2012).",
        single_photon.Tomamichel2012,
        single_photon.Tomamichel2012Bounds,
        single_photon.tomamichel2012,
        unproved=single_photon.tomamichel2012_unproved,
    ),
    "tomamichel_leverrier2017": Function(
        "Finite key, single photons: Tomamichel, Leverrier, Quantum 1, 14 (2017).",
        single_photon.TomamichelLeverrier2017,
        single_photon.SplitBounds,
        single_photon.tomamichel_leverrier2017,
        unproved=single_photon.tomamichel_leverrier2017_unproved,
    ),
    "wcp_gain_two_detectors": Function(
        "Clicks of a weak coherent pulse on two threshold detectors.",
        link_models.WcpTwoDetectors,
        link_models.WcpGain,
        link_models.wcp_gain_two_detectors,
    ),
    "werner_chain": Function(
        "Fidelity of a chain of swapped Werner pairs.",
        repeaters.WernerChain,
        repeaters.Fidelity,
        repeaters.werner_chain,
    ),
    "wiesemann2024": Function(
        "Finite key, one decoy: Wiesemann et al., arXiv:2405.16578.",
        wiesemann2024.Inputs,
        wiesemann2024.Bounds,
        wiesemann2024.bounds,
        wiesemann2024.undefined,
        wiesemann2024.unproved,
    ),
}


def function_of(name: str) -> Function:
    """Raises ConfigError for an unknown name."""
    if name not in FUNCTIONS:
        raise ConfigError(f"function {name!r} is unknown, allowed are {', '.join(FUNCTIONS)}")
    return FUNCTIONS[name]


def evaluate(name: str, given: Mapping[str, object]) -> dict[str, object]:
    """Every intermediate of the formula ``name`` for the inputs ``given``.

    Raises ConfigError for an unknown name, and for inputs that are missing, unknown or malformed.
    """
    function = function_of(name)
    inputs = stated.read(function.inputs, given)
    numbers = nothing(function)
    outside = stated.outside_domain(inputs) or function.undefined(inputs)
    if not outside:
        outcome = _outcome(function, inputs)
        outside = OUT_OF_RANGE if outcome is None else function.unproved(inputs, outcome)
        numbers = numbers if outcome is None else stated.shown(outcome)
    return {**numbers, "in_domain": not outside, "out_of_domain": outside}


def nothing(function: Function) -> dict[str, object]:
    """The outcome where none can be evaluated: no number, and no key."""
    kinds = stated.names(function.outcome)
    return {name: 0 if kind is int else None for name, kind in kinds.items()}


def _outcome(function: Function, inputs: object) -> object | None:
    """None where a number is too large or too small for double precision."""
    try:
        outcome: object = function.evaluate(inputs)
    except (ArithmeticError, ValueError):  # an overflow, a division by 0, the floor of no number
        return None
    return outcome if stated.finite(outcome) else None
