"""The elementwise table against `tests/table.py`: every dtype, special values, layouts, gradients of first and
second order, promotion, and errors with their text."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import oxon as ox
import pytest
from oxon import _core
from scipy import special
from table import ROWS

FLOATS = ["float16", "bfloat16", "float32", "float64"]
INTS = ["uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64"]
ADMITS = {
    "number": FLOATS + INTS,
    "float": FLOATS,
    "test": FLOATS,
    "compare": [*FLOATS, *INTS, "bool"],
    "bits": [*INTS, "bool"],
    "where": [*FLOATS, *INTS, "bool"],
}
# Relative error admitted by a dtype: some units in the last place.
TOLERANCE = {"float16": 2e-3, "bfloat16": 1.6e-2, "float32": 1e-6, "float64": 1e-13}
# NumPy's bound of a dtype that it lacks.
AS_NUMPY = {"bfloat16": "float32"}

REFUSES = {
    "bitwise_left_shift": {"bool"},
    "bitwise_right_shift": {"bool"},
}
CASES = [
    (name, dtype)
    for name, row in _core.ELEMENTWISE.items()
    for dtype in ADMITS[row[2]]
    if dtype not in REFUSES.get(name, ())
]


def arity(name: str) -> int:
    return _core.ELEMENTWISE[name][1]


def klass(name: str) -> str:
    return _core.ELEMENTWISE[name][2]


def sample(name: str, dtype: str, shape: tuple[int, ...], seed: int = 0) -> list[np.ndarray]:
    """Arguments in an operation's domain, as NumPy arrays that `dtype` holds exactly."""
    rng = np.random.default_rng(seed)
    low, high = ROWS[name].domain
    out = []
    for i in range(arity(name)):
        if (name == "where" and i == 0) or dtype == "bool":
            out.append(rng.random(shape) < 0.5)
        elif dtype in FLOATS:
            x = ox.tensor(rng.uniform(low, high, shape)).to(dtype)
            out.append(x.double().numpy())
        else:
            unsigned = dtype.startswith("u")
            small = "shift" in name and i == 1
            bounds = (0, 7) if small else (0 if unsigned else -11, 12)
            if name in ("pow",) and i == 1:
                bounds = (0, 3)
            out.append(rng.integers(*bounds, shape).astype(dtype))
    return out


def tensors(arrays: list[np.ndarray], dtype: str) -> list[ox.Tensor]:
    return [ox.tensor(a) if a.dtype == bool else ox.tensor(a).to(dtype) for a in arrays]


def call(name: str, *args: Any) -> ox.Tensor:
    return getattr(ox, name)(*args)


def expect(name: str, arrays: list[np.ndarray]) -> np.ndarray:
    with np.errstate(all="ignore"):
        return np.asarray(ROWS[name].reference(*arrays))


def as_float64(x: ox.Tensor) -> np.ndarray:
    return x.detach().double().numpy()


def assert_close(got: ox.Tensor, want: np.ndarray, dtype: str) -> None:
    if dtype in FLOATS and want.dtype != bool:
        scale = TOLERANCE[dtype]
        # The reference is rounded to the dtype, so that overflow to infinity and underflow agree.
        with np.errstate(all="ignore"):
            want = as_float64(ox.tensor(want.astype(np.float64)).to(dtype))
        smallest = float(ox.finfo(dtype).smallest_normal)
        np.testing.assert_allclose(as_float64(got), want, rtol=scale, atol=max(smallest, 1e-9 * scale))
    else:
        np.testing.assert_array_equal(got.numpy(), want)


def test_every_row_has_a_reference() -> None:
    assert set(ROWS) == set(_core.ELEMENTWISE)


