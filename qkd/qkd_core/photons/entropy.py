"""Where security randomness comes from."""

from collections.abc import Callable

Entropy = Callable[[int], bytes]
"""``entropy(n)`` gives n fresh uniform bytes: `os.urandom`, or a fixed source in a test."""
