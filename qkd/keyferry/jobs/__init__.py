"""What a site does again and again: refreshes, expiry, proofs of the audit, comparisons."""
