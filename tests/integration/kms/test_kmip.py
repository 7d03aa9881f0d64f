"""The list that every sink faces, on a real KMIP server; then kills, lost replies and refusals."""

import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from qkd_core.errors import ConfigError, GenerationConflict, SinkRejected, SinkUnavailable
from qkd_core.types.ids import Generation, KmeId, Side
from qkd_core.types.refresh import KeyAlgorithm, RefreshPolicy, SinkVersion
from qkd_core.types.settings_table import parse
from qkd_kms_adapters import kmip_wire
from qkd_kms_adapters.conformance import CHECKS, READABLE_CHECKS, a_key
from qkd_kms_adapters.kmip import KmipTarget
from qkd_kms_adapters.kmip_tls import KmipConnection, tls_context
from qkd_kms_adapters.kmip_wire import ACTIVE, DEACTIVATED, PRE_ACTIVE, KmipCalls
from qkd_kms_adapters.registry import read_target
from qkd_kms_adapters.targets import Servers

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1]))
from kmip_server import KmipServer

del sys.path[:2]

ONE, TWO, THREE = Generation(1), Generation(2), Generation(3)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KmipServer]:
    server = KmipServer(tmp_path_factory.mktemp("kmip") / "server")
    server.start()
    yield server
    server.kill()


@pytest.fixture
def server(running: KmipServer) -> KmipServer:
    running.clear()
    return running


def a_policy(algorithm: KeyAlgorithm = KeyAlgorithm.AES_GCM, n_bits: int = 256) -> RefreshPolicy:
    return RefreshPolicy(
        name="disk",
        kmes=(KmeId("kme-a"), KmeId("kme-b")),
        n_bits=n_bits,
        initiator=Side.A,
        interval_s=60,
        algorithm=algorithm,
    )


def sink_of(target: KmipTarget):
    return target.sink(a_policy(), Servers())


def calls(target: KmipTarget) -> KmipCalls:
    return KmipCalls(target.login, "a test")


def objects(target: KmipTarget, generation: Generation) -> list[object]:
    """The states of all objects with the name of ``generation``."""
    with calls(target) as kmip:
        return [kmip.look(uid).state for uid in kmip.locate(name=f"{target.name}.{generation}")]


class AnewAtEachCall:
    """A sink that forgets everything between two calls, as processes that follow each other."""

    def __init__(self, target: KmipTarget) -> None:
        self._target = target

    def __getattr__(self, name: str) -> object:
        return getattr(sink_of(self._target), name)


@pytest.mark.parametrize("check", (*CHECKS, *READABLE_CHECKS), ids=lambda check: check.__name__)
def test_the_kmip_sink_keeps_its_promises(check, server) -> None:
    check(sink_of(server.new_target()))


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_it_keeps_them_across_restarts(check, server) -> None:
    check(AnewAtEachCall(server.new_target()))


def test_what_is_prepared_is_pre_active_and_publishing_activates_it(server) -> None:
    target, key = server.new_target(), a_key()
    sink = sink_of(target)
    sink.prepare(key, ONE)
    assert objects(target, ONE) == [PRE_ACTIVE]
    assert sink.publish(key, ONE) == 1
    assert objects(target, ONE) == [ACTIVE]


def test_an_object_says_whose_it_is_and_whether_it_is_agreed(server) -> None:
    target, key = server.new_target(), a_key()
    sink = sink_of(target)
    sink.publish(key, ONE)
    assert notes(target) == {"keyferry": f"1 {key.key_id} simulated", "keyferry-agreed": "no"}
    sink.agree(ONE)
    assert notes(target)["keyferry-agreed"] == "yes"


def notes(target: KmipTarget) -> dict[str, str]:
    with calls(target) as kmip:
        (uid,) = kmip.locate(group=target.name)
        return {namespace: data for namespace, (_, data) in kmip.look(uid).notes.items()}


