"""Convolutions as a whole: the ways by which they are computed agree. What each call does stands in
test_layers and test_structured."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import oxon as ox
import oxon.nn.functional as F
import pytest


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    before = ox.get_float32_conv_precision()
    yield
    ox.set_float32_conv_precision(before)


def definition(x: Any, w: Any, padding: int) -> Any:
    """3×3 of stride 1 in float64, a tap at a time."""
    n, _, h, width = x.shape
    padded = np.pad(x.astype(np.float64), [(0, 0), (0, 0), (padding, padding), (padding, padding)])
    out = np.zeros((n, w.shape[0], h + 2 * padding - 2, width + 2 * padding - 2))
    for r in range(3):
        for s in range(3):
            window = padded[:, :, r : r + out.shape[2], s : s + out.shape[3]]
            out += np.einsum("nchw,kc->nkhw", window, w[:, :, r, s].astype(np.float64))
    return out


@pytest.mark.parametrize("padding", [0, 1, 2])
@pytest.mark.parametrize(("precision", "bound"), [("high", 3e-5), ("highest", 2e-6)])
def test_precision(precision: str, bound: float, padding: int) -> None:
    ox.set_float32_conv_precision(precision)
    assert ox.get_float32_conv_precision() == precision
    rng = np.random.default_rng(0)
    x = rng.standard_normal((3, 48, 30, 27), dtype=np.float32)
    w = rng.standard_normal((40, 48, 3, 3), dtype=np.float32)
    want = definition(x, w, padding)
    dy = rng.standard_normal(want.shape, dtype=np.float32)
    a, b = ox.tensor(x, requires_grad=True), ox.tensor(w, requires_grad=True)
    bias = ox.tensor(rng.standard_normal(40, dtype=np.float32))
    y = F.conv2d(a, b, bias, padding=padding).relu()
    want = np.maximum(want + bias.numpy()[:, None, None], 0)
    error = np.abs(y.detach().numpy() - want).max() / np.abs(want).max()
    assert error < bound, error
    F.conv2d(a, b, padding=padding).backward(ox.tensor(dy))
    turned = np.ascontiguousarray(w[:, :, ::-1, ::-1].transpose(1, 0, 2, 3))
    want = definition(dy, turned, 2 - padding)
    assert a.grad is not None
    error = np.abs(a.grad.numpy() - want).max() / np.abs(want).max()
    assert error < bound, error


@pytest.mark.cpu("the GPU has one way of convolving")
def test_the_ways_differ_and_are_named() -> None:
    rng = np.random.default_rng(1)
    x = ox.tensor(rng.standard_normal((2, 64, 20, 20), dtype=np.float32))
    w = ox.tensor(rng.standard_normal((64, 64, 3, 3), dtype=np.float32))
    results = {}
    for precision in ("high", "highest"):
        ox.set_float32_conv_precision(precision)
        results[precision] = F.conv2d(x, w, padding=1).numpy()
    assert (results["high"] != results["highest"]).any(), "the faster way was not taken"
    with pytest.raises(ValueError, match=r"set_float32_conv_precision: .fast. is neither"):
        ox.set_float32_conv_precision("fast")
