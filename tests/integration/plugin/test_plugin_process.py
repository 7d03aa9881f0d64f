"""The plugin's process: what ends it, what starts it again, and who may speak with it."""

import os
import signal
import socket
import ssl
import stat
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from keyferry.pki.authority import Authority

sys.path.insert(0, str(Path(__file__).parent))
from bao_server import PLANTED, PLUGIN, SEALED, SERVES, Mount, eventually
from processes_seen import alive

sys.path.pop(0)

OWN_FOLDERS = "keyferry-plugin-*"
CODES = {signal.SIGKILL: "SIGKILL", signal.SIGTERM: "SIGTERM"}


@pytest.fixture(scope="module")
def site(own_bao, making, lasting_stand_in):
    """The engine on a server that these tests stop and kill as they like."""
    mount = making.mount(own_bao, "qkd", **making.settings(lasting_stand_in.url, "sae-a1"))
    assert mount.write("roles/r", {"peer_sae": "sae-b1", "prefetch": 0}).status == 204
    return mount


@pytest.fixture
def engine(site, stand_in):
    return site


def folders(server):
    return list(server.temporary.glob(OWN_FOLDERS))


def read_in_background(engine, stand_in, seconds):
    """A read that the KME takes its time for; returns when the KME has been asked."""
    stand_in.delay_s["sae-b1"] = seconds
    pool = ThreadPoolExecutor(1)
    reading = pool.submit(engine.read, "keys/r")
    pool.shutdown(wait=False)
    assert stand_in.asked.wait(10)
    return reading


def test_one_process_serves_two_mounts(engine, own_bao, making, stand_in):
    other = making.mount(own_bao, "qkd2", **making.settings(stand_in.url, "sae-a2"))
    other.write("roles/r", {"peer_sae": "sae-b2"})

    assert engine.read("keys/r").status == other.read("keys/r").status == 200
    assert len(own_bao.descendants()) == 1
    killed = own_bao.kill_plugin()
    assert engine.read("keys/r").status == other.read("keys/r").status == 200
    assert own_bao.plugin_pid() != killed
    assert own_bao.ask("DELETE", "sys/mounts/qkd2").status == 204
    assert engine.read("keys/r").status == 200


@pytest.mark.parametrize("number", CODES, ids=CODES.values())
def test_after_its_end_the_next_request_is_answered(engine, own_bao, number):
    engine.read("keys/r")
    killed = own_bao.kill_plugin(number)

    assert engine.read("keys/r").status == 200
    assert own_bao.plugin_pid() != killed


def test_ten_requests_right_after_a_kill_are_all_answered(engine, own_bao):
    own_bao.kill_plugin()
    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(lambda _: engine.read("keys/r"), range(10)))

    assert [answer.status for answer in answers] == [200] * 10
    assert len({answer.data["key_id"] for answer in answers}) == 10


def test_a_death_inside_a_request_fails_that_one_only(engine, own_bao, stand_in):
    reading = read_in_background(engine, stand_in, 3.0)
    own_bao.kill_plugin()
    stand_in.delay_s.clear()
    stand_in.delay_s[""] = 0.0

    assert reading.result().status == 500
    assert engine.read("keys/r").status == 200


@pytest.mark.parametrize(
    "reload", [{"plugin": PLUGIN}, {"mounts": ["qkd"]}], ids=["by plugin", "by mount"]
)
def test_a_reload_finishes_what_is_under_way_and_keeps_the_settings(
    engine, own_bao, stand_in, reload
):
    before = engine.read("config").data, own_bao.plugin_pid()
    reading = read_in_background(engine, stand_in, 1.0)

    answer = own_bao.ask("PUT", "sys/plugins/reload/backend", reload)

    stand_in.delay_s["sae-b1"] = 0
    assert answer.status in (200, 202, 204), answer.text
    assert reading.result().status == 200
    assert engine.read("config").data == before[0]
    assert engine.read("keys/r").status == 200
    assert own_bao.plugin_pid() != before[1]


def test_sealing_ends_the_process_and_unsealing_brings_it_back(engine, own_bao):
    config, pid = engine.read("config").data, own_bao.plugin_pid()

    own_bao.seal()
    sealed = engine.read("keys/r")
    eventually(lambda: not own_bao.descendants(), "no plugin while sealed")
    left = folders(own_bao)
    own_bao.unseal()

    assert not alive(pid)
    assert (sealed.status, left) == (SEALED, [])
    assert engine.read("config").data == config
    assert engine.read("keys/r").status == 200


def test_a_restart_of_the_server_keeps_the_settings(engine, own_bao):
    config, pid = engine.read("config").data, own_bao.plugin_pid()

    own_bao.stop()
    left = alive(pid), folders(own_bao)
    own_bao.start()
    own_bao.unseal()

    assert left == (False, [])
    assert engine.read("config").data == config
    assert engine.read("keys/r").status == 200


def test_a_killed_server_leaves_no_process_and_no_folder(engine, own_bao):
    pid = own_bao.plugin_pid()

    own_bao.kill()
    eventually(lambda: not alive(pid), "the plugin ends by itself", seconds=10)

    assert folders(own_bao) == []
    own_bao.start()
    own_bao.unseal()
    assert engine.read("keys/r").status == 200


def test_what_a_killed_plugin_leaves_is_swept_by_the_next(engine, own_bao):
    (left,) = folders(own_bao)
    own_bao.kill_plugin()
    assert left.exists()

    assert engine.read("keys/r").status == 200
    eventually(lambda: not left.exists(), "the old folder is swept")
    assert len(folders(own_bao)) == 1


