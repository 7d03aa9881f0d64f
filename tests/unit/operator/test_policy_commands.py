"""The commands about policies and runs, typed at a site that runs: what they print."""

import json
import threading
import time

import pytest
from click.testing import CliRunner

from keyferry.cli import main, waiting
from keyferry.cli.policy_text import WIDTH, list_lines, run_lines
from keyferry.operator.socket import OperatorServer
from keyferry.store.checks.examples import LATER, NOW, a_request
from keyferry.store.checks.refreshes import PATHS, a_run
from qkd_core.errors import ConfigError, PeerUnavailable, QkdError
from qkd_core.types.keys import RefreshState


@pytest.fixture
def running(operated):
    """The site as its jobs process serves it."""
    server = OperatorServer(operated.site.state_dir, operated.orders.handle)
    yield operated
    server.close()


@pytest.fixture
def typed(running, site_file):
    def type_(words, *options):
        group, command, *more = words.split()
        done = CliRunner().invoke(main, [group, command, str(site_file), *more, *options])
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return done

    return type_


def gone_through(operated, number, state, **more):
    operated.store.refreshes.begin(a_run(number, "backup", more.pop("key_id", "key")))
    for each in PATHS[state]:
        operated.store.refreshes.move(f"backup {number}", each, **more)


def test_a_list_is_a_table_with_reasons_below_the_rows_that_need_attention(typed, running):
    gone_through(running, 41, RefreshState.BLOCKED, reason="permission denied")
    lines = typed("policy list").stdout.splitlines()
    assert lines[0] == "kme-a with kme-b: 1 policy, 1 needs attention"
    assert lines[1].split() == "NAME KEY SCHEDULE DUE IN BY GEN AGE STATE".split()
    assert lines[2].startswith("!  backup  256 aes-gcm  every 1 h +1 min  ")
    assert lines[3:] == [
        "    vault-kv https://openbao-a.example:8200 secret/keyferry/backup",
        "    BLOCKED: generation 41: permission denied",
    ]


def test_a_list_fits_its_width_whatever_it_holds():
    row = {
        "name": "a-policy-with-" + "a-very-long-name-" * 3,
        "bits": 256,
        "algorithm": "chacha20-poly1305",
        "schedule": "cron 30 2,4,6,8,10 * * mon-fri +10 min",
        "next_due": NOW + 172800,
        "initiates": False,
        "generation": 123456,
        "active_since": NOW - 86400 * 300,
        "target": {"kind": "vault-transit", "place": "https://kms.example:8200/x" * 3 + " the-end"},
        "under_way": {"state": "committed"},
        "due": False,
        "late_since": NOW - 3600,
        "attention": {"late": "no answer " * 20, "paused": "by uid 0"},
    }
    answer = {"kme": "kme-a", "peer": "kme-b", "policies": [row, row]}
    lines = list_lines(answer, NOW)
    assert max(map(len, lines)) == WIDTH
    assert min(map(len, lines)) > 0
    assert lines[0] == "kme-a with kme-b: 2 policies, 2 need attention"
    assert "256 chacha20 " in lines[2]
    assert lines[3].startswith("    vault-transit https://kms.example")
    assert lines[4].startswith("    LATE for 60 min: no answer")
    assert lines[5] == "    paused: by uid 0"
    brief = {**row, "name": "b", "schedule": "every 1 h", "target": {"kind": "file", "place": "/k"}}
    lines = list_lines({**answer, "policies": [brief]}, NOW)
    assert lines[1].endswith("  TARGET")
    assert lines[2].endswith("  file /k")


def test_a_site_without_policies_says_so():
    assert list_lines({"kme": "kme-a", "policies": []}, NOW) == ["kme-a has no refresh policies"]
    assert run_lines([]) == ["no runs yet"]


def test_a_policy_is_shown_line_by_line(typed, running):
    gone_through(running, 1, RefreshState.DONE, native_version=1)
    running.errands.refreshes.trouble = PeerUnavailable("no route")
    said = typed("policy show backup").stdout
    for line in (
        "sites        kme-a and kme-b",
        "initiator    kme-a, this site",
        "key          256 bits, aes-gcm",
        "schedule     every 1 h +1 min (UTC)",
        "target       vault-kv https://openbao-a.example:8200 secret/keyferry/backup",
        "grace        2 h",
        "alarm        older than 3 h",
        "other file   not known: kme-b does not tell: no route",
    ):
        assert line in said.splitlines()
    assert "\nGEN  STATE  BEGAN (UTC)" in said


def test_a_history_has_a_reason_below_a_run(typed, running):
    gone_through(running, 2, RefreshState.ABORTED, reason="sealed")
    table = typed("policy history backup").stdout.splitlines()
    assert table[1].split()[:2] == ["2", "aborted"]
    assert table[2] == "      sealed"


def test_an_order_to_run_is_told(typed, running):
    assert typed("policy run backup").stdout.startswith("backup is due")
    assert running.store.policies.state("backup").due


