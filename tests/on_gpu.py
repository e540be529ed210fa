"""What `pytest --device gpu` changes, and nothing else does: tensors are made on the GPU unless a test names a
device, float64 (which no GPU shader has) becomes float32 there, tolerances are those of float32 on a GPU, and
gradients are held against the CPU's, which the same test without `--device` holds against finite differences.
Values still come from NumPy's and SciPy's references in float64."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import Any

import numpy as np
import oxon as ox
import pytest
from oxon import _core, nn

# Of float32 with WGSL's own `exp` and `sin`, beside sums in another order.
RTOL, ATOL = 2e-4, 2e-5
# Gradients of gradients add the errors of two walks.
GRADIENT_RTOL, GRADIENT_ATOL = 2e-3, 2e-4
# Finite differences in float32, as a part of the gradient's length.
STEP, SLOPE_RTOL = 5e-3, 1e-2

FACTORIES = ["tensor", "as_tensor", "zeros", "ones", "full", "empty", "eye", "arange", "linspace", "logspace", "rand", "randn", "randint", "normal", "bernoulli", "zeros_like", "ones_like", "full_like", "empty_like", "rand_like", "randn_like"]  # fmt: skip


def missing() -> str | None:
    """Why there is no GPU to test on, or None; asserts that the one there is speaks Vulkan."""
    os.environ.setdefault("OXON_GPU_ADAPTER", "llvmpipe")
    os.environ.setdefault("XDG_RUNTIME_DIR", os.environ.get("TMPDIR", "/tmp"))
    try:
        ox.ones(1, device="gpu").numpy()
    except ox.DeviceError as error:
        return str(error)
    with pytest.raises(ox.DeviceError, match="vulkan"):  # which only an error tells
        ox.ones(1, device="gpu").double().numpy()
    return None


def here() -> bool:
    return ox.get_default_device() != "cpu"


def _narrow(value: Any) -> Any:
    """float64 as float32, be it a dtype or an array."""
    if isinstance(value, np.ndarray | np.generic) and value.dtype == np.float64:
        return value.astype(np.float32)
    if value is _core.float64 or (isinstance(value, str) and value == "float64") or value is np.float64:
        return ox.float32
    return value


def _narrowed(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        if here() and kwargs.get("device") != "cpu":
            args = tuple(_narrow(a) for a in args)
            kwargs = {name: _narrow(value) for name, value in kwargs.items()}
        return function(*args, **kwargs)

    return call


def _weighted(result: Any) -> ox.Tensor:
    """All float outputs as one number, each element with a weight of its own."""
    outputs = [result] if isinstance(result, ox.Tensor) else list(result)
    total = None
    for n, out in enumerate(outputs):
        if isinstance(out, ox.Tensor) and out.dtype.is_floating_point:
            weights = (np.arange(out.numel()) * 0.7548776662 + 0.5698 * (n + 1)) % 1.0 + 0.5
            part = (out * ox.tensor(weights.reshape(tuple(out.shape))).to(out.dtype)).sum()
            total = part if total is None else total + part
    assert total is not None
    return total


def _gradients(
    function: Callable[..., Any], given: list[Any], device: str, order: int
) -> list[np.ndarray | None]:
    """The gradients of `function` on a device, and with `order=2` those of the gradients."""
    before = ox.get_default_device()
    ox.set_default_device(device)
    try:
        moved = [a.detach().to(device) if isinstance(a, ox.Tensor) else a for a in given]
        places = [i for i, a in enumerate(moved) if isinstance(a, ox.Tensor) and a.dtype.is_floating_point]
        for i in places:
            moved[i] = moved[i].to(ox.float32 if device == "gpu" else _core.float64).detach().requires_grad_()
        leaves = [moved[i] for i in places]
        found = ox.grad(_weighted(function(*moved)), leaves, create_graph=order > 1, allow_unused=True)
        result = list(found)
        again = [g for g in found if g is not None and g.requires_grad]
        if order > 1 and again:
            result += ox.grad(_weighted(again), leaves, allow_unused=True)
        return [None if g is None else g.detach().numpy() for g in result]
    finally:
        ox.set_default_device(before)


def _check_slopes(function: Callable[..., Any], given: list[Any]) -> bool:
    """The GPU's gradients along random directions, against central differences in float32."""
    leaves = [a for a in given if isinstance(a, ox.Tensor) and a.dtype.is_floating_point]
    found = _gradients(function, given, "gpu", 1)
    rng = np.random.default_rng(0)
    for leaf, gradient in zip(leaves, found, strict=True):
        for _ in range(3):
            direction = rng.standard_normal(tuple(leaf.shape))
            ends = []
            for step in (STEP, -STEP):
                moved = leaf.detach() + ox.tensor(direction * step)
                with ox.no_grad():
                    ends.append(_weighted(function(*(moved if a is leaf else a for a in given))).item())
            slope = 0.0 if gradient is None else (gradient * direction).sum()
            length = 0.0 if gradient is None else float(np.linalg.norm(gradient))
            close = SLOPE_RTOL * (length + abs(ends[0]) + 1)
            assert abs((ends[0] - ends[1]) / (2 * STEP) - slope) <= close, (ends, slope, length)
    return True


def check_gradients(function: Callable[..., Any], given: list[Any], order: int = 1) -> bool:
    """The GPU's gradients against the CPU's in float64; against finite differences where the function holds tensors
    of its own, which are on the GPU."""
    try:
        gpu, cpu = (_gradients(function, given, device, order) for device in ("gpu", "cpu"))
    except ox.DeviceError as error:
        if "tensors are on" not in str(error):
            raise
        return _check_slopes(function, given)
    for n, (got, want) in enumerate(zip(gpu, cpu, strict=True)):
        assert (got is None) == (want is None), f"gradient {n} is missing on one device"
        if got is not None:
            np.testing.assert_allclose(
                got, want, rtol=GRADIENT_RTOL, atol=GRADIENT_ATOL, err_msg=f"gradient {n}"
            )
    return True


def turn_on() -> None:
    """Makes the GPU the default device of this process, for good."""
    for name in FACTORIES:
        if hasattr(ox, name):
            setattr(ox, name, _narrowed(getattr(ox, name)))
    tensor: Any = ox.Tensor
    tensor.to = _narrowed(tensor.to)
    double = tensor.double
    tensor.double = lambda x: x.float() if x.device != "cpu" else double(x)
    nn.Module.double = nn.Module.float  # type: ignore[method-assign]
    ox.float64 = ox.float32

    close, approx, check = np.testing.assert_allclose, pytest.approx, ox.gradcheck

    def assert_allclose(
        actual: Any, desired: Any, rtol: float = 1e-7, atol: float = 0, **options: Any
    ) -> None:
        if here():
            rtol, atol = max(rtol, RTOL), max(atol, ATOL)
        close(actual, desired, rtol=rtol, atol=atol, **options)

    def approximately(expected: Any, rel: Any = None, abs: Any = None, nan_ok: bool = False) -> Any:
        if here():
            rel, abs = max(rel or 0, RTOL), max(abs or 0, ATOL)
        return approx(expected, rel=rel, abs=abs, nan_ok=nan_ok)

    def gradcheck(function: Any, inputs: Any, *, order: int = 1, **options: Any) -> bool:
        if not here():
            return check(function, inputs, order=order, **options)
        return check_gradients(function, [inputs] if isinstance(inputs, ox.Tensor) else list(inputs), order)

    np.testing.assert_allclose = assert_allclose
    pytest.approx = approximately
    ox.gradcheck = gradcheck
    ox.set_default_device("gpu")
