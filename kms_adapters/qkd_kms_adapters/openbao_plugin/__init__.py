"""A secrets engine for OpenBao and HashiCorp Vault: services read QKD keys from their vault.

The server starts this program, and each mount of it asks a KME over ETSI GS QKD 014.

    process/    what a plugin owes the server that starts it: greeting, TLS, log, its end
    engine/     what is under the mount: paths, roles, keys; knows nothing of gRPC
    transport/  gRPC services that call the engine, and the server's storage

It imports nothing of ours but `qkd_client`, so that it starts fast.
"""
