"""A link that goes dark: no key while it lasts, key again when the light is back."""

from qkd_core.types.ids import Side

NO_LIGHT = {
    "n_pulses = 1_000_000_000": "n_pulses = 500_000_000",
    "length_km = 25.0": "length_km = 1000.0",
    "dark_probability_per_gate = 1e-6": "dark_probability_per_gate = 0.0",
}


def without_key(sites) -> int:
    """Blocks that ended without key at the planning site."""
    blocks = sites.figures(Side.A).blocks
    return sum(n for outcome, n in blocks.items() if outcome not in ("available", "pending"))


def test_a_link_gives_key_again_after_blocks_without_a_click_and_without_a_restart(sites):
    for side in Side:
        sites.start(side)
    sites.until(lambda: sites.newest_available() > 0, "a block")
    sites.kill_link()
    sites.start_link(NO_LIGHT)
    no_click = "the signal count of the key basis is 0"
    sites.until(lambda: no_click in (sites.figures(Side.A).last_discard or ""), "a dark block")
    taught = without_key(sites)  # by now the planner has learned that there is no light
    sites.until(lambda: without_key(sites) > taught, "one that is planned knowing it")
    dark = sites.newest(Side.A)
    assert sites.newest_available() < dark - 1

    sites.kill_link()
    sites.start_link()
    sites.until(lambda: sites.newest_available() > dark, "key with the light back")
    for side in Side:
        assert sites.engines[side].poll() is None
