"""Layers alone: what is timed is what the renderer runs, and the plain attention beside it is plain attention."""

import math

import pytest
import torch

from raytrans.apps.benchmarks import attention, layers
from raytrans.apps.benchmarks.settings import QUICK, Settings
from raytrans.apps.benchmarks.stages import caught, stages
from raytrans.models.config import model_config
from raytrans.rendering.renderer import Renderer
from raytrans.training.checkpoint import save_model

MACHINE = {"gflops": {"float32": 100.0}, "gb_per_second": {"memory": 10.0, "cache": 50.0}}


def test_what_is_caught_are_the_arguments_of_the_first_call():
    layer = torch.nn.Bilinear(2, 3, 1)
    first = torch.randn(5, 2), torch.randn(5, 3)

    def run() -> None:
        layer(first[0], input2=first[1])
        layer(torch.randn(4, 2), torch.randn(4, 3))

    args, kwargs = caught(layer, run)
    assert args[0] is first[0] and kwargs["input2"] is first[1]
    assert not layer._forward_pre_hooks


def test_the_parts_of_a_chunk_are_replayed_on_its_own_inputs():
    model = Renderer(model_config("tiny")).eval()
    found = stages(model, QUICK)
    count, rays, samples = QUICK.count, QUICK.side**2, model.config.fine + 1
    assert {name: (what, n) for name, (_, what, n) in found.items()} == {
        "encoder": ("source pixel", count * rays),
        "sweep": ("source pixel", count * rays),
        "proposal": ("target ray", rays),
        "view stage": ("sample and source", rays * samples * count),
        "ray stage": ("sample", rays * samples),
        "whole chunk": ("target ray", rays),
    }
    edges, weights = found["proposal"][0]()
    traced = found["whole chunk"][0]()
    torch.testing.assert_close(edges, traced.edges)
    torch.testing.assert_close(weights, traced.proposal)
    query, tokens, *_ = found["view stage"][0]()
    assert query.shape[:2] == (rays, samples) and tokens.shape[:3] == (count, rays, samples)
    assert found["ray stage"][0]().shape == query.shape and not query.requires_grad


def test_the_plain_block_is_attention_by_its_formula():
    torch.manual_seed(0)
    block = attention.PlainBlock(6, 2, 0)
    query, tokens = torch.randn(2, 3, 6), torch.randn(2, 5, 6)
    q, k, v = block.to_query(block.norm(query)), block.to_key(tokens), block.to_value(tokens)
    expected = query.clone()
    for b in range(2):
        for i in range(3):
            mixed = []
            for head in (slice(0, 3), slice(3, 6)):
                logits = torch.stack([q[b, i, head] @ k[b, j, head] / math.sqrt(3) for j in range(5)])
                share = logits.exp() / logits.exp().sum()
                mixed.append(sum(share[j] * v[b, j, head] for j in range(5)))
            expected[b, i] += block.out(torch.cat(mixed))
    torch.testing.assert_close(block(query, tokens), expected)


def test_layers_give_finite_numbers_everywhere(tmp_path):
    save_model(tmp_path / "tiny.safetensors", Renderer(model_config("tiny")))
    settings = Settings(tmp_path / "tiny.safetensors", repeats=1, sizes=QUICK, alone=False)
    found = layers.measured(settings, MACHINE)
    rows = [*found["stages"].values(), *(row for one in found["pairs"].values() for row in one["rows"].values())]
    assert len(rows) == 6 + 2 * len(QUICK.pairs)
    for row in rows:
        assert all(math.isfinite(row[k]) and row[k] > 0 for k in ("cpu_seconds", "flops", "bytes", "share_cache"))
    for row in found["attention"].values():
        assert row["ratio"] == pytest.approx(row["cpu_seconds"] / row["plain_cpu_seconds"])
    # a multiplication and an addition for the logit and for the value of every pair and component
    tokens, dim = QUICK.tokens
    assert found["scaled_dot_product"]["flops"] == 4 * tokens**2 * dim
    assert [len(table.rows) for table in layers.tables(found)] == [len(rows), 2, 4]
