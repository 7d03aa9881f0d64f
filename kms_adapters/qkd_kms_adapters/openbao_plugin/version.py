"""Which version of the plugin this is."""

VERSION = "v0.1.0"
"""As OpenBao writes versions: the package's own, with a v before it.

A constant, because asking ``importlib.metadata`` costs 20 ms of each start, and the one-file
program carries no metadata of ours. A test holds it against ``pyproject.toml``.
"""
