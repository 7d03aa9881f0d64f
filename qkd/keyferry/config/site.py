"""The site file: one TOML file per KME, read once into frozen nouns that check themselves."""

from dataclasses import dataclass, field, replace
from pathlib import Path

from keyferry.config.audit import SIGNING_FILE, AuditSettings, read_audit
from keyferry.config.device import SiteDevice, read_device
from keyferry.config.files import Files
from keyferry.config.light import read_light
from keyferry.config.monitors import read_monitors, read_pair_monitors
from keyferry.config.policies import PolicySettings, read_policies
from keyferry.config.saes import NAME, read_saes
from keyferry.config.security import read_security
from keyferry.config.sifted import SiftedReplaySettings, require_seen_in_bits
from keyferry.config.store import StoreSettings, read_store
from keyferry.config.vendor import VendorBox, read_vendor_keys
from qkd_api.trust import TlsFiles
from qkd_core.errors import ConfigError
from qkd_core.keys.quotas import SaePolicy
from qkd_core.types.epsilon import EpsilonLimits
from qkd_core.types.ids import KmeId, LinkId, Provenance, SaeId, Side
from qkd_core.types.monitors import MonitorSettings, PairMonitorSettings
from qkd_core.types.plans import LinkModel, PairModel, PairSettings, SecurityPolicy
from qkd_core.types.reconciliation import CORRECTING, Method
from qkd_core.types.settings_table import SettingsTable, parse
from qkd_core.types.vendor import Agreed

PORTS = (1, 65535)
NO_CRL = "none"
IDENTITIES = ("uri", "dns", "cn")
SOCKET_PATH_BYTES = 107  # what the kernel takes
STORE_FILE = "store.sqlite"  # in the state directory


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    host: str
    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkSettings:
    """The link to the peer site.

    ``channel``: where B's engine listens and A's connects. ``blocks_in_flight``: so many blocks
    are on their way at once, of which the link serves one. ``correction``: methods of error
    correction that A may plan with. ``settings`` and ``model`` are of one kind: decoy pulses, or
    entangled pairs; ``device`` of a vendor's keys is a `VendorBox`, and they have no model.
    ``monitors``: of this end's detectors, see `qkd_core.photons.monitors` and
    `pair_monitors`.
    """

    link_id: LinkId
    peer_kme: KmeId
    peer_url: str
    channel: Address
    preshared_secret: Path
    device: SiteDevice | VendorBox
    settings: Agreed
    model: LinkModel | PairModel | None
    timeout_s: float
    blocks_in_flight: int
    correction: frozenset[Method]
    monitors: MonitorSettings | PairMonitorSettings | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiSettings:
    """The key delivery API and the metrics endpoint of this KME.

    identity      where in an SAE's certificate its name is looked for, in this order
    tls_1_2       serve that version as well
    behind_proxy  the unix socket on which a TLS proxy at ``listen`` hands on requests, if any
    """

    listen: Address
    metrics: Address
    key_size: int
    threads: int
    key_lifetime_s: float
    identity: tuple[str, ...] = ("uri",)
    behind_proxy: Path | None = None
    tls_1_2: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteSettings:
    """All that one KME is told."""

    file: Path
    kme_id: KmeId
    side: Side
    state_dir: Path
    accept_provenance: frozenset[Provenance]
    root_key: Path
    tls: TlsFiles
    security: SecurityPolicy
    theorem: str
    epsilon: EpsilonLimits
    link: LinkSettings
    api: ApiSettings
    saes: dict[SaeId, KmeId]
    policies: tuple[PolicySettings, ...]
    sae_policies: dict[SaeId, SaePolicy] = field(default_factory=dict)
    audit: AuditSettings = field(default_factory=AuditSettings)
    keeping: StoreSettings = field(default_factory=StoreSettings)

    @property
    def store(self) -> Path:
        return self.state_dir / STORE_FILE

    @property
    def signing_key(self) -> Path:
        """The private key with which this site signs checkpoints of its audit."""
        return self.audit.signing_key or self.root_key.with_name(SIGNING_FILE)


