"""The structured operations against `tests/structured.py`: values, gradients, dtypes, layouts, empty inputs."""

from __future__ import annotations

from typing import Any

import numpy as np
import oxon as ox
import pytest
from oxon import _core
from structured import CASES, ELSEWHERE, METHODS_ELSEWHERE, inputs_of

ALL = [(name, i) for name, cases in CASES.items() for i in range(len(cases))]
FLOATING = [(n, i) for n, i in ALL if all(a.dtype.kind == "f" for a in inputs_of(CASES[n][i]))]


def tensors(arrays: list[np.ndarray]) -> list[ox.Tensor]:
    return [ox.tensor(a) for a in arrays]


def check(got: ox.Tensor, want: Any, rtol: float, atol: float) -> None:
    want = np.asarray(want)
    assert tuple(got.shape) == want.shape
    np.testing.assert_allclose(got.detach().double().numpy(), want, rtol=rtol, atol=atol)


def test_every_public_operation_has_a_case() -> None:
    functions = {n for n in dir(_core) if not n.startswith("_") and callable(getattr(_core, n))}
    methods = {n for n in dir(_core.Tensor) if not n.startswith("_")}
    known = set(CASES) | set(_core.ELEMENTWISE)
    assert functions - known - ELSEWHERE == set()
    assert methods - known - METHODS_ELSEWHERE == set()
    assert set(CASES) <= functions | methods


@pytest.mark.parametrize(("name", "i"), ALL)
def test_forward(name: str, i: int) -> None:
    case = CASES[name][i]
    arrays = inputs_of(case)
    check(case.call(*tensors(arrays)), case.reference(*arrays), 1e-10, 1e-12)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize(("name", "i"), FLOATING)
def test_other_floats(name: str, i: int, dtype: str) -> None:
    case = CASES[name][i]
    if name == "batch_norm" or name == "type_as":
        pytest.skip("the case fixes float64")
    arrays = [ox.tensor(a).to(dtype).double().numpy() for a in inputs_of(case)]
    got = case.call(*(ox.tensor(a).to(dtype) for a in arrays))
    tolerance = {"float32": 3e-5, "float16": 2e-2, "bfloat16": 1.5e-1}[dtype]
    check(got, case.reference(*arrays), tolerance, tolerance)


@pytest.mark.parametrize(("name", "i"), ALL)
def test_strided_inputs(name: str, i: int) -> None:
    case = CASES[name][i]
    arrays = inputs_of(case)
    wide = []
    for a in arrays:
        # Every second element of a larger array, reversed along its first axis.
        big = np.zeros(tuple(2 * n for n in a.shape), a.dtype)
        big[tuple(slice(None, None, 2) for _ in a.shape)] = a[::-1] if a.ndim else a
        view = ox.tensor(big)[tuple(slice(None, None, 2) for _ in a.shape)]
        wide.append(view.flip(0) if a.ndim else view)
    check(case.call(*wide), case.reference(*arrays), 1e-10, 1e-12)


@pytest.mark.parametrize(("name", "i"), [(n, i) for n, i in ALL if CASES[n][i].order > 0])
def test_gradients(name: str, i: int) -> None:
    case = CASES[name][i]
    assert ox.gradcheck(case.call, tensors(inputs_of(case, seed=1)), order=case.order)


@pytest.mark.parametrize(("name", "i"), [(n, i) for n, i in ALL if CASES[n][i].order == 0 and n != "type_as"])
def test_not_differentiable(name: str, i: int) -> None:
    case = CASES[name][i]
    leaves = [t.requires_grad_() if t.is_floating_point() else t for t in tensors(inputs_of(case))]
    assert not case.call(*leaves).requires_grad or name in ("unique", "unique_all")


