"""Formulas, one idea a file; no randomness."""
