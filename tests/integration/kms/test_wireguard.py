"""A tunnel between two network namespaces whose ends take the same generations."""

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from qkd_core.errors import SinkRejected, SinkUnavailable
from qkd_core.types.ids import Generation
from qkd_kms_adapters.conformance import CHECKS, READABLE_CHECKS, a_key
from qkd_kms_adapters.wireguard import WireGuardSink, WireGuardTarget

sys.path.insert(0, str(Path(__file__).parent))
from tunnel import End, answers_of, run, tunnel, why_not

sys.path.pop(0)

ONE, TWO, THREE = Generation(1), Generation(2), Generation(3)
NOBODY = "fE/wdxzl0klVp/IR8UcaoGUMjqaWi3jAd7KzHKFS6Ds="

MISSING = why_not()
pytestmark = pytest.mark.skipif(MISSING is not None, reason=f"no tunnel here: {MISSING}")


@pytest.fixture(scope="module")
def ends(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[End, End]]:
    with tunnel(tmp_path_factory.mktemp("tunnel")) as both:
        yield both


@pytest.fixture
def targets(ends, tmp_path) -> tuple[WireGuardTarget, WireGuardTarget]:
    """One for each end, without a pre-shared key."""
    a, b = ends
    a.drop_key(b)
    b.drop_key(a)
    return target_of(a, b, tmp_path), target_of(b, a, tmp_path)


def target_of(end: End, peer: End, folder: Path) -> WireGuardTarget:
    key_file = folder / f"{end.name}.psk"
    return WireGuardTarget(interface=end.interface, peer=peer.public_key, key_file=key_file)


def held(end: End) -> str:
    return run("wg", "show", end.interface, "preshared-keys").split("\t")[1].strip()


@pytest.mark.parametrize("check", (*CHECKS, *READABLE_CHECKS), ids=lambda check: check.__name__)
def test_the_wireguard_sink_keeps_its_promises(check, targets) -> None:
    check(WireGuardSink(targets[0]))


def test_both_ends_go_from_generation_to_generation_without_losing_a_ping(ends, targets) -> None:
    (a, b), sinks = ends, [WireGuardSink(target) for target in targets]
    first, second, third = a_key(), a_key(), a_key()
    for sink in sinks:
        sink.publish(first, ONE)
    handshake_again(ends, targets)
    assert a.answered(3) == 3

    pinging = a.pinging(20)
    for sink in sinks:
        sink.publish(second, TWO)
    assert answers_of(pinging) == 20
    handshake_again(ends, targets)
    assert a.answered(3) == 3

    sinks[0].publish(third, THREE)
    a.restart(b, targets[0].key_file)
    assert a.answered(3) == 0, "a key at one end only must not do"

    sinks[1].publish(third, THREE)
    handshake_again(ends, targets)
    assert a.answered(3) == 3


def handshake_again(ends: tuple[End, End], targets: tuple[WireGuardTarget, ...]) -> None:
    a, b = ends
    a.restart(b, targets[0].key_file)
    b.restart(a, targets[1].key_file)


def test_an_interface_that_was_set_up_anew_lacks_the_key_until_it_is_given_again(
    ends, targets
) -> None:
    (a, b), target, key = ends, targets[0], a_key()
    sink = WireGuardSink(target)
    sink.publish(key, ONE)
    a.stop()
    with pytest.raises(SinkUnavailable, match=r"No such device|Protocol not supported"):
        sink.state()
    with pytest.raises(SinkUnavailable):
        sink.prepare(a_key(), TWO)

    a.start(b)
    assert held(a) == "(none)"
    assert sink.versions() == ()
    assert sink.state() == (1, 1)

    a.set_key(b, target.key_file)
    assert [each.generation for each in sink.versions()] == [1]
    a.drop_key(b)
    assert sink.publish(key, ONE) == 1
    assert held(a) == target.key_file.read_text().strip()


def test_a_key_set_by_hand_is_told_and_gives_way_to_the_next_generation(
    ends, targets, tmp_path
) -> None:
    (a, b), sink = ends, WireGuardSink(targets[0])
    by_hand = tmp_path / "by-hand"
    by_hand.write_text(run("wg", "genpsk"))
    a.set_key(b, by_hand)
    assert [(each.native, each.generation) for each in sink.versions()] == [(1, 0)]
    sink.publish(a_key(), ONE)
    a.set_key(b, by_hand)
    assert [(each.native, each.generation) for each in sink.versions()] == [(2, 0)]
    sink.publish(a_key(), TWO)
    assert [each.generation for each in sink.versions()] == [1, 2]


def test_the_key_is_never_an_argument(targets, tmp_path) -> None:
    noted = tmp_path / "arguments"
    recorder = tmp_path / "wg"
    recorder.write_text(f'#!/bin/sh\nprintf "%s\\n" "$*" >> {noted}\nexec wg "$@"\n')
    recorder.chmod(0o700)
    sink = WireGuardSink(replace(targets[0], command=(str(recorder),)))
    sink.publish(a_key(), ONE)
    told = noted.read_text()
    assert "set" in told and "preshared-key /dev/stdin" in told
    assert targets[0].key_file.read_text().strip() not in told


def test_wg_may_be_called_through_another_program(ends, targets) -> None:
    command = ("ip", "netns", "exec", ends[0].space, "wg")
    assert WireGuardSink(replace(targets[0], command=command)).publish(a_key(), ONE) == 1


def test_an_unknown_peer_is_rejected_and_not_made(ends, targets) -> None:
    sink = WireGuardSink(replace(targets[0], peer=NOBODY))
    for call in (sink.prepare, sink.publish):
        with pytest.raises(SinkRejected, match="has no peer"):
            call(a_key(), ONE)
    assert NOBODY not in run("wg", "show", ends[0].interface, "peers")


def test_a_process_without_the_right_is_rejected(targets) -> None:
    command = ("setpriv", "--reuid=65534", "--clear-groups", "wg")
    with pytest.raises(SinkRejected, match=r"Permission denied|Operation not permitted"):
        WireGuardSink(replace(targets[0], command=command)).prepare(a_key(), ONE)