@pytest.mark.parametrize(("name", "i"), ALL)
def test_unfused_is_the_same_bit_for_bit(name: str, i: int) -> None:
    case = CASES[name][i]

    def run() -> np.ndarray:
        given = [
            t.float() if t.is_floating_point() and name not in ("batch_norm", "type_as") else t
            for t in tensors(inputs_of(case))
        ]
        # A chain before, and a chain behind.
        given = [(t * 1.5 - 0.25) if t.is_floating_point() else t for t in given]
        out = case.call(*given)
        return (out * 2 + 1).numpy() if out.is_floating_point() else out.numpy()

    fused = run()
    before = ox.set_fuse(False)
    try:
        unfused = run()
    finally:
        ox.set_fuse(before)
    np.testing.assert_array_equal(fused, unfused)


EMPTY = {
    "sum": (lambda x: x.sum(0), (0, 3), np.zeros(3)),
    "prod": (lambda x: x.prod(0), (0, 3), np.ones(3)),
    "mean": (lambda x: x.mean(0), (0, 3), np.full(3, np.nan)),
    "logsumexp": (lambda x: x.logsumexp(0), (0, 3), np.full(3, -np.inf)),
    "matmul": (lambda x: x.T @ x, (0, 3), np.zeros((3, 3))),
    "cumsum": (lambda x: x.cumsum(0), (0, 3), np.zeros((0, 3))),
    "softmax": (lambda x: x.softmax(-1), (0, 3), np.zeros((0, 3))),
    "sort": (lambda x: x.sort(0)[0], (0, 3), np.zeros((0, 3))),
    "cat": (lambda x: ox.cat([x, x]), (0, 3), np.zeros((0, 3))),
    "conv2d": (lambda x: ox.conv2d(x, ox.ones(2, 3, 1, 1).double()), (0, 3, 4, 4), np.zeros((0, 2, 4, 4))),
    "max_pool2d": (lambda x: ox.max_pool2d(x, 2), (0, 3, 4, 4), np.zeros((0, 3, 2, 2))),
    "layer_norm": (lambda x: ox.layer_norm(x, 3), (0, 3), np.zeros((0, 3))),
    "gather": (lambda x: x.gather(0, ox.zeros(0, 3, dtype="int64")), (0, 3), np.zeros((0, 3))),
    "nonzero": (lambda x: x.nonzero(), (0, 3), np.zeros((0, 2))),
    "flip": (lambda x: x.flip(0), (0, 3), np.zeros((0, 3))),
}


@pytest.mark.parametrize("name", list(EMPTY))
@pytest.mark.filterwarnings("ignore")
def test_zero_size_inputs(name: str) -> None:
    call, shape, want = EMPTY[name]
    check(call(ox.zeros(*shape, dtype="float64")), want, 0, 0)


def test_extremes_of_nothing_are_errors() -> None:
    for call in (lambda x: x.amax(0), lambda x: x.min(), lambda x: x.argmax(0)):
        with pytest.raises(ValueError, match="size 0"):
            call(ox.zeros(0, 3))


NAN = np.array([1.0, np.nan, 3.0, -np.inf])


def test_nan_and_infinities() -> None:
    x = ox.tensor(NAN)
    assert np.isnan(x.sum().item())
    assert np.isnan(x.amax().item())
    assert np.isnan(x.max(0)[0].item())
    assert x.argmax().item() == 1
    assert x.argmin().item() == 1
    assert np.isnan(x.softmax(0).numpy()).all()
    assert x.sort()[0].tolist()[:3] == [-np.inf, 1.0, 3.0]
    assert np.isnan(x.sort()[0].tolist()[3])
    assert np.isnan(x.cummax(0).tolist()[2])
    assert ox.tensor([-np.inf, -np.inf]).logsumexp(0).item() == -np.inf
    assert ox.tensor([np.inf, 1.0]).logsumexp(0).item() == np.inf
    assert ox.max_pool2d(ox.tensor(NAN.reshape(1, 1, 2, 2)), 2).isnan().all()


