"""What a site file may say of a WireGuard target, and what `wg` may do to us."""

from dataclasses import replace
from pathlib import Path

import pytest

from qkd_core.errors import ConfigError, SinkRejected, SinkUnavailable
from qkd_core.types.ids import Generation, KmeId, Side
from qkd_core.types.refresh import RefreshPolicy
from qkd_core.types.settings_table import parse
from qkd_kms_adapters import wireguard
from qkd_kms_adapters.conformance import a_key
from qkd_kms_adapters.registry import read_target
from qkd_kms_adapters.wireguard import WireGuardSink, WireGuardTarget

PEER = "fE/wdxzl0klVp/IR8UcaoGUMjqaWi3jAd7KzHKFS6Ds="
TEXT = f'kind = "wireguard"\ninterface = "wg0"\npeer = "{PEER}"\nkey_file = "wg0.psk"\n'
KMES = (KmeId("kme-a"), KmeId("kme-b"))


@pytest.fixture
def target(tmp_path: Path) -> WireGuardTarget:
    return WireGuardTarget(interface="wg0", peer=PEER, key_file=tmp_path / "wg0.psk")


def program(target: WireGuardTarget, lines: str) -> WireGuardSink:
    """A sink whose `wg` is a shell script."""
    script = target.key_file.with_name("wg.sh")
    script.write_text(f"#!/bin/sh\n{lines}\n")
    script.chmod(0o700)
    return WireGuardSink(replace(target, command=(str(script),)))


def test_the_settings_are_read(tmp_path, target) -> None:
    assert read_target(parse(TEXT, "site.toml"), tmp_path) == target
    found = read_target(parse(TEXT + 'command = ["sudo", "-n", "wg"]', "site.toml"), tmp_path)
    assert isinstance(found, WireGuardTarget)
    assert (found.command, found.key_file) == (("sudo", "-n", "wg"), tmp_path / "wg0.psk")
    assert found.server == "wireguard wg0"


@pytest.mark.parametrize(
    ("good", "wrong"),
    [
        ('interface = "wg0"', 'interface = "wg0/../x"'),
        ('interface = "wg0"', 'interface = "sixteen-letters-"'),
        (PEER, PEER[:-4]),
        (PEER, "not base64"),
        ('key_file = "wg0.psk"', 'key_file = "wg0.psk"\ncommand = []'),
        ('key_file = "wg0.psk"', 'key_file = "wg0.psk"\ncomand = ["wg"]'),
    ],
)
def test_a_wrong_setting_is_one_line_that_names_the_file(good, wrong, tmp_path) -> None:
    with pytest.raises(ConfigError, match=r"^site\.toml: [^\n]+$"):
        read_target(parse(TEXT.replace(good, wrong), "site.toml"), tmp_path)


@pytest.mark.parametrize(("n_bits", "fits"), [(128, False), (256, True), (512, False)])
def test_only_keys_of_256_bits_fit(n_bits, fits, target) -> None:
    policy = RefreshPolicy(name="tunnel", kmes=KMES, n_bits=n_bits, initiator=Side.A, interval_s=60)
    if fits:
        target.check(policy)
        return
    with pytest.raises(ConfigError, match="256 bits"):
        target.check(policy)


def test_two_policies_for_one_peer_have_the_same_target(target) -> None:
    assert target == replace(target, key_file=target.key_file.with_name("other"))


def test_a_program_that_is_not_there_is_rejected(target) -> None:
    sink = WireGuardSink(replace(target, command=("no-such-program",)))
    with pytest.raises(SinkRejected, match="no-such-program: No such file or directory"):
        sink.prepare(a_key(), Generation(1))


@pytest.mark.parametrize(
    ("complaint", "raised"),
    [
        ("Unable to access interface: No such device", SinkUnavailable),
        ("Unable to access interface: Protocol not supported", SinkUnavailable),
        ("Unable to access interface: Operation not permitted", SinkRejected),
        ("", SinkRejected),
    ],
)
def test_what_wg_complains_of_is_told_and_its_output_is_not(complaint, raised, target) -> None:
    sink = program(target, f'echo secret; echo more >&2; echo "{complaint}" >&2; exit 1')
    with pytest.raises(raised) as caught:
        sink.state()
    assert "secret" not in str(caught.value) and "\n" not in str(caught.value)
    assert complaint in str(caught.value)


def test_a_program_that_hangs_is_given_up(target, monkeypatch) -> None:
    monkeypatch.setattr(wireguard, "TIMEOUT_S", 0.1)
    with pytest.raises(SinkUnavailable, match=r"no answer in 0\.1 s"):
        program(target, "exec sleep 20").state()


def test_a_key_that_does_not_read_back_is_not_published(target) -> None:
    sink = program(target, f"cat > /dev/null; printf '{PEER}\\t(none)\\n'")
    with pytest.raises(SinkUnavailable, match="does not read back"):
        sink.publish(a_key(), Generation(1))
    assert not target.key_file.exists()
    assert sink.state() == (0, 0)


def test_nothing_environs_wg_but_its_path(target, monkeypatch) -> None:
    monkeypatch.setenv("SECRET_OF_THE_SERVICE", "1")
    sink = program(target, 'test -z "$SECRET_OF_THE_SERVICE" && printf "$3\\t(none)\\n"')
    with pytest.raises(SinkRejected, match="has no peer"):
        sink.state()
