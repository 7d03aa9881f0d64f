"""Many clients, slow ones, half-open ones and junk: the service stays up, small, fair to others.

The site has few threads, so that a client that could hold one would be noticed.
"""

import json
import random
import socket
import ssl
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from http.client import HTTPException
from pathlib import Path
from threading import Barrier, Event, Thread

import pytest

THREADS = 4
CLIENTS = 64
STATUS = "/api/v1/keys/sae-b1/status"
ENC_KEYS = "/api/v1/keys/sae-b1/enc_keys"
POST_HEAD = f"POST {ENC_KEYS} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n".encode()
CLIENT_HELLO_BEGINS = bytes.fromhex("160301020001")
GROWTH_LIMIT_BYTES = 100 << 20
JSON_HEADER = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def site(lasting_sites):
    return lasting_sites.start("a", threads=THREADS, store="sqlite", stored_bytes=400_000)


@pytest.fixture
def context(certificates):
    return certificates.context(certificates.sae("sae-a1"))


def tcp(site):
    return socket.create_connection(("127.0.0.1", site.port), timeout=15)


def tls(site, context):
    return context.wrap_socket(tcp(site), server_hostname="127.0.0.1")


def slowest_answer_s(site, n=15) -> float:
    """Of an SAE that does nothing wrong, over one connection."""
    connection = site.connect(site.certificates.sae("sae-a2"))
    slowest = 0.0
    for _ in range(n):
        began = time.monotonic()
        connection.request("GET", STATUS)
        answer = connection.getresponse()
        assert (answer.status, answer.read() != b"") == (200, True)
        slowest = max(slowest, time.monotonic() - began)
    connection.close()
    return slowest


