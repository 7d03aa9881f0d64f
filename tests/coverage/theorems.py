"""The decoy theorems whose bounds are held against the truth: premises, and bounds of them."""

from decoy_coverage import BoundsOf

from qkd_core.proofs import decoy2_exact, lim2014, two_decoys

THEOREMS: dict[str, tuple[BoundsOf, BoundsOf]] = {
    lim2014.THEOREM: (lim2014.Premises, lim2014.bounds),
    decoy2_exact.THEOREM: (two_decoys.Premises, decoy2_exact.bounds),
}
