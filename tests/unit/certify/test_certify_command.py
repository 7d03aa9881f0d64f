"""``keyferry certify``: what it prints, and with which exit code."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from keyferry.cli.certify import certify

sys.path.insert(0, str(Path(__file__).parent))
from certificates import (
    certified,
    decoy_plan,
    digested,
    one_decoy_plan,
    pair_plan,
    vendor_plan,
)

sys.path.pop(0)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Certificates of pulses and of pairs, one that claims too much, and no certificate."""
    folder = tmp_path_factory.mktemp("certificates")
    pulses, pairs = certified(decoy_plan()), certified(pair_plan())
    greedy = json.loads(json.dumps(pulses))
    greedy["n_secret"] = greedy["plan"]["n_secret"] = pulses["n_secret"] + 64
    texts = {
        "pulses": json.dumps(pulses),
        "pairs": json.dumps(pairs),
        "vendor": json.dumps(certified(vendor_plan())),
        "one decoy": json.dumps(certified(one_decoy_plan())),
        "greedy": json.dumps(digested(greedy)),
        "old": json.dumps({"plan": {}, "leak_ec": 3}),
        "text": "no certificate\nat all",
    }
    for name, text in texts.items():
        (folder / f"{name}.json").write_text(text)
    return {name: str(folder / f"{name}.json") for name in texts} | {"none": str(folder / "none")}


def run(*arguments, **options):
    return CliRunner().invoke(certify, arguments, **options)


def test_a_certificate_that_holds_says_what_the_length_rests_on(files):
    done = run(files["pulses"])

    n_secret = json.loads(Path(files["pulses"]).read_text())["n_secret"]
    assert done.exit_code == 0
    assert done.output.startswith(f"{files['pulses']}: holds\n")
    for told in (
        "block       3 of link a-b, simulated",
        "decoy2-exact, version 1: Lim, Curty",
        "signal 34,102 (33,322 to 34,882)",
        "single-photon events in the key",
        "phase error rate",
        "10 x 4.76e-11  secrecy: expected counts of both bases",
        "eps_sec 1e-09, eps_cor 1e-15",
        f"key         {n_secret:,} bits, at most",
        "assumed     what the theorem asks of source, detectors and sites",
    ):
        assert told in done.output
    assert all(len(line) < 140 for line in done.output.splitlines()[1:])


def test_one_decoy_is_told_by_two_intensities_and_the_most_vacuum_events(files):
    done = run(files["one decoy"])

    assert done.exit_code == 0
    assert "decoy1-exact, version 1: Rusca et al." in done.output
    for told in ("signal ", "decoy ", "vacuum events in the key", "at most 29,261 vacuum events"):
        assert told in done.output
    assert "2 x 5.88e-11  secrecy: vacuum events of both bases" in done.output


def test_keys_of_a_vendor_are_told_as_its_word(files):
    done = run(files["vendor"])

    assert done.exit_code == 0
    for told in (
        "block       3 of link a-b, vendor",
        "vendor-asserted, version 1: the word of a vendor: no theorem",
        "asserted    that the keys are secret is the word of Example Optics, series 3: ",
        "keys        128 of 256 bits, for sae-of-a and sae-of-b",
        "key IDs     SHA-256 cdcd",
        "32,768 bits are secret, by the vendor's word",
        "1 x 5e-10  secrecy: privacy amplification",
        "1 x 8.67e-19  secrecy: the verdict on the vendor's keys",
        "if the vendor is right",
    ):
        assert told in done.output
    for never in ("certain", "min-entropy", "assumed", "errors"):
        assert never not in done.output


def test_whose_word_it_is_can_be_had_as_json(files):
    vendor, pulses = (
        json.loads(run(files[name], "--json").output) for name in ("vendor", "pulses")
    )

    assert vendor["asserted"] == {
        "by": "Example Optics, series 3",
        "saes": ["sae-of-a", "sae-of-b"],
        "n_keys": 128,
        "key_bits": 256,
        "key_ids_digest": "cd" * 32,
    }
    assert vendor["leak_ec"] == vendor["leak_ec_max"] == 0
    assert "asserted" not in pulses


def test_pairs_are_told_in_their_own_terms(files):
    done = run(files["pairs"])

    assert done.exit_code == 0
    assert "bbm92, version 1: Tomamichel" in done.output
    assert "(at least 49,0" in done.output
    assert "bits of min-entropy" in done.output
    assert "single-photon" not in done.output


@pytest.mark.parametrize(
    ("names", "code"),
    [
        (["pulses", "pairs"], 0),
        (["pulses", "greedy", "pairs"], 1),
        (["old"], 1),
        (["text"], 2),
        (["none"], 2),
        (["none", "greedy", "pulses"], 2),
    ],
    ids=str,
)
def test_every_file_is_judged_and_the_worst_is_the_exit_code(files, names, code):
    done = run(*(files[name] for name in names))

    assert done.exit_code == code
    for name in names:
        assert sum(line.startswith(f"{files[name]}: ") for line in done.output.splitlines()) == 1
    assert ("REFUSED: " in done.output) == bool({"greedy", "old"} & set(names))
    assert ("NOT READABLE: " in done.output) == bool({"text", "none"} & set(names))


def test_a_refusal_is_one_line_with_value_and_limit(files):
    [line] = run(files["greedy"]).output.splitlines()

    assert "REFUSED: n_secret is " in line
    assert "allowed is at most " in line


def test_json_is_one_line_a_file(files):
    done = run(*(files[name] for name in ("pulses", "greedy", "text")), "--json")

    holds, refused, unreadable = (json.loads(line) for line in done.output.splitlines())
    assert done.exit_code == 2
    assert holds["accepted"] is True
    assert holds["theorem"] == {"name": "decoy2-exact", "version": "1"}
    assert holds["n_secret"] <= holds["n_secret_max"] < holds["n_secret"] + 64
    assert holds["bounds"]["length"][0] >= holds["n_secret"]
    assert [line["times"] for line in holds["ledger"]] == [4, 4, 1, 10, 2, 1, 1, 8]
    assert (refused["accepted"], refused["readable"]) == (False, True)
    assert (unreadable["accepted"], unreadable["readable"]) == (False, False)


def test_a_certificate_may_come_from_a_pipe(files):
    content = Path(files["pairs"]).read_text()

    assert run("-", input=content).output.startswith("-: holds")
    assert run("-", input="{").exit_code == 2


@pytest.mark.parametrize("options", [(), ("--json",)], ids=str)
def test_where_nothing_can_be_written_there_is_one_line_and_no_verdict(files, options):
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "keyferry", "certify", files["pulses"], *options],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )

    assert done.returncode == 2
    assert done.stderr == "keyferry: output cannot be written: no space left on the device\n"


def test_without_a_file_there_is_nothing_to_certify():
    assert run().exit_code == 2
    assert "Examples:" in run("--help").output
