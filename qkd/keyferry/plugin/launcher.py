"""The plugin as a few lines that start it out of this Python's own packages, for development."""

import shlex
import sys

MODULE = "qkd_kms_adapters.openbao_plugin"


def launcher(python: str = sys.executable) -> bytes:
    """A shell script, because ``#!`` takes neither a long path nor one with a space in it.

    ``-I``: no PYTHONPATH of the server's environment, no folder of its user, adds a module.
    """
    return f"#!/bin/sh\nexec {shlex.quote(python)} -I -m {MODULE}\n".encode()
