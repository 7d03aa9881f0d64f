"""A KME asked from an event loop, over real TLS."""

import asyncio
import base64
import gc
import json
import logging
import socket
import ssl
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from uuid import uuid4

import pytest

from keyferry.pki.authority import Authority
from qkd_client.wire import KmeError, KmeTimedOut, KmeUnreachable
from qkd_kms_adapters.openbao_plugin import kme_pool
from qkd_kms_adapters.openbao_plugin.engine.kme import KmeSettings
from qkd_kms_adapters.openbao_plugin.kme_pool import CONNECTIONS, KmePool

KEY_ID = "5f0a7a3c-6b1e-4d0f-9c43-1f1f5b8f2a10"
SIZES = ("key_size", "max_key_size", "min_key_size", "max_SAE_ID_count")
COUNTS = ("stored_key_count", "max_key_count", "max_key_per_request")
NAMES = ("source_KME_ID", "target_KME_ID", "master_SAE_ID", "slave_SAE_ID")
STATUS = dict.fromkeys(NAMES, "x") | dict.fromkeys(SIZES + COUNTS, 8)


def container(number, n_bits=256, key_id=None):
    key = base64.b64encode(bytes(n_bits // 8)).decode()
    mark = {"keyferry_provenance": "simulated"}
    return {
        "keys": [
            {"key_ID": key_id or str(uuid4()), "key": key, "key_extension": mark}
            for _ in range(number)
        ]
    }


class StubbornKme:
    """Answers as ``answer`` says, which gets the path and the request's object."""

    def __init__(self, context):
        self.calls, self.peers = [], set()
        self.at_once = self.most_at_once = 0
        self.over = threading.Event()
        self.lock = threading.Lock()
        self.answer = self.properly
        kme = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def setup(self):
                self.request.do_handshake()
                super().setup()

            def do_GET(self):
                with kme.lock:
                    kme.peers.add(self.client_address)
                    kme.at_once += 1
                    kme.most_at_once = max(kme.at_once, kme.most_at_once)
                wanted = json.loads(
                    self.rfile.read(int(self.headers.get("Content-Length", 0))) or "{}"
                )
                kme.calls.append(self.path)
                try:
                    status, fields = kme.answer(self.path, wanted)
                finally:
                    with kme.lock:
                        kme.at_once -= 1
                body = json.dumps(fields).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_POST = do_GET

            def log_message(self, *about):
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = False

            def handle_error(self, request, client_address):
                pass  # the client broke off, as it should

        self.server = Server(("127.0.0.1", 0), Handler)
        self.server.socket = context.wrap_socket(
            self.server.socket, server_side=True, do_handshake_on_connect=False
        )
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,))
        self.thread.start()

    def properly(self, path, wanted):
        if path.endswith("/status"):
            return 200, STATUS
        if path.endswith("/enc_keys"):
            return 200, container(wanted["number"], wanted["size"])
        return 200, container(1, key_id=wanted["key_IDs"][0]["key_ID"])

    def hang(self, path, wanted):
        self.over.wait(20)
        return self.properly(path, wanted)

    def slowly(self, path, wanted):
        time.sleep(0.05)
        return self.properly(path, wanted)

    @property
    def url(self):
        return f"https://127.0.0.1:{self.server.server_address[1]}"

    def close(self):
        self.over.set()
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pki")
    authority = Authority.create(folder / "ca", "Pool test CA")
    sae = authority.issue(
        folder / "sae", "sae", uri="urn:keyferry:sae:sae-a", client=True, server=False
    )
    kme = authority.issue(
        folder / "kme",
        "kme",
        uri="urn:keyferry:kme:kme-a",
        ip_addresses=["127.0.0.1"],
        client=False,
        server=True,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(kme.cert, kme.key)
    context.load_verify_locations(authority.certificate)
    context.verify_mode = ssl.CERT_REQUIRED
    texts = {
        "certificate": sae.cert.read_text(),
        "private_key": sae.key.read_text(),
        "ca": authority.certificate.read_text(),
    }
    return context, texts


@pytest.fixture
def kme(pki):
    made = StubbornKme(pki[0])
    yield made
    made.close()


@pytest.fixture
def with_pool(kme, pki):
    """Runs ``work(pool)`` and closes the pool."""

    def run(work, timeout_s=5.0):
        async def whole():
            pool = KmePool(KmeSettings(url=kme.url, timeout_s=timeout_s, **pki[1]))
            try:
                return await work(pool)
            finally:
                await pool.close()

        return asyncio.run(whole())

    return run


def threads_of_the_pool():
    return [each for each in threading.enumerate() if each.name.startswith("kme_")]


def test_the_three_calls_give_what_the_kme_says(with_pool):
    async def work(pool):
        status = await pool.status("sae-b")
        keys = await pool.fresh_keys("sae-b", number=3, n_bits=512)
        one = await pool.key_by_id("sae-b", KEY_ID)
        return status, keys, one

    status, keys, one = with_pool(work)

    assert status.max_key_per_request == 8
    assert [(len(key.secret), key.provenance) for key in keys] == [(64, "simulated")] * 3
    assert one.key_id == KEY_ID


def test_a_connection_is_kept_and_used_again(with_pool, kme):
    async def work(pool):
        for _ in range(20):
            await pool.fresh_keys("sae-b", number=1, n_bits=256)

    with_pool(work)

    assert len(kme.calls) == 20
    assert len(kme.peers) == 1


def test_many_calls_share_a_few_connections(with_pool, kme):
    kme.answer = kme.slowly

    async def work(pool):
        await asyncio.gather(*(pool.key_by_id("sae-b", str(uuid4())) for _ in range(60)))

    with_pool(work)

    assert len(kme.calls) == 60
    assert 1 < kme.most_at_once <= CONNECTIONS
    assert len(kme.peers) <= CONNECTIONS


def test_idle_connections_are_closed(with_pool, kme, monkeypatch):
    monkeypatch.setattr(kme_pool, "IDLE_S", 0.1)
    kme.answer = kme.slowly

    async def work(pool):
        await asyncio.gather(*(pool.status("sae-b") for _ in range(4)))
        await asyncio.sleep(0.3)
        await pool.status("sae-b")

    with_pool(work)

    assert len(kme.peers) == 5


def test_the_kmes_refusal_reaches_the_caller_and_keeps_the_connection(with_pool, kme):
    async def work(pool):
        kme.answer = lambda path, wanted: (503, {"message": "too little key"})
        with pytest.raises(KmeError, match="too little key") as refused:
            await pool.fresh_keys("sae-b", number=1, n_bits=256)
        kme.answer = kme.properly
        await pool.status("sae-b")
        return refused.value

    assert with_pool(work).status == 503
    assert len(kme.peers) == 1


def test_a_call_ends_within_its_time_and_holds_no_thread(with_pool, kme, caplog):
    kme.answer = kme.hang

    async def work(pool):
        began = time.monotonic()
        with pytest.raises(KmeTimedOut):
            await pool.fresh_keys("sae-b", number=7, n_bits=256)
        took_s = time.monotonic() - began
        kme.answer = kme.properly
        keys = await pool.fresh_keys("sae-b", number=1, n_bits=256)
        return took_s, len(keys)

    took_s, number = with_pool(work, timeout_s=1.5)

    assert 1.5 <= took_s < 5  # of 20
    assert number == 1
    assert len([path for path in kme.calls if path.endswith("enc_keys")]) == 2  # none was repeated


def test_the_time_of_a_call_includes_the_wait_for_its_turn(with_pool, kme):
    kme.answer = kme.hang

    async def work(pool):
        began = time.monotonic()
        outcomes = await asyncio.gather(
            *(pool.status("sae-b") for _ in range(3 * CONNECTIONS)), return_exceptions=True
        )
        took_s = time.monotonic() - began
        kme.answer = kme.properly
        await asyncio.gather(*(pool.status("sae-b") for _ in range(CONNECTIONS)))
        return outcomes, took_s

    outcomes, took_s = with_pool(work, timeout_s=1.5)

    assert {str(each) for each in outcomes} == {"the KME did not answer within 1.5 s"}
    assert took_s < 3  # in turns it would be 4.5 s
    assert len(outcomes) == 3 * CONNECTIONS


def test_a_cancelled_call_is_broken_off_and_counted_without_ids(with_pool, kme, caplog):
    kme.answer = kme.hang

    async def work(pool):
        for done in range(2 * CONNECTIONS):  # a thread held by any would soon be missed
            call = asyncio.create_task(pool.fresh_keys("sae-b", number=5, n_bits=256))
            while len(kme.calls) == done:
                await asyncio.sleep(0.01)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            while pool._busy:
                await asyncio.sleep(0.01)
        kme.answer = kme.properly
        return await pool.fresh_keys("sae-b", number=1, n_bits=256)

    with caplog.at_level(logging.WARNING):
        assert len(with_pool(work, timeout_s=20)) == 1
        gc.collect()  # what nobody looked at would be logged now
    assert caplog.messages == ["a call to the KME was broken off; up to 5 keys are lost"] * 16


def test_a_call_cancelled_in_the_moment_of_its_answer_spoils_no_connection(with_pool, kme):
    async def work(pool):
        for _ in range(5):
            call = asyncio.create_task(pool.status("sae-b"))
            while not pool._busy:
                await asyncio.sleep(0)
            (work,) = pool._busy.values()
            while not work.done():  # the call's task runs in the turn after this one
                await asyncio.sleep(0)
            call.cancel()
            await asyncio.wait([call])
        return await pool.status("sae-b")

    assert with_pool(work).key_size == 8
    assert len(kme.peers) == 1


def test_closing_ends_what_is_under_way_and_what_waits(with_pool, kme):
    kme.answer = kme.hang

    async def work(pool):
        calls = [asyncio.create_task(pool.status("sae-b")) for _ in range(3 * CONNECTIONS)]
        await asyncio.sleep(0.3)
        began = time.monotonic()
        await pool.close()
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        with pytest.raises(KmeUnreachable, match="closed"):
            await pool.status("sae-b")
        return outcomes, time.monotonic() - began

    outcomes, took_s = with_pool(work, timeout_s=20)

    assert {type(each) for each in outcomes} == {KmeUnreachable}
    assert took_s < 5  # of 20
    for thread in threads_of_the_pool():
        thread.join(2)
    assert threads_of_the_pool() == []


def test_a_call_that_was_not_sent_loses_no_keys(with_pool, kme, caplog, monkeypatch):
    """As when nobody answers at the KME's address."""
    at_a_lookup, over = threading.Event(), threading.Event()

    def slow(*about, **more):
        at_a_lookup.set()
        over.wait(20)
        raise OSError("nobody")

    async def work(pool):
        monkeypatch.setattr(socket, "getaddrinfo", slow)
        call = asyncio.create_task(pool.fresh_keys("sae-b", number=5, n_bits=256))
        while not at_a_lookup.is_set():
            await asyncio.sleep(0.01)
        with pytest.raises(KmeTimedOut) as timed_out:
            await call
        over.set()
        return timed_out.value.in_doubt

    assert with_pool(work, timeout_s=0.3) is False
    assert caplog.messages == []


def test_a_thread_that_cannot_be_started_costs_no_turn_and_no_keys(with_pool, kme, monkeypatch):
    def none_left(thread):
        raise RuntimeError("can't start new thread")

    async def work(pool):
        with monkeypatch.context() as patched:
            patched.setattr(threading.Thread, "start", none_left)
            for _ in range(2 * CONNECTIONS):
                with pytest.raises(KmeUnreachable, match="not asked: can't start") as refused:
                    await pool.fresh_keys("sae-b", number=5, n_bits=256)
                assert not refused.value.in_doubt
        return await asyncio.gather(
            *(pool.fresh_keys("sae-b", number=1, n_bits=256) for _ in range(2 * CONNECTIONS))
        )

    assert len(with_pool(work)) == 2 * CONNECTIONS
    assert len(kme.calls) == 2 * CONNECTIONS  # those that were refused are not made later on


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (container(1), "gave 1 keys"),
        (container(3), "gave 3 keys"),
        (container(2, key_id=KEY_ID), "one twice"),
        (container(2, n_bits=128), "128 bits, not 256"),
        ({"keys": []}, "gave 0 keys"),
    ],
)
def test_keys_that_were_not_asked_for_are_not_taken(with_pool, kme, given, message):
    kme.answer = lambda path, wanted: (200, given)

    async def work(pool):
        with pytest.raises(KmeUnreachable, match=message):
            await pool.fresh_keys("sae-b", number=2, n_bits=256)

    with_pool(work)


