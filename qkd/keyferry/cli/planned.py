"""What `keyferry proof plan` plans for, a scenario or a site with its earlier blocks."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from functools import partial
from math import ceil
from pathlib import Path
from typing import Any

from keyferry.bootstrap.planning import first_block
from keyferry.cli.plan_evidence import Evidence, earlier_blocks
from keyferry.cli.plan_table import table, told_of_pairs, told_of_pulses, told_or_refused
from keyferry.config.site import SiteSettings, load
from keyferry.engine.correcting import CorrectionPolicy
from qkd_core.errors import ConfigError, PlanRefused
from qkd_core.photons.reconciliation.stage import disclosed_expected
from qkd_core.proofs.ahead import Ahead
from qkd_core.proofs.expectation import counted
from qkd_core.proofs.link_fit import LinkFit, fitted
from qkd_core.proofs.outlook import Progress
from qkd_core.proofs.pair_planner import Bases, PairLink, optimised_pairs, pair_outlook
from qkd_core.proofs.planner import Link, optimised, outlook, with_decoys
from qkd_core.proofs.terms import Terms
from qkd_core.proofs.theorems import theorem_for
from qkd_core.types.ids import LinkId
from qkd_core.types.monitors import MonitorSettings
from qkd_core.types.plans import (
    DecoySettings,
    LinkKind,
    LinkModel,
    PairModel,
    PairSettings,
    SecurityPolicy,
)
from qkd_core.types.reconciliation import CORRECTING, Method
from qkd_core.types.vendor import VendorSettings
from qkd_sim_link.physics.chain import expected_repeater_model
from qkd_sim_link.physics.decoy_bb84 import expected_model
from qkd_sim_link.physics.pairs import expected_pair_model
from qkd_sim_link.scenarios.links import TaggedScenario, load_link
from qkd_sim_link.scenarios.pairs import PairScenario
from qkd_sim_link.scenarios.pulses import Scenario

POLICY = SecurityPolicy(eps_sec=1e-9, eps_cor=1e-15, abort_rate=0.01)  # beside a scenario
BLOCKS = 50  # the newest, to plan from
BLOCKS_IN_FLIGHT = 4  # as a site file has it by default
ROUNDED = 6  # 2000.0000000000002 gates are 2000: the product carries rounding noise
S_PER_US, PS_PER_US = 1e-6, 1e6
OF_SITES = ("blocks", "dead_time_us")
OF_SCENARIOS = ("theorem", "eps_sec", "eps_cor", "abort_rate", "correction")
OF_PULSES = ("pulses", "decoys")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The options of the command; None, or nothing, for one that was not given."""

    blocks: int | None
    dead_time_us: float | None
    pulses: int | None
    seconds: float | None
    decoys: int | None
    theorem: str | None
    eps_sec: float | None
    eps_cor: float | None
    abort_rate: float | None
    correction: tuple[str, ...]
    load: float
    round_trip_s: float
    progress: Progress

    def refuse(self, options: tuple[str, ...], why: str) -> None:
        """Raise ConfigError where one of ``options`` was given."""
        for name in options:
            if getattr(self, name) not in (None, ()):
                raise ConfigError(f"--{name.replace('_', '-')}: {why}")

    @property
    def policy(self) -> SecurityPolicy:
        """Raises ConfigError."""
        given = {name: getattr(self, name) for name in ("eps_sec", "eps_cor", "abort_rate")}
        return replace(POLICY, **{name: x for name, x in given.items() if x is not None})


@dataclass(frozen=True, slots=True)
class Planned:
    """The outcome, for programs and for people."""

    told: dict[str, Any]
    text: str


def for_scenario(name: str, asked: Asked) -> Planned:
    """Raises ConfigError, and PlanRefused where no settings give key."""
    asked.refuse(OF_SITES, "only with --site")
    loaded = load_link(name)
    if not isinstance(loaded, Scenario):
        asked.refuse(OF_PULSES, f"{name} is a link of entangled pairs")
        told = _pairs(loaded, asked)
    else:
        asked.refuse(("seconds",), f"{name} is a link of decoy pulses, whose blocks have --pulses")
        settings = _as_long(loaded.source.settings(), asked)
        link = Link(
            ahead=_ahead(loaded.name, settings, asked), model=partial(expected_model, loaded)
        )
        told, _ = _pulses(link, asked)
    told = {"scenario": name} | told
    return Planned(told, f"{name}: {_blocks(told)}\n{table(told, ('scenario', 'chosen'))}")


