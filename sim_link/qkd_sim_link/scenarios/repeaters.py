"""A simulated chain of repeaters between two sites: what its TOML file holds.

A chain of ``hops`` repeater stations has ``hops`` + 1 elementary links, all alike, each with a
station in its middle that heralds. The devices of the two ends give time tags, as on a link of
pairs: each end reads its memory out when the whole chain is announced, and keeps only the clicks
of the moments that were announced.
"""

from dataclasses import dataclass
from math import expm1

from qkd_core.errors import ConfigError
from qkd_core.types.plans import PairSettings
from qkd_core.types.settings_table import SettingsTable
from qkd_sim_link.physics.heralding import flight_s
from qkd_sim_link.scenarios.fault_kinds import Acts
from qkd_sim_link.scenarios.faults import Fault, read_faults
from qkd_sim_link.scenarios.groups import read_group
from qkd_sim_link.scenarios.pairs import (
    PS_PER_NS,
    BobClock,
    PairDetector,
    read_block,
    read_clock,
    read_detector,
)
from qkd_sim_link.scenarios.pulses import Fibre, read_fibre

TWO_PHOTONS, ONE_PHOTON = "two-photons", "one-photon"
HOPS_MAX = 32
SLOTS_MAX = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainPlan:
    """How the chain works. Links of equal ``slots`` are joined: a chain of its own in each slot.

    scheme          what heralds a link: see `physics.heralding`
    slots           attempts of a link that are under way together, ``slot_ns`` apart
    ready_us        until a node can try again in the same slot, if news is not slower
    electronics_us  from a click at a station to its announcement
    cutoff_ms       how long a memory may wait for the last link; 0 means without end
    """

    hops: int
    scheme: str
    slots: int
    slot_ns: float
    ready_us: float
    electronics_us: float
    cutoff_ms: float
    source: str

    @property
    def n_links(self) -> int:
        return self.hops + 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A memory and its photon.

    emission   probability that a photon leaves for the fibre; with one photon: of a bright memory
    bright     probability that a memory is bright (one photon; 0 with two)
    fidelity   of the pair of memory and photon
    retrieval  probability that a memory that is read out gives its photon
    noise      probability of a photon besides, in a reading
    t2_ms      of the memory
    """

    emission: float
    bright: float
    fidelity: float
    retrieval: float
    noise: float
    t2_ms: float
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Station:
    """Where two photons meet, in the middle of a link and at a repeater.

    visibility  of their interference if they arrive together
    apart_ps    how far apart they arrive, against a coherence time of ``coherence_ps``
    """

    efficiency: float
    dark_rate_hz: float
    gate_ns: float
    visibility: float
    apart_ps: float
    coherence_ps: float
    source: str

    @property
    def dark(self) -> float:
        """Probability of a dark count of a detector in the gate."""
        return -expm1(-self.dark_rate_hz * self.gate_ns * 1e-9)


@dataclass(frozen=True, slots=True, kw_only=True)
class EndReceiver:
    """What analyses the photon of an end's memory, in a gate around each announced moment."""

    insertion_loss_db: float
    p_key_basis: float
    gate_ns: float
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RepeaterScenario:
    """One chain. ``time_scale`` as `Scenario` has it; ``fibre``: from a node to the middle."""

    name: str
    time_scale: float
    chain: ChainPlan
    fibre: Fibre
    node: Node
    station: Station
    receiver: EndReceiver
    detector: PairDetector
    clock: BobClock
    settings: PairSettings
    block_source: str
    faults: tuple[Fault, ...] = ()

    def __post_init__(self) -> None:
        _refuse_short_hold_off(self)
        _refuse_tight_slots(self)
        if (self.chain.scheme == ONE_PHOTON) != (self.node.bright > 0):
            raise ConfigError(
                f"bright {self.node.bright:g} with scheme {self.chain.scheme}: above 0 with"
                f" {ONE_PHOTON}, 0 with {TWO_PHOTONS}"
            )

    @property
    def attempt_s(self) -> float:
        """From one attempt in a slot to the next: photons out, news back, or the node itself."""
        news = flight_s(2 * self.fibre.length_km) + 1e-6 * self.chain.electronics_us
        return max(news, 1e-6 * self.chain.ready_us)


