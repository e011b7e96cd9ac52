"""A plain pre-norm transformer block through the one `attend`: the arm that knows no symmetry."""

from torch import Tensor, nn

from raytrans.fields.types import FieldType
from raytrans.layers.attention import DotLogits, attend, component_heads
from raytrans.layers.kernel import Neighborhood
from raytrans.shapes import Float


class PlainAttention(nn.Module):
    """Multi-head dot-product attention of plain channels."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        kind = FieldType({(0, 0.0): width})
        self.query = nn.Linear(width, width, bias=False)
        self.key_value = nn.Linear(width, 2 * width, bias=False)
        self.mix = nn.Linear(width, width, bias=False)
        self.logits = DotLogits(kind, heads)
        self.register_buffer("heads", component_heads(kind, heads), persistent=False)

    def forward(self, query: Tensor, features: Tensor, neighborhood: Neighborhood) -> Float[Tensor, "*targets width"]:
        """Queries (*targets, width) over features (*sources, width)."""
        laid = neighborhood.source(self.key_value(features)).expand(*neighborhood.pairs, -1)
        keys, values = laid.chunk(2, -1)
        logits = self.logits(neighborhood.target(self.query(query)), keys)
        return self.mix(attend(logits, values, self.heads, neighborhood))


class PlainBlock(nn.Module):
    """Pre-norm attention over `features` and a feed-forward layer of twice the width, with residuals."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.query_norm, self.source_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = PlainAttention(width, heads)
        self.mix = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )

    def forward(self, query: Tensor, features: Tensor, neighborhood: Neighborhood) -> Tensor:
        query = query + self.attention(self.query_norm(query), self.source_norm(features), neighborhood)
        return query + self.mix(query)
