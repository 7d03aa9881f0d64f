"""A real PyKMIP server in a folder of its own, with mutual TLS."""

import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from itertools import count
from pathlib import Path

from free_ports import free_port

from keyferry.pki.authority import Authority, Credential
from qkd_kms_adapters.kmip import KmipTarget
from qkd_kms_adapters.kmip_tls import KmipLogin

CONFIG = """[server]
hostname=127.0.0.1
port={port}
certificate_path={cert}
key_path={key}
ca_path={ca}
auth_suite=TLS1.2
policy_path={folder}/policies
enable_tls_client_auth=True
logging_level=INFO
database_path={folder}/keys.sqlite
"""


class KmipServer:
    """`start` after `kill` keeps its objects."""

    def __init__(self, folder: Path) -> None:
        (folder / "policies").mkdir(parents=True)
        self.folder = folder
        self.authority = Authority.create(folder / "ca", "a test CA")
        self.client = self.issue("kme", client=True)
        self.port = free_port()
        self._names = count(1)
        server = self.issue("kms", server=True)
        (folder / "server.conf").write_text(
            CONFIG.format(
                port=self.port,
                cert=server.cert,
                key=server.key,
                ca=self.authority.certificate,
                folder=folder,
            )
        )

    def issue(self, name: str, *, server: bool = False, client: bool = False) -> Credential:
        addresses = ["127.0.0.1"] if server else []
        return self.authority.issue(
            self.folder / "tls", name, ip_addresses=addresses, server=server, client=client
        )

    def start(self) -> None:
        program = Path(sys.executable).with_name("pykmip-server")
        log = self.folder / "server.log"  # absolute: it makes the folder that it is in
        with (self.folder / "output.log").open("ab") as output:
            self.process = subprocess.Popen(
                [program, "-f", self.folder / "server.conf", "-l", log],
                stdout=output,
                stderr=output,
                env={},
                start_new_session=True,  # with its two helper processes: they end together
            )
        deadline = time.monotonic() + 30
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                if time.monotonic() > deadline or self.process.poll() is not None:
                    raise
                time.sleep(0.02)

    def kill(self) -> None:
        """SIGKILL for the whole server, if it still runs."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(timeout=20)

    def clear(self) -> None:
        """Remove every object: the server walks through all of them at each search."""
        with sqlite3.connect(self.folder / "keys.sqlite") as database:
            tables = database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            for (table,) in tables.fetchall():
                database.execute(f"DELETE FROM {table}")  # noqa: S608  a name that it gave us
        database.close()

    def login(self, **changes: object) -> KmipLogin:
        known = {
            "host": "127.0.0.1",
            "port": self.port,
            "ca": self.authority.certificate,
            "cert": self.client.cert,
            "key": self.client.key,
        }
        return KmipLogin(**(known | changes))

    def new_target(self, **changes: object) -> KmipTarget:
        """A name that no other test uses."""
        return KmipTarget(login=self.login(**changes), name=f"test-{next(self._names)}")
