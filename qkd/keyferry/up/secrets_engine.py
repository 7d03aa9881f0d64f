"""The secrets engine in a site's OpenBao server: services there read QKD keys as they read secrets.

The server registers the plugin by its configuration, at each start, with the checksum of a launcher
that lies in the server's own folder. `mount` needs the root token and is called once;
`configure` needs only the token that it left behind, and is called at each start, as the
certificate may have been renewed and the KME have another port.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hvac

from keyferry.pki.authority import Credential
from keyferry.plugin.declaring import MOUNT, Entry, as_json
from keyferry.plugin.launcher import launcher
from keyferry.plugin.placing import place
from qkd_kms_adapters.openbao_plugin.version import VERSION
from qkd_kms_adapters.vault_session import our_errors

PLUGIN = "keyferry-qkd"
KEEPER = "keyferry-qkd-keeper"
PERIOD_S = 365 * 86400  # of the keeper's token, renewed at each start
READY_S, POLL_S = 10.0, 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleOfSite:
    """The one role of the demonstration: whose keys, from which KME."""

    name: str
    peer_sae: str
    sae: Credential
    kme_url: str
    ca: Path


def settings(folder: Path) -> dict[str, Any]:
    """Puts the plugin into ``folder`` and returns what the server's configuration says of it."""
    folder.mkdir(mode=0o700, exist_ok=True)
    placed = place(launcher(), folder, PLUGIN, replace=True)
    entry = Entry(name=PLUGIN, command=placed.file.name, version=VERSION, sha256=placed.sha256)
    return as_json(entry, folder)


def mount(client: hvac.Client) -> str:
    """Mount the engine at ``qkd/``; returns the token that may configure it, and nothing else."""
    client.sys.enable_secrets_engine(PLUGIN, path=MOUNT)
    write = {"capabilities": ["create", "update", "read"]}
    client.sys.create_or_update_policy(
        KEEPER,
        {
            "path": {
                f"{MOUNT}/config": write,
                f"{MOUNT}/roles/*": write,
                "auth/token/renew-self": {"capabilities": ["update"]},
            }
        },
    )
    answer = client.auth.token.create_orphan(
        policies=[KEEPER],
        no_default_policy=True,
        period=f"{PERIOD_S}s",
        renewable=True,
        display_name=KEEPER,
    )
    return str(answer["auth"]["client_token"])


def configure(client: hvac.Client, role: RoleOfSite) -> None:
    """Tell the engine its KME and its role. Raises SinkUnavailable, SinkRejected."""
    with our_errors(f"OpenBao at {client.url}: secrets engine {MOUNT}/"):
        client.write_data(
            f"{MOUNT}/config",
            data={
                "url": role.kme_url,
                "certificate": role.sae.cert.read_text("ascii"),
                "private_key": role.sae.key.read_text("ascii"),
                "ca": role.ca.read_text("ascii"),
            },
        )
        client.write_data(f"{MOUNT}/roles/{role.name}", data={"peer_sae": role.peer_sae})