def for_site(file: Path, asked: Asked) -> Planned:
    """Raises ConfigError; PlanRefused where no settings give key, or counts fit no link."""
    asked.refuse(OF_SCENARIOS, "the site file says it")
    asked.refuse(("seconds",), "only with a SCENARIO of entangled pairs")
    site = load(file)
    settings = site.link.settings
    if isinstance(settings, VendorSettings):
        raise ConfigError(f"{file}: link.keys: of a vendor's keys there is nothing to plan")
    if not isinstance(settings, DecoySettings):
        raise ConfigError(
            f"{file}: link.pairs: the counts of blocks do not say what another window or another"
            " splitter gives; plan pairs from a SCENARIO"
        )
    n_dead = _dead_gates(site, settings.clock_hz, asked.dead_time_us)
    evidence = earlier_blocks(site.store, settings, asked.blocks or BLOCKS)
    fit = fitted(counted(evidence.tallies, settings), settings, n_dead)
    if isinstance(site.link.model, LinkModel):
        fit = replace(fit, spread=site.link.model.spread)
    site = replace(site, link=replace(site.link, settings=_as_long(settings, asked)))
    ahead = first_block(site, asked.load, asked.round_trip_s)
    told, chosen = _pulses(Link(ahead=ahead, model=fit.model), asked)
    lines = {"pulses": _listed(chosen), "model": _listed(_rounded(fit.model(chosen)))}
    told = {"site": str(file), "evidence": evidence.as_json(), "fit": asdict(fit), **told}
    text = (
        f"{file}: {_blocks(told)}",
        *_rests_on(evidence, fit),
        table(told, ("site file", "chosen")),
        "\nfor both site files; link.model is what A expects until it has seen blocks:",
        *(line for name, items in lines.items() for line in _as_toml(name, items)),
    )
    return Planned(told | {"site_files": {"link": lines}}, "\n".join(text))


def _pulses(link: Link, asked: Asked) -> tuple[dict[str, Any], DecoySettings]:
    """What is in force beside what is chosen, and the settings that are."""
    own, terms = link.settings, link.ahead.terms
    start = with_decoys(own, asked.decoys) if asked.decoys else own
    theorem = asked.theorem or (terms.theorem if start.kind is own.kind else None)
    begin = replace(terms, settings=start, theorem=_theorem(start.kind, theorem))
    chosen = optimised(replace(link, ahead=replace(link.ahead, terms=begin)), asked.progress)
    result = {
        "n_pulses": chosen.plan.settings.n_pulses,
        "link_s": chosen.plan.link_s,
        "policy": asdict(terms.policy),
        "own": told_or_refused(lambda: told_of_pulses(outlook(link, own))),
        "chosen": told_of_pulses(chosen),
    }
    return result, chosen.plan.settings


def _pairs(loaded: TaggedScenario, asked: Asked) -> dict[str, Any]:
    settings = replace(loaded.settings, link_s=asked.seconds or loaded.settings.link_s)
    ahead = _ahead(loaded.name, settings, asked)
    theorem = _theorem(settings.kind, asked.theorem)
    link = PairLink(
        ahead=replace(ahead, terms=replace(ahead.terms, theorem=theorem)),
        p_key_basis=loaded.receiver.p_key_basis,
        model=partial(_expected_pairs, loaded),
    )
    bases, chosen = optimised_pairs(link, asked.progress)
    return {
        "link_s": chosen.plan.link_s,
        "policy": asdict(ahead.terms.policy),
        "own": told_or_refused(lambda: told_of_pairs(link.begin, pair_outlook(link, link.begin))),
        "chosen": told_of_pairs(bases, chosen),
    }


def _expected_pairs(loaded: TaggedScenario, bases: Bases) -> PairModel:
    if isinstance(loaded, PairScenario):
        split = replace(loaded.receiver, p_key_basis=bases.p_key_basis)
        return expected_pair_model(replace(loaded, receiver=split), bases.settings)
    receiver = replace(loaded.receiver, p_key_basis=bases.p_key_basis)
    return expected_repeater_model(replace(loaded, receiver=receiver), bases.settings)


