"""Comparing both KMSs on an operator's order, and what stays to be seen of it."""

import json

import pytest
from click.testing import CliRunner

from keyferry.cli import main
from keyferry.operator.errands import SiteErrands
from keyferry.operator.socket import OperatorServer
from qkd_core.errors import ConfigError
from qkd_core.types.comparing import Comparison, Finding, FindingKind
from qkd_core.types.ids import Generation, Side

GONE = Finding(kind=FindingKind.MISSING, generation=Generation(3), side=Side.B)
DIFFERENT = Comparison(
    policy="backup",
    compared_at=1_800_000_000.0,
    generations=(Generation(3),),
    findings=(GONE,),
    ordered_for=Generation(3),
)


@pytest.fixture
def typed(operated, site_file):
    server = OperatorServer(operated.site.state_dir, operated.orders.handle)

    def type_(*words):
        return CliRunner().invoke(main, ["policy", words[0], str(site_file), *words[1:]])

    yield type_
    server.close()


@pytest.mark.parametrize(
    ("result", "code", "said"),
    [
        (Comparison(policy="backup", compared_at=1.0, generations=(Generation(3),)), 0, "the same"),
        (DIFFERENT, 1, f"  {GONE}"),
    ],
)
def test_the_answer_to_an_order_is_the_comparison(operated, typed, result, code, said):
    operated.errands.compare_kms = lambda name: result if name == "backup" else None
    done = typed("compare", "backup")
    assert done.exit_code == code
    assert said in done.stdout
    shown = json.loads(typed("compare", "backup", "--json").stdout)
    assert shown["findings"] == [str(finding) for finding in result.findings]


def test_the_newest_comparison_stays_to_be_seen(operated, typed):
    assert "not compared yet" in typed("show", "backup").stdout
    operated.store.comparisons.record(DIFFERENT)
    operated.store.comparisons.note_late("backup", "the other site is away")
    shown = typed("show", "backup").stdout
    assert "DIFFERENT at 2027-01-15 08:00:00, generation 3" in shown
    assert "late: the other site is away" in shown
    assert f"KMS DIFFERS: {GONE}" in shown
    answer = json.loads(typed("show", "backup", "--json").stdout)["comparison"]
    assert (answer["verdict"], answer["superseding"]) == ("differ", 3)


def test_a_site_at_rest_compares_nothing(operated):
    session = object()  # nobody is asked
    errands = SiteErrands(Side.A, operated.store, session, operated.clock)
    with pytest.raises(ConfigError, match="while the site runs"):
        errands.compare_kms("backup")
