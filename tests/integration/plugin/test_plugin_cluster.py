"""The engine on a raft cluster: a standby reads by itself, and what is written is known to all."""

import re
import sys
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from bao_server import SERVES, STANDS_BY, Bao, eventually
from processes_seen import alive

sys.path.pop(0)


class Cluster:
    """Three nodes, so that two still agree when one is gone."""

    def __init__(self, folder, authority, stack):
        first = Bao(folder / "one", authority)
        self.nodes = [first]
        stack.callback(first.remove)
        first.start()
        first.set_up()
        soon = {"server_stabilization_time": "1s"}  # else a node votes after 10 s
        answer = first.ask("POST", "sys/storage/raft/autopilot/configuration", soon)
        assert answer.status == 204, answer.text
        for name in ("two", "three"):
            node = Bao(folder / name, authority, leader=first)
            self.nodes.append(node)
            stack.callback(node.remove)
            node.place()
            node.start()
        for node in self.nodes[1:]:
            node.wait_for(STANDS_BY)
        eventually(lambda: len(self.voters()) == 3, "all three vote", seconds=30)

    def voters(self):
        answer = self.nodes[0].ask("GET", "sys/storage/raft/configuration")
        return [each for each in answer.data["config"]["servers"] if each["voter"]]

    def with_health(self, status):
        return [node for node in self.nodes if node.process and node.health() == status]

    def active(self):
        (node,) = eventually(lambda: self.with_health(SERVES), "an active node", seconds=30)
        return node

    def standby(self):
        return self.with_health(STANDS_BY)[0]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory, certificates):
    with ExitStack() as stack:
        yield Cluster(tmp_path_factory.mktemp("cluster"), certificates.authority, stack)


@pytest.fixture(scope="module")
def mounts(cluster, making, pair):
    """The engines of the two SAEs, by their addresses at the first node."""
    made = []
    for site, sae, peer in ((pair[0], "sae-a1", "sae-b1"), (pair[1], "sae-b1", "sae-a1")):
        url = f"https://127.0.0.1:{site.port}"
        mount = making.mount(cluster.active(), f"qkd-{sae}", **making.settings(url, sae))
        assert mount.write("roles/backup", {"peer_sae": peer, "prefetch": 0}).status == 204
        made.append(mount)
    for node in cluster.nodes:
        for mount in made:
            eventually(lambda: mount.at(node).read("roles/backup").status == 200, "it is known")  # noqa: B023
    return made


@pytest.fixture
def a(cluster, mounts):
    """The engine of sae-a1 at the active node, whichever that is."""
    return mounts[0].at(cluster.active())


@pytest.fixture
def a_standby(cluster, mounts):
    return mounts[0].at(cluster.standby())


def test_a_standby_serves_reads_by_itself(cluster, a, a_standby, mounts):
    key = a_standby.key("backup")

    assert a_standby.server.descendants() != []
    assert mounts[1].at(cluster.active()).key("backup", key["key_id"]) == key


def test_a_read_on_a_standby_asks_nothing_of_the_active_node(a, a_standby):
    before = a.server.audit.read_text().count("keys/backup")
    for _ in range(5):
        a_standby.key("backup")

    assert a.server.audit.read_text().count("keys/backup") == before


def test_both_nodes_give_keys_at_once_and_never_the_same(cluster, a, a_standby, mounts):
    def read(number):
        return (a if number % 2 else a_standby).key("backup")

    with ThreadPoolExecutor(8) as pool:
        keys = list(pool.map(read, range(40)))

    assert len({key["key_id"] for key in keys}) == len({key["key"] for key in keys}) == 40
    b = mounts[1].at(cluster.standby())
    assert all(b.key("backup", key["key_id"]) == key for key in keys[:6])


def delivered(site):
    """How many keys the KME has given out so far."""
    url = f"http://127.0.0.1:{site.settings['metrics_port']}/metrics"
    with urllib.request.urlopen(url) as answer:
        (found,) = re.findall(rb"^keyferry_keys_delivered_total (.*)$", answer.read(), re.M)
    return float(found)


