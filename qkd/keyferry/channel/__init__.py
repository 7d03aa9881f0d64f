"""The classical channel between two engines: frames over TLS, and a conversation per block."""
