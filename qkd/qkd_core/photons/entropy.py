"""Where security randomness comes from."""

from collections.abc import Callable

Entropy = Callable[[int], bytes]
"""``entropy(n)`` gives n fresh uniform bytes.

`os.urandom` behind a `health_source.WatchedSource`, or a fixed source in a test. A source that is
found to be broken raises EntropyFailed: whoever draws lets it pass.
"""
