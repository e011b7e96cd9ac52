"""Image encoder, exactly equivariant to quarter turns, with typed outputs at two resolutions."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from raytrans.fields.types import FieldType
from raytrans.models.turns import TurnBlock, TurnConv, TurnLift, TurnNorm, fourier, turn_channels
from raytrans.shapes import Float

STRIDE = 8


@dataclass
class FeatureMaps:
    """Maps of one image size: rendering features at half, matching features and context at quarter resolution."""

    fine: Float[Tensor, "*n dim h2 w2"]
    match: Float[Tensor, "*n match h4 w4"]
    context: Float[Tensor, "*n turns h4 w4"]


def padded_size(height: int, width: int) -> tuple[int, int]:
    """Nearest multiples of the total stride: both sides even at every level, which exact quarter turns need."""
    return max(STRIDE, round(height / STRIDE) * STRIDE), max(STRIDE, round(width / STRIDE) * STRIDE)


class Encoder(nn.Module):
    """U-shaped group CNN: image (N, 3, H, W) to `FeatureMaps` with types `fine_type` and `match_type`.

    A quarter turn of the image turns the maps and multiplies a channel of type n by e^{-i n gamma}, gamma being the
    angle between the section frames of the two cameras; between multiples of 90 degrees the type is an assumption.
    """

    def __init__(self, widths: tuple[int, int, int], fine_type: FieldType, match_type: FieldType, context: int):
        super().__init__()
        a, b, c = widths
        self.fine_type, self.match_type = FieldType(fine_type), FieldType(match_type)
        self.lift = TurnLift(3, a, kernel=4, stride=2)
        self.at_half = nn.Sequential(TurnNorm(a), TurnBlock(a))
        self.down_quarter = TurnConv(a, b, kernel=4, stride=2)
        self.at_quarter = nn.Sequential(TurnBlock(b), TurnBlock(b))
        self.down_eighth = TurnConv(b, c, kernel=4, stride=2)
        self.at_eighth = nn.Sequential(TurnBlock(c), TurnBlock(c))
        self.up_quarter = TurnConv(b + c, b, kernel=1)
        self.merge_quarter = TurnBlock(b)
        self.up_half = TurnConv(a + b, a, kernel=1)
        self.merge_half = TurnBlock(a)
        self.match_head = TurnConv(b, turn_channels(self.match_type), kernel=1)
        self.context_head = TurnConv(b, context, kernel=1)
        self.fine_head = TurnConv(a, turn_channels(self.fine_type), kernel=1)

    @staticmethod
    def _join(coarse: Tensor, fine: Tensor) -> Tensor:
        up = F.interpolate(coarse, size=fine.shape[-2:], mode="bilinear", align_corners=False)
        return torch.cat([fine, up], 1)

    def forward(self, image: Float[Tensor, "n 3 h w"]) -> FeatureMaps:
        size = padded_size(*image.shape[-2:])
        if size != tuple(image.shape[-2:]):
            image = F.interpolate(image, size=size, mode="bilinear", align_corners=False)
        half = self.at_half(self.lift(2 * image - 1))
        quarter = self.at_quarter(self.down_quarter(F.elu(half)))
        eighth = self.at_eighth(self.down_eighth(F.elu(quarter)))
        quarter = self.merge_quarter(self.up_quarter(self._join(eighth, quarter)))
        half = self.merge_half(self.up_half(self._join(quarter, half)))
        top = F.elu(quarter)
        return FeatureMaps(
            fine=fourier(self.fine_head(F.elu(half)), self.fine_type),
            match=fourier(self.match_head(top), self.match_type),
            context=F.elu(self.context_head(top)),
        )