@pytest.mark.parametrize(("name", "dtype"), CASES)
def test_forward(name: str, dtype: str) -> None:
    arrays = sample(name, dtype, (7, 37))
    got = call(name, *tensors(arrays, dtype))
    boolean = klass(name) in ("test", "compare")
    assert got.dtype == (ox.bool if boolean else getattr(ox, dtype))
    if name == "nextafter":
        if dtype != "bfloat16":  # which NumPy lacks; every number of it is stepped from below
            np.testing.assert_array_equal(got.numpy(), np.nextafter(*(a.astype(dtype) for a in arrays)))
        return
    want = expect(name, arrays)
    if name.startswith("gelu") and dtype != "float64":
        # 1 + erf(x) cancels where x is very negative: the error is relative to x, not to the result.
        np.testing.assert_allclose(as_float64(got), want, atol=3 * TOLERANCE[dtype])
        return
    assert_close(got, want, dtype)


@pytest.mark.parametrize(("name", "dtype"), [(n, d) for n, dtypes in REFUSES.items() for d in sorted(dtypes)])
def test_refused_dtypes(name: str, dtype: str) -> None:
    with pytest.raises(ox.DTypeError, match=f"{name}: takes .*, not {dtype}"):
        call(name, *[ox.ones(2, dtype=dtype)] * 2)


SPECIAL = np.array(
    [0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 2.0, -2.0, 1e-30, -1e-30, 1e30, 88.8, -104.0, np.inf, -np.inf, np.nan]
)
FLOAT_ROWS = [name for name in ROWS if klass(name) in ("number", "float", "test", "compare")]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", FLOAT_ROWS)
def test_special_values(name: str, dtype: str) -> None:
    grid = [SPECIAL] if arity(name) == 1 else [g.ravel() for g in np.meshgrid(SPECIAL, SPECIAL)]
    native = [g.astype(dtype) for g in grid]
    got = call(name, *(ox.tensor(a) for a in native)).numpy()
    with np.errstate(all="ignore"):
        # In the dtype itself where NumPy's own rounding decides (remainders of huge numbers).
        exact = name in ("floor_divide", "remainder", "fmod", "nextafter")
        want = np.asarray(
            ROWS[name].reference(*(native if exact else [a.astype(np.float64) for a in native]))
        )
        if want.dtype != bool:
            want = want.astype(dtype)
    if name in ("gelu", "silu", "gelu_tanh"):
        # x Φ(x) at −∞ is 0 in the limit and NaN as written; PyTorch gives NaN as well.
        keep = np.isfinite(grid[0])
        got, want = got[keep], want[keep]
    if name == "digamma":
        keep = grid[0] > 1e-20
        got, want = got[keep], want[keep]
    if name == "lgamma":
        # The limit at −∞ is +∞, as C99 has it; SciPy gives −∞.
        assert got[-np.inf == SPECIAL] == np.inf
        got, want = got[-np.inf != SPECIAL], want[-np.inf != SPECIAL]
    if name == "xlogy":
        keep = ~(np.isinf(grid[0]) & np.isnan(want))
        got, want = got[keep], want[keep]
    if want.dtype == bool:
        np.testing.assert_array_equal(got, want)
        return
    smallest = np.finfo(dtype).smallest_normal
    np.testing.assert_allclose(got, want, rtol=TOLERANCE[dtype] * 4, atol=smallest)
    if ox.get_default_device() == "cpu" and name in (  # shaders may ignore the sign of 0
        "neg",
        "abs",
        "sqrt",
        "sin",
        "tan",
        "asin",
        "atan",
        "sinh",
        "tanh",
        "expm1",
        "log1p",
        "trunc",
        "floor",
        "ceil",
        "round",
        "copysign",
        "erf",
        "asinh",
        "atanh",
        "mul",
        "div",
    ):
        zeros = (want == 0) & (got == 0)
        np.testing.assert_array_equal(np.signbit(got[zeros]), np.signbit(want[zeros]), err_msg="signed zeros")


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("towards", [np.inf, -np.inf, 0.0, -1.0, np.nan])
def test_the_next_of_every_half_float(dtype: str, towards: float) -> None:
    patterns = np.arange(2**16, dtype=np.uint16)
    if dtype == "float16":
        numbers = patterns.view(np.float16).astype(np.float32)
    else:
        numbers = (patterns.astype(np.uint32) << 16).view(np.float32)
    got = ox.nextafter(ox.tensor(numbers).to(dtype), ox.tensor(towards).to(dtype)).float().numpy()
    # All numbers in order: the next is the neighbour.
    line = np.unique(numbers[~np.isnan(numbers)])
    place = np.searchsorted(line, numbers)
    with np.errstate(invalid="ignore"):
        step = np.nan_to_num(np.sign(towards - numbers)).astype(int)
    want = line[np.clip(place + step, 0, len(line) - 1)]
    want = np.where(np.isnan(numbers) | np.isnan(towards), np.nan, want)
    want = np.where(numbers == towards, towards, want)
    np.testing.assert_array_equal(got, want)


