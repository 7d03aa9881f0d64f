"""Real OpenBao nodes with the secrets engine's plugin, and what of them is to be seen outside."""

import json
import os
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from http.client import HTTPSConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import hvac

from keyferry.pki.authority import Authority
from keyferry.plugin.launcher import launcher
from keyferry.plugin.placing import Placed, place
from keyferry.up import openbao
from qkd_kms_adapters.vault_session import connect

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1]))
from free_ports import free_port
from processes_seen import descendants, listening_at

del sys.path[:2]

PLUGIN = "keyferry-qkd"
SERVES, STANDS_BY, SEALED = 200, 429, 503  # statuses of sys/health
PLANTED = "planted-token-of-the-server"
READY_S, ASK_S, STEP_S = 30.0, 60.0, 0.03
AFTER_NOTICE_S = 0.25


def eventually(condition: Callable[[], Any], what: str, *, seconds: float = 15.0) -> Any:
    """What ``condition`` gives once it is true."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        time.sleep(STEP_S)
    return found


@dataclass(frozen=True)
class Reply:
    """The server's answer; ``body`` is its JSON, {} if it has none."""

    status: int
    body: dict[str, Any]
    text: str

    @property
    def data(self) -> dict[str, Any]:
        assert self.status == 200, self.text
        return self.body["data"]

    @property
    def errors(self) -> str:
        """What the client is told, without what the server puts around a plugin's error."""
        told = "\n".join(self.body.get("errors") or [])
        return told.removeprefix("1 error occurred:\n\t* ").removesuffix("\n\n")


