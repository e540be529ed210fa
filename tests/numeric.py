"""What tests share: dtypes, tensors and leaves, closeness, and gradients by finite differences."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import on_gpu
import oxon as ox

NATIVE = [d for d in ox._core.DTYPES if d != "bfloat16"]
INTS = [d for d in NATIVE if "int" in d]
FLOATS = ["float16", "bfloat16", "float32", "float64"]


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
    if ox.get_default_device() != "cpu":
        on_gpu.check_gradients(function, [t64(array) for array in arrays])
        return
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


def same(t: ox.Tensor, a: Any) -> None:
    """Shape, dtype and elements, bit for bit."""
    a = np.asarray(a)
    got = t.numpy()
    assert tuple(t.shape) == got.shape == a.shape
    if ox.get_default_device() != "cpu" and a.dtype == np.float64:
        a = a.astype(np.float32)
    assert got.dtype == a.dtype
    assert got.tobytes() == a.tobytes()


def leaf(*values: float, dtype: str = "float64") -> ox.Tensor:
    """A leaf that requires grad: 0-d for one value."""
    return ox.tensor(values[0] if len(values) == 1 else list(values), dtype=dtype, requires_grad=True)


def grad_of(x: ox.Tensor) -> Any:
    assert x.grad is not None
    return x.grad.tolist()
