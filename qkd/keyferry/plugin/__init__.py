"""Putting the secrets engine plugin where an OpenBao or Vault server starts it."""
