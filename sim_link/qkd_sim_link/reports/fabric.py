"""The report of a switch fabric: every link by itself, as much of the time as it is served."""

from dataclasses import dataclass, replace

from qkd_sim_link.physics.fabric import SharedLink, blocking, shared_links
from qkd_sim_link.reports.asked import Asked
from qkd_sim_link.reports.figures import Figure, Progress, Report, in_order
from qkd_sim_link.reports.pulses import PulseRun, run_pulses
from qkd_sim_link.scenarios.fabric import FabricScenario

KIND = "switch fabric"
PER_TIME = ("M1", "M10")  # of these a rate is one of all the time, not of that of service


@dataclass(frozen=True, slots=True, kw_only=True)
class FabricRun:
    """The blocks of each link, one link after another."""

    scenario: FabricScenario
    asked: Asked
    links: tuple[tuple[SharedLink, PulseRun], ...]

    @property
    def link_s(self) -> float:
        """How long the fabric works for the blocks of the link that is served least."""
        return max(run.link_s / link.served for link, run in self.links)

    @property
    def report(self) -> Report:
        figures = [figure for link, run in self.links for figure in _figures(link, run)]
        figures += [each for each in self.links[0][1].figures() if each.value is None]
        refused = blocking(self.scenario)
        notes = [
            "rates of M1 and M10 are means over all the time, those of M4 over that of service",
            f"blocked if links asked at random: {refused.bank:.3g} by the bank,"
            f" {refused.switch:.3g} by the switch",
        ]
        notes += [f"{link.name}: {note}" for link, run in self.links for note in run.report.notes]
        return Report(
            scenario=self.scenario.name,
            kind=KIND,
            n_blocks=sum(len(run.blocks) for _, run in self.links),
            link_s=self.link_s,
            wall_s=sum(run.wall_s for _, run in self.links),
            seed=self.asked.seed,
            confidence=self.asked.confidence,
            figures=in_order(figures),
            notes=tuple(notes),
        )


def run_fabric(scenario: FabricScenario, asked: Asked) -> FabricRun:
    """Simulate the blocks of each link. Raises ConfigError."""
    links = shared_links(scenario)
    runs = []
    for place, link in enumerate(links):
        own = replace(asked, seed=asked.seed + place, progress=_after(asked, place, len(links)))
        runs.append((link, run_pulses(link.scenario, own)))
    return FabricRun(scenario=scenario, asked=asked, links=tuple(runs))


def _after(asked: Asked, place: int, n_links: int) -> Progress:
    return lambda done, n: asked.progress(place * n + done, n_links * n)


def _figures(link: SharedLink, run: PulseRun) -> list[Figure]:
    """Of one link, under its name; nothing that no link has."""
    served = Figure(
        metric="M1",
        name="served, of the time",
        part=link.name,
        value=link.served,
        expected=link.served,
        note=f"settling {link.settling:.3%}, waiting {link.waiting:.3%};"
        f" the switch takes {link.loss_db:.1f} dB",
    )
    found = [served]
    for figure in (each for each in run.figures() if each.interval is not None):
        of_time = figure.unit and figure.metric in PER_TIME
        scaled = figure.scaled(link.served) if of_time else figure
        found.append(replace(scaled, part=f"{link.name} {figure.part}".strip()))
    return found
