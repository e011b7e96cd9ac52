"""Operations and bytes against what a hand counts."""

import pytest
import torch
import torch.nn.functional as F

from raytrans.apps.benchmarks.counting import counted, roofline

MACHINE = {"gflops": {"float32": 100.0, "bfloat16": 200.0}, "gb_per_second": {"memory": 10.0, "cache": 50.0}}


def test_a_product_of_matrices_is_counted_by_hand():
    a, b = torch.randn(5, 7), torch.randn(7, 3)
    assert counted(lambda: a @ b) == {"flops": 2 * 5 * 7 * 3, "bytes": 4 * (5 * 7 + 7 * 3 + 5 * 3)}


def test_a_convolution_is_counted_by_hand():
    image, weight = torch.randn(2, 3, 8, 8), torch.randn(4, 3, 3, 3)
    found = counted(lambda: F.conv2d(image, weight, padding=1))
    assert found["flops"] == 2 * (2 * 4 * 8 * 8) * (3 * 3 * 3)
    assert found["bytes"] == 4 * (2 * 3 * 64 + 4 * 27 + 2 * 4 * 64)


def test_attention_is_counted_by_hand_whichever_kernel_runs():
    q, k, v = torch.randn(2, 3, 5, 8), torch.randn(2, 3, 7, 8), torch.randn(2, 3, 7, 8)
    logits, values = 2 * 6 * 5 * 7 * 8, 2 * 6 * 5 * 7 * 8
    assert counted(lambda: F.scaled_dot_product_attention(q, k, v))["flops"] == logits + values
    assert counted(lambda: torch.softmax(q @ k.mT, -1) @ v)["flops"] == logits + values


def test_the_backward_pass_counts_too():
    a, b = torch.randn(5, 7, requires_grad=True), torch.randn(7, 3, requires_grad=True)
    found = counted(lambda: (a @ b).sum().backward())
    assert found["flops"] == 3 * 2 * 5 * 7 * 3  # the product, and one of its size for each gradient


def test_bytes_of_elementwise_work_views_and_writes():
    x, y = torch.randn(6, 4), torch.randn(6, 4, dtype=torch.float64)
    one = torch.randn(1, 4).expand(6, 4)
    bytes_of = {
        "views": counted(lambda: x.T[1:].unsqueeze(0))["bytes"],
        "float32": counted(lambda: x * x)["bytes"],
        "mixed": counted(lambda: x * y)["bytes"],
        "broadcast": counted(lambda: x + one)["bytes"],
        "in place": counted(lambda: x.add_(1.0))["bytes"],
        "copy": counted(lambda: x.copy_(one))["bytes"],
        "nothing": counted(lambda: torch.empty(100, 100))["bytes"],
    }
    assert bytes_of == {
        "views": 0,
        "float32": 24 * (4 + 4 + 4),
        "mixed": 24 * (4 + 8 + 8),
        "broadcast": 24 * 4 + 4 * 4 + 24 * 4,
        "in place": 24 * (4 + 4),
        "copy": 4 * 4 + 24 * 4,
        "nothing": 0,
    }


@pytest.mark.parametrize(
    ("flops", "moved", "precision", "memory", "cache"),
    [
        (100e9, 1e9, "float32", 1.0, 1.0),  # the rate binds: one second at 100 GFLOP/s
        (1e9, 10e9, "float32", 1.0, 0.2),  # bandwidth binds: one second from memory, a fifth from cache
        (100e9, 1e9, "bfloat16", 0.5, 0.5),
    ],
)
def test_the_roofline_is_the_lower_of_two_bounds(flops, moved, precision, memory, cache):
    found = roofline(int(flops), int(moved), 1.0, MACHINE, precision)
    assert found["share_memory"] == pytest.approx(memory) and found["share_cache"] == pytest.approx(cache)
    assert found["intensity"] == pytest.approx(flops / moved)
    bound = min(MACHINE["gflops"][precision], MACHINE["gb_per_second"]["memory"] * flops / moved)
    assert found["gflops"] / bound == pytest.approx(memory)
