"""Polymer chains, a classical reference for their energies and forces, and dynamics of any potential.

One model is trained on forces over many families of chains, whose absolute energies have no common zero, after Feng et
al., PolyGET, 2023. Units: eV, Angstrom, fs, amu, K.
"""
