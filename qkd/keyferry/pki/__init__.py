"""Certificates of KMEs and SAEs for sites without an authority of their own."""
