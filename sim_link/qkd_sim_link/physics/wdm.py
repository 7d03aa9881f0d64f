"""Light of classical channels that reaches Bob's detectors through a shared fibre.

A channel of power P at the entrance of a fibre of length L and attenuation a (natural, per km)
scatters by the cross section rho into a filter of width w:

    forward    P e^(-a L) L rho w
    backward   P (1 - e^(-2 a L)) / (2 a) rho w      launched at Bob's end

and what the filter does not stop of a forward channel comes through as P e^(-a L) 10^(-I/10).
Source: Eraerds et al., New J. Phys. 12, 063027 (2010), the sections on Raman scatter and cross
talk; its P_out is P e^(-a L), so that its P_out sinh(a L)/a is the backward power above. Four-wave
mixing and reflections of backward channels are left out.
"""

from math import expm1, log

from qkd_sim_link.physics.fibre import db_transmittance
from qkd_sim_link.physics.photons import photons
from qkd_sim_link.scenarios.channels import Wdm
from qkd_sim_link.scenarios.pulses import Fibre

PS_PER_S = 1e12


def background_photons(wdm: Wdm, fibre: Fibre) -> float:
    """The mean number of photons of classical channels that leave the fibre into one gate."""
    power_w = wdm.forward * (forward_raman_w(wdm, fibre) + crosstalk_w(wdm, fibre))
    power_w += wdm.backward * backward_raman_w(wdm, fibre)
    return photons(power_w * wdm.gate_ps / PS_PER_S, wdm.wavelength_nm)


def forward_raman_w(wdm: Wdm, fibre: Fibre) -> float:
    """The power that one channel beside the pulses scatters into the quantum channel, in watts."""
    return _output_w(wdm, fibre) * fibre.length_km * wdm.raman_per_km_nm * wdm.filter_nm


def backward_raman_w(wdm: Wdm, fibre: Fibre) -> float:
    """The power that one channel against the pulses scatters back to Bob, in watts."""
    twice = 2 * fibre.loss_db_per_km * log(10) / 10
    length_km = -expm1(-twice * fibre.length_km) / twice if twice else fibre.length_km
    return _launch_w(wdm) * length_km * wdm.raman_per_km_nm * wdm.filter_nm


def crosstalk_w(wdm: Wdm, fibre: Fibre) -> float:
    """The power of one channel beside the pulses that the filter lets through, in watts."""
    return _output_w(wdm, fibre) * db_transmittance(wdm.isolation_db)


def _output_w(wdm: Wdm, fibre: Fibre) -> float:
    return _launch_w(wdm) * db_transmittance(fibre.loss_db_per_km * fibre.length_km)


def _launch_w(wdm: Wdm) -> float:
    return 1e-3 * db_transmittance(-wdm.launch_dbm)
