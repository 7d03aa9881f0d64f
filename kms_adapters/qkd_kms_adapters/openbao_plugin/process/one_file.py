"""A program that was made as one file goes on reading that file.

Modules are read out of it as they are imported, by its name: what takes that name later, an
upgrade or worse, would be imported into the running program, with no checksum over it.
"""

import importlib
import sys
from pathlib import Path
from typing import Any

from qkd_kms_adapters.openbao_plugin.process.greeting import CannotStart

UNPACKED_PREFIX = "_MEI"
RUNNING = "/proc/self/exe"  # the file that was started, whatever became of its name


def unpacked_folder() -> Path | None:
    """Where this program was unpacked to, if it was made as one file."""
    folder = Path(getattr(sys, "_MEIPASS", ""))
    return folder if folder.name.startswith(UNPACKED_PREFIX) else None


def keep_to_the_file() -> None:
    """Read every later module from the file that was started. Raises CannotStart."""
    importers = importlib.import_module("pyimod02_importers")  # PyInstaller's, in the program
    archive: Any = getattr(importers, "pyz_archive", None)
    if not isinstance(getattr(archive, "_filename", None), str):
        raise CannotStart("this program cannot be held to its file: not made by PyInstaller 6")
    archive._filename = RUNNING
