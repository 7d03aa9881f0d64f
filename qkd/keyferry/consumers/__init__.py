"""Telling consumers that a generation is active."""