def worker_of(site) -> int:
    pid = site.process.pid
    (child,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(child)


def memory_bytes(pid: int) -> int:
    """Resident now; the greatest of it as well, in VmHWM."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    sizes = dict(line.split(":", 1) for line in lines if line.startswith("Vm"))
    return 1024 * int(sizes["VmHWM"].split()[0])


@pytest.fixture(autouse=True)
def same_small_worker(site):
    """No test may kill the worker, or make it grow without bounds."""
    worker, before = worker_of(site), memory_bytes(worker_of(site))
    yield
    assert worker_of(site) == worker
    assert memory_bytes(worker) - before < GROWTH_LIMIT_BYTES
    assert "unexpected" not in site.log.read_text()


def test_64_clients_at_once_are_all_served_and_no_key_goes_out_twice(site):
    together = Barrier(CLIENTS)

    def fetch(number):
        connection = site.connect(site.certificates.sae(f"sae-a{1 + number % 2}"))
        connection.connect()
        together.wait(30)
        found = []
        for _ in range(8):
            connection.request("GET", f"{ENC_KEYS}?number=2")
            answer = connection.getresponse()
            assert answer.status == 200
            found += json.loads(answer.read())["keys"]
        connection.close()
        return found

    for name in ("sae-a1", "sae-a2"):
        site.certificates.sae(name)
    began = time.monotonic()
    with ThreadPoolExecutor(CLIENTS) as pool:
        keys = [key for found in pool.map(fetch, range(CLIENTS)) for key in found]

    assert len(keys) == CLIENTS * 16
    assert len({key["key_ID"] for key in keys}) == len({key["key"] for key in keys}) == len(keys)
    assert time.monotonic() - began < 30


@pytest.mark.parametrize("begins", [b"", CLIENT_HELLO_BEGINS], ids=["silent", "in the handshake"])
def test_half_open_connections_do_not_delay_another(site, begins):
    with ExitStack() as held:
        for _ in range(4 * CLIENTS):
            held.enter_context(tcp(site)).sendall(begins)
        time.sleep(0.2)
        assert slowest_answer_s(site) < 1.0


@pytest.mark.parametrize(
    "begins",
    [
        b"GET ",
        f"GET {STATUS} HTTP/1.1\r\nHost: x\r\n".encode(),
        POST_HEAD + b"Content-Length: 14\r\n\r\n",
        POST_HEAD + b'Content-Length: 14\r\n\r\n{"num',
        POST_HEAD + b"Content-Length: 14\r\nExpect: 100-continue\r\n\r\n",
        POST_HEAD + b'Transfer-Encoding: chunked\r\n\r\n5\r\n{"num\r\n',
    ],
    ids=["verb", "head", "no body", "half a body", "expecting", "chunks"],
)
def test_saes_that_stop_within_a_request_do_not_delay_another(site, context, begins):
    with ExitStack() as held:
        for _ in range(4 * THREADS):
            held.enter_context(tls(site, context)).sendall(begins)
        time.sleep(0.2)
        assert slowest_answer_s(site) < 1.0


def test_saes_that_drip_do_not_delay_another(site, context):
    request = f"GET {STATUS} HTTP/1.1\r\nHost: x\r\nX-Long: {'y' * 400}\r\n\r\n".encode()
    over = Event()

    def drip(connection):
        for i in range(len(request)):
            if over.wait(0.02):
                return
            with suppress(OSError):
                connection.sendall(request[i : i + 1])

    with ExitStack() as held:
        dripping = [
            Thread(target=drip, args=(held.enter_context(tls(site, context)),)) for _ in range(16)
        ]
        for each in dripping:
            each.start()
        slowest = slowest_answer_s(site, 40)
        over.set()
        for each in dripping:
            each.join()
    assert slowest < 1.0


def test_saes_that_read_no_answers_do_not_delay_another_for_good(site, context):
    """They ask on and on; what they leave unread fills their own buffers only."""
    asked = f"GET {STATUS} HTTP/1.1\r\nHost: x\r\n\r\n".encode() * 200
    with ExitStack() as held:
        for _ in range(2 * THREADS):
            connection = held.enter_context(tls(site, context))
            connection.setblocking(False)
            with suppress(ssl.SSLWantWriteError):
                connection.send(asked)
        assert slowest_answer_s(site) < 3.0


def test_huge_bodies_at_once_are_refused_and_leave_no_trace_in_memory(site, context):
    def send_too_much(_):
        with tls(site, context) as connection:
            with suppress(OSError):
                connection.sendall(POST_HEAD + b"Content-Length: 50000000\r\n\r\n")
                for _ in range(50):
                    connection.sendall(b" " * 100_000)
            with suppress(OSError):
                return connection.recv(100)

    with ThreadPoolExecutor(16) as pool:
        answers = [answer for answer in pool.map(send_too_much, range(16)) if answer]
        assert slowest_answer_s(site) < 3.0

    assert answers and all(b" 413 " in answer for answer in answers)


def test_a_mebibyte_from_each_of_many_is_not_kept_waiting_in_memory(site, context):
    """64 times nearly a whole large body, and then nothing: within the budget, or dropped."""
    with ExitStack() as held:
        for _ in range(CLIENTS):
            connection = held.enter_context(tls(site, context))
            with suppress(OSError):
                connection.sendall(POST_HEAD + b"Content-Length: 1000000\r\n\r\n" + b" " * 900_000)
        assert slowest_answer_s(site) < 3.0


@pytest.mark.parametrize("body", [b"[" * 500_000, b'{"a":' * 150_000, b'{"a":' + b"[" * 900_000])
def test_deep_json_from_many_at_once_is_400(site, body):
    def ask(_):
        return site.ask("sae-a1", "POST", ENC_KEYS, body, JSON_HEADER).status

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(ask, range(8))) == {400}
    assert slowest_answer_s(site) < 1.0


def junk(randomness) -> tuple[str, str, bytes | None, dict[str, str]]:
    """A request that makes no sense: method, path, body, headers."""
    texts = ["number", "size", "key_ID", "\x00", "%", "é", "{}", "-1", "9" * 30, "../..", "x" * 300]
    pick = randomness.choice
    path = pick(
        [STATUS, ENC_KEYS, "/api/v1/keys/", "/", "/peer/v1/allocations", "/api/v1/keys/a/dec_keys"]
    )
    query = "&".join(f"{pick(texts)}={pick(texts)}" for _ in range(randomness.randrange(3)))
    quoted = "".join(
        c if (c.isascii() and c.isalnum()) or c in "/._=&?-" else f"%{ord(c) % 256:02x}"
        for c in query
    )
    bodies = [
        None,
        randomness.randbytes(randomness.randrange(200)),
        b'{"number": ' + b"9" * 500 + b"}",
    ]
    bodies += [json.dumps({pick(texts): pick([None, [], {}, 1e308, pick(texts)])}).encode()]
    bodies += [b'{"key_IDs": [' + b'{"key_ID": "x"},' * 50 + b"{}]}", b"[[[[[[", b'"' * 100]
    headers = {
        "Content-Type": pick(
            ["application/json", "text/xml", "", "application/json; q=" + "a" * 200]
        )
    }
    headers |= {"X-SSL-Client-CN": "sae-b1"} if randomness.random() < 0.1 else {}
    return pick(["GET", "POST", "PUT", "BREW", "HEAD"]), f"{path}?{quoted}", pick(bodies), headers


def test_ten_thousand_junk_requests_harm_nobody(site):
    """Bounded: 8 clients on this machine, with one seed each."""
    for name in ("sae-a1", "sae-a2"):
        site.certificates.sae(name)

    def pester(seed):
        randomness = random.Random(seed)
        connection = site.connect(site.certificates.sae("sae-a1"))
        statuses = set()
        for _ in range(1250):
            try:
                connection.request(*junk(randomness))
                answer = connection.getresponse()
                answer.read()
                statuses.add(answer.status)
            except (HTTPException, OSError):
                connection.close()
        connection.close()
        return statuses

    with ThreadPoolExecutor(8) as pool:
        pestering = [pool.submit(pester, seed) for seed in range(8)]
        slowest = slowest_answer_s(site, 60)
        statuses = set().union(*(each.result() for each in pestering))

    assert slowest < 3.0
    assert {400, 401, 404, 405} <= statuses <= {200, 400, 401, 404, 405, 413, 501, 503}
