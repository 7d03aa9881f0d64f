"""The API behind haproxy with the configuration that we ship, and on its private socket alone."""

import ctypes
import http.client
import os
import signal
import socket
import stat
import subprocess
import tempfile
import time
from base64 import b64encode
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from keyferry.pki.authority import Authority
from qkd_api.identity import sae_uri
from qkd_api.proxied import HEADER
from qkd_core.types.ids import SaeId

CONFIG = Path(__file__).parents[3] / "deploy" / "haproxy" / "haproxy.cfg"
ENC_KEYS = "/api/v1/keys/sae-b1/enc_keys"
STATUS = "/api/v1/keys/sae-b1/status"


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost", timeout=10)
        self._path = str(path)

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(10)
        self.sock.connect(self._path)


def header_of(credential) -> str:
    certificate = x509.load_pem_x509_certificate(credential.cert.read_bytes())
    return b64encode(certificate.public_bytes(Encoding.DER)).decode()


@pytest.fixture
def short_folder():
    """The kernel takes 107 bytes for the path of a socket."""
    with tempfile.TemporaryDirectory(prefix="kf-") as folder:
        yield Path(folder)


@pytest.fixture
def on_socket(sites, short_folder):
    """Site A on its private socket; how to ask there, with whatever headers."""
    path = short_folder / "api.sock"
    _, reading = launched = sites.launch(sites.settings("a", proxy_socket=str(path)))
    with os.fdopen(reading) as ready:
        assert ready.readline() == "0\n", launched[0].log.read_text()

    def ask(target, headers):
        connection = UnixConnection(path)
        try:
            connection.request("GET", target, headers=headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    return launched[0], path, ask


@pytest.fixture
def proxied(on_socket, certificates, short_folder):
    """Site A with haproxy in front, at the port of the site's settings."""
    site, path, _ = on_socket
    kme = certificates.kme("kme-a")
    both = short_folder / "kme.both.pem"
    both.touch(mode=0o600)
    both.write_bytes(kme.cert.read_bytes() + kme.key.read_bytes())
    text = CONFIG.read_text()
    for ours, theirs in (
        (":8443", f"127.0.0.1:{site.port}"),
        ("/etc/keyferry/tls/kme.both.pem", str(both)),
        ("/etc/keyferry/tls/ca.pem", str(certificates.authority.certificate)),
        ("/etc/keyferry/tls/crl.pem", str(certificates.crl)),
        ("/run/keyferry/api.sock", str(path)),
    ):
        body = text.partition("\nglobal")[2]
        assert ours in body, ours
        text = "\nglobal" + body.replace(ours, theirs)
    config = short_folder / "haproxy.cfg"
    config.write_text(text)
    process = subprocess.Popen(["haproxy", "-f", str(config), "-db"], stderr=subprocess.DEVNULL)
    try:
        wait_for(site.port)
        yield site
    finally:
        process.terminate()
        process.wait(10)


def wait_for(port):
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise AssertionError("haproxy does not listen")


def test_keys_are_delivered_through_the_proxy_to_whom_the_certificate_names(proxied):
    keys = proxied.ask("sae-a1", "GET", f"{ENC_KEYS}?number=3").json["keys"]
    assert len({key["key_ID"] for key in keys}) == 3
    assert proxied.ask("sae-a2", "GET", STATUS).json["master_SAE_ID"] == "sae-a2"
    assert proxied.ask("sae-a1", "POST", ENC_KEYS, {"number": 2, "size": 64}).status == 200
    assert proxied.ask("sae-b1", "GET", ENC_KEYS).status == 401


@pytest.mark.parametrize(
    "name", [HEADER, HEADER.lower(), "Keyferry-Client-Certificate", "Keyferry_Client_Certificate"]
)
def test_no_header_of_a_client_makes_it_another_sae(proxied, certificates, name):
    forged = {name: header_of(certificates.sae("sae-a2"))}
    answer = proxied.ask("sae-a1", "GET", STATUS, headers=forged)
    assert (answer.status, answer.json["master_SAE_ID"]) == (200, "sae-a1")


def test_the_proxy_lets_nobody_in_without_a_certificate_of_the_authority(proxied, tmp_path):
    stranger = Authority.create(tmp_path / "strange", "Another CA").issue(
        tmp_path, "sae-a1", uri=sae_uri(SaeId("sae-a1")), server=False, client=True
    )
    for credential in (None, stranger):
        connection = proxied.connect(credential)
        with pytest.raises((OSError, http.client.HTTPException)):
            connection.request("GET", STATUS)
            connection.getresponse()
        connection.close()


def test_the_socket_is_private_and_the_header_must_name_a_certificate_of_ours(
    on_socket, certificates, tmp_path
):
    _, path, ask = on_socket
    assert stat.S_IMODE(path.lstat().st_mode) == 0o600
    good = header_of(certificates.sae("sae-a1"))
    stranger = Authority.create(tmp_path / "strange", "Another CA").issue(
        tmp_path, "sae-a1", uri=sae_uri(SaeId("sae-a1")), server=False, client=True
    )
    assert ask(STATUS, {HEADER: good})[0] == 200
    for headers in (
        {},
        {HEADER: ""},
        {HEADER: "sae-a1"},
        {HEADER: good + "," + good},
        {HEADER: header_of(stranger)},
        {"keyferry.client_certificate": good},
    ):
        status, body = ask(STATUS, headers)
        assert (status, b"no client certificate" in body) == (401, True), headers


def test_a_revoked_certificate_is_refused_though_the_proxy_let_it_in(on_socket, certificates):
    _, _, ask = on_socket
    lost = certificates.sae("sae-lost", days=1)
    headers = {HEADER: header_of(lost)}
    assert b"does not belong" in ask(STATUS, headers)[1]
    certificates.revoke(lost)
    deadline = time.monotonic() + 5
    while b"revoked" not in (answer := ask(STATUS, headers))[1] and time.monotonic() < deadline:
        time.sleep(0.1)
    assert answer[0] == 401 and b"revoked" in answer[1]


def test_told_to_stop_it_leaves_the_application_and_a_new_start_takes_the_socket(on_socket, sites):
    site, path, ask = on_socket
    assert site.stop() == 0
    assert (Path(site.settings["folder"]) / "state" / "left").exists()
    path.touch(mode=0o600)
    path.unlink()
    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind(str(path))
    again, reading = sites.launch(site.settings)
    with os.fdopen(reading) as ready:
        assert ready.readline() == "0\n", again.log.read_text()
    assert ask(STATUS, {})[0] == 401


def test_a_signal_that_reaches_any_thread_of_the_worker_ends_it(on_socket):
    site, _, _ = on_socket
    master = site.process.pid
    (worker,) = Path(f"/proc/{master}/task/{master}/children").read_text().split()
    threads = sorted(int(each.name) for each in Path(f"/proc/{worker}/task").iterdir())
    assert len(threads) > 1 and threads[0] == int(worker)
    libc = ctypes.CDLL(None)
    assert libc.tgkill(int(worker), threads[1], signal.SIGTERM) == 0
    deadline = time.monotonic() + 10
    left = Path(site.settings["folder"]) / "state" / "left"
    while not left.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert left.exists()


def test_when_the_master_is_killed_its_worker_ends(on_socket):
    site, path, ask = on_socket
    assert ask(STATUS, {})[0] == 401
    site.process.send_signal(signal.SIGKILL)
    site.process.wait(10)
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        with socket.socket(socket.AF_UNIX) as probe:
            if probe.connect_ex(str(path)):
                return
        time.sleep(0.05)
    raise AssertionError("somebody still listens")


@pytest.mark.parametrize(("failure", "code"), [("config", 2), ("other", 1)])
def test_an_application_that_cannot_be_made_is_one_line_and_a_code(
    sites, short_folder, failure, code
):
    settings = sites.settings("a", proxy_socket=str(short_folder / "api.sock"), fail=failure)
    site, reading = sites.launch(settings)
    with os.fdopen(reading) as ready:
        assert ready.readline() == ""
    assert site.process.wait(15) == code
    assert "Traceback" not in site.log.read_text()


def test_something_else_in_the_place_of_the_socket_stays_there(sites, short_folder):
    place = short_folder / "api.sock"
    place.write_text("precious")
    site, reading = sites.launch(sites.settings("a", proxy_socket=str(place)))
    with os.fdopen(reading) as ready:
        assert ready.readline() == ""
    assert site.process.wait(15) == 2
    assert place.read_text() == "precious"
