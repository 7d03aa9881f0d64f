"""What an operator sees of refresh policies, and how one is run, paused and resumed."""

import json
from base64 import b64encode
from dataclasses import replace
from pathlib import Path

import pytest

from keyferry.config.policies import WebhookSettings
from keyferry.operator.orders import Orders
from keyferry.operator.policy_rows import ATTENTION, length, place
from keyferry.operator.socket import Caller
from keyferry.store.checks.examples import LATER, NOW, a_request
from keyferry.store.checks.refreshes import PATHS, a_run
from qkd_core.errors import (
    ConfigError,
    MoveRefused,
    PeerUnavailable,
    RefreshRefused,
)
from qkd_core.types.keys import RefreshState
from qkd_kms_adapters.file import FileTarget
from qkd_kms_adapters.wireguard import WireGuardTarget

PEER = b64encode(bytes(range(32))).decode()
ALICE, BOB = Caller(1001), Caller(1002)


@pytest.fixture
def three(site_file):
    """The site file with two more policies: the other site begins one of them."""
    text = site_file.read_text()
    table = text[text.index("[[policies]]") :].partition("\n# [")[0]
    for name, initiator in (("archive", "a"), ("theirs", "b")):
        more = table.replace("backup", name).replace(
            'initiator = "a"', f'initiator = "{initiator}"'
        )
        text += f"\n{more}"
    site_file.write_text(text)


def asked(operated, order, **request):
    return operated.orders.handle({"order": f"policy-{order}", **request}, ALICE)


def listed(operated):
    return {row["name"]: row for row in asked(operated, "list")["policies"]}


def gone_through(operated, number, state, policy="backup", **more):
    operated.store.refreshes.begin(a_run(number, policy))
    for each in PATHS[state]:
        operated.store.refreshes.move(f"{policy} {number}", each, **more)


def audited(store, action):
    rows = store.database.rows("SELECT event FROM audit ORDER BY chain, seq")
    events = [json.loads(row[0]) for row in rows]
    return [event["fields"] for event in events if event["action"] == action]


def test_a_policy_is_listed_with_its_schedule_target_and_active_generation(operated):
    gone_through(operated, 1, RefreshState.DONE)
    told = asked(operated, "list")
    assert (told["kme"], told["peer"]) == ("kme-a", "kme-b")
    assert json.loads(json.dumps(told)) == told
    (row,) = told["policies"]
    assert row == {
        "name": "backup",
        "bits": 256,
        "algorithm": "aes-gcm",
        "schedule": "every 1 h +1 min",
        "next_due": NOW,  # it has never begun a run by the schedule
        "initiator": "kme-a",
        "initiates": True,
        "target": {
            "kind": "vault-kv",
            "place": "https://openbao-a.example:8200 secret/keyferry/backup",
        },
        "generation": 1,
        "active_since": NOW,
        "under_way": None,
        "due": False,
        "late_since": None,
        "paused_by": None,
        "attention": {},
    }


def test_nothing_that_is_secret_or_a_file_of_a_secret_is_told_of_a_target(operated):
    (entry,) = operated.site.policies
    told = json.dumps(asked(operated, "show", name="backup"))
    assert str(operated.site.root_key.parent) not in told
    assert "role-id" not in place(entry.target)


def test_the_next_due_time_follows_the_slot_that_was_seen_to(operated):
    operated.store.policies.make_due("backup", NOW - 7200, "schedule")
    assert listed(operated)["backup"]["next_due"] == NOW  # a run is to begin
    operated.store.policies.pass_over("backup", "test")
    due = listed(operated)["backup"]["next_due"]
    assert NOW - 3600 <= due <= NOW - 3600 + 60  # jitter; it was missed, so: now
    operated.store.policies.pause("backup", "uid 0")
    assert listed(operated)["backup"]["next_due"] is None


@pytest.mark.usefixtures("three")
def test_the_other_site_s_next_run_is_told_from_its_schedule(operated):
    row = listed(operated)["theirs"]
    assert (row["initiator"], row["initiates"]) == ("kme-b", False)
    assert NOW < row["next_due"] <= NOW + 3660
    operated.clock.time = row["next_due"]
    assert listed(operated)["theirs"]["next_due"] > operated.clock.time


@pytest.mark.usefixtures("three")
def test_what_needs_attention_comes_first(operated):
    policies = operated.store.policies
    assert list(listed(operated)) == ["archive", "backup", "theirs"]
    policies.pause("theirs", "uid 7")
    assert list(listed(operated)) == ["theirs", "archive", "backup"]
    policies.note_late("backup", "Vault is sealed")
    assert list(listed(operated)) == ["backup", "theirs", "archive"]
    gone_through(operated, 4, RefreshState.BLOCKED, "archive", reason="denied")
    rows = listed(operated)
    assert {name: row["attention"] for name, row in rows.items()} == {
        "archive": {"blocked": "generation 4: denied"},
        "backup": {"late": "Vault is sealed"},
        "theirs": {"paused": "by uid 7"},
    }
    assert rows["archive"]["under_way"]["state"] == "blocked"
    policies.note_refused("backup", "differs")
    assert listed(operated)["backup"]["attention"] == {"refused": "differs"}


