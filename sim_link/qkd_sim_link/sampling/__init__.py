"""Random clicks: ``event`` visits only pulses that may click, ``full`` every pulse (an oracle)."""