def working(running, steps):
    """Goes on with the policy in another thread, as the jobs process does, once it is due."""

    def work():
        while not running.store.policies.state("backup").due:
            time.sleep(0.005)
        steps()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(waiting, "LOOK_S", 0.01)


@pytest.mark.parametrize(
    ("state", "said"),
    [
        (RefreshState.DONE, "backup: generation 1 is done at both sites, after "),
        (RefreshState.ABORTED, "backup: generation 1 is aborted: denied"),
        (RefreshState.BLOCKED, "backup: generation 1 is blocked: denied"),
    ],
)
@pytest.mark.usefixtures("impatient")
def test_a_wait_ends_with_the_run_and_says_how(typed, running, state, said):
    reason = None if state is RefreshState.DONE else "denied"
    thread = working(running, lambda: gone_through(running, 1, state, reason=reason))
    done = typed("policy run backup", "--wait", "--json")
    thread.join(10)
    told = json.loads(done.stdout)
    assert done.exit_code == (0 if state is RefreshState.DONE else 1)
    assert told["told"].startswith(said)
    assert told["done"] is (state is RefreshState.DONE)


@pytest.mark.usefixtures("impatient")
def test_a_wait_for_a_run_that_is_passed_over_fails_with_the_reason(typed, running):
    def refuse():
        running.store.policies.note_refused("backup", "differs between the two site files")
        running.store.policies.pass_over("backup", "refused")

    working(running, refuse)
    with pytest.raises(QkdError, match="policy backup did not run: differs between"):
        typed("policy run backup", "--wait")


def test_a_wait_at_a_site_that_does_not_run_ends(site_file, operated):
    with pytest.raises(QkdError, match="policy backup is due, but this site does not run"):
        waiting.waited(site_file, "backup", 0)


def test_progress_is_shown_on_a_terminal_only_and_not_at_once(monkeypatch, capsys):
    progress = waiting.Progress()
    progress.show("due", 5.0)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    progress.show("due", 1.0)
    progress.end()
    assert capsys.readouterr().err == ""
    progress.show(waiting.standing(None, "sealed"), 2.0)
    progress.show(waiting.standing({"generation": 3, "state": "drawn"}, None), 3.0)
    progress.end()
    shown = capsys.readouterr().err
    assert shown.startswith("\rdue, late: sealed, waiting for 2 s\rgeneration 3 is drawn, waiting")
    assert shown.endswith("\r")


def test_pausing_and_resuming_say_what_they_did(typed):
    assert typed("policy pause backup").stdout.startswith("backup is paused at this site, by uid ")
    again = typed("policy resume backup").stdout
    assert again.startswith("backup was paused by uid ")
    assert typed("policy resume backup").stdout == "backup was not paused at this site\n"


def test_the_steps_of_a_run_are_printed_with_times(typed, running):
    gone_through(running, 1, RefreshState.BLOCKED, reason="denied")
    lines = typed("refresh show backup/1").stdout.splitlines()
    assert lines[0] == "run          backup 1"
    assert "state        blocked: denied" in lines
    assert "other site   does not know the run" in lines
    assert "  2027-01-15 08:00:00  +    0.000 s  drawn" in lines
    assert lines[-1] == "to go on: keyferry refresh resolve SITE backup 1"


def test_a_run_is_given_up_with_a_code_and_tried_again_without(typed, running):
    (held,) = running.store.allocations.hold(a_request(), LATER)
    gone_through(running, 1, RefreshState.BLOCKED, key_id=held.key_id)
    said = typed("refresh resolve backup", "--retry").stdout
    assert said.splitlines()[-1] == "run backup 1 is committed here; the other site follows"
    running.store.refreshes.move("backup 1", RefreshState.BLOCKED, reason="denied")
    asked = typed("refresh resolve backup", "--supersede").stdout
    assert asked.startswith("this would give up generation 1 of policy backup and burn its key")
    code = asked.split()[-1]
    done = typed("refresh resolve backup", "--supersede", "--confirm", code).stdout
    assert done.splitlines()[-1] == "run backup 1 is superseded here; the other site follows"


def test_what_is_to_be_done_has_to_be_said(typed):
    assert "--retry or --supersede is needed" in typed("refresh resolve backup").output


def test_a_refusal_is_the_site_s_own_line(typed):
    with pytest.raises(ConfigError, match=r"^policy 'other': the site file has backup$"):
        typed("policy show other")


def test_status_has_a_line_for_policies(typed, running):
    gone_through(running, 3, RefreshState.DONE)
    running.store.policies.note_late("backup", "sealed")
    lines = CliRunner().invoke(main, ["status", str(running.site.state_dir.parent / "site.toml")])
    said = {line[:12].strip(): line[13:] for line in lines.stdout.splitlines()}
    assert said["policies"].startswith(
        "1; 1 LATE (backup); oldest active key: backup generation 3, "
    )
    assert said["refreshes"] == "1 done"