@pytest.mark.parametrize(
    ("algorithm", "n_bits"),
    [
        (KeyAlgorithm.AES_GCM, 128),
        (KeyAlgorithm.CHACHA20_POLY1305, 256),
        (KeyAlgorithm.HMAC_SHA256, 256),
        (KeyAlgorithm.HMAC_SHA256, 4096),
    ],
)
def test_each_algorithm_is_taken(server, algorithm, n_bits) -> None:
    target, key = server.new_target(), replace(a_key(), secret=b"\x5a" * (n_bits // 8))
    sink = target.sink(a_policy(algorithm, n_bits), Servers())
    sink.prepare(key, ONE)
    sink.publish(key, ONE)
    assert sink.read(ONE) == key.secret


def test_a_raw_key_has_no_type_here(server) -> None:
    with pytest.raises(ConfigError, match="types its keys"):
        server.new_target().check(a_policy(KeyAlgorithm.RAW))


def test_the_earlier_generation_is_active_until_it_is_retired(server) -> None:
    target = server.new_target()
    sink = two_agreed(target)
    assert (objects(target, ONE), objects(target, TWO)) == ([ACTIVE], [ACTIVE])
    sink.retire(ONE)
    assert (objects(target, ONE), objects(target, TWO)) == ([DEACTIVATED], [ACTIVE])
    assert sink.versions() == (version(2),)
    assert sink.read(ONE) is not None, "what was protected with it must stay readable"


def test_what_is_retired_is_destroyed_where_that_is_asked_for(server) -> None:
    target = replace(server.new_target(), destroy_retired=True)
    sink = two_agreed(target)
    sink.retire(ONE)
    sink.retire(ONE)
    assert objects(target, ONE) == []
    assert sink.versions() == (version(2),)
    assert sink.state() == (2, 2)


def test_nothing_is_retired_for_a_generation_that_is_not_agreed(server) -> None:
    target = server.new_target()
    sink = sink_of(target)
    sink.publish(a_key(), ONE)
    sink.agree(ONE)
    sink.publish(a_key(), TWO)
    with pytest.raises(SinkRejected, match="nothing newer"):
        sink.retire(ONE)
    assert objects(target, ONE) == [ACTIVE]


def two_agreed(target: KmipTarget):
    sink = sink_of(target)
    for generation in (ONE, TWO):
        sink.publish(a_key(), generation)
        sink.agree(generation)
    return sink


def version(number: int) -> SinkVersion:
    return SinkVersion(native=number, generation=Generation(number))


def test_a_generation_that_was_revoked_by_hand_is_not_given_again(server) -> None:
    target = server.new_target()
    sink = sink_of(target)
    sink.publish(a_key(), TWO)
    with calls(target) as kmip:
        kmip.revoke(kmip.locate(group=target.name)[0])
    assert (sink.state(), sink.versions()) == ((2, 2), ())
    with pytest.raises(GenerationConflict):
        sink.prepare(a_key(), TWO)


def test_publishing_again_what_was_revoked_meanwhile_is_refused(server) -> None:
    target, key = server.new_target(), a_key()
    sink = sink_of(target)
    sink.publish(key, TWO)
    with calls(target) as kmip:
        kmip.revoke(kmip.locate(group=target.name)[0])
    with pytest.raises(SinkRejected, match="revoked by somebody"):
        sink.publish(key, TWO)


def test_a_foreign_object_with_our_name_is_a_conflict_and_is_not_touched(server) -> None:
    target = server.new_target()
    sink = sink_of(target)
    with calls(target) as kmip:
        kmip.register(foreign(target))
    for act in (sink.prepare, sink.publish):
        with pytest.raises(GenerationConflict, match="not a KME's"):
            act(a_key(), ONE)
    assert objects(target, ONE) == [PRE_ACTIVE]
    assert sink.versions() == ()
    with calls(target) as kmip:
        kmip.activate(kmip.locate(group=target.name)[0])
    assert sink.versions() == (SinkVersion(native=0, generation=Generation(0)),)


def foreign(target: KmipTarget) -> kmip_wire.NewKey:
    return kmip_wire.NewKey(
        name=f"{target.name}.1",
        group=target.name,
        algorithm="AES",
        usage=("ENCRYPT",),
        secret=bytes(32),
        notes={},
    )


# --- lost replies, late requests, kills


def test_a_registration_that_came_late_does_not_become_a_second_active_object(
    server, monkeypatch
) -> None:
    target, key = server.new_target(), a_key()
    sink = sink_of(target)
    sink.prepare(key, ONE)
    with monkeypatch.context() as blind:  # the request of an earlier try, seen by no look
        blind.setattr(KmipCalls, "locate", lambda *_, **__: [])
        with pytest.raises(SinkUnavailable, match="not active"):
            sink.publish(key, ONE)
    assert sorted(state.name for state in objects(target, ONE)) == ["ACTIVE", "PRE_ACTIVE"]

    assert sink.publish(key, ONE) == 1

    assert objects(target, ONE) == [ACTIVE]


def test_of_two_active_objects_one_is_revoked(server, monkeypatch) -> None:
    target, key = server.new_target(), a_key()
    sink = sink_of(target)
    sink.publish(key, ONE)
    with monkeypatch.context() as blind:
        blind.setattr(KmipCalls, "locate", lambda *_, **__: [])
        with pytest.raises(SinkUnavailable):
            sink.publish(key, ONE)
    assert objects(target, ONE) == [ACTIVE, ACTIVE]
    assert sink.publish(key, ONE) == 1
    assert sorted(state.name for state in objects(target, ONE)) == ["ACTIVE", "DEACTIVATED"]
    assert sink.versions() == (version(1),)


def test_what_an_earlier_run_left_is_swept_by_the_next(server) -> None:
    target = server.new_target()
    sink = sink_of(target)
    sink.prepare(a_key(), ONE)
    sink.prepare(a_key(), TWO)
    assert (objects(target, ONE), objects(target, TWO)) == ([], [PRE_ACTIVE])


@pytest.mark.parametrize("operation", ["REGISTER", "GET", "ACTIVATE", "GET_ATTRIBUTES"])
def test_a_lost_reply_leaves_one_active_object(server, monkeypatch, operation) -> None:
    target, key = server.new_target(), a_key()
    sink = sink_of(target)
    lose_reply(monkeypatch, operation)
    with pytest.raises(SinkUnavailable, match="was lost"):
        sink.publish(key, ONE)
    assert sink.publish(key, ONE) == 1
    assert objects(target, ONE) == [ACTIVE]
    assert sink.read(ONE) == key.secret


@pytest.mark.parametrize("operation", ["REVOKE", "DESTROY", "MODIFY_ATTRIBUTE"])
def test_a_lost_reply_of_the_other_steps_is_made_good(server, monkeypatch, operation) -> None:
    target = replace(server.new_target(), destroy_retired=True)
    sink = two_agreed(target)
    sink.publish(a_key(), THREE)
    step = (
        (lambda: sink.agree(THREE)) if operation == "MODIFY_ATTRIBUTE" else lambda: sink.retire(ONE)
    )
    lose_reply(monkeypatch, operation)
    with pytest.raises(SinkUnavailable, match="was lost"):
        step()
    step()
    assert (objects(target, TWO), objects(target, THREE)) == ([ACTIVE], [ACTIVE])


def lose_reply(monkeypatch, operation: str, act=lambda: None) -> None:
    """Once: ``operation`` is done by the server, then ``act``, and no reply reaches us."""
    call = KmipCalls._call

    def lost(self, asked, payload):
        answer = call(self, asked, payload)
        if asked.name == operation:
            monkeypatch.setattr(KmipCalls, "_call", call)
            act()
            raise SinkUnavailable(f"the reply to {operation} was lost")
        return answer

    monkeypatch.setattr(KmipCalls, "_call", lost)


@pytest.mark.parametrize("operation", ["REGISTER", "ACTIVATE"])
def test_a_server_killed_after_a_step_goes_on_from_its_database(
    server, monkeypatch, operation
) -> None:
    """Killed between registering and activating, or between activating and the reply."""
    target, key = server.new_target(), a_key()
    sink = sink_of(target)
    lose_reply(monkeypatch, operation, act=server.kill)
    with pytest.raises(SinkUnavailable, match="was lost"):
        sink.publish(key, ONE)
    with pytest.raises(SinkUnavailable, match="Connection refused"):
        sink.publish(key, ONE)

    server.start()
    assert objects(target, ONE) == [PRE_ACTIVE if operation == "REGISTER" else ACTIVE]

    assert sink.publish(key, ONE) == 1
    assert objects(target, ONE) == [ACTIVE]
    assert sink.read(ONE) == key.secret


def test_a_server_killed_in_the_middle_of_a_conversation_is_found_again(
    server, monkeypatch
) -> None:
    target, key = server.new_target(), a_key()
    sink = sink_of(target)
    exchange = KmipConnection.exchange

    def killed(self, request):
        monkeypatch.setattr(KmipConnection, "exchange", exchange)
        server.kill()
        return exchange(self, request)

    monkeypatch.setattr(KmipConnection, "exchange", killed)
    with pytest.raises(SinkUnavailable, match=r"Connection|Broken|EOF"):
        sink.publish(key, ONE)
    server.start()
    assert sink.publish(key, ONE) == 1


def test_an_object_that_does_not_read_back_as_written_is_removed(server, monkeypatch) -> None:
    target = server.new_target()
    with monkeypatch.context() as forgetful:
        forgetful.setattr(KmipCalls, "get", lambda *_: bytes(32))
        with pytest.raises(SinkUnavailable, match="does not read back"):
            sink_of(target).publish(a_key(), ONE)
    assert objects(target, ONE) == []


# --- who is spoken to


def test_a_silent_server_is_given_up_after_the_timeout(server) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        target = server.new_target(port=silent.getsockname()[1], timeout_s=0.3)
        with pytest.raises(SinkUnavailable, match=r"[Tt]ime"):
            sink_of(target).state()


def test_a_server_of_another_authority_is_not_spoken_to(server, tmp_path) -> None:
    other = KmipServer(tmp_path / "other")
    target = server.new_target(ca=other.authority.certificate)
    with pytest.raises(SinkUnavailable, match="SSLCertVerificationError"):
        sink_of(target).state()


def test_a_server_with_another_name_is_not_spoken_to(server) -> None:
    target = server.new_target(host="localhost")  # its certificate names 127.0.0.1 only
    with pytest.raises(SinkUnavailable, match="Hostname mismatch"):
        sink_of(target).state()


def test_a_client_without_a_certificate_that_counts_is_refused(server, tmp_path) -> None:
    stranger = KmipServer(tmp_path / "stranger").client
    target = server.new_target(cert=stranger.cert, key=stranger.key)
    with pytest.raises(SinkUnavailable, match=r"SSLError|Connection"):
        sink_of(target).state()
    wrong_use = server.issue("not-a-client", server=True)
    target = server.new_target(cert=wrong_use.cert, key=wrong_use.key)
    with pytest.raises((SinkRejected, SinkUnavailable)):
        sink_of(target).state()


def test_another_client_sees_none_of_our_keys(server) -> None:
    target, key = server.new_target(), a_key()
    sink_of(target).publish(key, ONE)
    other = server.issue("other", client=True)
    theirs = replace(target, login=server.login(cert=other.cert, key=other.key))
    assert sink_of(theirs).state() == (0, 0)
    with pytest.raises(SinkRejected), calls(theirs) as kmip:
        kmip.get(uid_of(target))


def uid_of(target: KmipTarget) -> str:
    with calls(target) as kmip:
        return kmip.locate(group=target.name)[0]


def test_missing_credentials_may_come_later(server, tmp_path) -> None:
    target = server.new_target(cert=tmp_path / "not-yet.pem")
    with pytest.raises(SinkUnavailable, match=r"not-yet\.pem"):
        sink_of(target).state()


@pytest.mark.parametrize("newest", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_the_newest_version_of_tls_that_the_server_has_is_spoken(server, newest) -> None:
    assert negotiated(server, ssl.TLSVersion.TLSv1_2, newest) == newest.name.replace("_", ".")


def negotiated(server: KmipServer, oldest: ssl.TLSVersion, newest: ssl.TLSVersion) -> str | None:
    """The version that a server which has ``oldest`` to ``newest`` and our client agree on."""
    names = server.issue("another-kms", server=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version, context.maximum_version = oldest, newest
    context.load_cert_chain(names.cert, names.key)
    context.load_verify_locations(server.authority.certificate)
    context.verify_mode = ssl.CERT_REQUIRED
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            plain, _ = listener.accept()
            with context.wrap_socket(plain, server_side=True) as connection:
                connection.recv(1)

        thread = threading.Thread(target=serve)
        thread.start()
        plain = socket.create_connection(listener.getsockname())
        with tls_context(server.login()).wrap_socket(plain, server_hostname="127.0.0.1") as ours:
            version = ours.version()
        thread.join()
    return version


def test_an_answer_that_is_not_kmip_is_unavailable(server, monkeypatch) -> None:
    for answer in (b"HTTP/1.1 400 Bad Request", b"\x42\x00\x7b\x01\x00\x00\x00\x00", bytes(64)):
        monkeypatch.setattr(KmipConnection, "exchange", lambda *_, answer=answer: answer)
        with pytest.raises(SinkUnavailable, match="not KMIP"):
            sink_of(server.new_target()).state()


# --- settings and imports

EXAMPLE = Path(__file__).parents[3] / "deploy/site.example.toml"


def test_the_example_of_a_site_file_is_read(tmp_path) -> None:
    (tmp_path / "tls").mkdir()
    for file in ("ca.pem", "kme-a-kmip.pem", "kme-a-kmip.key"):
        (tmp_path / "tls" / file).touch()
    (block,) = (part for part in EXAMPLE.read_text().split("\n\n") if '# kind = "kmip"' in part)
    lines = [line.removeprefix("# ") for line in block.splitlines()[1:]]
    read = read_target(parse("\n".join(lines), "site.toml"), tmp_path)
    assert isinstance(read, KmipTarget)


SETTINGS = """
kind = "kmip"
host = "127.0.0.1"
ca = "ca/ca.pem"
cert = "tls/kme.pem"
key = "tls/kme.key"
name = "{name}"
"""


def test_a_site_file_names_it(server) -> None:
    read = read_target(parse(SETTINGS.format(name="disk"), "site.toml"), server.folder)
    assert read == KmipTarget(login=server.login(port=5696), name="disk")
    assert read.server == "kmip://127.0.0.1:5696"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (SETTINGS.format(name="a b"), "name"),
        (SETTINGS.format(name="disk").replace("ca/ca.pem", "nowhere"), "must be a file"),
        (SETTINGS.format(name="disk") + "verify = false", "unknown key"),
        (SETTINGS.format(name="disk") + "timeout_s = 0", "timeout_s"),
    ],
)
def test_what_a_site_file_may_not_say(server, settings, said) -> None:
    with pytest.raises(ConfigError, match=said):
        read_target(parse(settings, "site.toml"), server.folder)


def test_importing_it_warns_of_nothing_and_hides_no_later_warning() -> None:
    program = (
        "import warnings, qkd_kms_adapters.kmip\n"
        "try: warnings.warn('ours', DeprecationWarning)\n"
        "except DeprecationWarning: print('heard')\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.stdout, done.stderr) == ("heard\n", "")


def test_without_its_package_a_site_file_that_names_it_is_told_how_to_get_it() -> None:
    program = (
        "import sys\n"
        "from qkd_core.errors import ConfigError\n"
        "from qkd_kms_adapters.registry import target_class\n"
        "for kind in ('kmip', 'pkcs11'):\n"
        "    sys.modules[kind] = None\n"
        "    try: target_class(kind)\n"
        "    except ConfigError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    for kind, line in zip(("kmip", "pkcs11"), done.stdout.splitlines(), strict=True):
        assert line.startswith(f"target kind {kind} needs the package {kind}")
        assert line.endswith(f"pip install 'keyferry[{kind}]'")
