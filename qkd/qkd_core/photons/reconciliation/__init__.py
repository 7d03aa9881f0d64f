"""Error correction: one module per scheme."""
