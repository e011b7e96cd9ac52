"""Classical spins with electrons, sampled by self-learning Monte Carlo with an equivariant effective weight."""
