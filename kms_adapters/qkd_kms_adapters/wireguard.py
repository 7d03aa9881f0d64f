"""The pre-shared key of one peer on one WireGuard interface.

WireGuard keeps one pre-shared key for each peer and nothing beside it, and forgets it with the
interface. So a file holds the generations (`file.py`), in the form that ``wg`` reads, and a
generation is published when both the interface and the file show it. The key reaches ``wg`` by its
standard input, never as an argument.
"""

import subprocess
from base64 import b64decode, b64encode
from binascii import Error as NotBase64
from dataclasses import dataclass, field
from hmac import compare_digest
from pathlib import Path

from qkd_core.errors import ConfigError, SinkRejected, SinkUnavailable
from qkd_core.types.ids import Generation
from qkd_core.types.keys import DeliveredKey
from qkd_core.types.refresh import RefreshPolicy, SinkVersion
from qkd_core.types.settings_table import SettingsTable
from qkd_kms_adapters.file import FileSink, FileTarget
from qkd_kms_adapters.targets import Servers

KEY_BITS = 256
INTERFACE = r"[A-Za-z0-9_=+.-]{1,15}"  # as wg-quick has it
TIMEOUT_S = 10.0
NO_KEY = b"(none)"
NO_INTERFACE = ("No such device", "Protocol not supported")  # the latter: none in user space either
ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}


@dataclass(frozen=True, slots=True, kw_only=True)
class WireGuardTarget:
    """The pre-shared key of ``peer`` (its public key) on ``interface``.

    key_file  where the key is kept as well: whatever sets up the interface reads it there
    command   how ``wg`` is called; it may be called through another program
    """

    interface: str
    peer: str
    key_file: Path = field(compare=False)
    command: tuple[str, ...] = field(default=("wg",), compare=False)

    def __post_init__(self) -> None:
        try:
            n_bytes = len(b64decode(self.peer, validate=True))
        except (NotBase64, ValueError):
            n_bytes = 0
        if n_bytes * 8 != KEY_BITS:
            raise ConfigError(
                f"peer {self.peer!r}: must be a public key of {KEY_BITS} bits, base64"
            )
        if not self.command:
            raise ConfigError("command: must name a program")

    @classmethod
    def from_settings(cls, table: SettingsTable, folder: Path) -> "WireGuardTarget":
        return cls(
            interface=table.text("interface", pattern=INTERFACE),
            peer=table.text("peer"),
            key_file=(folder / table.text("key_file")).absolute(),
            command=table.texts("command", default=("wg",)),
        )

    @property
    def server(self) -> str:
        return f"wireguard {self.interface}"

    @property
    def places(self) -> tuple[str, ...]:
        return self.peer, str(self.key_file)

    def check(self, policy: RefreshPolicy) -> None:
        if policy.n_bits != KEY_BITS:
            raise ConfigError(
                f"n_bits {policy.n_bits}: a WireGuard pre-shared key has {KEY_BITS} bits"
            )

    def sink(self, policy: RefreshPolicy, servers: Servers) -> "WireGuardSink":
        return WireGuardSink(self)


class WireGuardSink:
    """Implements ReadableSink. A pre-shared key that was set by hand gives way to the first one."""

    def __init__(self, target: WireGuardTarget) -> None:
        self._target = target
        self._files = FileSink(FileTarget(path=target.key_file, form="base64"))
        self._where = f"WireGuard {target.interface}"

    def __repr__(self) -> str:
        return f"WireGuardSink({self._target.interface!r}, {self._target.peer!r})"

    def prepare(self, key: DeliveredKey, generation: Generation) -> None:
        self._catch_up()
        self._files.prepare(key, generation)

    def publish(self, key: DeliveredKey, generation: Generation) -> int:
        """The key is durable before the interface has it, and is the newest only after that."""
        if self._catch_up() < generation:
            self._files.prepare(key, generation)
            self._set(key.secret)
            return self._files.publish(key, generation)
        native = self._files.publish(key, generation)
        self._set(key.secret)  # the interface may have been set up anew
        return native

    def agree(self, generation: Generation) -> None:
        self._files.agree(generation)

    def abandon(self, generation: Generation) -> None:
        if generation != self._standing():
            self._files.abandon(generation)

    def retire(self, generation: Generation) -> None:
        self._files.retire(generation)

    def state(self) -> tuple[Generation, int]:
        noted, _ = self._files.state()
        newest = max(noted, self._standing() or Generation(0))
        return newest, newest

    def versions(self) -> tuple[SinkVersion, ...]:
        """As of a file: the newest one is not listed while the interface does not hold it."""
        newest, _ = self.state()
        held, standing = self._held(), self._standing()
        versions = [each for each in self._files.versions() if 0 < each.generation < newest]
        if held is not None and standing is None:
            versions.append(SinkVersion(native=newest + 1, generation=Generation(0)))
        elif standing is not None and standing == newest:
            versions.append(SinkVersion(native=newest, generation=newest))
        return tuple(versions)

    def read(self, generation: Generation) -> bytes | None:
        return self._files.read(generation)

    def _catch_up(self) -> Generation:
        """The newest generation; of one that the interface got before a crash, the file too."""
        noted, _ = self._files.state()
        standing = self._standing()
        if standing is not None and standing > noted:
            self._files.show(standing)
            return standing
        return noted

    def _standing(self) -> Generation | None:
        """The generation that the interface holds; None for no key, and for one of others."""
        held = self._held()
        return self._files.holder(held) if held is not None else None

    def _set(self, secret: bytes) -> None:
        """Give the interface the key, and prove that it has it.

        A peer that somebody removes between the two comes back with a key and no addresses.
        """
        if compare_digest(self._held() or b"", secret):
            return
        peer = ("peer", self._target.peer, "preshared-key", "/dev/stdin")
        self._wg("set", self._target.interface, *peer, given=b64encode(secret) + b"\n")
        if not compare_digest(self._held() or b"", secret):
            raise SinkUnavailable(f"{self._where}: the key does not read back as written")

    def _held(self) -> bytes | None:
        """The pre-shared key of the peer, None when it has none. SinkRejected: no such peer."""
        for line in self._wg("show", self._target.interface, "preshared-keys").splitlines():
            peer, _, secret = line.partition(b"\t")
            if peer.decode("ascii", "replace") == self._target.peer:
                return None if secret == NO_KEY else b64decode(secret)
        raise SinkRejected(f"{self._where}: has no peer {self._target.peer}")

    def _wg(self, *arguments: str, given: bytes = b"") -> bytes:
        """What ``wg`` prints. Its output holds keys, so only its complaint is ever told."""
        try:
            done = subprocess.run(  # noqa: S603  the program is the site file's
                [*self._target.command, *arguments],
                input=given,
                capture_output=True,
                env=ENVIRONMENT,
                timeout=TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise SinkUnavailable(f"{self._where}: no answer in {TIMEOUT_S:g} s") from None
        except OSError as error:
            program = self._target.command[0]
            raise SinkRejected(f"{self._where}: {program}: {error.strerror}") from error
        if done.returncode:
            complaint = done.stderr.decode("utf-8", "replace").strip().splitlines()
            told = f"{self._where}: {complaint[-1] if complaint else 'wg failed'}"
            if told.endswith(NO_INTERFACE):  # it may come up later
                raise SinkUnavailable(told)
            raise SinkRejected(told)
        return done.stdout
