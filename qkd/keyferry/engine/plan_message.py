"""A block plan on the wire: JSON with exactly the fields of its kind."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, fields
from typing import Any, TypeVar

from qkd_core.errors import ChannelError, ConfigError, PlanRefused
from qkd_core.proofs.theorems import kind_of
from qkd_core.types.ids import BlockId, LinkId, Provenance
from qkd_core.types.plans import (
    TWO_DECOYS,
    BlockPlan,
    DecoyPlan,
    DecoySettings,
    Interval,
    LinkKind,
    PairPlan,
    PairSettings,
    SecurityPolicy,
)
from qkd_core.types.reconciliation import Method, Reconciliation
from qkd_core.types.vendor import VendorPlan, VendorSettings

T = TypeVar("T")


def encode(plan: BlockPlan) -> bytes:
    return json.dumps(asdict(plan)).encode()


def decode(body: bytes) -> BlockPlan:
    """The plan in ``body``, of the right types; whether it is sound is for `check_plan`.

    Raises ChannelError.
    """
    try:
        told = json.loads(body)
        kind = kind_of(_text(told["theorem"]))
        if kind is LinkKind.PAIRS:
            return _exactly(PairPlan, told, _COMMON | _PAIR)
        if kind is LinkKind.VENDOR_KEYS:
            return _exactly(VendorPlan, told, _COMMON | _VENDOR)
        return _exactly(DecoyPlan, told, _COMMON | _DECOY)
    except (ValueError, TypeError, KeyError, RecursionError, ConfigError, PlanRefused) as error:
        raise ChannelError(f"malformed plan: {error}") from error


def _exactly(kind: type[T], told: Any, readers: Mapping[str, Callable[[Any], Any]]) -> T:
    """A ``kind`` made of ``told``, which has each of its fields and no other."""
    names = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    if not isinstance(told, dict) or set(told) != names:
        raise TypeError(f"{kind.__name__} has the fields {', '.join(sorted(names))}")
    return kind(**{name: readers[name](told[name]) for name in names})


def _integer(value: Any) -> int:
    if type(value) is not int or abs(value) >= 1 << 62:
        raise TypeError(f"{str(value)[:40]!r} is no integer below 2^62")
    return value


def _number(value: Any) -> float:
    if type(value) not in (int, float) or not abs(value) < 1e300:  # noqa: PLR2004  not infinite
        raise TypeError(f"{str(value)[:40]!r} is no finite number")
    return float(value)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{str(value)[:40]!r} is no text")
    return value


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"{str(value)[:40]!r} is neither true nor false")
    return value


def _each(reader: Callable[[Any], T]) -> Callable[[Any], tuple[T, ...]]:
    """Of a list with an item for each intensity; the settings know how many."""

    def read(value: Any) -> tuple[T, ...]:
        if not isinstance(value, list) or len(value) > TWO_DECOYS:
            raise TypeError(f"{str(value)[:40]!r} is no list of up to {TWO_DECOYS}")
        return tuple(reader(each) for each in value)

    return read


def _interval(value: Any) -> Interval:
    return _exactly(Interval, value, {"low": _integer, "high": _integer})


_SETTINGS: dict[str, Callable[[Any], Any]] = {
    "clock_hz": _number,
    "n_pulses": _integer,
    "intensities": _each(_number),
    "probabilities": _each(_number),
    "p_key_basis": _number,
}
_POLICY = {"eps_sec": _number, "eps_cor": _number, "abort_rate": _number}
_PAIR_SETTINGS: dict[str, Callable[[Any], Any]] = {
    "link_s": _number,
    "window_ps": _integer,
    "hold_off_ps": _integer,
    "resolution_ps": _integer,
}
_VENDOR_SETTINGS: dict[str, Callable[[Any], Any]] = {
    "vendor": _text,
    "master_sae": _text,
    "slave_sae": _text,
    "keys_per_block": _integer,
    "key_bits": _integer,
}
_RECONCILIATION: dict[str, Callable[[Any], Any]] = {
    "method": lambda value: Method(_text(value)),
    "variant": _text,
    "frame_bits": _integer,
    "roles_swap": _flag,
}
_COMMON: dict[str, Callable[[Any], Any]] = {
    "block_id": lambda value: BlockId(_integer(value)),
    "link_id": lambda value: LinkId(_text(value)),
    "theorem": _text,
    "policy": lambda value: _exactly(SecurityPolicy, value, _POLICY),
    "reconciliation": lambda value: _exactly(Reconciliation, value, _RECONCILIATION),
    "qber_expected": _number,
    "leak_ec_max": _integer,
    "n_secret": _integer,
    "segment_pads": _integer,
    "provenance": lambda value: Provenance(_text(value)),
    "config_digest": _text,
}
_DECOY: dict[str, Callable[[Any], Any]] = {
    "settings": lambda value: _exactly(DecoySettings, value, _SETTINGS),
    "key_counts": _each(_interval),
    "test_counts": _each(_interval),
    "test_errors_max": _each(_integer),
}
_PAIR: dict[str, Callable[[Any], Any]] = {
    "settings": lambda value: _exactly(PairSettings, value, _PAIR_SETTINGS),
    "key_count": _interval,
    "test_count_min": _integer,
    "test_errors_max": _integer,
}
_VENDOR: dict[str, Callable[[Any], Any]] = {
    "settings": lambda value: _exactly(VendorSettings, value, _VENDOR_SETTINGS),
}