@dataclass
class Bao:
    """A node in a folder of its own; `start` after `stop` or `kill` keeps its data.

    ``own_seal``: it unseals itself with a static key; else by the share in ``unseal_key``.
    ``leader``: the node whose cluster it joins. The root token stays in memory.
    """

    folder: Path
    authority: Authority
    own_seal: bool = True
    leader: "Bao | None" = None
    root: str = field(default="", repr=False)
    unseal_key: str = field(default="", repr=False)
    process: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        self.folder.mkdir(mode=0o700)
        self.credential = self.authority.issue(
            self.folder.with_name(f"{self.folder.name}-tls"),
            "bao",
            ip_addresses=["127.0.0.1"],
            server=True,
            client=False,
        )
        self.port = free_port()
        self.url = f"https://127.0.0.1:{self.port}"
        self.plugins = self.folder / "plugins"
        self.plugins.mkdir(mode=0o700)
        # a path of its own, as the path of a socket has to be short
        self.temporary = Path(tempfile.mkdtemp(prefix="kf-"))
        self._configure()
        self._context = ssl.create_default_context(cafile=self.authority.certificate)

    @property
    def log(self) -> Path:
        return self.folder / "server.log"

    @property
    def audit(self) -> Path:
        return self.folder / "audit.log"

    def _configure(self) -> None:
        config = openbao.prepare(
            self.folder, self.credential, port=self.port, cluster_port=free_port()
        )
        settings = json.loads(config.read_text())
        settings["plugin_directory"] = str(self.plugins)
        settings["log_format"] = "json"
        settings["raw_storage_endpoint"] = True  # for tests that look below a mount
        settings["audit"] = {
            "file": {
                "file": {
                    "description": "a second key, else the parser takes options for a name",
                    "options": {"file_path": self.audit.name},  # one for all of a cluster
                }
            }
        }
        raft = settings["storage"]["raft"]
        raft["node_id"] = self.folder.name
        raft["autopilot_reconcile_interval"] = "500ms"  # who joined votes soon
        raft["autopilot_update_interval"] = "500ms"
        if not self.own_seal:
            del settings["seal"]
        if self.leader is not None:
            raft["retry_join"] = [
                {
                    "leader_api_addr": self.leader.url,
                    "leader_ca_cert_file": str(self.authority.certificate),
                }
            ]
            shutil.copy(self.leader.folder / "seal.key", self.folder / "seal.key")
            self.root = self.leader.root
        config.write_text(json.dumps(settings))

    def start(self) -> None:
        """Returns when the node can be asked, sealed or not."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                openbao.command(self.folder),
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env={
                    "HOME": str(self.temporary),
                    "TMPDIR": str(self.temporary),
                    "PATH": os.environ["PATH"],
                    "BAO_TOKEN": PLANTED,
                    "VAULT_TOKEN": PLANTED,
                    "HTTPS_PROXY": "http://127.0.0.1:1",
                    "NO_PROXY": "127.0.0.1",
                },
            )
        eventually(self._answers, "the node answers", seconds=READY_S)

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log.read_text()
        return self.health() is not None

    def set_up(self) -> None:
        """Initialise the first node of a cluster, and register the plugin."""
        shares = "recovery" if self.own_seal else "secret"
        asked = {f"{shares}_shares": 1, f"{shares}_threshold": 1}
        answer = self.ask("PUT", "sys/init", asked, token="")
        assert answer.status == 200, answer.text
        self.root = answer.body["root_token"]
        if not self.own_seal:
            self.unseal_key = answer.body["keys_base64"][0]
            self.unseal()
        self.wait_for(SERVES)
        self.register()

    def place(self, name: str = PLUGIN) -> Placed:
        """Put the plugin's file there; each node of a cluster needs it."""
        return place(launcher(), self.plugins, name, replace=False)

    def register(self, name: str = PLUGIN) -> None:
        placed = self.place(name)
        asked = {"sha256": placed.sha256, "command": placed.file.name}
        answer = self.ask("PUT", f"sys/plugins/catalog/secret/{name}", asked)
        assert answer.status == 204, answer.text

    def health(self) -> int | None:
        """The status of sys/health, None if the node does not answer."""
        try:
            return self.ask("GET", "sys/health", token="").status
        except OSError:
            return None

    def wait_for(self, status: int) -> None:
        eventually(lambda: self.health() == status, f"health {status}", seconds=READY_S)

    def seal(self) -> None:
        answer = self.ask("PUT", "sys/seal")
        assert answer.status == 204, answer.text

    def unseal(self) -> None:
        answer = self.ask("PUT", "sys/unseal", {"key": self.unseal_key}, token="")
        assert answer.status == 200, answer.text
        self.wait_for(SERVES)

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(timeout=20)
            self.process = None

    def kill(self) -> None:
        """Ended by SIGKILL: it can say nothing to its plugin."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(timeout=20)
        self.process = None

    def restart(self) -> None:
        self.stop()
        self.start()
        self.wait_for(SERVES)

    def remove(self) -> None:
        self.stop()
        shutil.rmtree(self.temporary)

    # What a client does.

    @cached_property
    def admin(self) -> hvac.Client:
        client = connect(self.url, self.authority.certificate, timeout_s=15.0)
        client.token = self.root
        return client

    def ask(
        self,
        method: str,
        path: str,
        fields: Any = None,
        *,
        token: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> Reply:
        """One request over a connection of its own, with the root token unless another is given."""
        connection = HTTPSConnection("127.0.0.1", self.port, timeout=ASK_S, context=self._context)
        sent = {"X-Vault-Token": self.root if token is None else token, **(headers or {})}
        body = fields if isinstance(fields, bytes | None) else json.dumps(fields).encode()
        try:
            connection.request(method, f"/v1/{path}", body, {k: v for k, v in sent.items() if v})
            answer = connection.getresponse()
            text = answer.read().decode()
        finally:
            connection.close()
        return Reply(answer.status, json.loads(text) if text.strip() else {}, text)

    def cli(self, *arguments: str, token: str | None = None) -> subprocess.CompletedProcess[str]:
        """The `bao` command, against this node."""
        program = openbao.command(self.folder)[0]
        return subprocess.run(
            [program, *arguments],
            env={
                "HOME": str(self.temporary),
                "BAO_ADDR": self.url,
                "BAO_CACERT": str(self.authority.certificate),
                "BAO_TOKEN": token or self.root,
            },
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )

    def token(self, *policies: str) -> str:
        asked = {"policies": policies, "no_default_policy": True}
        return str(self.ask("POST", "auth/token/create", asked).body["auth"]["client_token"])

    def policy(self, name: str, rules: dict[str, list[str]]) -> None:
        asked = {"path": {path: {"capabilities": may} for path, may in rules.items()}}
        answer = self.ask("PUT", f"sys/policies/acl/{name}", {"policy": json.dumps(asked)})
        assert answer.status == 204, answer.text

    # What of it is to be seen on this machine.

    def descendants(self) -> list[int]:
        assert self.process is not None
        return descendants(self.process.pid)

    def plugin_pid(self) -> int:
        """The one plugin process that there is."""
        (pid,) = self.descendants()
        return pid

    def plugin_socket(self) -> Path:
        return listening_at(self.plugin_pid())

    def kill_plugin(self, number: signal.Signals = signal.SIGKILL) -> int:
        """Returns when the server has noticed: it starts another for the next request then.

        One that comes in the few milliseconds before is answered with 500.
        """
        pid = self.plugin_pid()
        os.kill(pid, number)
        noticed = {"@message": "plugin process exited", "id": str(pid)}
        eventually(
            lambda: any(noticed.items() <= entry.items() for entry in self.log_entries()),
            "the server notices the plugin's end",
        )
        time.sleep(AFTER_NOTICE_S)  # it writes its log to the disk before it acts on it
        return pid

    def written(self) -> list[Path]:
        """All files that the server and its plugin write: logs, storage, temporary ones."""
        folders = (self.folder / "raft", self.temporary)
        found = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
        return [self.log, self.audit, *found]

    def log_entries(self) -> list[dict[str, Any]]:
        """Of the server's log in JSON; what is not JSON has only "@message"."""
        return [_entry(line) for line in self.log.read_text().splitlines()]


def _entry(line: str) -> dict[str, Any]:
    try:
        return dict(json.loads(line))
    except ValueError:
        return {"@message": line}


@dataclass
class Mount:
    """The engine at a path of a node, as a client sees it."""

    server: Bao
    path: str

    def ask(self, method: str, path: str, fields: Any = None, **more: Any) -> Reply:
        return self.server.ask(method, f"{self.path}/{path}", fields, **more)

    def read(self, path: str, **more: Any) -> Reply:
        return self.ask("GET", path, **more)

    def write(self, path: str, fields: dict[str, Any], **more: Any) -> Reply:
        return self.ask("POST", path, fields, **more)

    def list(self, path: str, **query: Any) -> Reply:
        return self.ask("LIST", f"{path}?{urlencode(query)}" if query else path)

    def key(self, role: str, key_id: str = "") -> dict[str, Any]:
        """The data of a key that is there: a fresh one, or the other side's."""
        return self.read(f"keys/{role}/{key_id}" if key_id else f"keys/{role}").data

    def at(self, server: Bao) -> "Mount":
        """The same engine, asked at another node of the cluster."""
        return Mount(server, self.path)
