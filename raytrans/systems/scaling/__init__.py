"""A scaling study of any models on any task: nominal compute, a grid of trainings, power laws with intervals."""
