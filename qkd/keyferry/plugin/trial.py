"""Whether a plugin starts at all, tried without a server."""

import subprocess
from collections.abc import Sequence
from pathlib import Path

from qkd_kms_adapters.openbao_plugin.process.greeting import NotAPlugin, offer

START_S = 60.0
LAST_LINES = 3


def why_not_started(command: Sequence[str], temporary: Path) -> str | None:
    """Without a server it says what it is, once all that it imports was found: None then.

    Else its last words. ``temporary``: where it may unpack itself.
    """
    try:
        done = subprocess.run(  # noqa: S603 (our own plugin)
            command,
            env={"TMPDIR": str(temporary), "LANG": "C.UTF-8"},
            capture_output=True,
            text=True,
            timeout=START_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    try:
        offer({})
    except NotAPlugin as words:
        if str(words) in done.stderr:
            return None
    return "; ".join(done.stderr.strip().splitlines()[-LAST_LINES:]) or "it said nothing"