# Slopes where they are easily got wrong: far out, at infinities, at 0 and at the smallest numbers.
FAR = np.array([1e30, -1e30, 1e10, -1e10, 300.0, -300.0, np.inf, -np.inf, 0.0, -0.0, 1e-40, -1e-40, 1e-30])


def _normal(x: Any) -> Any:
    return np.exp(-0.5 * x * x) / np.sqrt(2 * np.pi)


def _logistic(x: Any) -> Any:
    return special.expit(x)


def _gelu_tanh_slope(x: Any) -> Any:
    x = np.clip(x, -30, 30)
    c, k = np.sqrt(2 / np.pi), 0.044715
    t = np.tanh(c * (x + k * x**3))
    return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * c * (1 + 3 * k * x * x)


SLOPES: dict[str, Any] = {
    "neg": lambda x: -np.ones_like(x),
    "abs": np.sign,
    "square": lambda x: 2 * x,
    "relu": lambda x: (x > 0) * 1.0,
    "sqrt": lambda x: 0.5 / np.sqrt(x),
    "rsqrt": lambda x: -0.5 / (x * np.sqrt(x)),
    "reciprocal": lambda x: -1 / (x * x),
    "exp": np.exp,
    "exp2": lambda x: np.exp2(x) * np.log(2),
    "expm1": np.exp,
    "log": lambda x: 1 / x,
    "log2": lambda x: 1 / (x * np.log(2)),
    "log10": lambda x: 1 / (x * np.log(10)),
    "log1p": lambda x: 1 / (1 + x),
    "sin": np.cos,
    "cos": lambda x: -np.sin(x),
    "tan": lambda x: 1 + np.tan(x) ** 2,
    "asin": lambda x: 1 / np.sqrt(1 - x * x),
    "acos": lambda x: -1 / np.sqrt(1 - x * x),
    "atan": lambda x: 1 / (1 + x * x),
    "sinh": np.cosh,
    "cosh": np.sinh,
    "tanh": lambda x: 1 / np.cosh(x) ** 2,
    "asinh": lambda x: 1 / np.sqrt(1 + x * x),
    "acosh": lambda x: np.where(x >= 1, 1 / np.sqrt(x * x - 1), np.nan),
    "atanh": lambda x: 1 / (1 - x * x),
    "erf": lambda x: 2 / np.sqrt(np.pi) * np.exp(-x * x),
    "erfc": lambda x: -2 / np.sqrt(np.pi) * np.exp(-x * x),
    "erfinv": lambda x: np.sqrt(np.pi) / 2 * np.exp(special.erfinv(x) ** 2),
    "lgamma": lambda x: np.where(x > 1e-20, special.digamma(x), np.nan),
    "sigmoid": lambda x: _logistic(x) * _logistic(-x),
    "logsigmoid": lambda x: _logistic(-x),
    "softplus": _logistic,
    # At infinity PyTorch gives NaN to both, as the formulas do.
    "silu": lambda x: _logistic(x) + x * _logistic(x) * _logistic(-x),
    "gelu": lambda x: special.ndtr(x) + x * _normal(x),
    "gelu_tanh": _gelu_tanh_slope,
    **dict.fromkeys(("sign", "floor", "ceil", "trunc", "round"), np.zeros_like),
}
PARTIALS: dict[str, Any] = {
    "add": (lambda a, b: 1 + 0 * a, lambda a, b: 1 + 0 * b),
    "sub": (lambda a, b: 1 + 0 * a, lambda a, b: -1 + 0 * b),
    "mul": (lambda a, b: b, lambda a, b: a),
    "div": (lambda a, b: 1 / b, lambda a, b: -a / b / b),
    "atan2": (lambda a, b: b / (a * a + b * b), lambda a, b: -a / (a * a + b * b)),
    "hypot": (lambda a, b: a / np.hypot(a, b), lambda a, b: b / np.hypot(a, b)),
    "logaddexp": (lambda a, b: _logistic(a - b), lambda a, b: _logistic(b - a)),
    "xlogy": (
        lambda a, b: np.where((a == 0) & (b <= 0), 0, np.log(b)),
        lambda a, b: np.where(a == b, np.nan, a / b),
    ),
    "maximum": (lambda a, b: (a > b) + 0.5 * (a == b), lambda a, b: (b > a) + 0.5 * (a == b)),
    "minimum": (lambda a, b: (a < b) + 0.5 * (a == b), lambda a, b: (b < a) + 0.5 * (a == b)),
}


