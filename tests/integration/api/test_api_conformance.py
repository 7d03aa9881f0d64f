"""`keyferry conformance` against two running sites of ours, and what it says when a row fails."""

import json
import subprocess
import sys

import pytest

from keyferry.conformance.suite import CHECKS

DRY = "--draw-dry"


@pytest.fixture(scope="module")
def pair(lasting_sites):
    return lasting_sites.pair(store="sqlite", stored_bytes=400_000)


def conformance(certificates, url, peer_url, *options, saes=("sae-a1", "sae-b1", "sae-b2")):
    named = []
    for option, sae in zip(("--sae-a", "--sae-b", "--sae-c"), saes, strict=True):
        files = certificates.sae(sae)
        named += [option, f"{files.cert},{files.key}"]
    command = [sys.executable, "-m", "keyferry", "conformance", url, "--peer-url", peer_url]
    return subprocess.run(
        [*command, "--ca", str(certificates.authority.certificate), *named, *options],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def url(site):
    return f"https://127.0.0.1:{site.port}"


def test_every_row_passes_at_both_of_our_sites(pair, certificates):
    a, b = pair
    done = conformance(certificates, url(a), url(b), "--json")
    assert done.stderr == ""
    told = json.loads(done.stdout)

    assert [row for row in told["rows"] if row["verdict"] != "pass"] == []
    assert told["counts"] == {"pass": len(CHECKS), "fail": 0, "differs": 0, "not applicable": 0}
    ours = [row["check"] for row in told["rows"] if row["note"] == "Keyferry's decision"]
    assert ours == [check.name for check in CHECKS if check.ours]
    assert len(told["rows"]) == len(CHECKS)
    assert done.returncode == 0


def test_a_pool_of_many_requests_is_drawn_dry_when_that_is_wanted(sites, certificates):
    a, b = sites.pair(store="sqlite", stored_bytes=36_000_000)  # 17 requests of each half
    answers = [conformance(certificates, url(a), url(b), *more, "--json") for more in ([], [DRY])]
    rows = [json.loads(done.stdout)["rows"][-1] for done in answers]

    assert [row["check"] for row in rows] == ["more_than_is_stored"] * 2
    assert [row["verdict"] for row in rows] == ["not applicable", "pass"]
    assert "--draw-dry uses them up" in rows[0]["reason"]


def test_a_row_that_fails_is_said_with_its_clause_and_the_exit_code_is_1(pair, certificates):
    """B and C at the first KME: the link is asked for what it cannot do."""
    a, _ = pair
    saes = ("sae-b1", "sae-a1", "sae-a2")
    done = conformance(certificates, url(a), url(a), saes=saes)
    lines = done.stdout.splitlines()

    assert done.returncode == 1
    assert len(lines) == len(CHECKS) + 1
    failed = [line for line in lines if line[10:14] == "fail"]
    assert any(line.startswith("6.1 ") and "401" in line for line in failed)
    assert lines[-1].startswith(f"{sum(line[10:14] == 'pass' for line in lines)} pass, ")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"url": "http://127.0.0.1:1"}, "the URL of a KME is https://HOST[:PORT]"),
        ({"sae": "only-one-file"}, "--sae-a only-one-file: must be CERT,KEY or CERT,KEY,ID"),
        ({"sae": "gone.pem,gone.key"}, "--sae-a gone.pem: no certificate"),
        ({"sae": "gone.pem,gone.key,sae"}, "cannot be used"),
    ],
)
def test_what_cannot_be_asked_is_one_line_and_exit_code_2(certificates, changes, said):
    files = certificates.sae("sae-a1")
    pair = f"{files.cert},{files.key}"
    command = [
        *(sys.executable, "-m", "keyferry", "conformance"),
        changes.get("url", "https://127.0.0.1:1"),
        *("--ca", str(certificates.authority.certificate)),
        *("--sae-a", changes.get("sae", pair), "--sae-b", pair, "--sae-c", pair),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    assert done.returncode == 2
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
