"""The plan of a block as a certificate tells it: what was fixed before the block, in range."""

from dataclasses import dataclass

from qkd_certify.nodes import Node

COUNT_MAX = 10**9  # of an intensity in a basis, or of pairs: beyond any block
PULSES_MAX = 1 << 62
DISCLOSED_MAX = 4  # bits for each bit of key
FRAME_BITS_MAX = 1 << 20
QBER_MAX = 0.25
STEP_BITS = 64  # keys are whole words
BYTE_BITS = 8
VENDOR = "vendor"
PROVENANCES = ("device", "simulated", "replayed", VENDOR)
MU_MAX = 10.0  # photons
HUGE = 1e30  # of what no bound depends on
SUM_ERROR = 1e-9  # of probabilities, as people round them

Ends = tuple[int, int]
Accepted = tuple[int, int | None]

PLAN_FIELDS = (
    *("block_id", "link_id", "theorem", "policy", "reconciliation", "qber_expected"),
    *("leak_ec_max", "n_secret", "segment_pads", "provenance", "config_digest", "settings"),
)
DECOY_FIELDS = ("key_counts", "test_counts", "test_errors_max")
PAIR_FIELDS = ("key_count", "test_count_min", "test_errors_max")


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What secrecy and correctness may cost, and how many bits are disclosed at most."""

    eps_sec: float
    eps_cor: float
    leak_ec_max: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DecoyLimits:
    """The light of a block of decoy pulses, and what is accepted of it: least and most."""

    n_pulses: int
    intensities: tuple[float, ...]
    probabilities: tuple[float, ...]
    p_key_basis: float
    key: tuple[Ends, ...]
    test: tuple[Ends, ...]
    errors_max: tuple[int, ...]

    @property
    def n_key_max(self) -> int:
        return sum(high for _, high in self.key)

    @property
    def accepted(self) -> dict[str, tuple[Accepted, ...]]:
        """Of each intensity, the least and the most."""
        errors = tuple((0, most) for most in self.errors_max)
        return {"key": self.key, "test": self.test, "errors": errors}


@dataclass(frozen=True, slots=True, kw_only=True)
class OneDecoyLimits(DecoyLimits):
    """The same of two intensities, not three."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PairLimits:
    """What is accepted of a block of pairs: least and most key, least test, most errors in it."""

    key: Ends
    test_min: int
    errors_max: int

    @property
    def n_key_max(self) -> int:
        return self.key[1]

    @property
    def accepted(self) -> dict[str, tuple[Accepted, ...]]:
        """The least and the most; None for no limit."""
        test = (self.test_min, None)
        return {"key": (self.key,), "test": (test,), "errors": ((0, self.errors_max),)}


@dataclass(frozen=True, slots=True, kw_only=True)
class VendorLimits:
    """The keys that a vendor's boxes give: whose word it is, to whom they are given, how many."""

    vendor: str
    master_sae: str
    slave_sae: str
    n_keys: int
    key_bits: int

    @property
    def n_key_max(self) -> int:
        return self.n_keys * self.key_bits

    @property
    def accepted(self) -> dict[str, tuple[Accepted, ...]]:
        """Whole keys, and nothing to test."""
        return {"key": ((self.n_key_max, self.n_key_max),)}


Limits = DecoyLimits | PairLimits | VendorLimits


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    block_id: int
    link_id: str
    limits: Limits
    budget: Budget
    n_secret: int
    provenance: str


def read_plan(node: Node, theorem: str, kind: type[Limits]) -> Plan:
    """The plan of a block by ``theorem``, of limits of ``kind``. Raises CertificateRefused."""
    of_vendor = kind is VendorLimits
    fields = node.members((*PLAN_FIELDS, *_fields_of(kind)))
    fields["theorem"].one_of((theorem,))
    limits = _limits(fields, kind)
    _reconciliation(fields["reconciliation"], kind)
    fields["qber_expected"].number(0, QBER_MAX)
    fields["segment_pads"].integer(0, COUNT_MAX)
    fields["config_digest"].digest()
    n_secret = fields["n_secret"]
    if n_secret.integer(STEP_BITS, limits.n_key_max) % STEP_BITS:
        raise n_secret.refused(f"a multiple of {STEP_BITS}")
    return Plan(
        block_id=fields["block_id"].integer(1, PULSES_MAX),
        link_id=fields["link_id"].text(),
        limits=limits,
        budget=_budget(fields, limits.n_key_max),
        n_secret=n_secret.value,
        provenance=fields["provenance"].one_of((VENDOR,) if of_vendor else PROVENANCES),
    )


def _fields_of(kind: type[Limits]) -> tuple[str, ...]:
    """Those that other kinds' plans have not, but for the settings."""
    if kind is VendorLimits:
        return ()
    return PAIR_FIELDS if kind is PairLimits else DECOY_FIELDS


