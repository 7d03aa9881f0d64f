"""The list that every sink faces, on a SoftHSM token; then kills, other processes and PINs."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from signal import SIGKILL

import pkcs11
import pytest
from pkcs11 import Attribute, KeyType, ObjectClass

from qkd_core.errors import ConfigError, GenerationConflict, SinkRejected, SinkUnavailable
from qkd_core.types.ids import Generation, KmeId, Side
from qkd_core.types.keys import DeliveredKey
from qkd_core.types.refresh import KeyAlgorithm, RefreshPolicy, SinkVersion
from qkd_core.types.settings_table import parse
from qkd_kms_adapters.conformance import CHECKS, a_key
from qkd_kms_adapters.pkcs11 import Pkcs11Sink, Pkcs11Target
from qkd_kms_adapters.pkcs11_token import Pkcs11Library
from qkd_kms_adapters.registry import read_target
from qkd_kms_adapters.targets import Servers

sys.path.insert(0, str(Path(__file__).parent))
from softhsm_token import MODULE, PIN, SoftToken

sys.path.pop(0)

ONE, TWO, THREE = Generation(1), Generation(2), Generation(3)


@pytest.fixture(scope="module")
def token(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SoftToken]:
    token = SoftToken(tmp_path_factory.mktemp("softhsm"))
    with pytest.MonkeyPatch.context() as environment:
        for name, value in token.environment.items():
            environment.setenv(name, value)
        yield token
        pkcs11.unload(str(MODULE))


def a_policy(algorithm: KeyAlgorithm = KeyAlgorithm.AES_GCM, n_bits: int = 256) -> RefreshPolicy:
    return RefreshPolicy(
        name="disk",
        kmes=(KmeId("kme-a"), KmeId("kme-b")),
        n_bits=n_bits,
        initiator=Side.A,
        interval_s=60,
        algorithm=algorithm,
    )


def sink_of(target: Pkcs11Target, algorithm: KeyAlgorithm = KeyAlgorithm.AES_GCM) -> Pkcs11Sink:
    return target.sink(a_policy(algorithm), Servers())


def objects(target: Pkcs11Target, *attributes: Attribute) -> list[tuple[object, ...]]:
    """``attributes`` of each key object with a label of the target, by generation."""
    with session(target) as ours:
        every = list(ours.get_objects({Attribute.CLASS: ObjectClass.SECRET_KEY}))
        found = [each for each in every if each[Attribute.LABEL].startswith(f"{target.label}.")]
        found.sort(key=lambda each: each[Attribute.LABEL])
        return [tuple(each[attribute] for attribute in attributes) for each in found]


def session(target: Pkcs11Target):
    return Pkcs11Library(MODULE).session(target.login, "a test")


def labels(target: Pkcs11Target) -> list[object]:
    return [label for (label,) in objects(target, Attribute.LABEL)]


class AnewAtEachCall:
    """A sink that forgets everything between two calls, as processes that follow each other."""

    def __init__(self, target: Pkcs11Target) -> None:
        self._target = target

    def __getattr__(self, name: str) -> object:
        return getattr(sink_of(self._target), name)


@pytest.mark.parametrize("algorithm", [KeyAlgorithm.AES_GCM, KeyAlgorithm.RAW])
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_pkcs11_sink_keeps_its_promises(check, algorithm, token) -> None:
    check(sink_of(token.new_target(), algorithm))


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_it_keeps_them_across_restarts(check, token) -> None:
    check(AnewAtEachCall(token.new_target()))


@pytest.mark.parametrize("algorithm", [KeyAlgorithm.AES_GCM, KeyAlgorithm.RAW])
def test_an_object_says_what_it_is_and_does_not_show_its_bytes(token, algorithm) -> None:
    target, key = token.new_target(), a_key()
    sink_of(target, algorithm).publish(key, ONE)
    shown = (Attribute.LABEL, Attribute.ID, Attribute.SENSITIVE, Attribute.EXTRACTABLE)
    assert objects(target, *shown) == [
        (f"{target.label}.1", f"1:{key.key_id}".encode(), True, False)
    ]
    with pytest.raises((SinkRejected, pkcs11.AttributeSensitive)):
        objects(target, Attribute.VALUE)


def test_preparing_leaves_nothing_behind(token) -> None:
    target = token.new_target()
    sink_of(target).prepare(a_key(), ONE)
    assert labels(target) == []


def test_the_earlier_key_protects_until_it_is_retired_and_opens_after_it(token) -> None:
    target = token.new_target()
    sink, first = two_agreed(target)
    assert objects(target, Attribute.ENCRYPT, Attribute.DECRYPT) == [(True, True), (True, True)]
    sink.retire(ONE)
    assert objects(target, Attribute.ENCRYPT, Attribute.DECRYPT) == [(False, True), (True, True)]
    assert sink.versions() == (version(1), version(2))
    assert sink.publish(first, ONE) == 1, "it is proved by opening what its bytes closed"
    with pytest.raises(GenerationConflict):
        sink.publish(replace(first, secret=a_key().secret), ONE)


def two_agreed(target: Pkcs11Target):
    sink, first = sink_of(target), a_key()
    for generation, key in ((ONE, first), (TWO, a_key())):
        sink.publish(key, generation)
        sink.agree(generation)
    return sink, first


def version(number: int) -> SinkVersion:
    return SinkVersion(native=number, generation=Generation(number))


def test_what_is_retired_is_destroyed_where_that_is_asked_for(token) -> None:
    target = replace(token.new_target(), destroy_retired=True)
    sink, _ = two_agreed(target)
    sink.retire(ONE)
    sink.retire(ONE)
    assert labels(target) == [f"{target.label}.2"]
    assert (sink.versions(), sink.state()) == ((version(2),), (2, 2))


def test_nothing_is_retired_for_a_generation_that_is_not_agreed(token) -> None:
    sink = sink_of(token.new_target())
    sink.publish(a_key(), ONE)
    sink.agree(ONE)
    sink.publish(a_key(), TWO)
    with pytest.raises(SinkRejected, match="nothing newer"):
        sink.retire(ONE)


def test_the_agreed_generation_is_one_note_and_never_goes_back(token) -> None:
    target = token.new_target()
    sink, _ = two_agreed(target)
    sink.agree(ONE)
    assert notes(target) == [b"2"]


def notes(target: Pkcs11Target) -> list[bytes]:
    asked = {Attribute.CLASS: ObjectClass.DATA, Attribute.APPLICATION: "keyferry"}
    with session(target) as ours:
        found = list(ours.get_objects(asked | {Attribute.LABEL: target.label}))
        return sorted(each[Attribute.VALUE] for each in found)


@pytest.mark.parametrize("key_id", ["", "1:elsewhere", "2:elsewhere"])
def test_a_foreign_object_with_our_label_is_a_conflict_and_is_not_touched(token, key_id) -> None:
    target = token.new_target()
    sink = sink_of(target)
    with session(target) as ours:
        ours.create_object(foreign(f"{target.label}.1", key_id))
    with pytest.raises(GenerationConflict):
        sink.publish(a_key(), ONE)
    assert labels(target) == [f"{target.label}.1"]
    native = 1 if key_id.startswith("1:") else 0
    assert sink.versions() == (SinkVersion(native=native, generation=Generation(native)),)


def foreign(label: str, key_id: str) -> dict[Attribute, object]:
    return {
        Attribute.CLASS: ObjectClass.SECRET_KEY,
        Attribute.KEY_TYPE: KeyType.GENERIC_SECRET,
        Attribute.TOKEN: True,
        Attribute.LABEL: label,
        Attribute.ID: key_id.encode(),
        Attribute.VALUE: bytes(32),
    }


def test_an_object_that_does_not_do_what_its_bytes_do_is_removed(token, monkeypatch) -> None:
    target, template = token.new_target(), Pkcs11Sink._template

    def broken(self, secret, *arguments, **options):
        return template(self, bytes(len(secret)), *arguments, **options)

    monkeypatch.setattr(Pkcs11Sink, "_template", broken)
    with pytest.raises(SinkUnavailable, match="does not do what its bytes do"):
        sink_of(target).publish(a_key(), ONE)
    with pytest.raises(SinkRejected, match="on trial"):
        sink_of(target).prepare(a_key(), ONE)
    assert labels(target) == []


# --- other processes, kills, threads

CHILD = """
import json, os, signal, sys
from pathlib import Path
from qkd_core.types.ids import Generation, KeyId, Provenance
from qkd_core.types.keys import DeliveredKey
from qkd_kms_adapters import pkcs11 as ours
from qkd_kms_adapters.pkcs11_token import Pkcs11Library, Pkcs11Login