def test_a_run_that_came_to_nothing_needs_attention_until_the_next_one(operated):
    gone_through(operated, 1, RefreshState.ABORTED, reason="denied")
    assert listed(operated)["backup"]["attention"] == {"aborted": "generation 1: denied"}
    assert listed(operated)["backup"]["under_way"] is None
    gone_through(operated, 2, RefreshState.DONE)
    assert listed(operated)["backup"]["attention"] == {}


def test_a_generation_that_is_too_old_needs_attention(operated):
    gone_through(operated, 1, RefreshState.DONE)
    operated.clock.time += 10800
    assert listed(operated)["backup"]["attention"] == {}
    operated.clock.time += 1
    told = listed(operated)["backup"]["attention"]
    assert told == {"old": "generation 1 is older than 3 h"}


def test_all_of_a_policy_is_shown_with_its_last_runs(operated):
    for number in range(1, 8):
        gone_through(operated, number, RefreshState.DONE, native_version=number + 10)
    told = asked(operated, "show", name="backup")
    assert told["kmes"] == ["kme-a", "kme-b"]
    assert (told["interval_s"], told["cron"], told["grace_s"]) == (3600, None, 7200)
    assert told["digest"] == operated.site.policies[0].policy.digest
    assert (told["webhook"], told["max_age_s"]) == (None, 10800)
    assert told["in_use"] == list(range(1, 8))
    assert [run["generation"] for run in told["runs"]] == [7, 6, 5, 4, 3]
    assert told["runs"][0]["native_version"] == 17


@pytest.mark.parametrize(
    ("trouble", "agrees", "said"),
    [
        (None, True, "kme-b has the same policy"),
        (RefreshRefused("policy backup differs"), False, "policy backup differs"),
        (PeerUnavailable("no route"), None, "kme-b does not tell: no route"),
    ],
)
def test_whether_the_other_file_agrees_is_asked_by_the_initiator(operated, trouble, agrees, said):
    operated.errands.refreshes.trouble = trouble
    assert asked(operated, "show", name="backup")["peer"] == {"agrees": agrees, "said": said}


@pytest.mark.usefixtures("three")
def test_the_follower_says_that_it_cannot_ask(operated):
    operated.errands.refreshes.trouble = AssertionError("asked")
    told = asked(operated, "show", name="theirs")["peer"]
    assert told == {"agrees": None, "said": "only kme-b, its initiator, can ask"}


def test_a_run_that_is_ordered_is_due_at_once_and_audited(operated):
    gone_through(operated, 3, RefreshState.DONE)
    assert asked(operated, "run", name="backup") == {"ordered": "backup", "generation": 3}
    assert operated.store.policies.state("backup").due
    assert audited(operated.store, "refresh_ordered") == [{"policy": "backup", "by": "uid 1001"}]


@pytest.mark.parametrize("order", ["show", "run", "pause", "resume", "history", "progress"])
@pytest.mark.usefixtures("three")
def test_an_unknown_policy_is_one_line_with_those_that_there_are(operated, order):
    with pytest.raises(ConfigError) as caught:
        asked(operated, order, name="nightly", limit=1, after=0)
    assert str(caught.value) == "policy 'nightly': the site file has backup, archive, theirs"


def test_a_thousand_names_are_not_one_line(operated):
    (entry,) = operated.site.policies
    names = [f"p{number}" for number in range(25)]
    entries = [replace(entry, policy=replace(entry.policy, name=name)) for name in names]
    site = replace(operated.site, policies=tuple(entries))
    orders = Orders(site, operated.store, operated.errands, operated.clock)
    with pytest.raises(ConfigError, match=r"p18, p19 and 5 more$"):
        orders.handle({"order": "policy-run", "name": "nightly"}, ALICE)


@pytest.mark.usefixtures("three")
def test_the_follower_names_the_initiator_instead_of_a_run(operated):
    with pytest.raises(ConfigError, match="run by its initiator, kme-b: order it there"):
        asked(operated, "run", name="theirs")
    assert not operated.store.policies.state("theirs").due


def test_a_paused_policy_is_not_run(operated):
    asked(operated, "pause", name="backup")
    with pytest.raises(RefreshRefused, match="paused by uid 1001: resume it first"):
        asked(operated, "run", name="backup")
    assert not operated.store.policies.state("backup").due


@pytest.mark.parametrize("state", [RefreshState.DRAWN, RefreshState.PUBLISHED])
def test_no_run_is_ordered_while_one_is_under_way(operated, state):
    gone_through(operated, 1, state)
    with pytest.raises(MoveRefused, match=f"generation 1 is {state}: the next run begins when"):
        asked(operated, "run", name="backup")


