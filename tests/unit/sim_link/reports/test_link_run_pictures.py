"""The pictures of `keyferry link run`: files are made, all text is inside, the same run repeats."""

import sys

import matplotlib as mpl
import pytest
from click.testing import CliRunner
from matplotlib.backends.backend_agg import FigureCanvasAgg

from keyferry.cli.link_run import run
from keyferry.cli.planned import scenario_ahead
from qkd_core.errors import ConfigError
from qkd_sim_link.reports.asked import Asked
from qkd_sim_link.reports.picture_style import STYLE
from qkd_sim_link.reports.pictures import drawer_of, drawn
from qkd_sim_link.reports.running import run as simulated

SHORT = {
    "direct-25km": (None, 2),
    "satellite-pass": (20.0, None),
    "entangled-25km": (None, 1),
    "repeater-1-hop": (20.0, None),
    "switch-3-links": (None, 2),
}
MAGIC = {".png": b"\x89PNG", ".svg": b"<?xml"}


@pytest.fixture(scope="module", params=SHORT)
def simulation(request):
    seconds, blocks = SHORT[request.param]
    asked = Asked(
        seconds=seconds,
        blocks=blocks,
        seed=1,
        confidence=0.99,
        plan_ahead=scenario_ahead,
        progress=lambda _done, _n: None,
    )
    return simulated(request.param, asked)


def test_every_kind_of_link_has_a_picture_whose_text_is_all_inside(simulation):
    with mpl.rc_context():
        mpl.rcParams.update(STYLE)
        figure = drawn(simulation)
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        boxes = [axes.get_tightbbox(canvas.get_renderer()) for axes in figure.axes]

    whole = figure.bbox.padded(1)
    assert all(whole.x0 <= box.x0 and box.x1 <= whole.x1 for box in boxes)
    assert all(whole.y0 <= box.y0 and box.y1 <= whole.y1 for box in boxes)
    assert all(axes.has_data() for axes in figure.axes)
    labels = [axes.get_xlabel() for axes in figure.axes if axes.get_xlabel()]
    assert labels and all(label.endswith(")") for label in labels)  # a unit


def test_pictures_are_png_or_svg_by_the_name_of_the_file(simulation, tmp_path):
    for suffix, magic in MAGIC.items():
        file = tmp_path / f"out{suffix}"
        drawer_of(file)(simulation)
        assert file.read_bytes().startswith(magic)
        assert file.stat().st_size > 10_000


def test_the_same_seed_gives_the_same_picture(tmp_path):
    files = [tmp_path / f"{name}.svg" for name in ("one", "two")]
    for file in files:
        asked = ["switch-3-links", "--blocks", "1", "--seed", "1", "--plot", str(file)]
        assert CliRunner().invoke(run, asked).exit_code == 0

    assert files[0].read_bytes() == files[1].read_bytes()


def test_the_command_draws_its_file(tmp_path):
    file = tmp_path / "out.png"

    done = CliRunner().invoke(run, ["switch-3-links", "--blocks", "1", "--plot", str(file)])

    assert done.exit_code == 0, done.output
    assert f"drawn: {file}" in done.stderr
    assert file.read_bytes().startswith(MAGIC[".png"])


def test_without_matplotlib_one_line_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "matplotlib", None)

    with pytest.raises(ConfigError, match=r"^--plot needs matplotlib: .*keyferry\[plots\]'$"):
        drawer_of(tmp_path / "out.png")
