"""Published systems beside ray attention, each a choice of space, invariants, values, weights and transport.

They stand on the layers that the rays use, and nothing of the way from images to renderings imports them.
"""