def test_another_key_than_the_one_asked_for_is_not_taken(with_pool, kme):
    kme.answer = lambda path, wanted: (200, container(1))

    async def work(pool):
        with pytest.raises(KmeUnreachable, match="not the one that was asked for"):
            await pool.key_by_id("sae-b", KEY_ID)

    with_pool(work)


def test_a_key_id_in_capitals_is_the_same_key(with_pool, kme):
    kme.answer = lambda path, wanted: (200, container(1, key_id=KEY_ID))

    assert with_pool(lambda pool: pool.key_by_id("sae-b", KEY_ID.upper())).key_id == KEY_ID


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"url": "http://kme"}, "https://HOST"),
        ({"url": "https://kme/api"}, "https://HOST"),
        ({"url": f"https://{'a' * 64}.example"}, "https://HOST"),
        ({"url": "https://kme:99999"}, "https://HOST"),
        ({"private_key": "x"}, "the private key is not PEM"),
        ({"ca": "x"}, "the CA is not PEM"),
    ],
)
def test_settings_that_cannot_be_used_are_refused_at_once(pki, changes, message):
    with pytest.raises(ValueError, match=message) as refused:
        KmePool(KmeSettings(**{"url": "https://kme", "timeout_s": 5.0} | pki[1] | changes))

    assert "\n" not in str(refused.value)
    assert threads_of_the_pool() == []
