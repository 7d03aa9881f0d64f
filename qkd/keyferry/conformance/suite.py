"""Every check, in the order of the clauses that they are about."""

from keyferry.conformance import get_key, get_key_with_ids, status, transport

CHECKS = [*transport.CHECKS, *status.CHECKS, *get_key.CHECKS, *get_key_with_ids.CHECKS]
