"""The state directory of ``keyferry up``: what lies where, and what a first start puts there."""

import fcntl
import json
import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from keyferry.audit.auditor import write_auditor_keys
from keyferry.pki.authority import LEAF_DAYS, Credential
from keyferry.pki.folder import Kind, PkiFolder
from keyferry.private_files import write_private
from qkd_core.errors import ConfigError
from qkd_core.types.authentication import PRESHARED_BYTES
from qkd_core.types.ids import KmeId, SaeId, Side

SAES = {SaeId("sae-a"): Side.A, SaeId("sae-b"): Side.B, SaeId("sae-c"): Side.B}
KMES = {Side.A: KmeId("kme-a"), Side.B: KmeId("kme-b")}
HOST = "127.0.0.1"
LOCK = "keyferry-up.lock"
SOCKET_PATH_LIMIT = 100  # bytes; the kernel takes 107


@dataclass(frozen=True, slots=True)
class SiteFolder:
    """Everything of one site, below its own folder."""

    root: Path
    side: Side

    @property
    def site_file(self) -> Path:
        return self.root / "site.toml"

    @property
    def state(self) -> Path:
        return self.root / "state"

    @property
    def tls(self) -> Path:
        return self.root / "tls"

    @property
    def preshared_secret(self) -> Path:
        return self.root / "preshared.secret"

    @property
    def link_credential(self) -> Path:
        return self.root / "link.credential"

    @property
    def openbao(self) -> Path:
        return self.root / "openbao"

    @property
    def kme_tls(self) -> Credential:
        return Credential.at(self.tls, KMES[self.side])

    @property
    def openbao_tls(self) -> Credential:
        return Credential.at(self.tls, f"openbao-{self.side}")


@dataclass(frozen=True, slots=True)
class StateDirectory:
    """``--state DIR``."""

    root: Path

    @property
    def pki(self) -> Path:
        return self.root / "pki"

    @property
    def saes(self) -> Path:
        return self.root / "saes"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def numba_cache(self) -> Path:
        return self.root / "numba-cache"

    @property
    def auditor_key(self) -> Path:
        """The auditor's private key; in the field it is kept away from both sites."""
        return self.root / "auditor" / "auditor.key"

    @property
    def link_control(self) -> Path:
        """The credential of who tells the link its faults."""
        return self.root / "link-control.credential"

    @property
    def endpoints(self) -> Path:
        return self.root / "endpoints.json"

    def site(self, side: Side) -> SiteFolder:
        return SiteFolder(self.root / side.value, side)

    def log(self, name: str) -> Path:
        return self.logs / f"{name}.log"


@contextmanager
def claimed(root: Path) -> Iterator[StateDirectory]:
    """The directory, made private, for one ``keyferry up`` at a time.

    Raises ConfigError, also for a directory that holds something else.
    """
    try:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        if any(root.iterdir()) and not (root / LOCK).exists():
            raise ConfigError(f"--state {root}: holds something else; name a new directory")
        root.chmod(0o700)
        lock = os.open(root / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise ConfigError(f"--state {root}: cannot be written: {error.strerror}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield StateDirectory(root.resolve())
    except BlockingIOError:
        raise ConfigError(f"--state {root}: another keyferry up uses it") from None
    finally:
        os.close(lock)


@contextmanager
def socket_folder(state: StateDirectory) -> Iterator[Path]:
    """A private folder whose path is short enough for a socket in it."""
    usual = state.root / "run"
    if len(os.fsencode(usual)) <= SOCKET_PATH_LIMIT - len("/a.sock"):
        usual.mkdir(mode=0o700, exist_ok=True)
        yield usual
        return
    with tempfile.TemporaryDirectory(prefix="keyferry-") as short:  # its mode is 0700
        yield Path(short)


def furnish(state: StateDirectory) -> None:
    """Make what is not there yet: certificates, credentials, the pre-shared secret.

    Certificates are renewed in time, and the revocation list at each start.
    """
    for folder in (state.logs, state.numba_cache, state.saes):
        folder.mkdir(mode=0o700, exist_ok=True)
    pki = (
        PkiFolder.load(state.pki)
        if (state.pki / "ca.pem").exists()
        else PkiFolder.init(state.pki, "Keyferry throw-away authority")
    )
    pki.renew_list(LEAF_DAYS)
    for side in Side:
        site = state.site(side)
        site.root.mkdir(mode=0o700, exist_ok=True)
        site.state.mkdir(mode=0o700, exist_ok=True)
        pki.keep_good(Kind.KME, KMES[side], site.tls, dns=["localhost"], ip=[HOST])
        pki.keep_good(Kind.SERVER, f"openbao-{side}", site.tls, dns=["localhost"], ip=[HOST])
        write_secret(site.link_credential, 32)
    for sae in SAES:
        pki.keep_good(Kind.SAE, sae, state.saes)
    if not state.auditor_key.exists():
        state.auditor_key.parent.mkdir(mode=0o700, exist_ok=True)
        write_auditor_keys(state.auditor_key)
    write_secret(state.link_control, 32)
    _share_secret(state)


def write_secret(path: Path, n_bytes: int) -> None:
    """A file of random bytes, mode 0600, unless it is there."""
    if not path.exists():
        write_private(path, secrets.token_bytes(n_bytes))


def _share_secret(state: StateDirectory) -> None:
    """The same pre-shared secret at both sites, once; in the field it is carried by hand.

    The engines erase their files when they have taken the secret, so a mark says it was made.
    """
    made = state.root / "preshared-secret-made"
    if made.exists():
        return
    secret = secrets.token_bytes(PRESHARED_BYTES)
    for side in Side:
        write_private(state.site(side).preshared_secret, secret)
    write_private(made, b"")


def write_endpoints(state: StateDirectory, content: dict[str, object]) -> None:
    write_private(state.endpoints, json.dumps(content, indent=2).encode() + b"\n")