def _refuse_short_hold_off(scenario: RepeaterScenario) -> None:
    needed_ns = scenario.detector.dead_time_ns
    hold_off_ns = scenario.settings.hold_off_ps / PS_PER_NS
    if hold_off_ns < needed_ns:
        raise ConfigError(f"hold_off_ns {hold_off_ns:g}: at least dead_time_ns, {needed_ns:g}")


def _refuse_tight_slots(scenario: RepeaterScenario) -> None:
    """Every reading is an event of its own, and all slots fit between two attempts."""
    chain, settings = scenario.chain, scenario.settings
    needed_ns = settings.hold_off_ps / PS_PER_NS + scenario.receiver.gate_ns
    if chain.slot_ns < needed_ns:
        raise ConfigError(
            f"slot_ns {chain.slot_ns:g}: at least hold_off_ns and gate_ns together, {needed_ns:g}"
        )
    room = int(1e9 * scenario.attempt_s / chain.slot_ns)
    if chain.slots > room:
        raise ConfigError(
            f"slots {chain.slots}: at most {room} of {chain.slot_ns:g} ns between two attempts,"
            f" which are {1e6 * scenario.attempt_s:.4g} us apart"
        )


def read_repeater_scenario(top: SettingsTable) -> RepeaterScenario:
    """The scenario in ``top``. Raises ConfigError."""
    settings, block_source = read_block(top.table("block"))
    with top.checks():
        scenario = RepeaterScenario(
            name=top.text("name"),
            time_scale=top.number("time_scale", 1e-6, 1e6),
            chain=_chain(top.table("chain")),
            fibre=read_fibre(top.table("fibre")),
            node=_node(top.table("node")),
            station=_station(top.table("station")),
            receiver=_receiver(top.table("receiver")),
            detector=read_detector(top.table("detector")),
            clock=read_clock(top.table("clock")),
            settings=settings,
            block_source=block_source,
            faults=read_faults(top, Acts.REPEATERS),
        )
    top.finish()
    return scenario


def _chain(table: SettingsTable) -> ChainPlan:
    chain = ChainPlan(
        hops=table.integer("hops", 0, HOPS_MAX),
        scheme=table.choice("scheme", (TWO_PHOTONS, ONE_PHOTON)),
        slots=table.integer("slots", 1, SLOTS_MAX),
        slot_ns=table.number("slot_ns", 1, 1e9),
        ready_us=table.number("ready_us", 1e-3, 1e6),
        electronics_us=table.number("electronics_us", 0, 1e6),
        cutoff_ms=table.number("cutoff_ms", 0, 1e6),
        source=table.text("source"),
    )
    table.finish()
    return chain


def _node(table: SettingsTable) -> Node:
    return read_group(
        table,
        Node,
        emission=(1e-6, 1),
        bright=(0, 0.5),
        fidelity=(0.25, 1),
        retrieval=(1e-6, 1),
        noise=(0, 0.1),
        t2_ms=(1e-6, 1e9),
    )


def _station(table: SettingsTable) -> Station:
    return read_group(
        table,
        Station,
        efficiency=(1e-6, 1),
        dark_rate_hz=(0, 1e7),
        gate_ns=(1e-3, 1e4),
        visibility=(0, 1),
        apart_ps=(0, 1e9),
        coherence_ps=(1e-3, 1e9),
    )


def _receiver(table: SettingsTable) -> EndReceiver:
    return read_group(
        table, EndReceiver, insertion_loss_db=(0, 100), p_key_basis=(0, 1), gate_ns=(1e-3, 1e4)
    )