order = json.load(sys.stdin)
login = Pkcs11Login(module=Path(order["module"]), token=order["token"], pin=Path(order["pin"]))
sink = ours.Pkcs11Sink(Pkcs11Library(login.module), login, order["label"], ours.KeyType.AES,
                       destroy_retired=False)
notes = ours.Pkcs11Sink._notes

def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

class Dying:
    destroy = die

if order["die"] == "before the object":
    ours.Pkcs11Sink._template = die
if order["die"] == "after the object":
    ours.Pkcs11Sink._holds = die
if order["die"] == "with two notes":
    ours.Pkcs11Sink._notes = lambda *each: {number: Dying() for number in notes(*each)}
for generation, key_id, secret in order["keys"]:
    key = DeliveredKey(key_id=KeyId(key_id), secret=bytes.fromhex(secret),
                       provenance=Provenance.SIMULATED)
    sink.publish(key, Generation(generation))
    print(generation, flush=True)
    if order["agree"]:
        sink.agree(Generation(generation))
if order["die"] == "after all":
    die()
"""


def another_process(
    target: Pkcs11Target, keys: dict[int, DeliveredKey], *, die: str = "", agree: bool = False
) -> "subprocess.Popen[str]":
    """It publishes ``keys`` and says the generation of each. ``die``: where it kills itself."""
    order = {
        "module": str(target.login.module),
        "token": target.login.token,
        "pin": str(target.login.pin),
        "label": target.label,
        "keys": [(number, key.key_id, key.secret.hex()) for number, key in keys.items()],
        "die": die,
        "agree": agree,
    }
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    child.stdin.write(json.dumps(order))
    child.stdin.close()
    return child


def ended(child: "subprocess.Popen[str]") -> int:
    with child:
        return child.wait(timeout=60)


def test_what_another_process_published_is_seen_here_at_once(token) -> None:
    target, key = token.new_target(), a_key()
    sink = sink_of(target)
    assert sink.state() == (0, 0)
    assert ended(another_process(target, {3: key})) == 0
    assert sink.state() == (3, 3)
    assert sink.publish(key, THREE) == 3
    with pytest.raises(GenerationConflict):
        sink.publish(a_key(), THREE)
    assert labels(target) == [f"{target.label}.3"]


@pytest.mark.parametrize("die", ["before the object", "after the object", "after all"])
def test_a_process_killed_while_it_publishes_leaves_one_object_in_the_end(token, die) -> None:
    target, key = token.new_target(), a_key()
    sink = sink_of(target)
    sink.publish(a_key(), ONE)
    assert ended(another_process(target, {2: key}, die=die)) == -SIGKILL
    assert sink.state() == ((1, 1) if die == "before the object" else (2, 2))

    assert sink.publish(key, TWO) == 2

    assert labels(target) == [f"{target.label}.1", f"{target.label}.2"]


@pytest.mark.parametrize("delay_ms", [0, 2, 4, 6, 8])
def test_a_process_killed_at_any_time_leaves_one_object_in_the_end(token, delay_ms) -> None:
    target, keys = token.new_target(), {number: a_key() for number in range(1, 100)}
    with another_process(target, keys) as child:
        assert child.stdout.readline() == "1\n"
        time.sleep(delay_ms / 1000)  # no condition: the kill may come at any call
        child.kill()
    sink = sink_of(target)
    newest, _ = sink.state()
    assert 1 <= newest < 99

    for number in (newest, newest + 1):
        assert sink.publish(keys[number], Generation(number)) == number

    assert sorted(labels(target)) == sorted(f"{target.label}.{n}" for n in range(1, newest + 2))


def test_a_process_killed_while_it_agrees_leaves_the_higher_note(token) -> None:
    target = token.new_target()
    sink, second = sink_of(target), a_key()
    sink.publish(a_key(), ONE)
    sink.agree(ONE)
    dead = another_process(target, {2: second}, die="with two notes", agree=True)
    assert ended(dead) == -SIGKILL
    assert notes(target) == [b"1", b"2"]
    sink.retire(ONE)
    sink.agree(TWO)
    assert notes(target) == [b"2"]


def test_two_objects_of_one_generation_become_one(token, monkeypatch) -> None:
    target, key = token.new_target(), a_key()
    sink = sink_of(target)
    sink.publish(key, ONE)
    with monkeypatch.context() as blind:  # as of a networked HSM that was asked twice
        blind.setattr(Pkcs11Sink, "_published", lambda *_: False)
        sink.publish(key, ONE)
    assert labels(target) == [f"{target.label}.1"] * 2
    assert sink.publish(key, ONE) == 1
    assert labels(target) == [f"{target.label}.1"]


def test_two_sinks_on_one_token_do_not_disturb_each_other(token) -> None:
    servers, targets = Servers(), [token.new_target(), token.new_target()]
    troubles: list[BaseException] = []

    def run(target: Pkcs11Target) -> None:
        try:
            sink = target.sink(a_policy(), servers)
            for number in range(1, 6):
                key, generation = a_key(), Generation(number)
                sink.prepare(key, generation)
                sink.publish(key, generation)
                sink.agree(generation)
        except BaseException as error:
            troubles.append(error)

    threads = [threading.Thread(target=run, args=[target]) for target in targets]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert troubles == []
    for target in targets:
        assert sink_of(target).versions() == tuple(version(number) for number in range(1, 6))
        assert notes(target) == [b"5"]


def test_a_process_logs_in_once(token) -> None:
    """SoftHSM writes its token file anew at a login, and a kill just then costs the token."""
    sink = sink_of(token.new_target())
    sink.state()
    files = {file: file.stat().st_mtime_ns for file in token.tokens.glob("*/token.object")}
    sink.publish(a_key(), ONE)
    sink.agree(ONE)
    sink.publish(a_key(), TWO)
    assert files == {file: file.stat().st_mtime_ns for file in files}


# --- tokens and PINs


def test_a_wrong_pin_is_tried_once_and_then_no_more(token, tmp_path, monkeypatch) -> None:
    servers, other = Servers(), "of the wrong PIN"
    token.initialise(other)
    wrong = token.new_pin(tmp_path / "pin", "0000")
    sink = token.new_target(token=other, pin=wrong).sink(a_policy(), servers)
    with pytest.raises(SinkRejected, match="PinIncorrect"):
        sink.state()
    monkeypatch.setattr(pkcs11, "lib", None)  # nobody may even look at the token
    for act in (sink.state, lambda: sink.publish(a_key(), ONE)):
        with pytest.raises(SinkRejected, match="PinIncorrect to this PIN before"):
            act()
    monkeypatch.undo()
    right = token.new_target(token=other).sink(a_policy(), servers)
    assert right.state() == (0, 0), "the right PIN is held up by the wrong one"


def test_a_pin_file_that_others_read_is_refused(token, tmp_path) -> None:
    for mode in (0o640, 0o604):
        open_to_others = token.new_pin(tmp_path / f"pin-{mode}", PIN, mode)
        with pytest.raises(SinkRejected, match="readable by its owner only"):
            sink_of(token.new_target(pin=open_to_others)).state()


def test_a_pin_that_is_not_there_may_come_later(token, tmp_path) -> None:
    with pytest.raises(SinkUnavailable, match="No such file"):
        sink_of(token.new_target(pin=tmp_path / "not-yet")).state()


def test_a_token_that_is_not_there_is_found_when_it_comes(token) -> None:
    later = "plugged later"
    target = token.new_target(token=later)
    sink = sink_of(target)
    with pytest.raises(SinkUnavailable, match="NoSuchToken"):
        sink.state()
    token.initialise(later)
    assert sink.publish(a_key(), ONE) == 1


def test_a_token_that_is_removed_is_unavailable_until_it_is_back(token, tmp_path) -> None:
    target, key = token.new_target(), a_key()
    sink = sink_of(target)
    sink.publish(key, ONE)
    away = tmp_path / "away"
    os.rename(token.tokens, away)
    try:
        with pytest.raises(SinkUnavailable):
            sink.state()
    finally:
        os.rename(away, token.tokens)
    assert sink.publish(key, ONE) == 1


def test_what_is_not_a_library_is_unavailable(token, tmp_path) -> None:
    file = tmp_path / "not-a-library.so"
    file.write_text("")
    with pytest.raises(SinkUnavailable, match="does not load"):
        sink_of(token.new_target(module=file)).state()


# --- settings

EXAMPLE = Path(__file__).parents[3] / "deploy/site.example.toml"


def test_the_example_of_a_site_file_is_read(tmp_path) -> None:
    (block,) = (part for part in EXAMPLE.read_text().split("\n\n") if '# kind = "pkcs11"' in part)
    lines = [line.removeprefix("# ") for line in block.splitlines()[1:]]
    read = read_target(parse("\n".join(lines), "site.toml"), tmp_path)
    assert isinstance(read, Pkcs11Target)


SETTINGS = """
kind = "pkcs11"
module = "{module}"
token = "keyferry test"
pin = "pin"
label = "disk"
"""


def test_a_site_file_names_it(token, tmp_path) -> None:
    pin = token.new_pin(tmp_path / "pin", PIN)
    read = read_target(parse(SETTINGS.format(module=MODULE), "site.toml"), tmp_path)
    assert read == Pkcs11Target(login=token.login(pin=pin), label="disk")
    assert read.server == f"pkcs11:{MODULE}:keyferry test"
    pin.chmod(0o644)
    with pytest.raises(ConfigError, match="readable by its owner only"):
        read_target(parse(SETTINGS.format(module=MODULE), "site.toml"), tmp_path)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (SETTINGS.format(module="nowhere.so"), "must be a file"),
        (SETTINGS.format(module=MODULE).replace("disk", "a b"), "label"),
        (SETTINGS.format(module=MODULE).replace("keyferry test", "x" * 33), "token"),
    ],
)
def test_what_a_site_file_may_not_say(tmp_path, settings, said) -> None:
    with pytest.raises(ConfigError, match=said):
        read_target(parse(settings, "site.toml"), tmp_path)


@pytest.mark.parametrize(
    ("algorithm", "n_bits", "said"),
    [
        (KeyAlgorithm.CHACHA20_POLY1305, 256, "cannot prove"),
        (KeyAlgorithm.RAW, 128, "256 to 4096 bits"),
        (KeyAlgorithm.RAW, 8192, "256 to 4096 bits"),
    ],
)
def test_keys_that_cannot_be_proved_are_refused(token, algorithm, n_bits, said) -> None:
    with pytest.raises(ConfigError, match=said):
        token.new_target().check(a_policy(algorithm, n_bits))


@pytest.mark.parametrize(
    ("algorithm", "n_bits"),
    [
        (KeyAlgorithm.AES_GCM, 128),
        (KeyAlgorithm.AES_GCM, 192),
        (KeyAlgorithm.RAW, 256),
        (KeyAlgorithm.RAW, 4096),
        (KeyAlgorithm.HMAC_SHA256, 4096),
    ],
)
def test_the_shortest_and_the_longest_keys_are_proved(token, algorithm, n_bits) -> None:
    target, key = token.new_target(), replace(a_key(), secret=os.urandom(n_bits // 8))
    sink = target.sink(a_policy(algorithm, n_bits), Servers())
    sink.prepare(key, ONE)
    sink.publish(key, ONE)
    other = replace(key, secret=key.secret[:-1] + bytes([key.secret[-1] ^ 1]))
    with pytest.raises(GenerationConflict):
        sink.publish(other, ONE)
