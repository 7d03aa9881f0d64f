"""One program of the plugin, its Python and its libraries, made with PyInstaller.

Such a program is a boot loader with an archive behind it. Started, it unpacks the shared libraries
into a folder of their own in TMPDIR, which takes most of its start-up time: so what the plugin
does not use is left out, and symbol tables are.
"""

import importlib.util
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from qkd_core.errors import ConfigError, QkdError

PATH = "/usr/local/bin:/usr/bin:/bin"  # nothing of the caller's finds its way in
TOOLS = ("ldd", "objcopy", "objdump", "strip")
LEFT_OUT = (
    # asked for by libraries, on ways that the plugin does not take
    *("numpy", "yaml", "certifi", "charset_normalizer", "requests", "urllib3", "bcrypt"),
    *("setuptools", "pip", "wheel", "pkg_resources"),
    # for people who write programs
    *("unittest", "doctest", "pdb", "pydoc", "pydoc_data", "lib2to3", "ensurepip", "idlelib"),
    *("tkinter", "curses", "_curses", "readline", "webbrowser"),
    # protocols, formats and numbers of others
    *("sqlite3", "_sqlite3", "xmlrpc", "ftplib", "xml", "pyexpat"),
    *("multiprocessing", "_multiprocessing", "bz2", "_bz2", "lzma", "_lzma"),
    *("decimal", "_decimal", "_pydecimal", "fractions", "statistics"),
    *("_codecs_cn", "_codecs_hk", "_codecs_iso2022", "_codecs_jp", "_codecs_kr", "_codecs_tw"),
    "_multibytecodec",
)
STAGES = {
    "Initializing module graph": "reading the modules",
    "Looking for dynamic libraries": "finding the shared libraries",
    "Building PYZ": "packing the modules",
    "Building PKG": "packing the shared libraries",
    "Building EXE": "writing the program",
}
SAME_EACH_TIME = {"PYTHONHASHSEED": "1", "SOURCE_DATE_EPOCH": "946684800"}
LAST_LINES = 5


class BuildFailed(QkdError):
    """PyInstaller made no program; its last lines."""


def freeze(script: Path, folder: Path, tell: Callable[[str], None]) -> Path:
    """Make a program of ``script`` in ``folder``, with all that is left of it; returns its path.

    Takes tens of seconds; ``tell`` hears what is going on. Equal sources, Python and libraries
    in equal places make equal programs. Raises ConfigError when a tool is missing, BuildFailed.
    """
    _check_tools()
    made = folder / "made" / "program"
    command = [
        sys.executable,
        "-s",
        "-P",
        "-m",
        "PyInstaller",
        *_options(made, folder),
        str(script),
    ]
    environment = {
        "PATH": PATH,
        "LANG": "C.UTF-8",
        "TMPDIR": str(folder),
        "PYINSTALLER_CONFIG_DIR": str(folder / "config"),
        **SAME_EACH_TIME,
    }
    lines, left = list[str](), dict(STAGES)
    with subprocess.Popen(  # noqa: S603 (our own command)
        command,
        env=environment,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
    ) as process:
        try:
            for line in process.stdout or ():
                lines.append(line.strip())
                for begins, stage in left.items():
                    if begins in line:
                        tell(stage)
                        del left[begins]
                        break
        except BaseException:  # Ctrl-C too: nothing goes on without us
            process.kill()
            raise
    if process.returncode or not made.is_file():
        last = "; ".join(line for line in lines[-LAST_LINES:] if line)
        raise BuildFailed(f"PyInstaller ended with {process.returncode}: {last}")
    return made


def _options(made: Path, folder: Path) -> list[str]:
    left_out = [option for name in LEFT_OUT for option in ("--exclude-module", name)]
    places = [f"--distpath={made.parent}", f"--workpath={folder / 'work'}", f"--specpath={folder}"]
    return [
        *("--onefile", "--console", "--strip", "--noupx", "--noconfirm"),
        *("--log-level=INFO", f"--name={made.name}"),
        *left_out,
        *places,
    ]


def _check_tools() -> None:
    if importlib.util.find_spec("PyInstaller") is None:
        raise ConfigError(
            "one file is made with PyInstaller, and there is none here: pip install"
            " 'keyferry[plugin]', or give --unpacked for development"
        )
    missing = [name for name in TOOLS if shutil.which(name, path=PATH) is None]
    if missing:
        raise ConfigError(
            f"one file is made with {', '.join(missing)}, not found here: Debian's packages"
            " binutils and libc-bin have them"
        )
