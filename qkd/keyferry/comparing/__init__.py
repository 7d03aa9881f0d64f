"""Comparing what stands in the key management systems of both sites."""