def _limits(fields: dict[str, Node], kind: type[Limits]) -> Limits:
    if kind is VendorLimits:
        return _vendor_limits(fields)
    return _pair_limits(fields) if kind is PairLimits else _decoy_limits(fields, kind)


def _budget(plan: dict[str, Node], n_key_max: int) -> Budget:
    policy = plan["policy"].members(("eps_sec", "eps_cor", "abort_rate"))
    policy["abort_rate"].inside(0, 1)
    return Budget(
        eps_sec=policy["eps_sec"].inside(0, 1),
        eps_cor=policy["eps_cor"].inside(0, 1),
        leak_ec_max=plan["leak_ec_max"].integer(0, DISCLOSED_MAX * n_key_max),
    )


def _reconciliation(node: Node, kind: type[Limits]) -> None:
    fields = node.members(("method", "variant", "frame_bits", "roles_swap"))
    fields["method"].one_of(("none",) if kind is VendorLimits else ("cascade", "ldpc"))
    fields["variant"].text()
    fields["frame_bits"].integer(1, FRAME_BITS_MAX)
    if fields["roles_swap"].flag() and kind is not PairLimits:
        raise fields["roles_swap"].refused("false: the key is Alice's under this theorem")


def _decoy_limits(fields: dict[str, Node], kind: type[Limits]) -> DecoyLimits:
    settings = fields["settings"].members(
        ("clock_hz", "n_pulses", "intensities", "probabilities", "p_key_basis")
    )
    settings["clock_hz"].inside(0, HUGE)
    n_pulses = settings["n_pulses"].integer(1, PULSES_MAX)
    most = min(n_pulses, COUNT_MAX)
    limits, n = (OneDecoyLimits, 2) if kind is OneDecoyLimits else (DecoyLimits, 3)
    return limits(
        n_pulses=n_pulses,
        intensities=_intensities(settings["intensities"], n),
        probabilities=_probabilities(settings["probabilities"], n),
        p_key_basis=settings["p_key_basis"].inside(0, 1),
        key=tuple(_ends(each, most) for each in fields["key_counts"].exactly(n)),
        test=tuple(_ends(each, most) for each in fields["test_counts"].exactly(n)),
        errors_max=tuple(each.integer(0, most) for each in fields["test_errors_max"].exactly(n)),
    )


def _intensities(node: Node, n: int) -> tuple[float, ...]:
    """Source of their order: Lim et al. 2014, section II; Rusca et al. 2018 for two."""
    mu_1, mu_2, *dimmest = (each.number(0, MU_MAX) for each in node.exactly(n))
    mu_3 = sum(dimmest)  # 0 where there are two
    if not (mu_1 > mu_2 + mu_3 and mu_2 > mu_3):
        allowed = "mu1 > mu2 + mu3, mu2 > mu3 >= 0" if dimmest else "mu1 > mu2 > 0"
        raise node.refused(allowed)
    return mu_1, mu_2, *dimmest


def _probabilities(node: Node, n: int) -> tuple[float, ...]:
    probabilities = tuple(each.inside(0, 1) for each in node.exactly(n))
    if abs(sum(probabilities) - 1) > SUM_ERROR:
        raise node.refused("positive numbers with the sum 1")
    return probabilities


def _pair_limits(fields: dict[str, Node]) -> PairLimits:
    settings = fields["settings"].members(("link_s", "window_ps", "hold_off_ps", "resolution_ps"))
    settings["link_s"].inside(0, HUGE)
    for name in ("window_ps", "hold_off_ps", "resolution_ps"):
        settings[name].integer(1, PULSES_MAX)
    test_min = fields["test_count_min"].integer(1, COUNT_MAX)
    return PairLimits(
        key=_ends(fields["key_count"], COUNT_MAX),
        test_min=test_min,
        errors_max=fields["test_errors_max"].integer(0, test_min),
    )


def _vendor_limits(fields: dict[str, Node]) -> VendorLimits:
    settings = fields["settings"].members(
        ("vendor", "master_sae", "slave_sae", "keys_per_block", "key_bits")
    )
    key_bits = settings["key_bits"].integer(BYTE_BITS, COUNT_MAX)
    if key_bits % BYTE_BITS:
        raise settings["key_bits"].refused("whole bytes")
    fields["leak_ec_max"].integer(0, 0)
    return VendorLimits(
        vendor=settings["vendor"].text(),
        master_sae=settings["master_sae"].text(),
        slave_sae=settings["slave_sae"].text(),
        n_keys=settings["keys_per_block"].integer(1, COUNT_MAX // key_bits),
        key_bits=key_bits,
    )


def _ends(node: Node, most: int) -> Ends:
    fields = node.members(("low", "high"))
    high = fields["high"].integer(0, most)
    return fields["low"].integer(0, high), high
