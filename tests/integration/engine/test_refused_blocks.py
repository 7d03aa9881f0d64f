"""Blocks that a site will not have: discarded at both, with the reason where one looks for it."""

from contextlib import closing

from keyferry.bootstrap import store_of
from qkd_core.types.ids import Side


def figures(sites, side: Side):
    with closing(store_of(sites.settings[side], "cli", witnessed=False)) as store:
        return store.figures()


def accept_devices_only(sites, side: Side) -> None:
    file = sites.settings[side].file
    text = file.read_text()
    wanted = 'accept_provenance = [\n    "simulated",\n]'
    assert wanted in text
    file.write_text(text.replace(wanted, 'accept_provenance = ["device"]'))


def test_a_site_that_wants_device_bits_discards_simulated_blocks_and_says_why(sites):
    accept_devices_only(sites, Side.B)
    for side in Side:
        sites.start(side)
    sites.until(lambda: figures(sites, Side.A).blocks.get("PeerAborted"), "a refused block")
    for side, reason in ((Side.A, "PeerAborted"), (Side.B, "ProvenanceRefused")):
        found = figures(sites, side)
        assert found.blocks.get(reason)
        assert "provenance simulated is not accepted" in (found.last_discard or "")
        assert not found.blocks.get("available")
        assert found.secret_bits == 0


def test_the_planning_site_refuses_its_own_link_before_any_pulse(sites):
    accept_devices_only(sites, Side.A)
    for side in Side:
        sites.start(side)
    sites.until(lambda: figures(sites, Side.A).blocks.get("ProvenanceRefused"), "a refusal")
    assert "accept_provenance lists device" in (figures(sites, Side.A).last_discard or "")
    assert not figures(sites, Side.B).blocks.get("available")


def test_sites_with_different_settings_do_not_start_a_block(sites):
    file = sites.settings[Side.B].file
    file.write_text(file.read_text().replace("eps_sec = 1e-09", "eps_sec = 1e-10"))
    for side in Side:
        sites.start(side)
    log = sites.state.log("engine-a")
    sites.until(lambda: "the peer's config_digest is" in log.read_text(), "the difference")
    assert figures(sites, Side.A).blocks.get("available", 0) == 0
