"""The two site files that ``keyferry up`` writes; they are ordinary site files."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import tomli_w

from keyferry.pki.authority import Credential
from keyferry.private_files import write_private
from keyferry.up.layout import HOST, KMES, SAES, StateDirectory
from keyferry.up.openbao import KV_MOUNT, OpenBaoFiles
from keyferry.up.ports import Ports
from keyferry.up.secrets_engine import RoleOfSite
from qkd_core.types.ids import Provenance, SaeId, Side
from qkd_core.types.plans import DecoySettings, LinkModel, PairModel, PairSettings
from qkd_sim_link.physics.chain import expected_repeater_model
from qkd_sim_link.physics.channel import unevenness
from qkd_sim_link.physics.decoy_bb84 import expected_model
from qkd_sim_link.physics.pairs import expected_pair_model
from qkd_sim_link.scenarios.links import LinkScenario
from qkd_sim_link.scenarios.pairs import PairScenario
from qkd_sim_link.scenarios.pulses import Scenario

LINK_ID = "fibre-ab"
POLICY = "backup"
KV_PREFIX = "keyferry"
ENGINE_SAES = {Side.A: SaeId("sae-a"), Side.B: SaeId("sae-b")}
KEY_SIZE = 256
REFRESH_S = 10.0
COMPARE_KMS_S = 60.0
CHECKPOINT_S = 5.0
TIMEOUT_S = 60.0
MONITORS = {
    "false_alarm": 1e-9,
    "arrival_distance": 0.05,
    "double_click_share": 0.2,
    "balance_share": 0.1,
}
SECURITY = {"eps_sec": 1e-9, "eps_cor": 1e-15, "abort_rate": 0.01}


Model = LinkModel | PairModel


def model_of(scenario: LinkScenario) -> Model:
    """What the planner expects of the scenario until it has seen blocks."""
    if isinstance(scenario, Scenario):
        return expected_model(scenario)
    if isinstance(scenario, PairScenario):
        return expected_pair_model(scenario)
    return expected_repeater_model(scenario)


def write_site_files(
    state: StateDirectory,
    ports: Ports,
    sockets: Path,
    scenario: LinkScenario,
    model: Model,
) -> None:
    """``model``: see `model_of`."""
    for side in Side:
        content = _site(state, ports, sockets, side) | {
            "security": SECURITY,
            "saes": [{"id": sae, "kme": KMES[at], "allow": "*"} for sae, at in SAES.items()],
            "policies": [_policy(state, ports, side)],
        }
        content["link"] |= _light(scenario, model)
        if side is Side.B and isinstance(scenario, Scenario):
            content["link"]["monitors"] = _monitors(scenario)
        content["link"]["timeout_s"] = TIMEOUT_S + 2 * _block_s(scenario)
        content["link"]["device"]["timeout_s"] = TIMEOUT_S
        write_private(state.site(side).site_file, tomli_w.dumps(content).encode())


def _site(state: StateDirectory, ports: Ports, sockets: Path, side: Side) -> dict[str, Any]:
    site, mine = state.site(side), ports.site(side)
    return {
        "site": {
            "kme_id": KMES[side],
            "side": side.value,
            "state_dir": str(site.state),
            "root_key": str(site.root / "root.key"),
            "accept_provenance": [Provenance.SIMULATED.value],
        },
        "tls": {
            "ca": str(state.pki / "ca.pem"),
            "crl": str(state.pki / "crl.pem"),
            "cert": str(site.kme_tls.cert),
            "key": str(site.kme_tls.key),
        },
        "link": {
            "link_id": LINK_ID,
            "peer_kme": KMES[side.other],
            "peer_url": f"https://{HOST}:{ports.kme_from(side)}",
            "channel": f"{HOST}:{ports.channel_from(side)}",
            "preshared_secret": str(site.preshared_secret),
            "device": {
                "driver": "simulated",
                "socket": str(sockets / f"{side}.sock"),
                "credential": str(site.link_credential),
            },
        },
        "api": {
            "listen": f"{HOST}:{mine.kme}",
            "metrics": f"{HOST}:{mine.metrics}",
            "key_size": KEY_SIZE,
        },
        "store": {"compare_kms_s": COMPARE_KMS_S},
        "audit": {
            "auditor_key": str(state.auditor_key.with_suffix(".pem")),
            "checkpoint_s": CHECKPOINT_S,
        },
    }


def engine_role(state: StateDirectory, ports: Ports, side: Side) -> RoleOfSite:
    """Whose keys a service reads from the site's own OpenBao server."""
    own, peer = ENGINE_SAES[side], ENGINE_SAES[side.other]
    return RoleOfSite(
        name=POLICY,
        peer_sae=peer,
        sae=Credential.at(state.saes, own),
        kme_url=f"https://{HOST}:{ports.site(side).kme}",
        ca=state.pki / "ca.pem",
    )


def _light(scenario: LinkScenario, model: Model) -> dict[str, Any]:
    """The settings of pulses or of pairs, and the model."""
    kind = "pulses" if isinstance(scenario, Scenario) else "pairs"
    told = {kind: asdict(_settings(scenario)), "model": asdict(model)}
    return {
        table: {
            key: list(value) if isinstance(value, tuple) else value for key, value in items.items()
        }
        for table, items in told.items()
    }


def _monitors(scenario: Scenario) -> dict[str, Any]:
    """Every monitor that the receiver of the scenario allows."""
    return MONITORS | {
        "dead_time_us": scenario.detector.dead_time_us,
        "self_test": scenario.self_test is not None,
        "unevenness": unevenness(scenario, scenario.source.settings()),
    }


def _settings(scenario: LinkScenario) -> DecoySettings | PairSettings:
    if isinstance(scenario, Scenario):
        return scenario.source.settings()
    return scenario.settings


def _block_s(scenario: LinkScenario) -> float:
    """Seconds of the wall clock that a block takes."""
    return _settings(scenario).link_s / scenario.time_scale


def _policy(state: StateDirectory, ports: Ports, side: Side) -> dict[str, Any]:
    files = OpenBaoFiles(state.site(side).openbao)
    return {
        "name": POLICY,
        "n_bits": KEY_SIZE,
        "interval_s": REFRESH_S,
        "initiator": Side.A.value,
        "target": {
            "kind": "vault-kv",
            "url": f"https://{HOST}:{ports.site(side).openbao}",
            "ca": str(state.pki / "ca.pem"),
            "role_id": str(files.role_id),
            "secret_id": str(files.secret_id),
            "mount": KV_MOUNT,
            "path": f"{KV_PREFIX}/{POLICY}",
        },
    }
