"""The environment that the server hands down, its tokens included, and what is kept of it.

A plugin inherits all of the server's environment: BAO_TOKEN, a seal's credentials, a database's
password. None of it is for this program, and /proc/PID/environ shows it to every process of the
same user and in every crash report.

A program made as one file has the unpacking bootloader for a parent. That one keeps its own copy
of the environment for as long as it lives; only the server's environment can be kept clean of it.
"""

import ctypes
import os
from collections.abc import Collection
from pathlib import Path

KEPT = frozenset(
    {
        "TMPDIR",  # where the socket goes
        "OPENSSL_CONF",  # the machine's rules for cryptography, FIPS for one, which OpenSSL reads
        "OPENSSL_MODULES",  # when it is first used, thus later than this
    }
)
"""All that is read after the start.

Not PATH and HOME: no other program is run and no personal file is read. Not LANG, LC_* and TZ:
they have been read by now, and the log is in UTC. Not SSL_CERT_FILE: only the CA of the mount's
settings is trusted. Not SSLKEYLOGFILE: it would have the sessions' keys written to a file. Not the
proxies' variables: the KME is asked directly.
"""

ENV_START, ENV_END = 50, 51  # fields of /proc/PID/stat, counted from 1 (proc(5))
FIRST_AFTER_NAME = 3


def scrub(keep: Collection[str] = KEPT) -> None:
    """Forget every variable but those in ``keep``, for this process and all that may follow.

    The memory that /proc/PID/environ shows is overwritten whole; what is kept moves elsewhere.
    Raises OSError without /proc.
    """
    start, end = _initial_block()
    kept = {name: value for name, value in os.environ.items() if name in keep}
    os.environ.clear()
    os.environ.update(kept)  # setenv copies: nothing points into the block any more
    ctypes.memset(start, 0, end - start)


def _initial_block() -> tuple[int, int]:
    """Where the kernel put the environment when the program was started: first byte, and end."""
    after_name = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    return (
        int(after_name[ENV_START - FIRST_AFTER_NAME]),
        int(after_name[ENV_END - FIRST_AFTER_NAME]),
    )
