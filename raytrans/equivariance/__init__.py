"""The public checker: what layers and models promise about frames, motion, scale and order, measured."""

from raytrans.equivariance.degenerate import degenerate_rig
from raytrans.equivariance.layers import check_layer, equivariance_error
from raytrans.equivariance.models import check_model
from raytrans.equivariance.report import Report, Row

__all__ = ["Report", "Row", "check_layer", "check_model", "degenerate_rig", "equivariance_error"]
