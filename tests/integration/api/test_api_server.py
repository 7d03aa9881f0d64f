"""The server as a process: slow clients, odd requests, start, stop and death."""

import base64
import http.client
import json
import os
import resource
import signal
import socket
import ssl
import subprocess
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

STATUS = "/api/v1/keys/sae-b1/status"
ENC_KEYS = "/api/v1/keys/sae-b1/enc_keys"
CLIENT_HELLO_BEGINS = bytes.fromhex("160301020001")
THREADS = 4
POST_JSON = f"POST {ENC_KEYS} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n".encode()


@pytest.fixture(scope="module")
def site(lasting_sites):
    return lasting_sites.start("a", threads=THREADS, store="sqlite", stored_bytes=200_000)


@pytest.fixture
def client(site, certificates):
    connection = site.connect(certificates.sae("sae-a1"))
    yield connection
    connection.close()


def seconds_to_answer(site):
    began = time.monotonic()
    assert site.ask("sae-a1", "GET", STATUS).status == 200
    return time.monotonic() - began


def tcp(site):
    return socket.create_connection(("127.0.0.1", site.port), timeout=10)


def tls(site, certificates):
    context = certificates.context(certificates.sae("sae-a1"))
    return context.wrap_socket(tcp(site), server_hostname="127.0.0.1")


# ------------------------------------------------------------------------------------ slow clients
def test_clients_that_say_nothing_do_not_delay_another(site):
    with ExitStack() as held:
        for _ in range(5 * THREADS):
            held.enter_context(tcp(site))
        time.sleep(0.2)
        assert seconds_to_answer(site) < 1.0


def test_clients_that_stop_within_their_handshake_do_not_delay_another(site):
    with ExitStack() as held:
        for _ in range(5 * THREADS):
            held.enter_context(tcp(site)).sendall(CLIENT_HELLO_BEGINS)
        time.sleep(0.2)
        assert seconds_to_answer(site) < 1.0


def test_clients_that_connect_and_ask_nothing_do_not_delay_another(site, certificates):
    with ExitStack() as held:
        for _ in range(5 * THREADS):
            held.enter_context(tls(site, certificates))
        time.sleep(0.2)
        assert seconds_to_answer(site) < 1.0


def test_clients_that_never_close_their_end_do_not_delay_another(site, certificates):
    request = f"GET {STATUS} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()
    with ExitStack() as held:
        for _ in range(3):
            held.enter_context(tls(site, certificates)).sendall(request)
        time.sleep(0.2)
        assert seconds_to_answer(site) < 1.0


def test_a_handshake_that_does_not_end_is_ended(site):
    with tcp(site) as silent:
        silent.sendall(CLIENT_HELLO_BEGINS)
        silent.settimeout(10)
        began = time.monotonic()
        assert silent.recv(100) == b""
        assert 3.0 < time.monotonic() - began < 8.0


def test_more_connections_than_open_files_end_no_worker(sites):
    site = sites.start("a")
    worker = child_of(site.process)
    open_now = len(os.listdir(f"/proc/{worker}/fd"))
    resource.prlimit(worker, resource.RLIMIT_NOFILE, (open_now + 8, open_now + 8))
    with ExitStack() as held:
        for _ in range(50):
            held.enter_context(tcp(site))
        time.sleep(0.5)
    time.sleep(0.2)

    assert seconds_to_answer(site) < 1.0
    assert child_of(site.process) == worker


# ------------------------------------------------------------------------------------- odd requests
@pytest.mark.parametrize(
    "request_bytes",
    [
        b"\x00\x01\x02\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET " + b"/" * 10_000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X: " + b"y" * 100_000 + b"\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\nx",
        f"POST {ENC_KEYS} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n".encode(),
        f"POST {ENC_KEYS} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: br\r\n\r\nzz\r\n".encode(),
    ],
)
def test_what_is_not_http_is_refused_and_the_server_lives(site, certificates, request_bytes):
    with tls(site, certificates) as connection:
        connection.sendall(request_bytes)
        answer = b""
        try:
            while part := connection.recv(65536):
                answer += part
        except (ConnectionError, ssl.SSLError):
            pass

    assert answer == b"" or answer.split()[1].startswith(b"4") or b" 501 " in answer
    assert b"Traceback" not in answer
    assert seconds_to_answer(site) < 1.0