def load(path: Path) -> SiteSettings:
    """Read a site file. Paths in it are relative to its folder.

    Raises ConfigError: one line with the file, the key, its value and what is allowed.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    top = parse(text, str(path))
    files = Files(path.parent)
    site = _site(top, path, files)
    top.finish()
    return site


def _site(top: SettingsTable, file: Path, files: Files) -> SiteSettings:
    table = top.table("site")
    kme_id = KmeId(table.text("kme_id", pattern=NAME))
    saes, sae_policies = read_saes(top)
    side = Side(table.choice("side", [side.value for side in Side]))
    link = _link(top.table("link"), files, side)
    security = read_security(top, link.settings.kind)
    site = SiteSettings(
        file=file,
        kme_id=kme_id,
        side=side,
        state_dir=files.path(table, "state_dir"),
        accept_provenance=_provenances(table),
        root_key=files.path(table, "root_key"),
        tls=_tls(top.table("tls"), files),
        security=security.policy,
        theorem=security.theorem,
        epsilon=security.epsilon,
        link=link,
        api=_api(top.table("api"), files),
        saes=saes,
        sae_policies=sae_policies,
        audit=read_audit(top, files.folder),
        keeping=read_store(top),
        policies=(),
    )
    table.finish()
    kmes = (kme_id, site.link.peer_kme)
    ordered = kmes if site.side is Side.A else kmes[::-1]
    if isinstance(link.monitors, MonitorSettings) and side is Side.A:
        raise ConfigError(f"{file}: link.monitors: of decoy pulses at side B alone, which detects")
    site = replace(site, policies=read_policies(top, ordered, files.folder))
    for sae, kme in site.saes.items():
        if kme not in (kme_id, site.link.peer_kme):
            raise ConfigError(
                f"{file}: saes: {sae} is at {kme!r}: must be {kme_id} or {site.link.peer_kme}"
            )
    return site


def _provenances(table: SettingsTable) -> frozenset[Provenance]:
    if not table.has("accept_provenance"):
        return frozenset({Provenance.DEVICE})
    names = table.texts("accept_provenance", [provenance.value for provenance in Provenance])
    return frozenset(Provenance(name) for name in names)


def _tls(table: SettingsTable, files: Files) -> TlsFiles:
    tls = TlsFiles(
        ca=files.existing(table, "ca"),
        cert=files.existing(table, "cert"),
        key=files.existing(table, "key"),
        # No default: whether certificates can be revoked is for the file to say.
        crl=None if table.text("crl") == NO_CRL else files.existing(table, "crl"),
    )
    table.finish()
    return tls


def _link(table: SettingsTable, files: Files, side: Side) -> LinkSettings:
    settings: Agreed
    device: SiteDevice | VendorBox
    model: LinkModel | PairModel | None = None
    monitors: MonitorSettings | PairMonitorSettings | None = None
    correction = frozenset[Method]()
    if table.has("keys"):
        settings, device = read_vendor_keys(table, files.folder)
    else:
        settings, model = read_light(table)
        of_pairs = isinstance(settings, PairSettings)
        device = read_device(table.table("device"), files, of_pairs)
        correction = _correction(table)
        monitors = read_pair_monitors(table, side) if of_pairs else read_monitors(table)
        sifts = isinstance(device, SiftedReplaySettings)
        if sifts and isinstance(monitors, PairMonitorSettings):
            require_seen_in_bits(table, monitors)
    link = LinkSettings(
        link_id=LinkId(table.text("link_id", pattern=NAME)),
        peer_kme=KmeId(table.text("peer_kme", pattern=NAME)),
        peer_url=table.text("peer_url", pattern=r"https://[^/]+"),
        channel=_address(table, "channel"),
        preshared_secret=files.path(table, "preshared_secret"),
        device=device,
        settings=settings,
        model=model,
        timeout_s=table.number("timeout_s", 1, 3600, 60.0),
        blocks_in_flight=table.integer("blocks_in_flight", 1, 64, 4),
        correction=correction,
        monitors=monitors,
    )
    table.finish()
    return link


def _correction(table: SettingsTable) -> frozenset[Method]:
    every = tuple(method.value for method in CORRECTING)
    named = table.texts("correction", every, every)
    if not named:
        raise table.refuse("correction", list(named), f"must be one or more of {', '.join(every)}")
    return frozenset(Method(name) for name in named)


def _api(table: SettingsTable, files: Files) -> ApiSettings:
    api = ApiSettings(
        listen=_address(table, "listen"),
        metrics=_address(table, "metrics"),
        key_size=table.integer("key_size", 64, 65536, 256),
        threads=table.integer("threads", 1, 256, 16),
        key_lifetime_s=table.number("key_lifetime_s", 1, 1e8, 86400.0),
        identity=table.texts("identity", IDENTITIES, ("uri",)),
        tls_1_2=table.flag("tls_1_2", False),
        behind_proxy=files.path(table, "behind_proxy") if table.has("behind_proxy") else None,
    )
    if api.behind_proxy is not None and len(bytes(api.behind_proxy)) > SOCKET_PATH_BYTES:
        raise table.refuse(
            "behind_proxy", str(api.behind_proxy), f"must be at most {SOCKET_PATH_BYTES} bytes long"
        )
    if not api.identity or len(set(api.identity)) != len(api.identity):
        raise table.refuse("identity", list(api.identity), "must be one or more, each once")
    if api.key_size % 8:
        raise table.refuse("key_size", api.key_size, "must be a multiple of 8")
    table.finish()
    return api


def _address(table: SettingsTable, key: str) -> Address:
    value = table.text(key, pattern=r"[^:]+:[0-9]+")
    host, _, port = value.rpartition(":")
    if not PORTS[0] <= int(port) <= PORTS[1]:
        raise table.refuse(key, value, f"the port must be from {PORTS[0]} to {PORTS[1]}")
    return Address(host=host, port=int(port))
