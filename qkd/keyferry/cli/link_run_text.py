"""The report of `keyferry link run`, for people."""

from qkd_sim_link.reports.figures import Figure, Report

THOUSAND, TINY = 1000, 1e-3


def statement(report: Report) -> str:
    """A table of figures, then how they were found, then what is not there."""
    said = [figure for figure in report.figures if figure.value is not None]
    lines = [
        f"{report.scenario}: {report.kind}, {report.n_blocks} blocks, {report.link_s:g} s of the"
        f" link, seed {report.seed}",
        _speed(report),
        "",
        f"{'':4} {'':48} {'found':>12}  {f'interval of {report.confidence:.6g}':>25}"
        f"  {'by physics':>12}",
        *(_line(figure) for figure in said),
        "",
        "intervals:",
        *(f"  {how}: {what}" for how, what in _methods(said).items()),
    ]
    notes = [f"{f.name}: {f.note}" for f in report.figures if f.note]
    if notes or report.notes:
        lines += ["", *dict.fromkeys((*notes, *report.notes))]
    return "\n".join(lines)


def _speed(report: Report) -> str:
    factor = report.real_time
    slower = ": slower than the link itself" if factor < 1 else ""
    return f"simulated in {report.wall_s:.2f} s, {factor:.3g} times real time{slower}"


def _line(figure: Figure) -> str:
    name = ", ".join(part for part in (figure.name, figure.part) if part)
    unit = f" ({figure.unit})" if figure.unit else ""
    interval = figure.interval
    within = f"{_shown(interval.low)} to {_shown(interval.high)}" if interval else ""
    return (
        f"{figure.metric:4} {name + unit:48} {_shown(figure.value):>12}  {within:>25}"
        f"  {_shown(figure.expected):>12}"
    )


def _methods(figures: list[Figure]) -> dict[str, str]:
    """What each method was used for."""
    found: dict[str, list[str]] = {}
    for figure in figures:
        if figure.interval:
            found.setdefault(figure.interval.method, []).append(figure.name)
    return {method: ", ".join(dict.fromkeys(names)) for method, names in found.items()}


def _shown(value: float | None) -> str:
    if value is None:
        return "-"
    if abs(value) >= THOUSAND:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) < TINY else f"{value:.5g}"
