"""One connection: a hello with the token of what it wants to reach, then requests and answers."""

import hmac
import logging
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from qkd_core.errors import ConfigError, LinkDown
from qkd_core.types.ids import BlockId, Provenance, Side
from qkd_core.types.plans import DecoySettings, PairSettings
from qkd_sim_link.drivers.batch_message import as_message
from qkd_sim_link.serving.device_epochs import DeviceEpochs
from qkd_sim_link.serving.rendezvous import Rendezvous
from qkd_sim_link.wire import START_MAX_S, VERSION, Malformed, Message, receive, send

log = logging.getLogger(__name__)
HELLO_S = 5.0
BLOCK_ID_MAX = 2**63 - 1
Handler = Callable[[Message], Message]


class Desk(Protocol):
    """What a connection may reach, and the token that opens it."""

    @property
    def name(self) -> str:
        """For the log."""

    @property
    def token(self) -> bytes:
        """Of whoever may connect."""

    def welcome(self) -> dict[str, object]:
        """The answer to a good hello."""

    def handler(self, request: str) -> Handler | None:
        """What answers requests of this name, or raises LinkDown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """What a connection of one side may reach.

    rate_max_hz  of clicks: what the detectors' dead time leaves
    """

    side: Side
    token: bytes = field(repr=False)
    rendezvous: Rendezvous
    epochs: DeviceEpochs
    time_scale: float
    rate_max_hz: float
    requests: Mapping[str, Callable[[Message, "Device"], Message]]

    @property
    def name(self) -> str:
        return f"side {self.side}"

    def welcome(self) -> dict[str, object]:
        return {
            "provenance": Provenance.SIMULATED.value,
            "time_scale": self.time_scale,
            "link": self.epochs.link,
            "rate_max_hz": self.rate_max_hz,
        }

    def handler(self, request: str) -> Handler | None:
        found = self.requests.get(request)
        return found and (lambda message: found(message, self))


def converse(sock: socket.socket, desk: Desk) -> None:
    """Serve one connection until either end closes it. Bad manners end it, with a log line."""
    try:
        _admit(receive(sock, begin_s=HELLO_S, items_max=0), desk)
        send(sock, Message({"ok": True, **desk.welcome()}))
        while True:
            send(sock, _answer(receive(sock, begin_s=None), desk))
    except EOFError:
        return
    except Malformed as error:
        log.warning("%s: connection closed: %s", desk.name, error)
    except OSError as error:
        log.info("%s: connection broke: %s", desk.name, error)


def _admit(hello: Message, desk: Desk) -> None:
    version = hello.get("version", int)
    if version != VERSION:
        raise Malformed(f"version {version}, this server speaks {VERSION}")
    try:
        token = bytes.fromhex(hello.get("token", str))
    except ValueError as error:
        raise Malformed("the token is not in hex") from error
    if not hmac.compare_digest(token, desk.token):
        raise Malformed("wrong token")


def _answer(request: Message, desk: Desk) -> Message:
    name = request.get("request", str)
    handler = desk.handler(name)
    if handler is None:
        raise Malformed(f"no request {name[:40]!r} at this side")
    try:
        return handler(request)
    except Malformed:
        raise
    except LinkDown as error:
        return Message({"ok": False, "error": str(error)})


def _arm(request: Message, device: Device) -> Message:
    try:
        settings = _settings_told(request.header.get("settings"))
    except ConfigError as error:
        raise LinkDown(f"settings refused: {error}") from error
    now_s = device.rendezvous.now_s()
    device.rendezvous.arm(device.side, _block_id(request), settings)
    device.epochs.arm(_block_id(request), settings, now_s)
    return Message({"ok": True})


def _settings(request: Message, device: Device) -> Message:
    slots = request.array(0, np.int64)
    chosen = device.rendezvous.settings(_block_id(request), slots, _start_s(request))
    return Message({"ok": True}, (chosen,))


def _batch(request: Message, device: Device) -> Message:
    block_id, seq = _block_id(request), request.get("seq", int)
    clicks = device.rendezvous.detections(block_id, _start_s(request), device.side)
    batches = device.epochs.batches(block_id, clicks, _clock_in_epoch(device))
    if not 0 <= seq < len(batches):
        raise Malformed(f"seq {seq}: block {block_id} has {len(batches)} batches")
    return as_message(batches[seq], more=seq + 1 < len(batches))


def _clock_in_epoch(device: Device) -> str:
    """The worst state of the device's clock since it was armed; no fault of the past changes."""
    armed_s, now_s = device.epochs.armed_s, device.rendezvous.now_s()
    faults = device.rendezvous.faults.drawn(armed_s, now_s)
    return device.epochs.clock_state(faults, armed_s, now_s)


def _health(_request: Message, device: Device) -> Message:
    now_s = device.rendezvous.now_s()
    clock = device.epochs.clock_state(device.rendezvous.faults.acting(), now_s, now_s)
    return Message({"ok": True} | device.epochs.health(clock))


def _shots(request: Message, device: Device) -> Message:
    slots, seen = device.rendezvous.shots(_block_id(request), _start_s(request))
    return Message({"ok": True, "seen": seen}, (slots,))


Requests = Mapping[Side, Mapping[str, Callable[[Message, Device], Message]]]
OF_PULSES: Requests = {
    Side.A: {"arm": _arm, "settings": _settings, "health": _health},
    Side.B: {"arm": _arm, "batch": _batch, "shots": _shots, "health": _health},
}
OF_PAIRS: Requests = {side: {"arm": _arm, "batch": _batch, "health": _health} for side in Side}


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
            "intensities": [*intensities],
            "probabilities": [*probabilities],
            "p_key_basis": float(p_key_basis),
        } if len(value) == 5 and _are_floats(intensities, probabilities):  # noqa: PLR2004 - no more
            return DecoySettings(
                clock_hz=clock_hz,
                n_pulses=n_pulses,
                intensities=tuple(intensities),
                probabilities=tuple(probabilities),
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


def _are_floats(*lists: list[Any]) -> bool:
    return all(type(value) is float for values in lists for value in values)
