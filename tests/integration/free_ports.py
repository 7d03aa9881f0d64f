"""Ports for servers of the tests, which may be stopped and started again at the same one."""

from contextlib import ExitStack

from keyferry.up.ports import claim_port

# Until this process ends: its tests run beside those of others, which take ports too.
CLAIMS = ExitStack()


def free_port() -> int:
    return claim_port(CLAIMS)
