"""The certificate of a block as it is told: format, types and ranges, nothing of the proof."""

from dataclasses import dataclass
from hashlib import sha256
from json import dumps
from typing import Any

from qkd_certify.limits import (
    DISCLOSED_MAX,
    PULSES_MAX,
    Limits,
    PairLimits,
    Plan,
    VendorLimits,
    read_plan,
)
from qkd_certify.nodes import WHOLE, Node
from qkd_certify.refusal import CertificateRefused

FORMAT = "keyferry-block-certificate/1"
LEDGER_MAX = 32  # lines

FIELDS = (
    *("format", "theorem", "plan", "plan_digest", "tallies", "tallies_digest", "disclosed"),
    *("leak_ec", "n_errors", "n_sifted", "n_secret", "bounds", "ledger", "provenance"),
    "digest",
)
VENDOR_TALLIES = ("n_keys", "key_bits", "key_ids_digest")


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What was counted: of pulses in the order of the intensities, of pairs one count each.

    Of a vendor's keys their bits; ``key_ids_digest`` names them, and no other block's bits.
    """

    key: tuple[int, ...]
    test: tuple[int, ...]
    errors: tuple[int, ...]
    about_key: int
    about_errors: int
    leak_ec: int
    n_errors: int
    n_sifted: int
    n_secret: int
    key_ids_digest: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    theorem: str
    version: str
    plan: Plan
    told: Told
    bounds: Node
    ledger: list[dict[str, Node]]


def read(certificate: dict[str, Any], kinds: dict[str, type[Limits]]) -> Certificate:
    """The certificate, if format, types, ranges and digests are right; ``kinds`` by theorem.

    Raises CertificateRefused.
    """
    fields = Node(WHOLE, certificate).members(FIELDS)
    fields["format"].one_of((FORMAT,))
    theorem = fields["theorem"].members(("name", "version"))
    name = theorem["name"].one_of(kinds)
    for what in ("plan", "tallies"):
        _refuse_other_digest(fields[what], fields[f"{what}_digest"])
    plan = read_plan(fields["plan"], name, kinds[name])
    _same("provenance", fields["provenance"].text(), plan.provenance)
    _same("n_secret", fields["n_secret"].integer(0, plan.limits.n_key_max), plan.n_secret)
    return Certificate(
        theorem=name,
        version=theorem["version"].text(),
        plan=plan,
        told=_told(fields, plan.limits),
        bounds=fields["bounds"],
        ledger=[
            line.members(("what", "epsilon", "times"))
            for line in fields["ledger"].listed(LEDGER_MAX)
        ],
    )


def refuse_other_figures(certificate: dict[str, Any]) -> None:
    """Raise CertificateRefused unless the digest is that of all other figures."""
    figures = {name: value for name, value in certificate.items() if name != "digest"}
    if Node("digest", certificate["digest"]).digest() != digest(figures):
        raise CertificateRefused("digest", certificate["digest"], "the SHA-256 of all else")


def digest(value: Any) -> str:
    """SHA-256 of sorted, compact JSON; numbers as Python writes them.

    Raises TypeError, ValueError, RecursionError for what is no JSON.
    """
    return sha256(dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _refuse_other_digest(noun: Node, told: Node) -> None:
    try:
        derived = digest(noun.value)
    except (TypeError, ValueError, RecursionError) as error:
        raise noun.refused("JSON") from error
    if told.digest() != derived:
        raise CertificateRefused(told.where, told.value, f"the SHA-256 of {noun.where}")


def _same(what: str, told: object, planned: object) -> None:
    if told != planned:
        raise CertificateRefused(what, told, f"that of the plan, {planned}")


def _told(fields: dict[str, Node], limits: Limits) -> Told:
    disclosed = fields["disclosed"].members(("about_key", "about_errors"))
    n_bits = DISCLOSED_MAX * limits.n_key_max
    n_sifted = fields["n_sifted"].integer(1, limits.n_key_max)
    key, test, errors = _tallies(fields["tallies"], limits)
    return Told(
        key=key,
        test=test,
        errors=errors,
        about_key=disclosed["about_key"].integer(0, n_bits),
        about_errors=disclosed["about_errors"].integer(0, n_bits),
        leak_ec=fields["leak_ec"].integer(0, 2 * n_bits),
        n_errors=fields["n_errors"].integer(0, n_sifted),
        n_sifted=n_sifted,
        n_secret=fields["n_secret"].value,
        key_ids_digest=_key_ids_digest(fields["tallies"], limits),
    )


def _key_ids_digest(tallies: Node, limits: Limits) -> str | None:
    if not isinstance(limits, VendorLimits):
        return None
    return tallies.members(VENDOR_TALLIES)["key_ids_digest"].digest()


def _tallies(
    node: Node, limits: Limits
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    if isinstance(limits, VendorLimits):
        fields = node.members(VENDOR_TALLIES)
        n_keys = fields["n_keys"].integer(limits.n_keys, limits.n_keys)
        return (n_keys * fields["key_bits"].integer(limits.key_bits, limits.key_bits),), (), ()
    if isinstance(limits, PairLimits):
        fields = node.members(("n_key", "n_test", "test_errors"))
        n_key, n_test = (fields[name].integer(0, PULSES_MAX) for name in ("n_key", "n_test"))
        return (n_key,), (n_test,), (fields["test_errors"].integer(0, n_test),)
    fields = node.members(("n_pulses", "key_counts", "test_counts", "test_errors"))
    _same("tallies.n_pulses", fields["n_pulses"].integer(1, PULSES_MAX), limits.n_pulses)
    key, test, errors = (
        tuple(each.integer(0, limits.n_pulses) for each in fields[name].exactly(len(limits.key)))
        for name in ("key_counts", "test_counts", "test_errors")
    )
    return key, test, errors