def test_a_large_body_is_413_with_a_reason_that_arrives(site):
    answer = site.ask("sae-a1", "POST", ENC_KEYS, b"x" * 3_000_000)

    assert answer.status == 413
    assert answer.message


def test_a_large_body_in_chunks_is_413_too(client):
    client.request(
        "POST",
        ENC_KEYS,
        iter([b" " * 100_000] * 20),
        {"Content-Type": "application/json"},
        encode_chunked=True,
    )

    assert client.getresponse().status == 413


def test_a_body_in_chunks_is_read(client):
    body = json.dumps({"number": 2}).encode()
    client.request(
        "POST",
        ENC_KEYS,
        iter([body[:3], body[3:]]),
        {"Content-Type": "application/json"},
        encode_chunked=True,
    )

    assert len(json.load(client.getresponse())["keys"]) == 2


@pytest.mark.parametrize("body", [b"[" * 500_000, b'{"a":' * 150_000, b"\xff" * 1000, b"{"])
def test_odd_json_is_400(site, body):
    answer = site.ask("sae-a1", "POST", ENC_KEYS, body, {"Content-Type": "application/json"})

    assert answer.status == 400
    assert answer.message


@pytest.mark.parametrize(
    "ends",
    [
        b"Content-Length: 20\r\n\r\n{}",
        b"Content-Length: 20\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n5",
    ],
)
def test_a_body_that_ends_early_burns_nothing(site, certificates, ends):
    before = site.ask("sae-a1", "GET", STATUS).json["stored_key_count"]
    with tls(site, certificates) as connection:
        connection.sendall(POST_JSON + ends)
    time.sleep(0.3)

    assert site.ask("sae-a1", "GET", STATUS).json["stored_key_count"] == before


def test_a_head_of_enc_keys_burns_nothing(site, client):
    before = site.ask("sae-a1", "GET", STATUS).json["stored_key_count"]
    client.request("HEAD", ENC_KEYS)
    answer = client.getresponse()

    assert (answer.status, answer.headers["Allow"]) == (405, "GET, POST")
    assert site.ask("sae-a1", "GET", STATUS).json["stored_key_count"] == before


# ------------------------------------------------------------------------------------------- in use
def test_one_connection_serves_many_requests(client):
    client.connect()
    kept = client.sock
    for _ in range(50):
        client.request("GET", STATUS)
        assert client.getresponse().read()

    assert client.sock is kept


def test_many_saes_at_once_never_get_one_key_twice(site, certificates):
    for sae in ("sae-a1", "sae-a2"):
        certificates.sae(sae)

    def fetch(sae):
        connection = site.connect(certificates.sae(sae))
        found = []
        for _ in range(25):
            connection.request("GET", f"{ENC_KEYS}?number=4")
            found += json.load(connection.getresponse())["keys"]
        connection.close()
        return found

    with ThreadPoolExecutor(8) as pool:
        keys = [key for found in pool.map(fetch, ["sae-a1", "sae-a2"] * 4) for key in found]

    assert len(keys) == 800
    assert len({key["key_ID"] for key in keys}) == len({key["key"] for key in keys}) == 800


def test_metrics_are_on_a_port_of_their_own(site):
    site.ask("sae-a1", "GET", f"{ENC_KEYS}?number=0")

    url = f"http://127.0.0.1:{site.settings['metrics_port']}/metrics"
    with urllib.request.urlopen(url) as answer:
        text = answer.read().decode()

    assert 'keyferry_blocks_total{outcome="available"} 1.0' in text
    assert 'keyferry_http_errors_total{code="400"}' in text
    assert site.ask("sae-a1", "GET", "/metrics").status == 404


