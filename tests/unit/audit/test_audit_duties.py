"""What the jobs process does for the audit, when it does it, and what an operator sees of it."""

import json
import subprocess
import sys

import pytest

from keyferry.jobs.auditing import Proving
from keyferry.jobs.standing import Standing
from keyferry.store.checks.examples import LATER, a_block, a_request
from qkd_core.errors import AuditUnavailable, PeerUnavailable


class Ticking:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def proving(site, ask, ticking):
    return Proving(site.checkpoints, site.asking(ask), 60.0, ticking)


def sizes(site):
    return site.store.database.rows("SELECT size, countersignature IS NULL FROM checkpoints")


def test_a_checkpoint_is_made_at_once_and_then_at_intervals(pair):
    a, b = pair
    ticking = Ticking()
    work = proving(a, b.countersigner.countersign, ticking).work
    work()
    assert sizes(a)[0] == (2, 0)
    a.note(1)
    work()
    assert len(sizes(a)) == 1
    ticking.now += 61
    work()
    # The other site's key was learnt and recorded with the first countersignature.
    assert sizes(a)[1] == (4, 0)


def test_a_peer_that_is_away_is_asked_more_and_more_slowly(pair):
    a, _ = pair
    ticking, asked = Ticking(), []

    def away(offer):
        asked.append(ticking.now)
        raise PeerUnavailable("away")

    duty = proving(a, away, ticking)
    standing = Standing("audit", duty.work, 1.0, at_end=duty.finish)
    for _ in range(40):
        standing.run()
        ticking.now += 1
    assert 3 <= len(asked) < 12
    standing.end()
    assert len(asked) < 14


def test_at_the_end_what_is_new_is_covered(pair):
    a, b = pair
    ticking = Ticking()
    duty = proving(a, b.countersigner.countersign, ticking)
    duty.work()
    a.note(3)
    duty.finish()
    assert sizes(a)[-1] == (6, 0)


def test_the_figures_tell_how_far_signatures_reach_and_whether_records_are_taken(pair):
    a, b = pair
    assert a.store.figures().audit.signed == 0
    proving(a, b.countersigner.countersign, Ticking()).work()
    a.note(1)
    a.checkpoints.make()
    audit = a.store.figures().audit
    assert (audit.writable, audit.signed, audit.countersigned) == (True, 4, 2)

    a.blocks(1)
    a.store.database.write(lambda tx: tx.write("PRAGMA max_page_count = 1"))
    with pytest.raises(AuditUnavailable):
        a.store.blocks.store_pending(a_block(2, n_bytes=1 << 20))
    assert not a.store.figures().audit.writable
    a.store.allocations.deliver(a_request(), LATER)
    assert a.store.figures().audit.writable


def test_a_store_that_takes_records_again_says_so_by_itself(site, caplog):
    site.store.database.write(lambda tx: tx.write("PRAGMA max_page_count = 1"))
    with pytest.raises(AuditUnavailable):
        site.store.blocks.store_pending(a_block(2, n_bytes=1 << 20))
    for _ in range(50):
        if site.store.database.writer.writable:
            break
        site.store.database.writer._thread.join(0.1)
    assert site.store.database.writer.writable
    assert caplog.text.count("nothing is committed") == 1
    assert "the store takes records again" in caplog.text


# ----------------------------------------------------------------------------------- the commands
def keyferry(*arguments) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "keyferry", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("command", ["verify", "keys", "rotate", "export", "story", "completeness"])
def test_every_command_explains_itself_with_an_example(command):
    done = keyferry("audit", command, "--help")
    assert done.returncode == 0
    assert f"keyferry audit {command} " in done.stdout


def test_keys_makes_the_auditors_pair_once(tmp_path):
    key = tmp_path / "auditor.key"
    assert keyferry("audit", "keys", key).returncode == 0
    assert key.stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "auditor.pem").read_text().startswith("-----BEGIN PUBLIC KEY")
    again = keyferry("audit", "keys", key)
    assert again.returncode == 2
    assert "never overwritten" in again.stderr


def test_verify_says_in_json_what_each_range_rests_on(site, tmp_path):
    site.note(2)
    site.checkpoints.make()
    site.note(1)
    site.close()
    done = keyferry("audit", "verify", site.folder, "--json")
    assert done.returncode == 0
    told = json.loads(done.stdout)
    assert told["rest"] == {"countersigned": 0, "signed": 4, "chained only": 1}
    assert told["ranges"] == [
        {"chain": "jobs-1", "first": 1, "last": 4, "rest": "signed", "macs": False},
        {"chain": "jobs-1", "first": 5, "last": 5, "rest": "chained only", "macs": False},
    ]
    assert told["macs_checked"] is False
    assert any("MACs were not checked" in line for line in told["not_covered"])


def test_verify_names_the_record_and_exits_with_1(site):
    site.note(3)
    site.tamper("UPDATE audit SET event = replace(event, 'test', 'tesT') WHERE seq = 3")
    done = keyferry("audit", "verify", site.folder, "--ranges")
    assert done.returncode == 1
    assert "jobs-1 record 3: was changed: its hash does not recompute" in done.stdout
    assert "jobs-1 1-4: chained only" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["keys"], "name a file for the auditor's key, or --site"),
        (["story", "key"], "name the state directories or bundles of the sites, or --site"),
        (["export", ".", "--otlp", "http://logs.example"], "must be an https URL"),
    ],
)
def test_what_is_missing_is_said_in_one_line(site, arguments, said):
    place = [str(site.folder) if each == "." else each for each in arguments]
    done = keyferry("audit", *place)
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


def test_completeness_exits_with_1_and_lists_what_is_not_accounted_for(pair):
    a, b = pair
    a.store.database.write(lambda tx: tx.audit("key_burnt", key_id="ghost"))
    a.close()
    b.close()
    done = keyferry("audit", "completeness", a.folder, b.folder)
    assert done.returncode == 1
    assert done.stdout.splitlines() == [
        "1 keys, 0 of them under way",
        "  NOT ACCOUNTED FOR: key ghost at kme-a: has no record of where it came from",
        "1 discrepancies",
    ]
    told = json.loads(keyferry("audit", "completeness", a.folder, b.folder, "--json").stdout)
    assert told["discrepancies"][0]["key_id"] == "ghost"


def test_an_export_goes_to_a_private_file(site, tmp_path):
    done = keyferry(
        "audit", "export", site.folder, "--format", "bundle", "--output", tmp_path / "x"
    )
    assert done.returncode == 0
    assert (tmp_path / "x").stat().st_mode & 0o777 == 0o600
    lines = keyferry("audit", "export", site.folder).stdout.splitlines()
    assert [json.loads(line)["seq"] for line in lines] == [1]
