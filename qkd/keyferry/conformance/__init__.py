"""ETSI GS QKD 014 V1.1.1 asked of a running KME, ours or anyone's, over mutual TLS."""
