"""Links that share a bank of transmitters and receivers through an optical switch: its TOML file.

Each link of decoy pulses starts and ends in the fabric: transmitter, switch, fibre, switch,
receiver. What the links have in common is that of another scenario, ``base``.
"""

from dataclasses import dataclass

from qkd_core.errors import ConfigError
from qkd_core.types.settings_table import SettingsTable
from qkd_sim_link.physics.blocking import Clos
from qkd_sim_link.scenarios.pulses import Fibre, Scenario, load, read_fibre

CROSSBAR, CLOS = "crossbar", "clos"
LINKS_MAX = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Switch:
    """``isolation_db``: how much less light comes out of a port than out of the right one.

    clos  the sizes of a network of three stages; None for a crossbar, which is one stage
    """

    clos: Clos | None
    loss_db_per_stage: float
    isolation_db: float
    reconfiguration_s: float
    source: str

    @property
    def loss_db(self) -> float:
        """Of one way through."""
        return self.loss_db_per_stage * (1 if self.clos is None else 3)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bank:
    """What the links share. ``demands``: of a link that waits, in the mean time of a service."""

    transmitters: int
    receivers: int
    demands: float
    source: str

    @property
    def at_once(self) -> int:
        """So many links can be served together."""
        return min(self.transmitters, self.receivers)


@dataclass(frozen=True, slots=True, kw_only=True)
class SharingLink:
    """One of the links."""

    name: str
    fibre: Fibre


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """These links are served together for so long."""

    links: tuple[str, ...]
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class FabricScenario:
    """A fabric; its ``turns`` follow each other again and again."""

    name: str
    base: Scenario
    switch: Switch
    bank: Bank
    links: tuple[SharingLink, ...]
    turns: tuple[Turn, ...]

    def __post_init__(self) -> None:
        self.base.require_fibre()
        names = [link.name for link in self.links]
        if len(set(names)) != len(names) or not names:
            raise ConfigError(f"links {', '.join(names)}: at least one, each of another name")
        for turn in self.turns:
            _refuse_turn(turn, self.bank, self.switch, names)
        unserved = set(names) - {name for turn in self.turns for name in turn.links}
        if unserved:
            raise ConfigError(f"turns: {', '.join(sorted(unserved))} is never served")
        clos = self.switch.clos
        needed = len(names) + self.bank.at_once  # fibres and the bank at either side of the switch
        if clos is not None and clos.ports < needed:
            raise ConfigError(f"a switch of {clos.ports} ports: {needed} are needed")

    @property
    def cycle_s(self) -> float:
        return sum(turn.seconds for turn in self.turns)


def _refuse_turn(turn: Turn, bank: Bank, switch: Switch, names: list[str]) -> None:
    told = f"a turn of {', '.join(turn.links)}"
    if not set(turn.links) <= set(names) or len(set(turn.links)) != len(turn.links):
        raise ConfigError(f"{told}: each once, of {', '.join(names)}")
    if len(turn.links) > bank.at_once:
        raise ConfigError(f"{told}: the bank serves {bank.at_once} at once")
    if turn.seconds <= switch.reconfiguration_s:
        raise ConfigError(
            f"{told}: {turn.seconds:g} s, more than the {switch.reconfiguration_s:g} s that the"
            " switch needs"
        )


def read_fabric_scenario(top: SettingsTable) -> FabricScenario:
    """The scenario in ``top``. Raises ConfigError."""
    with top.checks():
        scenario = FabricScenario(
            name=top.text("name"),
            base=load(top.text("base")),
            switch=_switch(top.table("switch")),
            bank=_bank(top.table("bank")),
            links=tuple(_link(table) for table in top.tables("links")),
            turns=tuple(_turn(table) for table in top.tables("turns")),
        )
    top.finish()
    return scenario


def _switch(table: SettingsTable) -> Switch:
    is_clos = table.choice("architecture", (CROSSBAR, CLOS)) == CLOS
    with table.checks():
        switch = Switch(
            clos=_clos(table) if is_clos else None,
            loss_db_per_stage=table.number("loss_db_per_stage", 0, 100),
            isolation_db=table.number("isolation_db", 0, 200),
            reconfiguration_s=1e-3 * table.number("reconfiguration_ms", 0, 1e6),
            source=table.text("source"),
        )
    table.finish()
    return switch


def _clos(table: SettingsTable) -> Clos:
    return Clos(
        inputs=table.integer("inputs", 1, LINKS_MAX),
        middles=table.integer("middles", 1, 2 * LINKS_MAX),
        groups=table.integer("groups", 1, LINKS_MAX),
    )


def _bank(table: SettingsTable) -> Bank:
    bank = Bank(
        transmitters=table.integer("transmitters", 1, LINKS_MAX),
        receivers=table.integer("receivers", 1, LINKS_MAX),
        demands=table.number("demands", 0, 1e6),
        source=table.text("source"),
    )
    table.finish()
    return bank


def _link(table: SettingsTable) -> SharingLink:
    return SharingLink(name=table.text("name", pattern="[a-z0-9-]+"), fibre=read_fibre(table))


def _turn(table: SettingsTable) -> Turn:
    turn = Turn(links=table.texts("links"), seconds=table.number("seconds", 1e-6, 1e6))
    table.finish()
    return turn
