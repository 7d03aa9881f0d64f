"""A WireGuard tunnel between two network namespaces of this machine, over a pair of virtual wires.

It needs root, /dev/net/tun and the right to make network namespaces: `why_not` says what is
missing.
"""

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

ADDRESSES = {"a": "10.77.0.1", "b": "10.77.0.2"}  # inside the tunnel, seen in its two ends only
WIRES = {"a": "10.78.0.1", "b": "10.78.0.2"}
PORT = 51820
TUN = Path("/dev/net/tun")
SOCKETS = Path("/var/run/wireguard")


def why_not() -> str | None:
    """What this machine lacks; None when it has all."""
    if os.geteuid() != 0:
        return "not root"
    if not TUN.is_char_device():
        return f"no {TUN}"
    try:
        TUN.open("rb").close()
    except OSError as error:
        return f"{TUN}: {error.strerror}"
    done = subprocess.run(["unshare", "--net", "true"], capture_output=True, check=False)
    return None if done.returncode == 0 else "no right to make network namespaces"


def run(*command: str, given: str | None = None) -> str:
    done = subprocess.run(
        command, input=given, capture_output=True, text=True, check=False, timeout=30
    )
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
    return done.stdout


def wait_for(condition: Callable[[], bool], what: str, timeout_s: float = 10.0) -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, f"{what} within {timeout_s} s"
        time.sleep(0.02)


class End:
    """One end: a namespace, an interface in it, and the process that is its WireGuard."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name, self.other = name, "b" if name == "a" else "a"
        self.space = f"keyferry-{os.getpid()}-{name}"
        self.interface = f"kf{os.getpid() % 10**8}{name}"  # their sockets share one folder
        self.private_key = folder / f"{name}.private"
        self.private_key.touch(mode=0o600)
        self.private_key.write_text(run("wg", "genkey"))
        self.public_key = run("wg", "pubkey", given=self.private_key.read_text()).strip()

    def inside(self, *command: str) -> str:
        return run("ip", "netns", "exec", self.space, *command)

    def start(self, peer: "End") -> None:
        """The interface with its peer, without a pre-shared key."""
        command = ("ip", "netns", "exec", self.space, "wireguard-go", "-f", self.interface)
        self.process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        wait_for((SOCKETS / f"{self.interface}.sock").is_socket, "the interface is there")
        run("wg", "set", self.interface, "listen-port", str(PORT), "private-key",
            str(self.private_key), "peer", peer.public_key, "allowed-ips",
            f"{ADDRESSES[self.other]}/32", "endpoint", f"{WIRES[self.other]}:{PORT}")  # fmt: skip
        self.inside("ip", "address", "add", f"{ADDRESSES[self.name]}/24", "dev", self.interface)
        self.inside("ip", "link", "set", self.interface, "up")

    def stop(self) -> None:
        """As at a reboot: the interface is gone, and what it held."""
        self.process.terminate()
        self.process.wait(timeout=10)
        wait_for(lambda: not (SOCKETS / f"{self.interface}.sock").exists(), "the socket is gone")

    def restart(self, peer: "End", key_file: Path) -> None:
        """As at a reboot, with the key from its file: the next packet begins with a handshake."""
        self.stop()
        self.start(peer)
        self.set_key(peer, key_file)

    def drop_key(self, peer: "End") -> None:
        run("wg", "set", self.interface, "peer", peer.public_key, "preshared-key", "/dev/null")

    def set_key(self, peer: "End", key_file: Path) -> None:
        run("wg", "set", self.interface, "peer", peer.public_key, "preshared-key", str(key_file))

    def pinging(self, n: int, interval_s: float = 0.1) -> "subprocess.Popen[str]":
        command = ("ping", "-c", str(n), "-i", str(interval_s), "-W", "1", ADDRESSES[self.other])
        return subprocess.Popen(
            ("ip", "netns", "exec", self.space, *command), stdout=subprocess.PIPE, text=True
        )

    def answered(self, n: int, interval_s: float = 0.1) -> int:
        """Of ``n`` pings through the tunnel."""
        return answers_of(self.pinging(n, interval_s))


def answers_of(pinging: "subprocess.Popen[str]") -> int:
    told, _ = pinging.communicate(timeout=60)
    (line,) = [line for line in told.splitlines() if "packets transmitted" in line]
    return int(line.split(", ")[1].split()[0])


@contextmanager
def tunnel(folder: Path) -> Iterator[tuple[End, End]]:
    a, b = End("a", folder), End("b", folder)
    with ExitStack() as undo:
        for end in (a, b):
            run("ip", "netns", "add", end.space)
            undo.callback(run, "ip", "netns", "delete", end.space)
        run("ip", "link", "add", "wire", "netns", a.space, "type", "veth",
            "peer", "name", "wire", "netns", b.space)  # fmt: skip
        for end in (a, b):
            end.inside("ip", "address", "add", f"{WIRES[end.name]}/24", "dev", "wire")
            end.inside("ip", "link", "set", "wire", "up")
        for end, other in ((a, b), (b, a)):
            end.start(other)
            undo.callback(end.stop)
        yield a, b
