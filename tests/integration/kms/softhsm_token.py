"""A SoftHSM 2 token in a folder of its own."""

import os
import subprocess
from itertools import count
from pathlib import Path

from qkd_kms_adapters.pkcs11 import Pkcs11Target
from qkd_kms_adapters.pkcs11_token import Pkcs11Login

MODULE = Path("/usr/lib/softhsm/libsofthsm2.so").resolve()
CONFIG = """directories.tokendir = {tokens}
objectstore.backend = file
log.level = ERROR
slots.removable = false
"""
PIN = "4711-0815"


class SoftToken:
    """``environment`` is what a process needs to find it."""

    label = "keyferry test"

    def __init__(self, folder: Path) -> None:
        self.tokens = folder / "tokens"
        self.tokens.mkdir(parents=True)
        config = folder / "softhsm2.conf"
        config.write_text(CONFIG.format(tokens=self.tokens))
        self.pin = self.new_pin(folder / "pin", PIN)
        self.environment = {"SOFTHSM2_CONF": str(config)}
        self._labels = count(1)
        self.initialise(self.label)

    def initialise(self, label: str) -> None:
        subprocess.run(
            [
                *("softhsm2-util", "--init-token", "--free", "--label", label),
                *("--pin", PIN, "--so-pin", "98765432"),
            ],
            env=os.environ | self.environment,
            check=True,
            capture_output=True,
            timeout=60,
        )

    @staticmethod
    def new_pin(path: Path, pin: str, mode: int = 0o600) -> Path:
        path.touch(mode=0o600)
        path.write_text(f"{pin}\n")
        path.chmod(mode)
        return path

    def login(self, **changes: object) -> Pkcs11Login:
        known = {"module": MODULE, "token": self.label, "pin": self.pin}
        return Pkcs11Login(**(known | changes))

    def new_target(self, **changes: object) -> Pkcs11Target:
        """A label that no other test uses."""
        return Pkcs11Target(login=self.login(**changes), label=f"test-{next(self._labels)}")
