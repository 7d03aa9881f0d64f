"""Consumers are told by HTTPS; what they get is judged by the scheme's own library."""

import json
import logging
import os
import subprocess
import sys
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from keyferry.bootstrap.jobs import webhooks_of
from keyferry.config.policies import WebhookSettings
from keyferry.config.site import SiteSettings
from keyferry.consumers import webhooks as module
from keyferry.consumers.webhook_call import WebhookCall
from keyferry.consumers.webhooks import Webhooks
from keyferry.store.checks.examples import LINK
from keyferry.store.memory.policies import MemoryLead, MemoryPolicies
from keyferry.store.memory.site import MemorySite
from keyferry.store.sealing import new_root_key
from qkd_core.errors import ConfigError, ConsumerGone, ConsumerUnavailable
from qkd_core.types.ids import Generation, KmeId, Side
from qkd_core.types.refresh import ActiveEvent

sys.path.insert(0, str(Path(__file__).parent))
from consumer import Consumer, breaks, consuming, drips, hangs, talks_nonsense

sys.path.pop(0)

TIMEOUT_S = 1.0
DAY_S = 86400.0


class Wall:
    """The time of day, moved by the tests."""

    ahead_s = 0.0

    def now(self) -> float:
        return time.time() + self.ahead_s


class Told:
    """A site's events, and its webhooks to one consumer."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.clock = folder, Wall()
        self.site = MemorySite(link_id=LINK, side=Side.A, clock=self.clock)
        self.policies = MemoryPolicies(self.site, MemoryLead(self.site))
        self.secret_file = secret_file(folder / "secret")
        self.calls: dict[str, WebhookCall] = {}
        hours = count(step=3600)  # between two looks, so that no wait is ever longer
        self.webhooks = Webhooks(
            self.policies, self.calls, KmeId("kme-a"), self.clock, lambda: float(next(hours))
        )

    def consumer_of(self, policy: str, url: str, ca: Path, timeout_s: float = TIMEOUT_S) -> None:
        settings = WebhookSettings(url=url, secret=self.secret_file, ca=ca)
        self.calls[policy] = WebhookCall(settings, timeout_s)

    def active(self, policy: str, *generations: int) -> None:
        for number in generations:
            self.site.active_events.append(
                ActiveEvent(
                    event_id=f"{policy}-{number}",
                    policy=policy,
                    generation=Generation(number),
                    key_id=f"key-{number}",
                    at=time.time(),
                )
            )

    def work_until(self, condition: Callable[[], bool], timeout_s: float = 20.0) -> None:
        end = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < end, self.site.active_events
            self.webhooks.work()
            time.sleep(0.01)

    def work_until_all_ended(self) -> None:
        self.work_until(lambda: not self.site.active_events)

    @property
    def given_up(self) -> int:
        return self.site.alarms["consumer_not_told"]


def secret_file(path: Path) -> Path:
    path.touch(mode=0o600)
    path.write_text(f"whsec_{b64encode(os.urandom(32)).decode()}\n")
    return path


@pytest.fixture
def told(tmp_path: Path) -> Iterator[Told]:
    made = Told(tmp_path)
    yield made
    made.webhooks.close()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Consumer]:
    with consuming(tmp_path_factory.mktemp("consumer")) as server:
        yield server


@pytest.fixture
def consumer(running: Consumer) -> Consumer:
    running.messages.clear()
    running.answers.clear()
    return running


def test_the_scheme_s_own_library_verifies_the_message(told, consumer) -> None:
    told.consumer_of("backup", f"{consumer.url}/hooks?for=backup", consumer.ca)
    told.active("backup", 7)
    (event,) = told.site.active_events
    told.work_until_all_ended()

    ((path, headers, body),) = consumer.messages
    verified = Webhook(told.secret_file.read_text().strip()).verify(body, headers)

    at = verified.pop("at")
    assert verified == {
        "type": "generation.active",
        "policy": "backup",
        "generation": 7,
        "key_id": "key-7",
        "kme": "kme-a",
    }
    assert at.endswith("Z") and abs(rfc_3339(at) - event.at) < 0.001
    assert path == "/hooks?for=backup"
    assert headers["webhook-id"] == event.event_id
    assert headers["content-type"] == "application/json"
    assert told.given_up == 0


def rfc_3339(text: str) -> float:
    done = subprocess.run(["date", "-u", "-d", text, "+%s.%N"], capture_output=True, check=True)
    return float(done.stdout)


def test_the_library_refuses_an_altered_message_and_another_secret(told, consumer) -> None:
    told.consumer_of("backup", consumer.url, consumer.ca)
    told.active("backup", 7)
    told.work_until_all_ended()
    ((_, headers, body),) = consumer.messages
    secret = told.secret_file.read_text().strip()
    for wrong_secret, wrong_body in (
        (secret, body.replace(b'"generation":7', b'"generation":8')),
        (secret_file(told.folder / "other").read_text().strip(), body),
    ):
        with pytest.raises(WebhookVerificationError):
            Webhook(wrong_secret).verify(wrong_body, headers)


def test_a_consumer_changes_its_secret_without_a_gap(told, consumer) -> None:
    told.consumer_of("backup", consumer.url, consumer.ca)
    old = told.secret_file.read_text()
    new = secret_file(told.folder / "new").read_text()
    told.secret_file.write_text(new + old)
    told.active("backup", 1)
    told.work_until_all_ended()
    ((_, headers, body),) = consumer.messages
    for secret in (old, new):
        Webhook(secret.strip()).verify(body, headers)


def test_what_failed_is_sent_again_with_the_same_id_and_a_new_time(told, consumer) -> None:
    consumer.answers["/"] = [500, breaks, 200]
    told.consumer_of("backup", consumer.url, consumer.ca)
    told.active("backup", 1)
    told.work_until(lambda: bool(told.site.active_events[0].tries))
    told.clock.ahead_s = 100
    told.work_until_all_ended()
    sent = [headers for _, headers, _ in consumer.messages]
    assert [headers["webhook-id"] for headers in sent] == ["backup-1"] * 3
    assert int(sent[-1]["webhook-timestamp"]) >= int(sent[0]["webhook-timestamp"]) + 100
    assert told.given_up == 0


def test_a_server_that_is_down_gets_it_when_it_is_back(told, tmp_path) -> None:
    with consuming(tmp_path / "consumer") as first:
        port = first.server_address[1]
    told.consumer_of("backup", first.url, first.ca)
    told.active("backup", 1, 2)
    told.work_until(lambda: told.site.active_events[0].tries >= 2)
    told.calls.clear()
    with consuming(tmp_path / "again", port) as back:
        told.consumer_of("backup", back.url, back.ca)
        told.work_until_all_ended()
        assert [json.loads(body)["generation"] for _, _, body in back.messages] == [1, 2]


def test_one_policy_is_told_in_order_and_others_do_not_wait_for_it(told, consumer) -> None:
    consumer.answers["/bad"] = [503]
    told.consumer_of("bad", f"{consumer.url}/bad", consumer.ca)
    told.consumer_of("good", f"{consumer.url}/good", consumer.ca)
    told.active("bad", 1, 2)
    told.active("good", 1, 2)
    told.work_until(lambda: {event.policy for event in told.site.active_events} == {"bad"})
    told.work_until(lambda: told.site.active_events[0].tries > 2)
    assert [event.tries > 0 for event in told.site.active_events] == [True, False]

    consumer.answers["/bad"] = [200]
    told.work_until_all_ended()

    for path in ("/bad", "/good"):
        generations = [
            json.loads(body)["generation"] for where, _, body in consumer.messages if where == path
        ]
        assert generations == sorted(generations) and set(generations) == {1, 2}


def test_slow_consumers_hold_up_nobody(told, consumer) -> None:
    """More of them than there are threads: behind them all a message would wait for 3 s."""
    slow = [f"slow-{number}" for number in range(30)]
    for policy in slow:
        consumer.answers[f"/{policy}"] = [hangs]
        told.consumer_of(policy, f"{consumer.url}/{policy}", consumer.ca, timeout_s=0.8)
        told.active(policy, 1)
    told.work_until(lambda: all(event.tries for event in told.site.active_events))
    told.consumer_of("prompt", f"{consumer.url}/prompt", consumer.ca)
    for number in range(1, 4):
        told.active("prompt", number)
        start = time.monotonic()
        told.work_until(lambda: all(event.policy in slow for event in told.site.active_events))
        assert time.monotonic() - start < 1.6


def test_one_consumer_of_many_policies_does_not_take_every_thread(told, consumer) -> None:
    consumer.answers["/slow"] = [hangs]
    for number in range(30):
        told.consumer_of(f"slow-{number}", f"{consumer.url}/slow", consumer.ca)
        told.active(f"slow-{number}", 1)
    told.webhooks.work()
    told.consumer_of("prompt", f"{consumer.url}/prompt", consumer.ca)
    told.active("prompt", 1)
    start = time.monotonic()
    told.work_until(lambda: all(event.policy != "prompt" for event in told.site.active_events))
    assert time.monotonic() - start < 2 * TIMEOUT_S


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (hangs, r"no answer in 1 s"),
        (drips, r"no answer in 1 s"),
        (breaks, r"RemoteDisconnected|EOF"),
        (talks_nonsense, "BadStatusLine"),
        (307, "answered 307"),
        (301, "answered 301"),
        (401, "answered 401"),
        (500, "answered 500"),
    ],
)
def test_what_is_not_2xx_in_time_has_not_been_told(answer, said, told, consumer) -> None:
    consumer.answers["/"] = [answer]
    told.consumer_of("backup", consumer.url, consumer.ca)
    start = time.monotonic()
    with pytest.raises(ConsumerUnavailable, match=said) as caught:
        told.calls["backup"].tell("id", b"{}", time.time())
    assert time.monotonic() - start < TIMEOUT_S + 2
    assert "\n" not in str(caught.value)
    assert {path for path, _, _ in consumer.messages} == {"/"}, "a redirect was followed"


def test_a_certificate_of_somebody_else_is_not_trusted(told, consumer, tmp_path) -> None:
    with consuming(tmp_path / "other") as other:
        told.consumer_of("backup", consumer.url, other.ca)
        told.consumer_of("by-name", consumer.url.replace("127.0.0.1", "localhost"), consumer.ca)
        told.calls["public"] = WebhookCall(
            WebhookSettings(url=consumer.url, secret=told.secret_file, ca=None)
        )
        for call in told.calls.values():
            with pytest.raises(ConsumerUnavailable, match="certificate not trusted"):
                call.tell("id", b"{}", time.time())
    assert consumer.messages == []


def test_a_consumer_that_is_gone_is_told_no_more_and_that_is_an_alarm(told, consumer) -> None:
    consumer.answers["/"] = [410]
    told.consumer_of("backup", consumer.url, consumer.ca)
    with pytest.raises(ConsumerGone):
        told.calls["backup"].tell("id", b"{}", time.time())
    told.active("backup", 1)
    told.work_until_all_ended()
    assert told.given_up == 1
    assert len(consumer.messages) == 2


def test_after_three_days_a_message_is_given_up_with_an_alarm(told, consumer) -> None:
    consumer.answers["/"] = [500]
    told.consumer_of("backup", consumer.url, consumer.ca)
    told.active("backup", 1)
    told.clock.ahead_s = 3 * DAY_S - 60
    told.work_until(lambda: told.site.active_events[0].tries >= 2)
    assert told.given_up == 0
    told.clock.ahead_s = 3 * DAY_S + 60
    told.work_until_all_ended()
    assert told.given_up == 1


def test_of_too_many_that_wait_the_oldest_are_given_up(told, consumer, monkeypatch) -> None:
    monkeypatch.setattr(module, "MOST_WAITING", 2)
    told.consumer_of("backup", consumer.url, consumer.ca)
    told.active("backup", 1, 2, 3, 4)
    told.work_until_all_ended()
    assert [json.loads(body)["generation"] for _, _, body in consumer.messages] == [3, 4]
    assert told.given_up == 2


def test_without_a_consumer_there_is_nothing_to_tell(told) -> None:
    told.active("backup", 1, 2)
    told.webhooks.work()
    assert told.site.active_events == []
    assert told.given_up == 0


def test_the_pace_outlives_the_process(tmp_path, consumer) -> None:
    consumer.answers["/"] = [500]
    told = Told(tmp_path)
    told.consumer_of("backup", consumer.url, consumer.ca)
    told.active("backup", 1)
    for _ in range(6):
        told.policies.event_tried("backup-1")
    seconds = [1000.0]
    later = Webhooks(told.policies, told.calls, KmeId("kme-a"), told.clock, lambda: seconds[0])
    later.work()
    seconds[0] += 7  # after six failures the wait is between 8 s and 16 s
    later.work()
    assert consumer.messages == []
    seconds[0] += 10
    later.work()
    later.close()
    assert len(consumer.messages) == 1


def test_no_log_line_shows_a_secret_or_a_path(told, consumer, caplog) -> None:
    consumer.answers["/T0K3N"] = [500, 200]
    told.consumer_of("backup", f"{consumer.url}/T0K3N", consumer.ca)
    told.active("backup", 1)
    with caplog.at_level(logging.DEBUG):
        told.work_until_all_ended()
    assert "answered 500" in caplog.text
    shown = f"{caplog.text} {told.calls['backup']!r}"
    assert "T0K3N" not in shown
    assert told.secret_file.read_text().strip()[6:] not in shown


def test_a_secret_that_became_readable_to_others_is_used_no_more(told, consumer) -> None:
    told.consumer_of("backup", consumer.url, consumer.ca)
    told.secret_file.chmod(0o640)
    told.active("backup", 1)
    told.work_until(lambda: bool(told.site.active_events[0].tries))
    assert consumer.messages == []


@pytest.mark.parametrize(
    ("content", "mode"),
    [
        ("whsec_" + b64encode(b"k" * 32).decode(), 0o644),
        ("whsec_" + b64encode(b"k" * 23).decode(), 0o600),
        ("whsec_" + b64encode(b"k" * 65).decode(), 0o600),
        (b64encode(b"k" * 32).decode(), 0o600),
        ("whsec_!!", 0o600),
        ("whsk_" + b64encode(b"k" * 32).decode(), 0o600),
        ("", 0o600),
    ],
)
def test_a_secret_that_cannot_be_used_is_one_line_without_it(content, mode, tmp_path) -> None:
    path = tmp_path / "secret"
    path.write_text(content)
    path.chmod(mode)
    with pytest.raises(ConfigError) as caught:
        WebhookCall(WebhookSettings(url="https://c.example/", secret=path, ca=None))
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)
    assert not content or content not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "http://c.example/",
        "https:///path",
        "https://c.example:99999/",
        "https://user:pass@c.example/",
        "https://c.example/a b",
        "https://c.example/\r\nX: y",
        "https://[::1/",
    ],
)
def test_a_url_that_cannot_be_used_is_refused(url, told, consumer) -> None:
    with pytest.raises(ConfigError, match="webhook url") as caught:
        told.consumer_of("backup", url, consumer.ca)
    assert "pass" not in str(caught.value).replace("password", "")


def test_the_jobs_process_tells_the_consumers_that_the_site_file_names(
    told, consumer, tmp_path
) -> None:
    settings = WebhookSettings(url=consumer.url, secret=told.secret_file, ca=consumer.ca)
    site = SimpleNamespace(
        kme_id=KmeId("kme-b"),
        policies=[
            SimpleNamespace(policy=SimpleNamespace(name="told"), webhook=settings),
            SimpleNamespace(policy=SimpleNamespace(name="untold"), webhook=None),
        ],
    )
    store: Any = SimpleNamespace(policies=told.policies)
    told.active("untold", 1)
    told.active("told", 1)
    webhooks = webhooks_of(cast(SiteSettings, site), store)
    webhooks.work()
    webhooks.close()
    ((_, _, body),) = consumer.messages
    assert (json.loads(body)["policy"], json.loads(body)["kme"]) == ("told", "kme-b")
    assert told.site.active_events == []

    told.secret_file.chmod(0o644)
    with pytest.raises(ConfigError, match="mode 0644"):
        webhooks_of(cast(SiteSettings, site), store)


def test_a_ca_without_certificates_is_refused(told, consumer) -> None:
    with pytest.raises(ConfigError, match="no certificates"):
        told.consumer_of("backup", consumer.url, told.secret_file)


TELLING = """
import os, sys, time
from pathlib import Path
from keyferry.clock import SystemClock
from keyferry.config.policies import WebhookSettings
from keyferry.consumers.webhook_call import WebhookCall
from keyferry.consumers.webhooks import Webhooks
from keyferry.store.checks.examples import LINK
from keyferry.store.checks.refreshes import PATHS, a_run
from keyferry.store.sqlite import open_store
from qkd_core.types.ids import KmeId, Side
from qkd_core.types.keys import RefreshState

