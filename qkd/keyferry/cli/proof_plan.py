"""The settings of a link with which a block gives the most key."""

import json
import sys
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from qkd_core.proofs.planner import Link, Outlook

THOUSAND = 1000  # from here on no digits behind the point
ROWS = (
    ("signal, decoy, near vacuum (photons)", "intensities"),
    ("sent with probability", "probabilities"),
    ("key basis with probability", "p_key_basis"),
    ("key-basis clicks expected", "key_counts"),
    ("test-basis clicks expected", "test_counts"),
    ("errors of the test expected", "test_errors"),
    ("error rate of the key", "qber"),
    ("phase error rate, at most", "phi"),
    ("errors corrected by", "correction"),
    ("leak of error correction, at most (bits)", "leak_ec_max"),
    ("secret bits of a block", "n_secret"),
    ("net key of a block (bits)", "net_bits"),
    ("net key rate (bit/s of the link)", "net_rate_hz"),
)


@click.command()
@click.argument("scenario")
@click.option("--pulses", type=click.IntRange(1, 2**40), help="Of a block; else the scenario's.")
@click.option("--theorem", help="By its name; else the default of decoy pulses.")
@click.option("--eps-sec", type=float, default=1e-9, show_default=True, help="Secrecy of a block.")
@click.option("--eps-cor", type=float, default=1e-15, show_default=True, help="Correctness.")
@click.option("--abort-rate", type=float, default=0.01, show_default=True, help="At most.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def plan(*, scenario: str, pulses: int | None, as_json: bool, **policy: Any) -> None:
    """Choose intensities, probabilities and bases for the most key, before any block.

    SCENARIO is a name or a .toml file of decoy pulses. Its physics says what to expect; its own
    settings stand beside what is chosen. The net key is that of a block in the mean: secret bits
    less those that its tags take, times 1 - the abort rate. It is that of a machine with nothing
    else to do: a busy one may have to correct errors by a method that tells more.

    \b
    Example:
      keyferry proof plan direct-25km
      keyferry proof plan direct-25km --pulses 100000000 --json
    """
    from qkd_core.errors import PlanRefused
    from qkd_core.proofs.planner import optimised, outlook, own_settings

    link = _link(scenario, pulses, policy)
    chosen = optimised(link, _progress)
    try:
        own = _told(outlook(link, own_settings(link)))
    except PlanRefused as error:
        own = {"refused": str(error)}
    result = {
        "scenario": scenario,
        "theorem": chosen.plan.theorem,
        "n_pulses": chosen.settings.n_pulses,
        "link_s": chosen.settings.link_s,
        "policy": chosen.plan.as_json()["policy"],
        "own": own,
        "chosen": _told(chosen),
    }
    click.echo(json.dumps(result, indent=2) if as_json else _text(result))


def _link(scenario: str, pulses: int | None, policy: dict[str, Any]) -> "Link":
    """The scenario as the planner takes it. Raises ConfigError."""
    from dataclasses import replace
    from functools import partial

    from keyferry.engine.correcting import CorrectionPolicy
    from qkd_core.photons.reconciliation.stage import disclosed_expected
    from qkd_core.proofs.planner import Link
    from qkd_core.proofs.terms import Terms
    from qkd_core.types.ids import LinkId
    from qkd_core.types.plans import SecurityPolicy
    from qkd_core.types.reconciliation import Method
    from qkd_sim_link.physics.decoy_bb84 import expected_model
    from qkd_sim_link.scenario import load

    loaded = load(scenario)
    settings = loaded.source.settings()
    settings = replace(settings, n_pulses=pulses or settings.n_pulses)
    terms = Terms(
        link_id=LinkId(loaded.name),
        settings=settings,
        theorem=_theorem(policy.pop("theorem")),
        policy=SecurityPolicy(**policy),
        segment_pads=0,
        config_digest="",
    )
    correction = CorrectionPolicy(
        methods=frozenset(Method),
        block_s=settings.link_s,
        blocks_in_flight=1,
        errors_count=True,
        round_trip_s=lambda: 0.0,
        load=lambda: 0.0,
    )
    return Link(
        terms=terms,
        model=partial(expected_model, loaded),
        correction=correction,
        disclosed_expected=disclosed_expected,
    )


def _theorem(named: str | None) -> str:
    """Its name. Raises ConfigError for one that makes no keys of pulses."""
    from qkd_core.errors import ConfigError, PlanRefused
    from qkd_core.proofs.theorems import theorem_for
    from qkd_core.types.plans import DecoyPlan

    try:
        return theorem_for(DecoyPlan, named).name
    except PlanRefused as error:
        raise ConfigError(f"--theorem: {error}") from error


def _progress(done: int, total: int) -> None:
    if sys.stderr.isatty():
        click.echo(f"\rclimb {done} of {total}" if done < total else "\r\x1b[K", err=True, nl=False)


def _told(found: "Outlook") -> dict[str, Any]:
    """What can be expected, as plain numbers."""
    from qkd_core.proofs.expectation import expected

    mean, how = expected(found.settings, found.model), found.plan.reconciliation
    return {
        "intensities": found.settings.intensities,
        "probabilities": found.settings.probabilities,
        "p_key_basis": found.settings.p_key_basis,
        "key_counts": mean.key,
        "test_counts": mean.test,
        "test_errors": mean.test_errors,
        "qber": mean.qber,
        "phi": found.phi,
        "correction": f"{how.method} {how.variant}",
        "leak_ec_max": found.plan.leak_ec_max,
        "n_secret": found.n_secret,
        "net_bits": found.net_bits,
        "net_rate_hz": found.net_rate_hz,
    }


def _text(result: dict[str, Any]) -> str:
    own, chosen = result["own"], result["chosen"]
    policy = result["policy"]
    lines = [
        f"{result['scenario']}: blocks of {result['n_pulses']:,} pulses, {result['link_s']:g} s,"
        f" by {result['theorem']}",
        f"eps_sec {policy['eps_sec']:g}, eps_cor {policy['eps_cor']:g},"
        f" at most {policy['abort_rate']:.2%} of blocks aborted",
        "",
        f"{'':42}{'scenario':>28}{'chosen':>28}",
    ]
    for label, name in ROWS:
        shown = _shown(own[name]) if name in own else "-"
        lines.append(f"{label:42}{shown:>28}{_shown(chosen[name]):>28}")
    if "refused" in own:
        lines += ["", f"with the scenario's own settings: {own['refused']}"]
    return "\n".join(lines)


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return ", ".join(_shown(each) for each in value)
    if isinstance(value, str):
        return value
    return f"{value:,.0f}" if value >= THOUSAND else f"{value:.4g}"
