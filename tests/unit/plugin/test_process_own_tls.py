import os
import socket
import ssl
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from qkd_kms_adapters.openbao_plugin.process.greeting import CannotStart
from qkd_kms_adapters.openbao_plugin.process.own_tls import contexts

sys.path.insert(0, str(Path(__file__).parent))
from process_server import a_server, context

sys.path.pop(0)

HOST = a_server()
STRANGER = a_server()
LET_IN = b"let in"


def met(listening: ssl.SSLContext, call: Callable[[socket.socket], bytes]) -> bytes:
    """What ``call`` got from a listener that says LET_IN to whom it trusts."""
    ours, theirs = socket.socketpair()

    def listen() -> None:
        with ours:
            ours.settimeout(5)
            try:
                with listening.wrap_socket(ours, server_side=True) as stream:
                    assert stream.selected_alpn_protocol() == "h2"
                    stream.sendall(LET_IN)
            except (ssl.SSLError, OSError):
                return

    with ThreadPoolExecutor(1) as pool, theirs:
        theirs.settimeout(5)
        done = pool.submit(listen)
        try:
            return call(theirs)
        finally:
            theirs.close()
            done.result()


def over_tls(calling: ssl.SSLContext, name: str = "localhost") -> Callable[[socket.socket], bytes]:
    def call(raw: socket.socket) -> bytes:
        with calling.wrap_socket(raw, server_hostname=name) as stream:
            return stream.recv(100)

    return call


def test_the_server_is_let_in() -> None:
    listening, _, der = contexts(HOST[0])

    assert met(listening, over_tls(context(ssl.PROTOCOL_TLS_CLIENT, HOST, der))) == LET_IN


def test_the_server_is_let_in_with_tls_1_2_too() -> None:
    listening, _, der = contexts(HOST[0])
    calling = context(ssl.PROTOCOL_TLS_CLIENT, HOST, der)
    calling.maximum_version = ssl.TLSVersion.TLSv1_2

    assert met(listening, over_tls(calling)) == LET_IN


@pytest.mark.parametrize("credential", [None, STRANGER], ids=["none", "a stranger's"])
def test_a_caller_without_the_servers_certificate_is_told_nothing(
    credential: tuple[str, str] | None,
) -> None:
    listening, _, der = contexts(HOST[0])

    with pytest.raises(ssl.SSLError, match="ALERT"):
        met(listening, over_tls(context(ssl.PROTOCOL_TLS_CLIENT, credential, der)))


def test_a_caller_in_plaintext_is_told_nothing() -> None:
    listening, _, _ = contexts(HOST[0])

    def call(raw: socket.socket) -> bytes:
        raw.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        heard = b""
        with suppress(ConnectionResetError):  # it hangs up with the rest unread
            while more := raw.recv(100):
                heard += more
        return heard

    heard = met(listening, call)
    assert LET_IN not in heard
    assert len(heard) <= 7  # a TLS alert at most


def test_tls_1_1_is_refused() -> None:
    listening, _, der = contexts(HOST[0])
    calling = context(ssl.PROTOCOL_TLS_CLIENT, HOST, der)
    calling.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning):
        calling.minimum_version = ssl.TLSVersion.TLSv1
    with pytest.warns(DeprecationWarning):
        calling.maximum_version = ssl.TLSVersion.TLSv1_1

    with pytest.raises(ssl.SSLError, match="ALERT_PROTOCOL_VERSION"):
        met(listening, over_tls(calling))


def test_the_servers_own_socket_is_trusted_and_knows_us() -> None:
    _, calling, der = contexts(HOST[0])
    listening = context(ssl.PROTOCOL_TLS_SERVER, HOST, der)
    listening.verify_mode = ssl.CERT_REQUIRED

    assert met(listening, over_tls(calling)) == LET_IN


def test_another_socket_than_the_servers_is_not_called() -> None:
    _, calling, _ = contexts(HOST[0])

    with pytest.raises(ssl.SSLCertVerificationError, match="self-signed"):
        met(context(ssl.PROTOCOL_TLS_SERVER, STRANGER, None), over_tls(calling))


def test_the_servers_name_is_verified() -> None:
    _, calling, der = contexts(HOST[0])

    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        met(context(ssl.PROTOCOL_TLS_SERVER, HOST, der), over_tls(calling, "elsewhere"))


def test_both_contexts_verify_strictly() -> None:
    for one in contexts(HOST[0])[:2]:
        assert one.verify_mode is ssl.CERT_REQUIRED
        assert one.verify_flags & ssl.VERIFY_X509_STRICT
        assert len(one.get_ca_certs()) == 1


def test_our_certificate_serves_at_both_ends_and_for_one_life_only() -> None:
    (_, _, first), (_, _, second) = contexts(HOST[0]), contexts(HOST[0])
    one, other = (x509.load_der_x509_certificate(der) for der in (first, second))

    assert one.public_key() != other.public_key()
    assert one.serial_number != other.serial_number
    key = one.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert key.curve.name == "secp256r1"
    assert set(one.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == {
        ExtendedKeyUsageOID.SERVER_AUTH,
        ExtendedKeyUsageOID.CLIENT_AUTH,
    }
    names = one.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost"]


def test_no_file_is_written_and_none_stays_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    before = os.listdir("/proc/self/fd")

    contexts(HOST[0])

    assert os.listdir("/proc/self/fd") == before
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["", "no certificate", HOST[1]])
def test_a_host_certificate_that_is_none_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(CannotStart, match=r"^PLUGIN_CLIENT_CERT: ") as refused:
        contexts(text)

    assert "\n" not in str(refused.value)
    assert "PRIVATE KEY" not in str(refused.value)
