"""The ports of ``keyferry up``: free ones, which no other start on this machine takes meanwhile."""

import json
import random
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from keyferry.private_files import write_private
from keyferry.up.layout import HOST, StateDirectory
from qkd_core.errors import ConfigError
from qkd_core.types.ids import Side

FIRST_PORT, LAST_PORT = 20_000, 32_000  # no outgoing connection is given one of these


@dataclass(frozen=True, slots=True, kw_only=True)
class SitePorts:
    """Of one site. ``line_to_kme``: where the link carries its peer's calls to ``kme``, if any."""

    kme: int
    metrics: int
    openbao: int
    openbao_cluster: int
    line_to_kme: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """``line_to_channel``: where the link carries A's engine to the ``channel`` of B's, if any."""

    channel: int
    a: SitePorts
    b: SitePorts
    line_to_channel: int | None = None

    def site(self, side: Side) -> SitePorts:
        return self.a if side is Side.A else self.b

    def channel_from(self, side: Side) -> int:
        """Where this site's engine listens, or connects to."""
        line = self.line_to_channel if side is Side.A else None
        return line or self.channel

    def kme_from(self, side: Side) -> int:
        """Where this site reaches its peer's KME."""
        peer = self.site(side.other)
        return peer.line_to_kme or peer.kme


@contextmanager
def claimed_ports(state: StateDirectory, *, lines: bool = False) -> Iterator[Ports]:
    """The ports of the last start where they are still free, else others that are.

    ``lines``: with those of the lines that the link carries. They are claimed while the context
    lasts, since the servers are started one after the other, seconds later.
    """
    file = state.root / "ports.json"
    of_site = ["kme", "metrics", "openbao", "openbao_cluster", *(["line_to_kme"] * lines)]
    of_both = ["channel", *(["line_to_channel"] * lines)]
    names = [*of_both, *(f"{side}.{name}" for side in Side for name in of_site)]
    before: dict[str, int] = json.loads(file.read_text()) if file.exists() else {}
    with ExitStack() as claims:
        chosen = {name: claim_port(claims, before.get(name)) for name in names}
        write_private(file, json.dumps(chosen).encode())
        a, b = (SitePorts(**{name: chosen[f"{side}.{name}"] for name in of_site}) for side in Side)
        yield Ports(a=a, b=b, **{name: chosen[name] for name in of_both})


def claim_port(claims: ExitStack, wanted: int | None = None) -> int:
    """A port where nothing listens, ``wanted`` if it can be had; ``claims`` lets go of it again."""
    others = random.SystemRandom().sample(range(FIRST_PORT, LAST_PORT), 200)
    for port in (*([wanted] if wanted else []), *others):
        with ExitStack() as attempt:
            try:
                _claim(attempt, port)
                _listen_once(port)
            except OSError:
                continue
            claims.enter_context(attempt.pop_all())
            return port
    raise ConfigError(f"no free port on {HOST} from {FIRST_PORT} to {LAST_PORT}")


def _claim(claims: ExitStack, port: int) -> None:
    """Raises OSError while it is claimed, by whomever.

    The claim is a name of Linux's abstract namespace: it is seen where the port is, and goes with
    its process whatever ends that. Elsewhere two starts at the same moment can still collide.
    """
    if sys.platform == "linux":
        holder = claims.enter_context(socket.socket(socket.AF_UNIX))
        holder.bind(f"\0keyferry-port-{port}")


def _listen_once(port: int) -> None:
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((HOST, port))
        listener.listen()