# ------------------------------------------------------------------------------ start, stop, death
def child_of(process: subprocess.Popen[bytes]) -> int:
    (child,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return int(child)


def running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state not in "ZX"


def wait_until(condition, seconds):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def test_sigterm_lets_a_request_under_way_end_and_leaves_the_application(sites, certificates):
    site = sites.start("a")
    body = json.dumps({"number": 2}).encode()
    with tls(site, certificates) as connection:
        length = f"Content-Length: {len(body)}\r\n\r\n".encode()
        connection.sendall(POST_JSON + length + body[:4])
        time.sleep(0.3)
        site.process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        connection.sendall(body[4:])
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        assert len(json.load(answer)["keys"]) == 2

    assert site.process.wait(10) == 0
    assert (Path(site.settings["folder"]) / "state" / "left").exists()


def test_sigterm_ends_an_idle_server_soon_whoever_is_connected(sites, certificates):
    site = sites.start("a")
    with tls(site, certificates), tcp(site):
        time.sleep(0.2)
        began = time.monotonic()
        assert site.stop() == 0
        assert time.monotonic() - began < 3.0


def test_the_worker_ends_when_its_master_is_killed(sites):
    site = sites.start("a")
    worker = child_of(site.process)

    site.process.kill()
    site.process.wait()

    wait_until(lambda: not running(worker) and refused(site), 2.0)


def refused(site):
    try:
        tcp(site).close()
    except ConnectionError:
        return True
    return False


def test_a_worker_that_dies_is_replaced(sites):
    site = sites.start("a")
    os.kill(child_of(site.process), signal.SIGKILL)
    time.sleep(0.1)

    wait_until(lambda: site.ask("sae-a1", "GET", STATUS).status == 200, 5.0)


def test_sighup_does_not_make_a_second_worker(sites):
    site = sites.start("a")
    worker = child_of(site.process)
    for number in (signal.SIGHUP, signal.SIGUSR2, signal.SIGTTIN, signal.SIGTTOU):
        site.process.send_signal(number)
        time.sleep(0.2)

    assert child_of(site.process) == worker
    assert site.ask("sae-a1", "GET", STATUS).status == 200


def ended(sites, settings):
    """Exit code and output of a site that cannot start."""
    site, reading = sites.launch(settings)
    os.close(reading)
    return site.process.wait(20), site.log.read_text()


@pytest.mark.parametrize("name", ["port", "metrics_port"])
def test_a_taken_port_is_one_clear_line_and_exit_code_2(sites, name):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, output = ended(sites, sites.settings("a", **{name: port}))

    assert code == 2
    assert output.splitlines() == [
        f"keyferry: cannot listen at 127.0.0.1:{port}: Address already in use"
    ]


@pytest.mark.parametrize("name", ["cert", "key", "ca"])
def test_a_bad_certificate_file_is_one_clear_line_and_exit_code_2(sites, tmp_path, name):
    bad = tmp_path / "bad.pem"
    bad.write_text("no certificate")
    code, output = ended(sites, sites.settings("a", **{name: str(bad)}))

    assert code == 2
    assert len(output.splitlines()) == 1 and str(bad) in output


@pytest.mark.parametrize(("fail", "code"), [("config", 2), ("other", 1)])
def test_an_application_that_cannot_be_made_ends_the_server(sites, fail, code):
    found, output = ended(sites, sites.settings("a", fail=fail))

    assert found == code
    assert "the test wants a" in output
    assert "Traceback" not in output


def test_the_log_holds_no_key_bytes_and_the_state_directory_no_stray_files(sites):
    site = sites.start("a")
    keys = site.ask("sae-a1", "GET", f"{ENC_KEYS}?number=8").json["keys"]
    site.ask("sae-a1", "POST", ENC_KEYS, b"{")
    site.stop()
    log = site.log.read_bytes()

    for key in keys:
        secret = base64.b64decode(key["key"])
        assert key["key"].encode() not in log
        assert secret.hex().encode() not in log and secret not in log
    assert [each.name for each in (Path(site.settings["folder"]) / "state").iterdir()] == ["left"]
    assert {each.name for each in Path(site.settings["home"]).iterdir()} == set()
