"""Why a certificate is not accepted: one line with what, its value, and what is allowed."""

import reprlib

SHOWN = 60  # characters of a value


class CertificateRefused(Exception):
    """A figure of the certificate is not what its theorem, its plan or its digests say."""

    def __init__(self, what: str, value: object, allowed: str) -> None:
        super().__init__(f"{what} is {shown(value)}, allowed is {allowed}")
        self.what = what


class CertificateUnreadable(CertificateRefused):
    """The text is not JSON of the size and depth of a certificate."""


def shown(value: object) -> str:
    """On one line and not long, whatever it is."""
    text = value if isinstance(value, _Said) else reprlib.repr(value)
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 3]}..."


class _Said(str):
    """Words of ours in the place of a value, shown without quotation marks."""


def said(text: str) -> str:
    return _Said(text)
