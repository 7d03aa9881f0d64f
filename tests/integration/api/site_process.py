"""One site's real API process over a store with a known block, for the tests.

    python site_process.py SETTINGS.json READY_FD

Both sites of a test get the same block from the same seed, as a link would have given them.
"""

import json
import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from keyferry.bootstrap.serving import ApiParts, run_api
from keyferry.clock import SystemClock
from keyferry.config.device import DeviceSettings
from keyferry.config.site import (
    Address,
    ApiSettings,
    LinkSettings,
    SiteSettings,
    TlsFiles,
)
from keyferry.store.memory import MemoryStore
from keyferry.store.sealing import new_root_key
from keyferry.store.sqlite import Store, open_store
from qkd_core.errors import ConfigError, QkdError
from qkd_core.keys.issuing import Issuing, Limits, Neighbourhood
from qkd_core.keys.quotas import Quotas
from qkd_core.ports import PeerKme
from qkd_core.types.bits import pack
from qkd_core.types.epsilon import EpsilonLimits
from qkd_core.types.ids import BlockId, KmeId, LinkId, Provenance, SaeId, Side
from qkd_core.types.keys import BlockLayout, NewBlock
from qkd_core.types.plans import DecoySettings, LinkModel, SecurityPolicy
from qkd_core.types.reconciliation import CORRECTING

LINK = LinkId("link-1")


def block(settings: dict[str, Any]) -> NewBlock:
    n_secret = 8 * settings["stored_bytes"]
    generator = np.random.default_rng(settings["seed"])
    return NewBlock(
        block_id=BlockId(1),
        link_id=LINK,
        layout=BlockLayout(n_secret=n_secret, segment_pads=0),
        bits=pack(generator.integers(0, 2, n_secret, dtype=np.uint8)),
        provenance=Provenance.SIMULATED,
        plan_digest="plan",
        tallies_digest="tallies",
        certificate="{}",
        qber=0.01,
        link_s=1.0,
    )


def site_settings(settings: dict[str, Any]) -> SiteSettings:
    folder = Path(settings["folder"])
    kme = KmeId(settings["kme"])
    return SiteSettings(
        file=folder / "site.toml",
        kme_id=kme,
        side=Side(settings["side"]),
        state_dir=folder / "state",
        accept_provenance=frozenset({Provenance.SIMULATED}),
        root_key=folder / "root.key",
        tls=TlsFiles(
            ca=Path(settings["ca"]),
            cert=Path(settings["cert"]),
            key=Path(settings["key"]),
            crl=Path(settings["crl"]) if settings["crl"] else None,
        ),
        security=SecurityPolicy(eps_sec=1e-10, eps_cor=1e-15, abort_rate=0.01),
        theorem="decoy2-exact",
        epsilon=EpsilonLimits(),
        link=LinkSettings(
            link_id=LINK,
            peer_kme=KmeId(settings["peer_kme"]),
            peer_url=settings["peer_url"],
            channel=Address(host="127.0.0.1", port=1),
            preshared_secret=folder / "preshared",
            device=DeviceSettings(
                driver="simulated",
                socket=folder / "device",
                credential=folder / "credential",
                timeout_s=1.0,
            ),
            settings=DecoySettings(
                clock_hz=1e9,
                n_pulses=1000,
                intensities=(0.5, 0.1, 0.0),
                probabilities=(0.8, 0.1, 0.1),
                p_key_basis=0.9,
            ),
            model=LinkModel(gain=(0.1, 0.1, 0.1), qber=(0.01, 0.01, 0.01)),
            timeout_s=1.0,
            blocks_in_flight=1,
            correction=frozenset(CORRECTING),
            monitors=None,
        ),
        api=ApiSettings(
            listen=Address(host="127.0.0.1", port=settings["port"]),
            metrics=Address(host="127.0.0.1", port=settings["metrics_port"]),
            key_size=256,
            threads=settings["threads"],
            key_lifetime_s=3600.0,
            tls_1_2=settings["tls_1_2"],
            behind_proxy=Path(settings["proxy_socket"]) if "proxy_socket" in settings else None,
        ),
        saes={SaeId(sae): KmeId(kme) for sae, kme in settings["saes"].items()},
        policies=(),
    )


def opened(kind: str, site: SiteSettings) -> MemoryStore | Store:
    clock = SystemClock()
    if kind == "memory":
        return MemoryStore(link_id=LINK, side=site.side, kme_id=site.kme_id, clock=clock)
    if not site.root_key.exists():
        new_root_key(site.root_key)
    return open_store(
        site.file.parent / "store" / "keys.db",
        root_key=site.root_key,
        link_id=LINK,
        side=site.side,
        kme_id=site.kme_id,
        writer="api",
        clock=clock,
    )


@contextmanager
def parts(settings: dict[str, Any], peer: PeerKme) -> Iterator[ApiParts]:
    if settings.get("fail") == "config":
        raise ConfigError("the test wants a wrong setting")
    if settings.get("fail") == "other":
        raise QkdError("the test wants a passing failure")
    site = site_settings(settings)
    clock = SystemClock()
    store = opened(settings["store"], site)
    store.blocks.store_pending(block(settings))
    store.blocks.make_available(BlockId(1))
    yield ApiParts(
        issuing=Issuing(
            blocks=store.blocks,
            allocations=store.allocations,
            peer=peer,
            clock=clock,
            neighbours=Neighbourhood(
                kme_id=site.kme_id, peer_kme_id=site.link.peer_kme, saes=site.saes
            ),
            quotas=Quotas(site.sae_policies, store.pool, time.monotonic),
            limits=Limits(key_size=256),
        ),
        allocations=store.allocations,
        figures=store.figures,
        pool=store.pool,
    )
    store.close()
    (site.state_dir / "left").touch()


def main() -> None:
    logging.basicConfig(level=logging.INFO)
    settings = json.loads(Path(sys.argv[1]).read_text())
    try:
        run_api(site_settings(settings), lambda peer: parts(settings, peer), int(sys.argv[2]))
    except ConfigError as error:
        sys.stderr.write(f"keyferry: {error}\n")
        sys.exit(2)


if __name__ == "__main__":
    main()
