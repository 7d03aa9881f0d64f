"""Blocks that a site will not have: discarded at both, with the reason where one looks for it."""

from pathlib import Path

from qkd_core.types.ids import Side


def rewrite(file: Path, text: str) -> None:
    """At once: the API process of the site is perhaps just reading it."""
    beside = file.with_suffix(".new")
    beside.write_text(text)
    beside.chmod(0o600)
    beside.replace(file)


def accept_devices_only(sites, side: Side) -> None:
    file = sites.settings[side].file
    text = file.read_text()
    wanted = 'accept_provenance = [\n    "simulated",\n]'
    assert wanted in text
    rewrite(file, text.replace(wanted, 'accept_provenance = ["device"]'))


def test_a_site_that_wants_device_bits_discards_simulated_blocks_and_says_why(sites):
    accept_devices_only(sites, Side.B)
    for side in Side:
        sites.start(side)
    sites.until(lambda: sites.figures(Side.A).blocks.get("PeerAborted"), "a refused block")
    for side, reason in ((Side.A, "PeerAborted"), (Side.B, "ProvenanceRefused")):
        found = sites.figures(side)
        assert found.blocks.get(reason)
        assert "provenance simulated is not accepted" in (found.last_discard or "")
        assert not found.blocks.get("available")
        assert found.secret_bits == 0


def test_the_planning_site_refuses_its_own_link_before_any_pulse(sites):
    accept_devices_only(sites, Side.A)
    for side in Side:
        sites.start(side)
    sites.until(lambda: sites.figures(Side.A).blocks.get("ProvenanceRefused"), "a refusal")
    assert "accept_provenance lists device" in (sites.figures(Side.A).last_discard or "")
    assert not sites.figures(Side.B).blocks.get("available")


def test_sites_with_different_settings_do_not_start_a_block(sites):
    file = sites.settings[Side.B].file
    rewrite(file, file.read_text().replace("eps_sec = 1e-09", "eps_sec = 1e-10"))
    for side in Side:
        sites.start(side)
    log = sites.state.log("engine-a")
    sites.until(lambda: "the peer's config_digest is" in log.read_text(), "the difference")
    assert sites.figures(Side.A).blocks.get("available", 0) == 0