def test_a_blocked_run_is_resolved_before_the_next_unless_its_key_is_burnt(operated):
    (held,) = operated.store.allocations.hold(a_request(), LATER)
    operated.store.refreshes.begin(a_run(1, "backup", held.key_id))
    for state in PATHS[RefreshState.BLOCKED]:
        operated.store.refreshes.move("backup 1", state)
    with pytest.raises(MoveRefused, match="resolve run backup 1 first"):
        asked(operated, "run", name="backup")
    operated.store.allocations.drop_held(held.key_id, burnt=True)
    assert asked(operated, "run", name="backup")["generation"] == 1


def test_pausing_and_resuming_are_told_with_who_did_it_first(operated):
    assert asked(operated, "pause", name="backup") == {"paused": "backup", "by": "uid 1001"}
    again = operated.orders.handle({"order": "policy-pause", "name": "backup"}, BOB)
    assert again == {"paused": "backup", "by": "uid 1001"}
    resumed = {"resumed": "backup", "was_paused_by": "uid 1001"}
    assert asked(operated, "resume", name="backup") == resumed
    assert asked(operated, "resume", name="backup") == {**resumed, "was_paused_by": None}
    assert audited(operated.store, "policy_paused") == [{"policy": "backup", "by": "uid 1001"}]
    assert audited(operated.store, "policy_resumed") == [{"policy": "backup", "by": "uid 1001"}]


def test_the_history_tells_when_each_run_began_and_how_long_it_took(operated):
    runs = operated.store.refreshes
    runs.begin(a_run(1, "backup"))
    for state in PATHS[RefreshState.DONE]:
        operated.clock.time += 1.5
        runs.move("backup 1", state)
    operated.clock.time += 100
    runs.move("backup 1", RefreshState.RETIRED)  # the end of its grace is no part of it
    began = operated.clock.time
    gone_through(operated, 2, RefreshState.BLOCKED, reason="denied")
    newest, oldest = asked(operated, "history", name="backup", limit=10)["runs"]
    assert (oldest["began"], oldest["took_s"]) == (NOW, 1.5 * len(PATHS[RefreshState.DONE]))
    assert oldest["state"] == "retired"
    assert (newest["began"], newest["ended"], newest["took_s"]) == (began, None, None)
    assert newest["reason"] == "denied"
    assert len(asked(operated, "history", name="backup", limit=1)["runs"]) == 1


@pytest.mark.parametrize("limit", [0, 1001, "5", True, None])
def test_a_limit_that_is_none_is_refused(operated, limit):
    with pytest.raises(ConfigError, match="a whole number from 1 to 1000"):
        asked(operated, "history", name="backup", limit=limit)


def test_the_progress_of_a_run_is_that_of_the_generation_to_come(operated):
    gone_through(operated, 1, RefreshState.DONE)
    asked(operated, "run", name="backup")
    operated.store.policies.note_late("backup", "sealed")
    told = asked(operated, "progress", name="backup", after=1)
    assert told == {"due": True, "trouble": "sealed", "run": None}
    gone_through(operated, 2, RefreshState.PREPARED)
    told = asked(operated, "progress", name="backup", after=1)
    assert (told["due"], told["run"]["state"]) == (False, "prepared")


def test_status_names_the_policies_that_need_attention_and_the_oldest_key(operated):
    assert operated.orders.handle({"order": "status"}, ALICE)["policies"] == {
        "count": 1,
        **{what: [] for what in ATTENTION},
        "oldest": None,
    }
    gone_through(operated, 1, RefreshState.DONE)
    operated.store.policies.pause("backup", "uid 0")
    operated.store.policies.note_late("backup", "sealed")
    told = operated.orders.handle({"order": "status"}, ALICE)["policies"]
    assert (told["late"], told["paused"], told["refused"]) == (["backup"], ["backup"], [])
    assert told["oldest"] == {"policy": "backup", "generation": 1, "active_since": NOW}


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "0 s"), (90, "90 s"), (0.5, "0.5 s"), (7200, "2 h"), (86400, "1 d"), (60, "1 min")],
)
def test_lengths_are_whole_numbers_of_the_largest_unit(seconds, said):
    assert length(seconds) == said


def test_of_a_webhook_only_the_host_is_told(operated, tmp_path):
    (entry,) = operated.site.policies
    webhook = WebhookSettings(url="https://hooks.example/T0/secret", secret=tmp_path / "s", ca=None)
    site = replace(operated.site, policies=(replace(entry, webhook=webhook),))
    orders = Orders(site, operated.store, operated.errands, operated.clock)
    gone_through(operated, 1, RefreshState.DONE)
    told = orders.handle({"order": "policy-show", "name": "backup"}, ALICE)
    assert (told["webhook"], told["events_untold"]) == ("hooks.example", 1)
    assert "T0" not in json.dumps(told)


@pytest.mark.parametrize(
    ("target", "said"),
    [
        (FileTarget(path=Path("/run/keys/backup")), "/run/keys/backup"),
        (
            WireGuardTarget(interface="wg0", peer=PEER, key_file=Path("/run/keys/psk")),
            f"wg0 {PEER}",
        ),
    ],
)
def test_a_place_is_told_once_and_without_what_is_only_an_option(target, said):
    assert place(target) == said