def test_a_file_that_was_tampered_with_is_not_started(engine, own_bao):
    file = own_bao.plugins / PLUGIN
    right = file.read_bytes()
    try:
        file.write_bytes(right + b"# and more\n")
        own_bao.kill_plugin()
        refused = engine.read("keys/r")
        assert own_bao.descendants() == []
    finally:
        file.write_bytes(right)

    assert refused.status == 500
    assert "checksums did not match" in refused.errors
    assert engine.read("keys/r").status == 200


def test_an_entry_that_was_damaged_is_an_error_in_the_log_and_no_more(engine, own_bao, making):
    known = set(own_bao.ask("LIST", "sys/raw/logical").data["keys"])
    mount = making.mount(own_bao, "qkd-damaged")
    mount.write("roles/r", {"peer_sae": "sae-b1"})
    (own,) = set(own_bao.ask("LIST", "sys/raw/logical").data["keys"]) - known
    own_bao.ask("PUT", f"sys/raw/logical/{own}roles/r", {"value": "no JSON of ours"})
    own_bao.kill_plugin()  # it would remember the role

    answer = mount.read("roles/r")
    own_bao.ask("DELETE", f"sys/mounts/{mount.path}")

    assert answer.status == 500
    assert "internal error" in answer.errors
    assert "no JSON of ours" not in own_bao.log.read_text()
    told = [entry for entry in own_bao.log_entries() if "roles/r" in entry["@message"]]
    assert told[-1]["@level"] == "error"
    assert engine.read("keys/r").status == 200


def test_a_mount_that_is_moved_keeps_its_settings(own_bao, making, stand_in):
    mount = making.mount(own_bao, "qkd-old", **making.settings(stand_in.url, "sae-a1"))
    mount.write("roles/r", {"peer_sae": "sae-b1"})
    before = mount.read("config").data
    moved = Mount(own_bao, "qkd-new")

    own_bao.ask("POST", "sys/remount", {"from": mount.path, "to": moved.path})

    eventually(lambda: moved.read("keys/r").status == 200, "it is there")
    assert moved.read("config").data == before
    assert mount.read("keys/r").status == 404
    assert own_bao.ask("DELETE", f"sys/mounts/{moved.path}").status == 204


def test_nothing_of_the_servers_environment_stays_in_the_plugins(engine, own_bao):
    engine.read("keys/r")
    of_server = Path(f"/proc/{own_bao.process.pid}/environ").read_bytes()
    of_plugin = Path(f"/proc/{own_bao.plugin_pid()}/environ").read_bytes()

    assert PLANTED.encode() in of_server
    assert of_plugin.strip(b"\0") == b""


def test_the_plugins_arguments_and_open_files_hold_no_secret(engine, own_bao):
    proc = Path(f"/proc/{own_bao.plugin_pid()}")

    assert "qkd_kms_adapters.openbao_plugin" in (proc / "cmdline").read_text()
    opened = [os.readlink(each) for each in (proc / "fd").iterdir()]
    assert [
        each for each in opened if "memfd" in each or each.startswith(str(own_bao.folder))
    ] == []


def test_socket_and_folder_are_the_users_own(engine, own_bao):
    engine.read("keys/r")
    path = own_bao.plugin_socket()

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert path.parent.parent == own_bao.temporary


def stranger_context(credential=None):
    """Believes anybody: what is tested is whether the plugin does."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    if credential is not None:
        context.load_cert_chain(credential.cert, credential.key)
    return context


def told_to_stranger(path, context):
    """What the plugin sends to who opens HTTP/2, TLS aside."""
    with closing(socket.socket(socket.AF_UNIX)) as plain:
        plain.settimeout(5)
        plain.connect(str(path))
        try:
            with context.wrap_socket(plain) if context else plain as talking:
                talking.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0")
                return talking.recv(1)
        except (ssl.SSLError, ConnectionError):
            return b""


@pytest.mark.parametrize("who", ["no certificate", "a foreign certificate", "no TLS"])
def test_a_stranger_at_the_plugins_socket_is_told_nothing(engine, own_bao, tmp_path, who):
    engine.read("keys/r")
    path = own_bao.plugin_socket()
    context = None
    if who == "no certificate":
        context = stranger_context()
    elif who == "a foreign certificate":
        foreign = Authority.create(tmp_path / "ca", "localhost")
        context = stranger_context(foreign.issue(tmp_path, "localhost", server=True, client=True))

    assert told_to_stranger(path, context) == b""
    assert engine.read("keys/r").status == 200


def test_log_lines_arrive_in_the_servers_log_with_their_level(engine, own_bao):
    (left,) = folders(own_bao)
    own_bao.kill_plugin()
    engine.read("keys/r")
    eventually(lambda: not left.exists(), "the old folder is swept")

    def line():
        return [entry for entry in own_bao.log_entries() if "killed processes" in entry["@message"]]

    said = eventually(line, "its log line")[-1]
    assert said["@level"] == "info"
    assert said["@module"].startswith("qkd_kms_adapters.openbao_plugin.")


def test_the_servers_log_has_nothing_of_the_planted_token(own_bao, engine):
    assert engine.read("keys/r").status == 200
    assert PLANTED not in own_bao.log.read_text()
    assert own_bao.health() == SERVES
