"""The public names of `raytrans`, from where they are defined; importing this imports torch."""

from raytrans.data.priors import DepthPrior as DepthPrior
from raytrans.data.readers import open_scene as open_scene
from raytrans.data.views import Views as Views
from raytrans.equivariance import equivariance_error as equivariance_error
from raytrans.export.pretrained import save_pretrained as save_pretrained
from raytrans.fields.types import FieldType as FieldType
from raytrans.geometry.cameras import Cameras as Cameras
from raytrans.geometry.rays import Rays as Rays
from raytrans.layers.attention import RayAttention as RayAttention
from raytrans.layers.convolution import RayConvolution as RayConvolution
from raytrans.rendering.depth import estimate_depth as estimate_depth
from raytrans.rendering.synthesis import encode as encode
from raytrans.rendering.synthesis import render as render
from raytrans.rendering.synthesis import render_rays as render_rays
from raytrans.rendering.synthesis import trace as trace
from raytrans.training.checkpoint import load as load
from raytrans.training.priors import load_priors as load_priors
