"""From text to a certificate's JSON: small, flat, finite and without a name given twice."""

from json import loads
from typing import Any

from qkd_certify.refusal import CertificateUnreadable, said

BYTES_MAX = 1 << 17  # some twenty times a certificate
DEPTH_MAX = 8  # of lists and objects within each other


def parse(text: bytes) -> dict[str, Any]:
    """The object in ``text``. Raises CertificateUnreadable."""
    if len(text) > BYTES_MAX:
        raise CertificateUnreadable("the file", said(f"{len(text)} bytes"), f"up to {BYTES_MAX}")
    try:
        decoded = text.decode()
        _refuse_deep(decoded)
        certificate = loads(decoded, parse_constant=_refuse_constant, object_pairs_hook=_once)
    except ValueError as error:  # of the decoders; a refusal of ours is none
        raise CertificateUnreadable("the file", said(f"no JSON: {error}"), "JSON") from error
    if not isinstance(certificate, dict):
        raise CertificateUnreadable("the file", certificate, "one JSON object")
    return certificate


def _refuse_deep(text: str) -> None:
    """Counts brackets in strings, too: none of a certificate's names holds as many."""
    depth = deepest = 0
    for character in text:
        if character in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif character in "]}":
            depth -= 1
    if deepest > DEPTH_MAX:
        raise CertificateUnreadable("the depth of the file", deepest, f"up to {DEPTH_MAX}")


def _refuse_constant(name: str) -> None:
    raise CertificateUnreadable("a number", said(name), "a finite number")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise CertificateUnreadable("a name", twice, "each name once")
    return members
