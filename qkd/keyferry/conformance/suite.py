"""Every check, by what it asks; what the standard leaves open, and what uses up most keys, last."""

from keyferry.conformance import decisions, get_key, get_key_with_ids, shortage, status, transport

CHECKS = [
    *transport.CHECKS,
    *status.CHECKS,
    *get_key.CHECKS,
    *get_key_with_ids.CHECKS,
    *decisions.CHECKS,
    *shortage.CHECKS,
]
