"""What the tests of nn and optim share: float64 tensors, closeness, and gradients by finite differences."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import oxon as ox


def t64(array: Any) -> ox.Tensor:
    """A float64 tensor of the array's values."""
    return ox.tensor(np.asarray(array, dtype=np.float64), dtype=ox.float64)


def draw(*shape: int, seed: int = 0) -> np.ndarray:
    """Normal float64 values, always the same for a shape and seed."""
    return np.random.default_rng([seed, *shape]).standard_normal(shape)


def assert_close(actual: ox.Tensor, expected: Any, rtol: float = 1e-10, atol: float = 1e-12) -> None:
    """Same shape and, within the tolerances, same values; NaN equals NaN."""
    expected = np.asarray(expected)
    assert tuple(actual.shape) == expected.shape, f"shape {tuple(actual.shape)}, expected {expected.shape}"
    np.testing.assert_allclose(actual.detach().numpy(), expected, rtol=rtol, atol=atol)


def check_gradients(
    function: Callable[..., ox.Tensor],
    *arrays: Any,
    eps: float = 1e-6,
    rtol: float = 1e-5,
    atol: float = 1e-7,
) -> None:
    """`backward` through `function` against central differences, for every float array among the arguments.

    The output is weighted by fixed random numbers, so that no error hides behind a sum of ones.
    """
    arrays = tuple(np.array(array, dtype=np.float64) for array in arrays)
    inputs = [t64(array).requires_grad_() for array in arrays]
    output = function(*inputs)
    weights = draw(*output.shape, seed=99)
    (output * t64(weights)).sum().backward()

    def value(index: int, changed: np.ndarray) -> float:
        with ox.no_grad():
            out = function(*[t64(changed if i == index else a) for i, a in enumerate(arrays)])
        return float((out.numpy() * weights).sum())

    for index, array in enumerate(arrays):
        numeric = np.zeros_like(array)
        for position in np.ndindex(array.shape):
            up, down = array.copy(), array.copy()
            up[position] += eps
            down[position] -= eps
            numeric[position] = (value(index, up) - value(index, down)) / (2 * eps)
        grad = inputs[index].grad
        assert grad is not None, f"argument {index} got no gradient"
        np.testing.assert_allclose(grad.numpy(), numeric, rtol=rtol, atol=atol, err_msg=f"argument {index}")
