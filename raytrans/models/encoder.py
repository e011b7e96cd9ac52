"""Image encoder, exactly equivariant to quarter turns, with typed outputs at two resolutions."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from raytrans.fields.types import FieldType
from raytrans.models.plain import PlainNorm, plain_block, plain_conv
from raytrans.models.turns import TURNS, TurnBlock, TurnConv, TurnLift, TurnNorm, fourier, turn_channels
from raytrans.shapes import Float

STRIDE = 8


@dataclass(frozen=True)
class Kit:
    """What an encoder is made of: layers, `width` of their maps over `widths`, channels that a head makes.

    read_out takes the channels of a head to features of a type; copies: channels of context for each one asked for.
    """

    lift: Callable
    conv: Callable
    norm: Callable
    block: Callable
    width: int
    copies: int
    channels: Callable
    read_out: Callable


KITS = {
    "turns": Kit(TurnLift, TurnConv, TurnNorm, TurnBlock, 1, 1, turn_channels, fourier),
    # twice the widths have as many weights: a group convolution has 4 C C' of them, a plain one (2 C) (2 C')
    "plain": Kit(plain_conv, plain_conv, PlainNorm, plain_block, 2, TURNS, lambda kind: kind.dim, lambda x, kind: x),
}


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
    Of the "plain" kit it is an ordinary CNN with about as many weights, whose types are assumptions throughout.
    """

    def __init__(
        self,
        widths: tuple[int, int, int],
        fine_type: FieldType,
        match_type: FieldType,
        context: int,
        kit: str = "turns",
    ):
        super().__init__()
        kit = self.kit = KITS[kit]
        a, b, c = (kit.width * width for width in widths)
        self.fine_type, self.match_type = FieldType(fine_type), FieldType(match_type)
        self.lift = kit.lift(3, a, kernel=4, stride=2)
        self.at_half = nn.Sequential(kit.norm(a), kit.block(a))
        self.down_quarter = kit.conv(a, b, kernel=4, stride=2)
        self.at_quarter = nn.Sequential(kit.block(b), kit.block(b))
        self.down_eighth = kit.conv(b, c, kernel=4, stride=2)
        self.at_eighth = nn.Sequential(kit.block(c), kit.block(c))
        self.up_quarter = kit.conv(b + c, b, kernel=1)
        self.merge_quarter = kit.block(b)
        self.up_half = kit.conv(a + b, a, kernel=1)
        self.merge_half = kit.block(a)
        self.match_head = kit.conv(b, kit.channels(self.match_type), kernel=1)
        self.context_head = kit.conv(b, kit.copies * context, kernel=1)
        self.fine_head = kit.conv(a, kit.channels(self.fine_type), kernel=1)

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
            fine=self.kit.read_out(self.fine_head(F.elu(half)), self.fine_type),
            match=self.kit.read_out(self.match_head(top), self.match_type),
            context=F.elu(self.context_head(top)),
        )