INTEGERS = ["uint8", "int8", "int16", "uint16", "int32", "uint32", "int64", "uint64"]


@pytest.mark.parametrize("dtype", INTEGERS)
def test_integers(dtype: str) -> None:
    a = np.arange(12, dtype=dtype).reshape(3, 4)
    x = ox.tensor(a)
    assert x.dtype.name == dtype
    np.testing.assert_array_equal(x.sum(0).numpy(), a.sum(0))
    np.testing.assert_array_equal((x @ x.T).numpy(), a @ a.T)
    np.testing.assert_array_equal(x.amax(1).numpy(), a.max(1))
    np.testing.assert_array_equal(x.cumsum(1).numpy(), a.cumsum(1))
    np.testing.assert_array_equal(x.flip(0).sort(0)[0].numpy(), a)
    np.testing.assert_array_equal(x.prod(0).numpy(), a.prod(0))
    np.testing.assert_array_equal(x[[2, 0]].numpy(), a[[2, 0]])
    np.testing.assert_array_equal(ox.cat([x, x]).numpy(), np.concatenate([a, a]))
    np.testing.assert_array_equal(x.mean().item(), np.float32(a.mean()))


def observe(result: Any) -> None:
    """What a GPU finds while it runs is an error where the result is observed."""
    for tensor in result if isinstance(result, tuple) else [result]:
        tensor.detach().numpy()


ERRORS = [
    (
        lambda: ox.ones(64, 128) @ ox.ones(100, 10),
        ox.ShapeError,
        r"matmul: \(64, 128\) @ \(100, 10\): inner sizes differ \(128 vs 100\)",
    ),
    (lambda: ox.ones(3) @ ox.tensor(1.0), ox.ShapeError, "matmul: .*0-d"),
    (lambda: ox.ones(2, 3, 4) @ ox.ones(5, 4, 2), ox.ShapeError, "matmul: .*leading sizes"),
    (lambda: ox.ones(2, 3).reshape(4), ox.ShapeError, r"reshape: \(2, 3\) has 6 elements, \(4,\) takes 4"),
    (lambda: ox.ones(2, 3).reshape(-1, -1), ox.ShapeError, "reshape: only one size"),
    (lambda: ox.ones(2, 3).sum(2), IndexError, "sum: axis 2 is out of range for a tensor of 2 axes"),
    (lambda: ox.ones(2, 3).sum((0, 0)), ValueError, "sum: axis 0 is named twice"),
    (lambda: ox.ones(2, 3).permute(0, 0), ValueError, "permute"),
    (lambda: ox.cat([ox.ones(2, 3), ox.ones(2, 4)]), ox.ShapeError, "cat: .*axis 0"),
    (lambda: ox.cat([]), ValueError, "cat: at least one"),
    (lambda: ox.stack([ox.ones(2), ox.ones(3)]), ox.ShapeError, "stack: shapes"),
    (lambda: ox.ones(3, 4).gather(0, ox.zeros(3, 4)), ox.DTypeError, "indices must be integers"),
    (lambda: ox.ones(3)[ox.tensor([5])], IndexError, "index 5 is out of range for axis 0 of size 3"),
    (lambda: ox.ones(3)[3], IndexError, "index: 3 is out of range for axis 0 of size 3"),
    (lambda: ox.ones(3)[0, 0], IndexError, r"index: 2 indices for a tensor of shape \(3,\)"),
    (lambda: ox.ones(3)["a"], IndexError, "index: str is no index"),
    (
        lambda: ox.conv2d(ox.ones(8, 3, 5, 5), ox.ones(4, 3, 7, 7)),
        ox.ShapeError,
        "conv2d: input .*smaller than",
    ),
    (
        lambda: ox.conv2d(ox.ones(8, 3, 5, 5), ox.ones(16, 4, 3, 3)),
        ox.ShapeError,
        "conv2d: input has 3 channels",
    ),
    (lambda: ox.linear(ox.ones(2, 3), ox.ones(4, 5)), ox.ShapeError, "linear: input"),
    (lambda: ox.cross_entropy(ox.ones(2, 3), ox.tensor([0, 3])), IndexError, "cross_entropy: .*3"),
    (lambda: ox.layer_norm(ox.ones(2, 3), 4), ox.ShapeError, "layer_norm"),
    (lambda: ox.einsum("ij,jk->ik", ox.ones(2, 3), ox.ones(4, 5)), ox.ShapeError, "einsum"),
    (lambda: ox.ones(3).topk(4), Exception, "topk"),
    (
        lambda: ox.pad(ox.ones(3), (3, 0), "reflect"),
        ValueError,
        r'pad: \(3, 0\) is more than mode "reflect" has',
    ),
    (lambda: ox.pad(ox.ones(3), (-1, 0), "circular"), ValueError, 'pad: mode "circular" takes no negative'),
    (
        lambda: ox.conv_transpose1d(ox.ones(1, 1, 3), ox.ones(1, 1, 2), stride=2, output_padding=2),
        ValueError,
        "output_padding 2 must be smaller than stride 2 or dilation 1",
    ),
    (lambda: ox.zeros(-1), ox.ShapeError, "zeros: size -1 is negative"),
    (lambda: ox.arange(0, 5, 0), ValueError, "arange: step must not be 0"),
    (lambda: ox.tensor([[1, 2], [3]]), ox.ShapeError, "ragged"),
    (lambda: ox.ones(2, dtype="complex64"), ox.DTypeError, "complex64 is reserved"),
    (lambda: ox.ones(2, dtype="float8"), ox.DTypeError, "float8"),
    (lambda: ox.ones(2, device="tpu"), ox.DeviceError, 'device "tpu" is unknown'),
]


