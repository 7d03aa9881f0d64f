"""The plugin as a launcher that says it is another version of itself."""

import shlex

from keyferry.plugin.launcher import MODULE, launcher

LATER = "v99.0.0"


def later_launcher() -> bytes:
    started = f"from {MODULE} import version; version.VERSION = {LATER!r}"
    started += f"; import runpy; runpy.run_module({MODULE!r}, run_name='__main__')"
    return launcher().decode().replace(f"-m {MODULE}", f"-c {shlex.quote(started)}").encode()
