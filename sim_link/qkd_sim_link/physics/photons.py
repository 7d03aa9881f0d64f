"""Energy of light in photons."""

PLANCK_J_S = 6.62607015e-34  # exact: BIPM, The International System of Units, 9th edition
LIGHT_M_PER_S = 299_792_458.0  # exact: the same


def photons(energy_j: float, wavelength_nm: float) -> float:
    """How many photons of ``wavelength_nm`` carry ``energy_j``: E lambda / (h c)."""
    return energy_j * wavelength_nm * 1e-9 / (PLANCK_J_S * LIGHT_M_PER_S)
