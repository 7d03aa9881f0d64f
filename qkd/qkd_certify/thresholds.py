"""Was the block one that its plan accepts? Lim et al. 2014, section II, steps 3 to 5."""

from qkd_certify.certificate import Certificate, Told
from qkd_certify.limits import DecoyLimits, PairLimits, Plan, VendorLimits
from qkd_certify.refusal import CertificateRefused

INTENSITIES = ("signal", "decoy", "vacuum")


def refuse_not_accepted(certificate: Certificate) -> None:
    """Raises CertificateRefused unless every count lies within the plan."""
    plan, told = certificate.plan, certificate.told
    for name, errors, tested in zip(INTENSITIES, told.errors, told.test, strict=False):
        _at_most(f"the {name} errors of the test", errors, tested)
    match plan.limits:
        case PairLimits():
            _pairs(plan.limits, told)
        case DecoyLimits():
            _decoy(plan.limits, told)
        case VendorLimits():
            _at_most("n_errors", told.n_errors, 0)  # the bits were equal, or there is no block
    if told.n_sifted != sum(told.key):
        raise CertificateRefused("n_sifted", told.n_sifted, f"the sum of the key, {sum(told.key)}")
    _at_most("n_secret", told.n_secret, told.n_sifted)
    _refuse_other_leak(plan, told)


def _decoy(limits: DecoyLimits, told: Told) -> None:
    for basis, counts, ends in (("key", told.key, limits.key), ("test", told.test, limits.test)):
        for name, count, (least, most) in zip(INTENSITIES, counts, ends, strict=False):
            _at_least(f"the {name} count of the {basis}", count, least)
            _at_most(f"the {name} count of the {basis}", count, most)
    for name, errors, most in zip(INTENSITIES, told.errors, limits.errors_max, strict=False):
        _at_most(f"the {name} errors of the test", errors, most)


def _pairs(limits: PairLimits, told: Told) -> None:
    least, most = limits.key
    _at_least("the key bits", told.key[0], least)
    _at_most("the key bits", told.key[0], most)
    _at_least("the test bits", told.test[0], limits.test_min)
    _at_most("the errors of the test", told.errors[0], limits.errors_max)


def _refuse_other_leak(plan: Plan, told: Told) -> None:
    """Of pairs, the errors are given away already; of pulses, both directions count.

    Source of the latter: Tupkary and Luetkenhaus, arXiv:2307.00576.
    """
    leak = told.about_key
    if not isinstance(plan.limits, PairLimits):
        leak += told.about_errors
    if told.leak_ec != leak:
        raise CertificateRefused("leak_ec", told.leak_ec, f"what was disclosed, {leak}")
    _at_most("leak_ec", leak, plan.budget.leak_ec_max)


def _at_least(what: str, count: int, least: int) -> None:
    if count < least:
        raise CertificateRefused(what, count, f"at least {least}")


def _at_most(what: str, count: int, most: int) -> None:
    if count > most:
        raise CertificateRefused(what, count, f"at most {most}")
