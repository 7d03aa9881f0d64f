"""Each check of the suite passes with a good KME, and fails for one that does its thing wrong."""

import json
from pathlib import Path

import pytest

from keyferry.conformance.caller import Caller, SaeFiles
from keyferry.conformance.report import Parties, Verdict, rows
from keyferry.conformance.suite import CHECKS
from keyferry.pki.authority import Authority

SAES = ("sae-a", "sae-b", "sae-c")


class Town:
    """Certificates of one authority, and the three SAEs at a stand-in."""

    def __init__(self, folder: Path, stand_in) -> None:
        self.make = stand_in
        self.authority = Authority.create(folder / "ca", "Test CA")
        self.kme = self.authority.issue(
            folder, "kme", ip_addresses=["127.0.0.1"], server=True, client=False
        )
        self.saes = [self.authority.issue(folder, sae, server=False, client=True) for sae in SAES]

    def stand_in(self, fault: str | None, **more: int):
        return self.make(
            str(self.kme.cert), str(self.kme.key), str(self.authority.certificate), fault, **more
        )

    def parties(self, url: str, *, draw_dry: bool = False) -> Parties:
        a, b, c = (
            Caller(url, self.authority.certificate, SaeFiles(name, files.cert, files.key))
            for name, files in zip(SAES, self.saes, strict=True)
        )
        return Parties(a, b, c, draw_dry)


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory, stand_in) -> Town:
    return Town(tmp_path_factory.mktemp("town"), stand_in)


def verdicts(town, fault, checks):
    with town.stand_in(fault) as kme:
        return {row.check.name: row for row in rows(checks, town.parties(kme.url))}


def test_every_check_passes_with_a_kme_that_does_all_right(town):
    found = verdicts(town, None, CHECKS)

    assert len(found) == len(CHECKS)
    wrong = {name: row.reason for name, row in found.items() if row.verdict is not Verdict.PASS}
    assert wrong == {}


OTHER_CA = "kme_proves_itself"  # its fault is in the client's authority: see below


@pytest.mark.parametrize(
    "check", [check for check in CHECKS if check.name != OTHER_CA], ids=lambda check: check.name
)
def test_a_check_fails_for_a_kme_that_does_its_thing_wrong(town, check):
    row = verdicts(town, check.name, [check])[check.name]

    assert row.verdict is (Verdict.DIFFERS if check.ours else Verdict.FAIL)
    assert row.reason
    assert "\n" not in row.reason


def test_a_kme_of_another_authority_does_not_prove_itself(town, stand_in, tmp_path):
    other = Authority.create(tmp_path / "ca", "Test CA")
    kme = other.issue(tmp_path, "kme", ip_addresses=["127.0.0.1"], server=True, client=False)
    check = next(check for check in CHECKS if check.name == OTHER_CA)
    with stand_in(str(kme.cert), str(kme.key), str(town.authority.certificate)) as running:
        [row] = rows([check], town.parties(running.url))

    assert row.verdict is Verdict.FAIL
    assert "certificate verify failed" in row.reason


def named(name):
    return next(check for check in CHECKS if check.name == name)


def test_what_the_standard_does_not_say_is_marked_as_a_decision_of_keyferry(town):
    row = verdicts(town, "duplicate_key_ids", [named("duplicate_key_ids")])["duplicate_key_ids"]

    assert row.as_json()["note"] == "Keyferry's decision"
    assert row.as_json()["verdict"] == "differs"
    assert row.as_line().startswith("6.4       differs ")
    assert "(Keyferry's decision): " in row.as_line()


def test_a_kme_that_does_not_answer_fails_where_another_decision_would_differ(town):
    with town.stand_in(None) as kme:
        url = kme.url
    [row] = rows([named("duplicate_key_ids")], town.parties(url))

    assert row.verdict is Verdict.FAIL
    assert "did not answer" in row.reason


def test_another_makers_kme_need_not_know_our_extension(town):
    row = verdicts(town, "foreign", [named("unmeetable_extension")])["unmeetable_extension"]

    assert row.verdict is Verdict.NOT_APPLICABLE


MOST_BITS = 8 * 65536  # that one request to the stand-in may ask for


@pytest.mark.parametrize(
    ("stored_bits", "draw_dry", "verdict", "left"),
    [
        (MOST_BITS - 256, False, Verdict.PASS, MOST_BITS - 256),
        (5 * MOST_BITS + 512, False, Verdict.PASS, 512),
        (20 * MOST_BITS, False, Verdict.NOT_APPLICABLE, 20 * MOST_BITS),
        (20 * MOST_BITS, True, Verdict.PASS, 0),
    ],
)
def test_a_small_pool_is_drawn_dry_and_a_large_one_only_when_that_is_wanted(
    town, stored_bits, draw_dry, verdict, left
):
    with town.stand_in(None, stored_bits=stored_bits) as kme:
        parties = town.parties(kme.url, draw_dry=draw_dry)
        [row] = rows([named("more_than_is_stored")], parties)

    assert (row.verdict, kme.left) == (verdict, left)


def test_a_kme_that_gives_more_than_it_says_is_stored_fails(town):
    row = verdicts(town, "endless", [named("more_than_is_stored")])["more_than_is_stored"]

    assert row.verdict is Verdict.FAIL
    assert row.reason == "589824 bytes were given, 262144 were stored"


def test_a_status_that_the_standard_does_not_have_fails(town):
    check = next(check for check in CHECKS if check.name == "status_of_nobody")

    row = verdicts(town, "status_404", [check])[check.name]

    assert row.verdict is Verdict.FAIL
    assert (
        row.reason
        == "answered 404 'keyferry-conformance-nobody is unknown' instead of 400 or 401 or 503"
    )


def test_a_row_says_its_clause_and_reason_and_holds_no_key(town):
    with town.stand_in("slave_gets_the_same_key") as kme:
        found = [row for row in rows(CHECKS, town.parties(kme.url)) if row.verdict is Verdict.FAIL]
        text = json.dumps([row.as_json() for row in found]) + "".join(r.as_line() for r in found)
        keys = [key["key"] for key in kme.keys.values()]

    assert all(row.check.clause.startswith(("4", "5", "6")) for row in found)
    assert keys and not any(key in text for key in keys)