def slopes(name: str, arrays: list[np.ndarray], dtype: str) -> list[np.ndarray]:
    leaves = [ox.tensor(a).to(dtype).requires_grad_() for a in arrays]
    call(name, *leaves).backward(ox.ones(len(arrays[0]), dtype=dtype))
    return [as_float64(leaf.grad) for leaf in leaves]


def assert_slopes(got: np.ndarray, want: np.ndarray, dtype: str, at: Any) -> None:
    """Where there is a slope it is given, to within some roundings; where there is none, anything is."""
    with np.errstate(all="ignore"):
        want = as_float64(ox.tensor(np.asarray(want, np.float64)).to(dtype))
    known = ~np.isnan(want)
    # What a square takes out of the dtype's range is 0 or infinite, here as in PyTorch.
    low, high = {"float16": (4e-3, 6e4), "bfloat16": (1e-18, 1e38), "float32": (1e-18, 1e38)}[dtype]
    same = np.isclose(got, want, rtol=8 * TOLERANCE[dtype], atol=low) | (np.abs(want) > high)
    wrong = [
        (*x, g, w)
        for *x, g, w, ok in zip(*at, got, want, same & ~np.isnan(got) | ~known, strict=True)
        if not ok
    ]
    assert not wrong, wrong


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("name", list(SLOPES))
def test_slopes_far_out(name: str, dtype: str) -> None:
    x = as_float64(ox.tensor(FAR).to(dtype))
    with np.errstate(all="ignore"):
        want = SLOPES[name](x)
    assert_slopes(slopes(name, [x], dtype)[0], want, dtype, [x])


@pytest.mark.parametrize("name", list(PARTIALS))
@pytest.mark.cpu("GPUs may take subnormal numbers for 0")
def test_partial_slopes_far_out(name: str) -> None:
    a, b = (as_float64(ox.tensor(g.ravel()).float()) for g in np.meshgrid(FAR, FAR))
    for got, partial in zip(slopes(name, [a, b], "float32"), PARTIALS[name], strict=True):
        with np.errstate(all="ignore"):
            want = partial(a, b)
        assert_slopes(got, want, "float32", [a, b])


def test_slopes_are_known_for_every_smooth_operation() -> None:
    table = {name for name, row in _core.ELEMENTWISE.items() if row[3]}
    # Steps and remainders have the slopes of their pieces; powers have a test of their own.
    assert table - set(SLOPES) - set(PARTIALS) == {
        *("floor_divide", "remainder", "fmod", "pow", "copysign", "where"),
    }


