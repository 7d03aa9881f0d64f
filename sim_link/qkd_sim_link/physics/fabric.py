"""What each link of a switch fabric has: its share of the time, more loss, light of the others.

A link that is served anew is dark while the switch settles; one that stays connected is not.
Every port sends on a little of the light of the others. With T the transmittance of two ways
through the switch, x = 10^(-isolation / 10), mu the mean photon number of a pulse, eta_i a fibre:
in a gate of link i a neighbour j that is served at the same time adds

    mu T x (eta_i + eta_j) eta_receiver

photons: of its pulses that went into fibre i, and of those of its own fibre that went into
receiver i. They have nothing to do with Alice's bits: each detector gets half of them, as if its
dark counts were so many more. Light that leaks twice is left out.
Source: first order in x; Ma et al., PRA 72, 012326 (2005), for what dark counts do.
"""

from dataclasses import dataclass, replace
from math import exp

from qkd_sim_link.physics.blocking import engset
from qkd_sim_link.physics.fibre import db_transmittance, fibre_transmittance
from qkd_sim_link.scenarios.fabric import FabricScenario, SharingLink, Turn
from qkd_sim_link.scenarios.pulses import Scenario

WAYS = 2  # through the switch: from the transmitter to the fibre, from there to the receiver


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedLink:
    """One link as it is while it is served, and how much of the time that is.

    served, settling, waiting  shares of the time; the sum is 1
    loss_db     that the switch adds
    background  photons of other links in a gate, seen by both detectors together, on average
    scenario    of decoy pulses, with all this; its time runs ``served`` times as fast
    """

    name: str
    served: float
    settling: float
    waiting: float
    loss_db: float
    background: float
    scenario: Scenario


@dataclass(frozen=True, slots=True, kw_only=True)
class Blocking:
    """If links asked at random for service in place of turns: what share of it is refused.

    bank    all transmitters or receivers are busy
    switch  no free way, with as many connections as the bank allows
    """

    bank: float
    switch: float


def shared_links(fabric: FabricScenario) -> tuple[SharedLink, ...]:
    """Every link of ``fabric``, in its order."""
    return tuple(_shared(fabric, link) for link in fabric.links)


def blocking(fabric: FabricScenario) -> Blocking:
    """Of random demands, by the formulas of `physics.blocking`."""
    bank, clos = fabric.bank, fabric.switch.clos
    busy = WAYS * bank.at_once
    return Blocking(
        bank=engset(len(fabric.links), bank.demands, bank.at_once),
        switch=0.0 if clos is None else clos.blocked_on_average(min(1.0, busy / clos.ports)),
    )


def _shared(fabric: FabricScenario, link: SharingLink) -> SharedLink:
    served_s = settling_s = leaked = 0.0
    before = fabric.turns[-1]  # turns go round
    for turn in fabric.turns:
        if link.name in turn.links:
            kept = link.name in before.links
            dark = 0.0 if kept else fabric.switch.reconfiguration_s
            served_s, settling_s = served_s + turn.seconds - dark, settling_s + dark
            leaked += (turn.seconds - dark) * _leaked(fabric, link, turn)
        before = turn
    served, settling = served_s / fabric.cycle_s, settling_s / fabric.cycle_s
    background = leaked / served_s
    return SharedLink(
        name=link.name,
        served=served,
        settling=settling,
        waiting=1 - served - settling,
        loss_db=WAYS * fabric.switch.loss_db,
        background=background,
        scenario=_effective(fabric, link, background, served),
    )


def _leaked(fabric: FabricScenario, link: SharingLink, turn: Turn) -> float:
    """Photons of the turn's other links in a gate of ``link`` that its detectors see."""
    source, receiver = fabric.base.source, fabric.base.receiver
    pulses = zip(source.probabilities, source.intensities, strict=True)
    mean = sum(p * mu for p, mu in pulses) * fabric.base.detector.efficiency
    loss_db = WAYS * fabric.switch.loss_db + fabric.switch.isolation_db
    seen = mean * db_transmittance(loss_db + receiver.insertion_loss_db)
    others = [other.fibre for other in fabric.links if other.name in turn.links and other != link]
    both = [fibre_transmittance(link.fibre) + fibre_transmittance(fibre) for fibre in others]
    return seen * sum(both)


def _effective(
    fabric: FabricScenario, link: SharingLink, background: float, served: float
) -> Scenario:
    base = fabric.base
    dark = 1 - (1 - base.detector.dark_probability_per_gate) * exp(-background / 2)
    loss_db = base.receiver.insertion_loss_db + WAYS * fabric.switch.loss_db
    return replace(
        base,
        name=f"{fabric.name}/{link.name}",
        time_scale=base.time_scale * served,
        fibre=link.fibre,
        receiver=replace(base.receiver, insertion_loss_db=loss_db),
        detector=replace(base.detector, dark_probability_per_gate=dark),
    )