@pytest.mark.parametrize(
    ("stride", "dilation", "extra"), [(1, 2, 1), (2, 3, 2), (1, 3, 2), (3, 1, 2), (2, 5, 4)]
)
@pytest.mark.parametrize("padding", [0, 1])
def test_output_padding_beyond_the_stride(stride: int, dilation: int, extra: int, padding: int) -> None:
    """A transposed convolution is the adjoint of the convolution that makes its input's size, whatever was added to
    its output: `extra` may make that convolution a step longer, over places that are 0."""
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((2, 3, 4)), rng.standard_normal((3, 2, 3))
    size = (4 - 1) * stride - 2 * padding + dilation * 2 + 1 + extra
    want = np.zeros((2, 2, size + 2 * padding))
    for i in range(4):
        for k in range(3):
            want[:, :, i * stride + k * dilation] += x[:, :, i] @ w[:, :, k]
    want = want[:, :, padding : padding + size]

    def call(x: ox.Tensor, w: ox.Tensor) -> ox.Tensor:
        return ox.conv_transpose1d(
            x, w, stride=stride, padding=padding, dilation=dilation, output_padding=extra
        )

    np.testing.assert_allclose(call(ox.tensor(x), ox.tensor(w)).numpy(), want, atol=1e-12)
    assert ox.gradcheck(call, [ox.tensor(x), ox.tensor(w)])


def test_the_spread_of_equal_numbers_has_the_slope_0() -> None:
    x = ox.ones(3, requires_grad=True)
    x.std().backward()
    assert x.grad.tolist() == [0, 0, 0]


def test_nothing_rolls_to_nothing() -> None:
    assert ox.zeros(0, 3).roll(1, 0).shape == (0, 3)


@pytest.mark.parametrize("i", range(len(ERRORS)))
def test_errors_name_what_was_wrong(i: int) -> None:
    call, kind, text = ERRORS[i]
    if kind is IndexError and "cross_entropy" in text and ox.get_default_device() != "cpu":
        text = "index 3 is out of range"  # of the kernel that reads, which does not know for whom
    with pytest.raises(kind, match=text):
        observe(call())
