"""Loss of a fibre."""

from qkd_sim_link.scenarios.pulses import Fibre


def fibre_transmittance(fibre: Fibre) -> float:
    """The fraction of the light that leaves the fibre.

    Source: Ma et al., PRA 72, 012326 (2005), eq. (3) with the connectors added.
    """
    return db_transmittance(fibre.loss_db_per_km * fibre.length_km + fibre.connector_db)


def db_transmittance(loss_db: float) -> float:
    """10^(-loss/10)."""
    return float(10 ** (-loss_db / 10))
