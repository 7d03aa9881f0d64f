"""The independent verifier of block certificates: from counts to the length of a key.

Written from the papers' formulas, with interval arithmetic, on nothing but mpmath and the standard
library; it shares no code with what made the certificate.
"""

from qkd_certify.checking import Verdict, check
from qkd_certify.reading import parse
from qkd_certify.refusal import CertificateRefused, CertificateUnreadable

__all__ = ["CertificateRefused", "CertificateUnreadable", "Verdict", "check", "parse"]