@pytest.mark.parametrize("who", ["the client", "the role"])
def test_a_key_that_is_wrapped_can_be_read_on_a_standby(a, a_standby, mounts, pair, who):
    """The wrapping is a write, for which the server asks its active node; no key is lost."""
    a.write("roles/backup", {"wrap_required": who == "the role"})
    try:
        eventually(
            lambda: a_standby.read("roles/backup").data["wrap_required"] == (who == "the role"),
            "the standby knows",
        )
        before = delivered(pair[0])
        headers = {"X-Vault-Wrap-TTL": "60s"} if who == "the client" else {}
        answer = a_standby.read("keys/backup", headers=headers)
        assert answer.status == 200, answer.text
        token = answer.body["wrap_info"]["token"]
        key = a_standby.server.ask("POST", "sys/wrapping/unwrap", {}, token=token)
    finally:
        a.write("roles/backup", {"wrap_required": False})

    assert answer.body["data"] is None
    assert delivered(pair[0]) == before + 1
    assert mounts[1].at(a.server).key("backup", key.data["key_id"]) == key.data


def test_a_write_on_a_standby_is_made_by_the_active_node(a, a_standby):
    for number in range(3):
        wrote = a_standby.write("roles/made", {"peer_sae": "sae-b2", "bits": 64 + 8 * number})
        assert wrote.status == 204, wrote.text
        assert a.read("roles/made").data["bits"] == 64 + 8 * number

    assert a_standby.ask("DELETE", "roles/made").status == 204
    assert a.read("roles/made").status == 404


def test_a_wrong_write_on_a_standby_is_refused_in_words(a_standby):
    refused = a_standby.write("roles/wrong", {"peer_sae": "sae-b2", "bits": 9})

    assert refused.status == 400
    assert "bits cannot be 9" in refused.errors


def test_a_change_at_the_active_node_reaches_a_standby(a, a_standby):
    assert a_standby.key("backup")["encoding"] == "base64"  # from now on, it has it in memory

    for encoding in ("hex", "base64"):
        a.write("roles/backup", {"encoding": encoding})
        begun = time.monotonic()
        eventually(
            lambda: a_standby.key("backup")["encoding"] == encoding,  # noqa: B023
            "the standby knows",
            seconds=5,
        )
        assert time.monotonic() - begun < 5


def test_a_role_that_was_deleted_is_gone_on_a_standby(a, a_standby):
    a.write("roles/short", {"peer_sae": "sae-b2"})
    eventually(lambda: a_standby.read("keys/short").status == 200, "the standby has the role")

    a.ask("DELETE", "roles/short")

    eventually(lambda: a_standby.read("keys/short").status == 400, "it is gone", seconds=5)


def test_other_settings_at_the_active_node_reach_a_standby(a, a_standby, making, pair):
    url = f"https://127.0.0.1:{pair[0].port}"
    assert a_standby.read("status/backup").data["master_sae_id"] == "sae-a1"
    try:
        a.write("config", making.settings(url, "sae-a2"))
        eventually(
            lambda: a_standby.read("status/backup").data["master_sae_id"] == "sae-a2",
            "the standby is another SAE",
            seconds=5,
        )
    finally:
        a.write("config", making.settings(url, "sae-a1"))
    eventually(
        lambda: a_standby.read("status/backup").data["master_sae_id"] == "sae-a1", "and back"
    )


def test_a_plugin_that_is_killed_on_a_standby_comes_back(a_standby):
    a_standby.key("backup")
    killed = a_standby.server.kill_plugin()

    assert a_standby.read("keys/backup").status == 200
    assert a_standby.server.plugin_pid() != killed


def test_keys_go_on_when_the_active_node_is_killed(cluster, mounts):
    """Last, as the node does not come back."""
    old = cluster.active()
    orphans = old.descendants()

    old.kill()
    new = cluster.active()

    key = mounts[0].at(new).key("backup")
    assert mounts[1].at(cluster.standby()).key("backup", key["key_id"]) == key
    assert mounts[0].at(new).write("roles/after", {"peer_sae": "sae-b2"}).status == 204
    other = mounts[0].at(cluster.standby())
    eventually(lambda: other.write("roles/backup", {"bits": 512}).status == 204, "it forwards")
    eventually(lambda: not any(map(alive, orphans)), "the killed node's plugin ends")