def layouts() -> dict[str, Any]:
    """Ways to see a (6, 8) array as another of shape (4, 3): name to a function for arrays and tensors."""
    return {
        "transposed": lambda x: x[:3, :4].T,
        "strided": lambda x: x[1:5, 1:7:2],
        "reversed": lambda x: (x.flip(0) if isinstance(x, ox.Tensor) else x[::-1])[:4, :3],
        "row broadcast": lambda x: (
            x[0, :3].expand(4, 3) if isinstance(x, ox.Tensor) else np.broadcast_to(x[0, :3], (4, 3))
        ),
        "column broadcast": lambda x: (
            x[:4, :1].expand(4, 3) if isinstance(x, ox.Tensor) else np.broadcast_to(x[:4, :1], (4, 3))
        ),
        "negative step": lambda x: x[5:1:-1, 6:0:-2],
    }


@pytest.mark.parametrize("view", list(layouts()))
@pytest.mark.parametrize("name", list(ROWS))
def test_layouts(name: str, view: str) -> None:
    dtype = "int32" if klass(name) == "bits" else "float64"
    arrays = sample(name, dtype, (6, 8))
    see = layouts()[view]
    got = call(name, *(see(t) for t in tensors(arrays, dtype)))
    assert got.shape == (4, 3)
    assert_close(got, expect(name, [see(a) for a in arrays]), dtype)


@pytest.mark.parametrize("name", list(ROWS))
def test_broadcast_0d_and_empty(name: str) -> None:
    dtype = "int32" if klass(name) == "bits" else "float64"
    arrays = sample(name, dtype, (3, 1, 4))
    parts = [arrays[0], *(a[0, 0][:, None] for a in arrays[1:])]
    got = call(name, *tensors(parts, dtype))
    assert_close(got, expect(name, parts), dtype)
    scalars = [a[0, 0, 0] for a in arrays]
    got = call(name, *tensors([np.asarray(s) for s in scalars], dtype))
    assert got.shape == ()
    assert_close(got, expect(name, [np.asarray(s) for s in scalars]), dtype)
    empty = call(name, *(t[:0] for t in tensors(arrays, dtype)))
    assert empty.shape == (0, 1, 4)
    assert empty.numpy().shape == (0, 1, 4)


@pytest.mark.parametrize("name", [n for n, row in ROWS.items() if _core.ELEMENTWISE[n][3]])
def test_gradients(name: str) -> None:
    row = ROWS[name]
    arrays = sample(name, "float64", (2, 3), seed=3)
    given = tensors(arrays, "float64")
    assert ox.gradcheck(lambda *a: call(name, *a), given, order=max(row.order, 1))
    if arity(name) == 2:
        # Broadcast arguments sum their gradients; a number has none.
        assert ox.gradcheck(lambda a, b: call(name, a, b), [given[0], given[1][0]])
        assert ox.gradcheck(lambda a: call(name, a, 1.7), given[0])
        assert ox.gradcheck(lambda b: call(name, 1.7, b), given[1])


@pytest.mark.parametrize(("name", "reference"), [("sin", math.sin), ("cos", math.cos), ("tan", math.tan)])
@pytest.mark.cpu("float64")
def test_angles_beside_multiples_of_a_quarter_turn(name: str, reference: Callable[[float], float]) -> None:
    # What is left after the turns is tiny, and needs all the digits of π/2 that there are.
    x = np.arange(1, 600_000, 293) * (math.pi / 2)
    expected = [reference(angle) for angle in x.tolist()]
    np.testing.assert_allclose(getattr(ox, name)(ox.tensor(x)).numpy(), expected, rtol=1e-14)


@pytest.mark.parametrize("name", ["maximum", "minimum"])
def test_ties_share_the_gradient(name: str) -> None:
    a, b = (ox.tensor(x, requires_grad=True) for x in ([1.0, 2.0, 3.0], [3.0, 2.0, 1.0]))
    getattr(ox, name)(a, b).sum().backward()
    first, second = [0.0, 0.5, 1.0], [1.0, 0.5, 0.0]
    expected = [first, second] if name == "maximum" else [second, first]
    assert [a.grad.tolist(), b.grad.tolist()] == expected