folder, url, ca, dies = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]), sys.argv[4] == "dies"
store = open_store(folder / "site" / "keys.db", root_key=folder / "root", link_id=LINK, side=Side.A,
                   kme_id=KmeId("kme-a"), writer="jobs", clock=SystemClock())
if dies:
    store.refreshes.begin(a_run(1))
    for state in PATHS[RefreshState.DONE]:
        store.refreshes.move("database 1", state)
call = WebhookCall(WebhookSettings(url=url, secret=folder / "secret", ca=ca))
webhooks = Webhooks(store.policies, {"database": call}, KmeId("kme-a"), SystemClock())
if dies:
    store.policies.event_ended = lambda *_: os._exit(99)
webhooks.work()
webhooks.close()
waiting = store.policies.events(10)
store.close()
assert waiting == (), waiting
"""


def test_a_kill_between_the_answer_and_its_record_tells_it_twice_with_one_id(
    tmp_path, consumer
) -> None:
    new_root_key(tmp_path / "root")
    secret = secret_file(tmp_path / "secret").read_text().strip()
    for how, code in (("dies", 99), ("lives", 0)):
        arguments = (str(tmp_path), consumer.url, str(consumer.ca), how)
        done = subprocess.run(
            [sys.executable, "-c", TELLING, *arguments],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == code, done.stderr
    first, second = consumer.messages
    assert first[1]["webhook-id"] == second[1]["webhook-id"]
    assert first[2] == second[2]
    for _, headers, body in consumer.messages:
        assert Webhook(secret).verify(body, headers)["policy"] == "database"
