"""``keyferry up --once``: does the whole line work? Asked through the public interfaces only."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from hmac import compare_digest
from typing import Any

from keyferry.audit.auditor import read_auditor_private
from keyferry.audit.verify import verify
from keyferry.config.site import STORE_FILE
from keyferry.up.delivered import agreed, pulled
from keyferry.up.layout import HOST, StateDirectory
from keyferry.up.observe import SiteView, observe
from keyferry.up.run import RunningSites
from keyferry.up.site_files import POLICY
from qkd_client.etsi014 import Etsi014Client
from qkd_client.wire import KmeError
from qkd_core.errors import QkdError, SinkUnavailable
from qkd_core.types.ids import Side

BLOCKS_WANTED = 3
DEADLINE_S = 110.0
POLL_S = 0.25


class OnceFailed(QkdError):
    """Something of the line did not work in time; the message names it."""


@dataclass(slots=True)
class Watch:
    """The deadline of the whole check, and the processes looked after meanwhile."""

    sites: RunningSites
    deadline: float

    def until(self, what: str, ready: Callable[[], Any]) -> Any:
        """Poll until ``ready()`` is true and return it. Raises OnceFailed with ``what``."""
        while True:
            self.sites.supervisor.watch()
            if result := ready():
                return result
            if time.monotonic() > self.deadline:
                raise OnceFailed(
                    f"{what}: not within {DEADLINE_S:g} s; logs in {self.sites.state.logs}"
                )
            time.sleep(POLL_S)


def check(sites: RunningSites) -> dict[str, Any]:
    """Wait for blocks, a refresh and a key, and compare what both sites hold.

    Returns the JSON object of ``--json``. Raises OnceFailed naming what failed.
    """
    watch = Watch(sites, time.monotonic() + DEADLINE_S)
    before = watch.until("the metrics of site A", lambda: observe(sites.ports, Side.A))
    view = watch.until(
        f"{BLOCKS_WANTED} blocks", lambda: _enough(observe(sites.ports, Side.A), before)
    )
    wall_s = time.monotonic() - sites.started
    etsi014 = _etsi014(watch)
    pull = _pull(watch)
    delivery = watch.until("a refresh into both OpenBao servers", lambda: _delivery(sites))
    audit = _audit(sites.state)
    secret_bits = view.secret_bits - before.secret_bits
    link_s = view.link_s - before.link_s
    result = {
        "blocks": view.available - before.available,
        "secret_bits": secret_bits,
        "qber": view.qber,
        "secret_bits_per_link_s": round(secret_bits / link_s, 1),
        "secret_bits_per_wall_s": round(secret_bits / wall_s, 1),
        "time_scale": sites.scenario.time_scale,
        "etsi014": etsi014,
        "pull": pull,
        "delivery": [delivery],
        "audit": audit,
    }
    _require_all(result)
    return result


def _enough(view: SiteView | None, before: SiteView) -> SiteView | None:
    if view is None or view.available - before.available < BLOCKS_WANTED:
        return None
    return view


def _etsi014(watch: Watch) -> dict[str, Any]:
    """sae-a fetches a key at site A, sae-b the same one at site B."""

    def fetched() -> dict[str, Any] | None:
        try:
            with _client(watch.sites, "sae-a", Side.A) as master:
                [key] = master.get_key("sae-b")
            with _client(watch.sites, "sae-b", Side.B) as slave:
                [twin] = slave.get_key_with_ids("sae-a", [key.key_id])
        except KmeError:
            return None
        return {"key_ID": key.key_id, "equal": compare_digest(key.secret, twin.secret)}

    result: dict[str, Any] = watch.until("an ETSI 014 key at both sites", fetched)
    return result


def _client(sites: RunningSites, sae: str, side: Side) -> Etsi014Client:
    return Etsi014Client(
        f"https://{HOST}:{sites.ports.site(side).kme}",
        cert=sites.state.saes / f"{sae}.pem",
        key=sites.state.saes / f"{sae}.key",
        ca=sites.state.pki / "ca.pem",
    )


def _pull(watch: Watch) -> dict[str, Any]:
    """A service at site A reads a fresh key from its OpenBao, one at site B the same by its ID."""
    sites = watch.sites

    def read(side: Side, key_id: str = "") -> dict[str, str]:
        """Raises SinkRejected, OnceFailed; what is not there yet is waited for."""
        last = ""

        def tried() -> dict[str, str] | None:
            nonlocal last
            try:
                return pulled(sites.state, sites.ports, side, key_id)
            except SinkUnavailable as error:
                last = str(error)
                return None

        try:
            found: dict[str, str] = watch.until("a key from the secrets engine", tried)
        except OnceFailed as error:
            raise OnceFailed(f"{error}; {last}") from None
        return found

    key = read(Side.A)
    twin = read(Side.B, key["key_id"])
    return {"key_id": key["key_id"], "equal": compare_digest(key["key"], twin["key"])}


def _delivery(sites: RunningSites) -> dict[str, Any] | None:
    """The newest generation in both servers, once this start has brought one to both."""
    a, b = (agreed(sites.state, sites.ports, side) for side in Side)
    if a is None or b is None or a["generation"] != b["generation"]:
        return None
    if int(a["generation"]) <= sites.generation_before:
        return None
    return {
        "policy": POLICY,
        "key_id": a["key_id"],
        "generation_a": int(a["generation"]),
        "generation_b": int(b["generation"]),
        "equal": compare_digest(a["key"], b["key"]) and a["key_id"] == b["key_id"],
    }


def _audit(state: StateDirectory) -> dict[str, Any]:
    """What an offline verification of both audit logs says."""
    auditor = read_auditor_private(state.auditor_key)
    reports = {side: verify(state.site(side).state / STORE_FILE, auditor=auditor) for side in Side}
    verdicts = {
        side.value: "ok" if report.ok else str(report.findings[0])
        for side, report in reports.items()
    }
    return verdicts | {"records": sum(sum(report.chains.values()) for report in reports.values())}


def _require_all(result: dict[str, Any]) -> None:
    failures = [
        name
        for name, good in (
            ("the ETSI 014 keys differ", result["etsi014"]["equal"]),
            ("the keys of the secrets engines differ", result["pull"]["equal"]),
            ("the keys in the OpenBao servers differ", result["delivery"][0]["equal"]),
            (f"audit of site A: {result['audit']['a']}", result["audit"]["a"] == "ok"),
            (f"audit of site B: {result['audit']['b']}", result["audit"]["b"] == "ok"),
        )
        if not good
    ]
    if failures:
        raise OnceFailed("; ".join(failures))