@pytest.mark.parametrize("name", [n for n, row in _core.ELEMENTWISE.items() if not row[3]])
def test_not_differentiable_means_no_history(name: str) -> None:
    if klass(name) == "bits":
        with pytest.raises(ox.DTypeError, match=f"{name}: takes integers or bool, not float32"):
            call(name, *[ox.ones(2, requires_grad=True)] * arity(name))
        return
    assert not call(name, *[ox.ones(2, requires_grad=True)] * arity(name)).requires_grad


@pytest.mark.parametrize("name", [n for n in ROWS if arity(n) == 2])
def test_operands_that_do_not_fit(name: str) -> None:
    with pytest.raises(ox.ShapeError, match=rf"{name}: shapes \(2, 3\) and \(4,\) do not broadcast"):
        call(name, ox.ones(2, 3, dtype="int32"), ox.ones(4, dtype="int32"))
    with pytest.raises(TypeError, match=f"{name}: expected a tensor or a number, got str"):
        call(name, ox.ones(2), "two")


@pytest.mark.parametrize(
    "name", [n for n in ROWS if klass(n) == "number" and n not in ("add", "mul", "maximum", "minimum")]
)
def test_bool_is_no_number(name: str) -> None:
    with pytest.raises(ox.DTypeError, match=f"{name}: bool is not a number"):
        call(name, *[ox.tensor([True])] * arity(name))


def test_bool_sums_and_products_are_logical() -> None:
    a, b = ox.tensor([True, True, False]), ox.tensor([True, False, False])
    assert (a + b).tolist() == [True, True, False]
    assert (a * b).tolist() == [True, False, False]


@pytest.mark.parametrize("a", [*FLOATS, *INTS, "bool"])
@pytest.mark.parametrize("b", [*FLOATS, *INTS, "bool"])
def test_promotion_follows_the_array_api(a: str, b: str) -> None:
    got = ox.result_type(ox.zeros(1, dtype=a), ox.zeros(1, dtype=b)).name
    assert got == ox.result_type(getattr(ox, b), getattr(ox, a)).name
    if "bfloat16" in (a, b) or ({a, b} & set(FLOATS) and {a, b} & {*INTS}):
        return
    if "uint64" in (a, b) and {a, b} & {"int8", "int16", "int32", "int64"}:
        assert got == "float32"
        return
    assert got == np.result_type(a, b).name


@pytest.mark.parametrize("dtype", [*FLOATS, *INTS])
def test_python_numbers_are_weak(dtype: str) -> None:
    x = ox.ones(2, dtype=dtype)
    assert (x + 1).dtype == x.dtype
    assert (x * True).dtype == x.dtype
    assert (x + 1.5).dtype == (x.dtype if dtype in FLOATS else ox.float32)


def test_numbers_that_do_not_fit_are_errors() -> None:
    with pytest.raises(ValueError, match="add: the number 300 does not fit uint8"):
        ox.ones(2, dtype="uint8") + 300


@pytest.mark.parametrize("dtype", INTS)
def test_integers_wrap_and_division_by_zero_is_stated(dtype: str) -> None:
    info = np.iinfo(dtype)
    x = ox.tensor(np.array([info.max, info.min], dtype=dtype))
    assert (x + 1).tolist() == [info.min, info.min + 1]
    zero = ox.zeros(2, dtype=dtype)
    assert (x // zero).tolist() == [0, 0]
    assert (x % zero).tolist() == [0, 0]
    if not dtype.startswith("u"):
        assert (x // -1).tolist() == [-info.max, info.min]
    wide = ox.full(2, info.bits, dtype=dtype)
    assert (x << wide).tolist() == [0, 0]
    assert (x >> wide).tolist() == [0, -1 if info.min < 0 else 0]