def scenario_ahead(
    name: str,
    settings: DecoySettings | PairSettings,
    policy: SecurityPolicy = POLICY,
    methods: Iterable[Method] = CORRECTING,
    load_and_trip_s: tuple[float, float] = (0.0, 0.0),
) -> Ahead:
    """A block of a scenario's link, as an engine with this policy asks for it; by default idle.

    load_and_trip_s  how busy the machine is, and the round trip to the peer
    """
    load, round_trip_s = load_and_trip_s
    terms = Terms(
        link_id=LinkId(name), settings=settings, policy=policy, segment_pads=0, config_digest=""
    )
    correction = CorrectionPolicy(
        methods=frozenset(methods),
        block_s=settings.link_s,
        blocks_in_flight=BLOCKS_IN_FLIGHT,
        errors_count=isinstance(settings, DecoySettings),
        round_trip_s=lambda: round_trip_s,
        load=lambda: load,
    )
    return Ahead(terms=terms, correction=correction, disclosed_expected=disclosed_expected)


def _ahead(name: str, settings: DecoySettings | PairSettings, asked: Asked) -> Ahead:
    """With what the options say."""
    methods = map(Method, asked.correction or CORRECTING)
    busy = asked.load, asked.round_trip_s
    return scenario_ahead(name, settings, asked.policy, methods, busy)


def _as_long(settings: DecoySettings, asked: Asked) -> DecoySettings:
    return replace(settings, n_pulses=asked.pulses or settings.n_pulses)


def _theorem(kind: LinkKind, named: str | None) -> str:
    """Its name. Raises ConfigError for one that makes no keys of such a link."""
    try:
        return theorem_for(kind, named).name
    except PlanRefused as error:
        raise ConfigError(f"--theorem: {error}") from error


def _dead_gates(site: SiteSettings, clock_hz: float, dead_time_us: float | None) -> float:
    """Without clicks after one. Raises ConfigError where nobody says so."""
    if dead_time_us is None:
        monitors = site.link.monitors
        if not isinstance(monitors, MonitorSettings):
            raise ConfigError(
                f"--dead-time-us is missing, and {site.file} has no link.monitors.dead_time_us:"
                " without it gains say nothing of other settings"
            )
        dead_time_us = monitors.dead_time_ps / PS_PER_US
    gates = ceil(round(dead_time_us * S_PER_US * clock_hz, ROUNDED))
    return max(0, gates - 1)  # the last of them is live again


def _rests_on(evidence: Evidence, fit: LinkFit) -> tuple[str, str]:
    n, newest, oldest = len(evidence.blocks), evidence.blocks[0], evidence.blocks[-1]
    return (
        f"from {n} earlier block{'s' if n > 1 else ''}, {oldest} to {newest},"
        f" {', '.join(evidence.provenance)}; digest of their certificates {evidence.digest}",
        f"fit: transmittance {fit.eta:.4g}, dark counts and afterpulses {fit.y:.3g} a live gate,"
        f" misalignment {fit.e_d:.3g}, {fit.n_dead:,} dead gates;"
        f" clicks within {fit.clicks_off:.2%} of it, errors within {fit.errors_off:.1%}",
    )


def _blocks(told: dict[str, Any]) -> str:
    pulses = f"{told['n_pulses']:,} pulses, " if "n_pulses" in told else ""
    return f"blocks of {pulses}{told['link_s']:g} s"


def _rounded(model: LinkModel) -> LinkModel:
    """To as many digits as the fit is worth, and more."""
    gain, qber = (tuple(float(f"{x:.6g}") for x in each) for each in (model.gain, model.qber))
    return replace(model, gain=gain, qber=qber)


def _as_toml(name: str, items: dict[str, Any]) -> list[str]:
    """Numbers and lists of numbers are written in Python as in TOML."""
    return ["", f"[link.{name}]", *(f"{key} = {value!r}" for key, value in items.items())]


def _listed(noun: DecoySettings | LinkModel) -> dict[str, Any]:
    """As TOML takes it."""
    items = asdict(noun).items()
    return {key: list(value) if isinstance(value, tuple) else value for key, value in items}
