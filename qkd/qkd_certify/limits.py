"""The plan of a block as a certificate tells it: what was fixed before the block, in range."""

from dataclasses import dataclass

from qkd_certify.nodes import Node

COUNT_MAX = 10**9  # of an intensity in a basis, or of pairs: beyond any block
PULSES_MAX = 1 << 62
DISCLOSED_MAX = 4  # bits for each bit of key
FRAME_BITS_MAX = 1 << 20
QBER_MAX = 0.25
STEP_BITS = 64  # keys are whole words
PROVENANCES = ("device", "simulated", "replayed", "vendor")
MU_MAX = 10.0  # photons
HUGE = 1e30  # of what no bound depends on
SUM_ERROR = 1e-9  # of probabilities, as people round them

Triple = tuple[float, float, float]
Counts = tuple[int, int, int]
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
    intensities: Triple
    probabilities: Triple
    key: tuple[Ends, Ends, Ends]
    test: tuple[Ends, Ends, Ends]
    errors_max: Counts

    @property
    def n_key_max(self) -> int:
        return sum(high for _, high in self.key)

    @property
    def accepted(self) -> dict[str, tuple[Accepted, ...]]:
        """Of each intensity, the least and the most."""
        errors = tuple((0, most) for most in self.errors_max)
        return {"key": self.key, "test": self.test, "errors": errors}


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
class Plan:
    block_id: int
    link_id: str
    limits: DecoyLimits | PairLimits
    budget: Budget
    n_secret: int
    provenance: str


def read_plan(node: Node, theorem: str, *, of_pairs: bool) -> Plan:
    """The plan of a block by ``theorem``. Raises CertificateRefused."""
    fields = node.members((*PLAN_FIELDS, *(PAIR_FIELDS if of_pairs else DECOY_FIELDS)))
    fields["theorem"].one_of((theorem,))
    limits = _pair_limits(fields) if of_pairs else _decoy_limits(fields)
    _reconciliation(fields["reconciliation"], of_pairs=of_pairs)
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
        provenance=fields["provenance"].one_of(PROVENANCES),
    )


def _budget(plan: dict[str, Node], n_key_max: int) -> Budget:
    policy = plan["policy"].members(("eps_sec", "eps_cor", "abort_rate"))
    policy["abort_rate"].inside(0, 1)
    return Budget(
        eps_sec=policy["eps_sec"].inside(0, 1),
        eps_cor=policy["eps_cor"].inside(0, 1),
        leak_ec_max=plan["leak_ec_max"].integer(0, DISCLOSED_MAX * n_key_max),
    )


def _reconciliation(node: Node, *, of_pairs: bool) -> None:
    fields = node.members(("method", "variant", "frame_bits", "roles_swap"))
    fields["method"].one_of(("cascade", "ldpc"))
    fields["variant"].text()
    fields["frame_bits"].integer(1, FRAME_BITS_MAX)
    if fields["roles_swap"].flag() and not of_pairs:
        raise fields["roles_swap"].refused("false: the key is Alice's under this theorem")


def _decoy_limits(fields: dict[str, Node]) -> DecoyLimits:
    """Source: Lim et al. 2014, section II, for the order of the intensities."""
    settings = fields["settings"].members(
        ("clock_hz", "n_pulses", "intensities", "probabilities", "p_key_basis")
    )
    settings["clock_hz"].inside(0, HUGE)
    settings["p_key_basis"].inside(0, 1)
    mu_1, mu_2, mu_3 = (each.number(0, MU_MAX) for each in settings["intensities"].three())
    if not (mu_1 > mu_2 + mu_3 and mu_2 > mu_3):
        raise settings["intensities"].refused("mu1 > mu2 + mu3, mu2 > mu3 >= 0")
    p_1, p_2, p_3 = (each.inside(0, 1) for each in settings["probabilities"].three())
    if abs(p_1 + p_2 + p_3 - 1) > SUM_ERROR:
        raise settings["probabilities"].refused("positive numbers with the sum 1")
    n_pulses = settings["n_pulses"].integer(1, PULSES_MAX)
    most = min(n_pulses, COUNT_MAX)
    errors_1, errors_2, errors_3 = (
        each.integer(0, most) for each in fields["test_errors_max"].three()
    )
    return DecoyLimits(
        n_pulses=n_pulses,
        intensities=(mu_1, mu_2, mu_3),
        probabilities=(p_1, p_2, p_3),
        key=_three_ends(fields["key_counts"], most),
        test=_three_ends(fields["test_counts"], most),
        errors_max=(errors_1, errors_2, errors_3),
    )


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


def _three_ends(node: Node, most: int) -> tuple[Ends, Ends, Ends]:
    first, second, third = (_ends(each, most) for each in node.three())
    return first, second, third


def _ends(node: Node, most: int) -> Ends:
    fields = node.members(("low", "high"))
    high = fields["high"].integer(0, most)
    return fields["low"].integer(0, high), high
