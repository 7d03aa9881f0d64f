"""One connection of one side: a hello with the side's token, then requests and answers."""

import hmac
import logging
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from qkd_core.errors import ConfigError, LinkDown
from qkd_core.types.ids import BlockId, Provenance, Side
from qkd_core.types.plans import DecoySettings, PairSettings
from qkd_sim_link.rendezvous import Rendezvous
from qkd_sim_link.wire import START_MAX_S, VERSION, Malformed, Message, receive, send

log = logging.getLogger(__name__)
HELLO_S = 5.0
BLOCK_ID_MAX = 2**63 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """What a connection of one side may reach."""

    side: Side
    token: bytes = field(repr=False)
    rendezvous: Rendezvous
    time_scale: float
    requests: Mapping[str, Callable[[Message, "Device"], Message]]


def converse(sock: socket.socket, device: Device) -> None:
    """Serve one connection until either end closes it. Bad manners end it, with a log line."""
    try:
        hello = receive(sock, begin_s=HELLO_S, items_max=0)
        _admit(hello, device)
        welcome = {"provenance": Provenance.SIMULATED.value, "time_scale": device.time_scale}
        send(sock, Message({"ok": True, **welcome}))
        while True:
            send(sock, _answer(receive(sock, begin_s=None), device))
    except EOFError:
        return
    except Malformed as error:
        log.warning("side %s: connection closed: %s", device.side, error)
    except OSError as error:
        log.info("side %s: connection broke: %s", device.side, error)


def _admit(hello: Message, device: Device) -> None:
    version = hello.get("version", int)
    if version != VERSION:
        raise Malformed(f"version {version}, this server speaks {VERSION}")
    try:
        token = bytes.fromhex(hello.get("token", str))
    except ValueError as error:
        raise Malformed("the token is not in hex") from error
    if not hmac.compare_digest(token, device.token):
        raise Malformed("wrong token")


def _answer(request: Message, device: Device) -> Message:
    name = request.get("request", str)
    handler = device.requests.get(name)
    if handler is None:
        raise Malformed(f"no request {name[:40]!r} at this side")
    try:
        return handler(request, device)
    except Malformed:
        raise
    except LinkDown as error:
        return Message({"ok": False, "error": str(error)})


def _arm(request: Message, device: Device) -> Message:
    try:
        settings = _settings_told(request.header.get("settings"))
    except ConfigError as error:
        raise LinkDown(f"settings refused: {error}") from error
    device.rendezvous.arm(device.side, _block_id(request), settings)
    return Message({"ok": True})


def _settings(request: Message, device: Device) -> Message:
    slots = request.array(0, np.int64)
    chosen = device.rendezvous.settings(_block_id(request), slots, _start_s(request))
    return Message({"ok": True}, (chosen,))


def _detections(request: Message, device: Device) -> Message:
    clicks = device.rendezvous.detections(_block_id(request), _start_s(request), device.side)
    return Message({"ok": True}, clicks)


def _shots(request: Message, device: Device) -> Message:
    slots, seen = device.rendezvous.shots(_block_id(request), _start_s(request))
    return Message({"ok": True, "seen": seen}, (slots,))


Requests = Mapping[Side, Mapping[str, Callable[[Message, Device], Message]]]
OF_PULSES: Requests = {
    Side.A: {"arm": _arm, "settings": _settings},
    Side.B: {"arm": _arm, "detections": _detections, "shots": _shots},
}
OF_PAIRS: Requests = {side: {"arm": _arm, "detections": _detections} for side in Side}


def _block_id(request: Message) -> BlockId:
    block_id = request.get("block_id", int)
    if not 0 < block_id <= BLOCK_ID_MAX:
        raise Malformed(f"block_id: from 1 to {BLOCK_ID_MAX}")
    return BlockId(block_id)


def _start_s(request: Message) -> float:
    seconds = request.get("start_s", float)
    if not 0 < seconds <= START_MAX_S:
        raise Malformed(f"start_s {seconds:g}: above 0 and at most {START_MAX_S:g}")
    return seconds


def _settings_told(value: Any) -> DecoySettings | PairSettings:
    """Settings as JSON has them. Raises Malformed on a wrong form, ConfigError on a bad value."""
    match value:
        case {
            "clock_hz": float(clock_hz),
            "n_pulses": int(n_pulses),
            "intensities": [float(mu_1), float(mu_2), float(mu_3)],
            "probabilities": [float(p_1), float(p_2), float(p_3)],
            "p_key_basis": float(p_key_basis),
        } if len(value) == 5:  # noqa: PLR2004 - nothing beside the five above
            return DecoySettings(
                clock_hz=clock_hz,
                n_pulses=n_pulses,
                intensities=(mu_1, mu_2, mu_3),
                probabilities=(p_1, p_2, p_3),
                p_key_basis=p_key_basis,
            )
        case {
            "link_s": float(link_s),
            "window_ps": int(window_ps),
            "hold_off_ps": int(hold_off_ps),
            "resolution_ps": int(resolution_ps),
        } if len(value) == 4:  # noqa: PLR2004 - nor here
            return PairSettings(
                link_s=link_s,
                window_ps=window_ps,
                hold_off_ps=hold_off_ps,
                resolution_ps=resolution_ps,
            )
    raise Malformed("settings: the five of decoy pulses or the four of pairs, each of its type")
