"""Comparing what both sites have on record and in store, and burning what differs."""
