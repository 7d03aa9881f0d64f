"""Which picture a run has. Needs matplotlib, the extra ``plots``."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qkd_core.errors import ConfigError
from qkd_sim_link.reports.fabric import FabricRun
from qkd_sim_link.reports.pairs import PairRun
from qkd_sim_link.reports.picture_style import STYLE
from qkd_sim_link.reports.pulses import PulseRun
from qkd_sim_link.reports.repeaters import RepeaterRun
from qkd_sim_link.reports.running import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SUFFIXES = (".png", ".svg")
DPI = 150


def drawer_of(file: Path) -> Callable[[Run], None]:
    """What draws a run into ``file``. Raises ConfigError, so that nothing is simulated in vain."""
    if file.suffix not in SUFFIXES:
        raise ConfigError(f"--plot {file}: a file that ends in {' or '.join(SUFFIXES)}")
    if not file.parent.is_dir():
        raise ConfigError(f"--plot {file}: {file.parent} is no folder")
    try:
        import matplotlib as mpl
    except ImportError as error:
        raise ConfigError(
            "--plot needs matplotlib: python -m pip install 'keyferry[plots]'"
        ) from error

    def draw(run: Run) -> None:
        with mpl.rc_context():
            mpl.rcParams.update(STYLE)
            picture = drawn(run)
            try:
                picture.savefig(file, dpi=DPI, metadata=_without_date(file))
            except OSError as error:
                raise ConfigError(f"--plot {file}: cannot be written ({error.strerror})") from error

    return draw


def drawn(run: Run) -> "Figure":
    """The picture of a run."""
    from qkd_sim_link.reports import picture_distance, picture_fabric, picture_pass, picture_tags

    match run:
        case PairRun():
            return picture_tags.lags(run)
        case RepeaterRun():
            return picture_tags.waits(run)
        case FabricRun():
            return picture_fabric.timetable(run)
        case PulseRun() if run.scenario.satellite is not None:
            return picture_pass.passing(run)
    return picture_distance.distance(run)


def _without_date(file: Path) -> dict[str, Any]:
    return {"Date": None} if file.suffix == ".svg" else {}
