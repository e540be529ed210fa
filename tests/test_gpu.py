"""The first slice of the GPU through the whole house: Python, graph, planner, wgpu. Runs on Mesa's software Vulkan;
`OXON_REQUIRE_GPU=1` makes a missing adapter a failure. Kernels have their own tests in Rust."""

from __future__ import annotations

import os

import numpy as np
import oxon as ox
import pytest
from oxon import _core
from table import ROWS

pytestmark = pytest.mark.gpu
os.environ.setdefault("OXON_GPU_ADAPTER", "llvmpipe")
os.environ.setdefault("XDG_RUNTIME_DIR", os.environ.get("TMPDIR", "/tmp"))


@pytest.fixture(scope="module", autouse=True)
def adapter() -> None:
    """Skips, with the reason, where there is no adapter."""
    try:
        ox.ones(1, device="gpu").cpu().numpy()
    except ox.DeviceError as error:
        if os.environ.get("OXON_REQUIRE_GPU") == "1":
            raise
        pytest.skip(str(error))


FLOAT = [name for name, row in _core.ELEMENTWISE.items() if row[2] in ("number", "float", "test", "compare")]


@pytest.mark.parametrize("name", FLOAT)
def test_elementwise_as_on_the_cpu(name: str) -> None:
    rng = np.random.default_rng(0)
    low, high = ROWS[name].domain
    arrays = [rng.uniform(low, high, (5, 33)).astype(np.float32) for _ in range(_core.ELEMENTWISE[name][1])]
    call = getattr(ox, name)
    want = call(*(ox.tensor(a) for a in arrays)).numpy()
    got = call(*(ox.tensor(a).to("gpu") for a in arrays))
    assert got.device == "gpu"
    np.testing.assert_allclose(got.cpu().numpy(), want, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize(
    "shapes", [((4, 5), (5, 3)), ((70, 65), (65, 80)), ((3, 4, 5), (5, 6)), ((2, 1, 8, 4), (3, 4, 9))]
)
def test_matmul_as_on_the_cpu(shapes: tuple[tuple[int, ...], ...]) -> None:
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal(s).astype(np.float32) for s in shapes)
    got = ox.tensor(a).to("gpu") @ ox.tensor(b).to("gpu")
    np.testing.assert_allclose(got.cpu().numpy(), a @ b, rtol=1e-4, atol=1e-5)
    got = (
        ox.tensor(b).to("gpu").mT @ ox.tensor(a).to("gpu").mT
        if len(shapes[0]) == len(shapes[1]) == 2
        else None
    )
    if got is not None:
        np.testing.assert_allclose(got.cpu().numpy(), b.T @ a.T, rtol=1e-4, atol=1e-5)


def test_gradients_of_chains_and_products() -> None:
    x, w = ox.randn(6, 4), ox.randn(4, 3)
    grads = []
    for device in ("cpu", "gpu"):
        a = x.to(device).detach().requires_grad_()
        b = w.to(device).detach().requires_grad_()
        y = ((a @ b) * 2.0 - 1.0).tanh()
        y.backward(ox.ones(6, 3, device=device))
        assert a.grad is not None
        assert b.grad is not None
        grads.append((a.grad.cpu().numpy(), b.grad.cpu().numpy()))
    for cpu, gpu in zip(*grads, strict=True):
        np.testing.assert_allclose(gpu, cpu, rtol=1e-5, atol=1e-6)


def test_the_same_seed_draws_the_same_numbers() -> None:
    for draw in (ox.rand, ox.randn):
        cpu = draw(1000, generator=ox.Generator(5)).numpy()
        gpu = draw(1000, generator=ox.Generator(5), device="gpu").cpu().numpy()
        np.testing.assert_allclose(gpu, cpu, rtol=1e-5, atol=1e-6)
    cpu = ox.randint(0, 100, (50,), generator=ox.Generator(5), dtype="int32").tolist()
    gpu = ox.randint(0, 100, (50,), generator=ox.Generator(5), dtype="int32", device="gpu").cpu().tolist()
    assert gpu == cpu


def test_what_is_missing_says_so() -> None:
    x = ox.ones(2, 3, device="gpu")
    with pytest.raises(ox.DeviceError, match="softmax: not yet on the GPU"):
        x.softmax(-1).cpu().numpy()
    with pytest.raises(ox.DeviceError, match="float64"):
        ox.ones(2, device="gpu", dtype="float64").exp().cpu().numpy()
    with pytest.raises(ox.DeviceError, match="add: tensors are on gpu and on cpu"):
        x + ox.ones(2, 3)
