"""The tensor as an object: making it, indexing it as NumPy's arrays, printing it, Python's numbers, NumPy,
DLPack, buffers, pickles, and random numbers. What it computes is tested elsewhere."""

from __future__ import annotations

import array
import copy
import ctypes
import gc
import io
import pickle
import weakref
from typing import Any

import numpy as np
import oxon as ox
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from scipy import stats

NATIVE = [d for d in ox._core.DTYPES if d != "bfloat16"]
INTS = [d for d in NATIVE if "int" in d]
FLOATS = ["float16", "bfloat16", "float32", "float64"]


def same(t: ox.Tensor, a: Any) -> None:
    """Shape, dtype and elements, bit for bit."""
    a = np.asarray(a)
    got = t.numpy()
    assert tuple(t.shape) == got.shape == a.shape
    assert got.dtype == a.dtype
    assert got.tobytes() == a.tobytes()


# Making tensors.


@pytest.mark.parametrize("dtype", ox._core.DTYPES)
def test_creation_in_every_dtype(dtype: str) -> None:
    for made, value in ((ox.zeros, 0), (ox.ones, 1)):
        x = made(2, 3, dtype=dtype)
        assert x.dtype.name == dtype
        assert x.shape == (2, 3)
        assert x.tolist() == [[value] * 3] * 2
        assert all(
            type(v) is type((x.dtype.is_floating_point and 1.0) or (dtype == "bool") or 1)
            for v in x[0].tolist()
        )
    assert ox.full((2,), 1, dtype=dtype).tolist() == [1, 1]
    assert ox.eye(2, 3, k=1, dtype=dtype).tolist() == [[0, 1, 0], [0, 0, 1]]
    assert ox.zeros_like(ox.ones(2, dtype=dtype)).dtype.name == dtype
    assert ox.empty(0, 5, dtype=dtype).shape == (0, 5)
    assert ox.full_like(ox.ones(2), 1, dtype=dtype).dtype.name == dtype
    assert ox.ones_like(ox.ones(2, dtype=dtype)).tolist() == [1, 1]
    assert ox.tensor([1, 0], dtype=dtype).tolist() == [1, 0]
    assert getattr(ox, dtype).itemsize * 2 == ox.ones(2, dtype=dtype).nbytes


def test_sizes_in_every_spelling() -> None:
    want = (2, 3)
    assert ox.zeros(2, 3).shape == ox.zeros((2, 3)).shape == ox.zeros([2, 3]).shape == want
    assert ox.zeros(ox.ones(2, 3).shape).shape == ox.zeros(np.int64(2), ox.tensor(3)).shape == want
    assert ox.zeros(()).shape == ox.zeros().shape == ()


def test_default_dtypes() -> None:
    for value, dtype in (
        (1, "int64"),
        (1.0, "float32"),
        (True, "bool"),
        ([1, 2.0], "float32"),
        ([True, 2], "int64"),
        ([], "float32"),
        (2**63, "uint64"),
        (np.float64(1), "float32"),
        (np.ones(2), "float64"),
        (np.ones(2, "f2"), "float16"),
        (range(3), "int64"),
        ((i * 1.0 for i in range(3)), "float32"),
        ([ox.tensor(1.0), 2], "float32"),
    ):
        assert ox.tensor(value).dtype.name == dtype


@given(st.integers(-5, 5), st.integers(-5, 5), st.integers(-3, 3))
def test_arange_of_integers(start: int, stop: int, step: int) -> None:
    assume(step != 0)
    same(ox.arange(start, stop, step), np.arange(start, stop, step))


@given(st.floats(-5, 5), st.floats(-5, 5), st.integers(0, 12), st.booleans())
def test_arange_and_linspace_of_floats(start: float, stop: float, num: int, endpoint: bool) -> None:
    got = ox.linspace(start, stop, num, endpoint=endpoint, dtype="float64")
    np.testing.assert_allclose(
        got.numpy(), np.linspace(start, stop, num, endpoint=endpoint), rtol=1e-14, atol=1e-14
    )
    if num > 1 and endpoint:
        assert got[-1].item() == stop
    step = 0.25
    np.testing.assert_array_equal(
        ox.arange(start, stop, step, dtype="float64").numpy(), np.arange(start, stop, step)
    )


def test_limits() -> None:
    for dtype in ("float16", "float32", "float64"):
        ours, theirs = ox.finfo(dtype), np.finfo(dtype)
        assert (ours.bits, ours.eps, ours.max, ours.min, ours.smallest_normal) == (
            theirs.bits, theirs.eps, theirs.max, theirs.min, theirs.smallest_normal
        )  # fmt: skip
    assert ox.finfo(ox.bfloat16).eps == 2**-7
    assert ox.finfo(ox.bfloat16).smallest_normal == 2**-126
    for dtype in INTS:
        ours, theirs = ox.iinfo(dtype), np.iinfo(dtype)
        assert (ours.bits, ours.max, ours.min) == (theirs.bits, theirs.max, theirs.min)
        assert ox.tensor([ours.min, ours.max], dtype=dtype).tolist() == [ours.min, ours.max]
        for out in (ours.min - 1, ours.max + 1):
            with pytest.raises((ValueError, OverflowError), match="fit"):
                ox.tensor([out], dtype=dtype)


@pytest.mark.parametrize(
    ("data", "kind", "text"),
    [
        ([[1], [2, 3]], ox.ShapeError, "ragged"),
        ([1, [2]], ox.ShapeError, "ragged"),
        ([[1], 2], ox.ShapeError, "ragged"),
        ("12", TypeError, "str holds no numbers"),
        ({1: 2}, TypeError, "dict holds no numbers"),
        (None, TypeError, "NoneType"),
        ([1 + 2j], TypeError, "complex"),
        (np.array([1j]), ox.DTypeError, "complex128"),
        (np.array(["a"]), ox.DTypeError, "<U1"),
        (np.longdouble(1), ox.DTypeError, "float128"),
        ([ox.ones(2)], TypeError, "use `stack` or `cat`"),
        (2**64, OverflowError, "64 bits"),
    ],
)
def test_what_is_no_tensor(data: Any, kind: type[Exception], text: str) -> None:
    with pytest.raises(kind, match=text):
        ox.tensor(data)


def test_too_deep_a_nest() -> None:
    deep: Any = 1
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(ValueError, match="deeper than"):
        ox.tensor(deep)
    itself: list[Any] = []
    itself.append(itself)
    with pytest.raises(ValueError, match="deeper than"):
        ox.tensor(itself)


# Dtypes.


def test_dtype_objects() -> None:
    for name in ox._core.DTYPES:
        dtype = getattr(ox, name)
        assert str(dtype) == f"oxon.{name}"
        assert ox.ones(1, dtype=dtype).dtype is dtype
        assert ox.ones(1, dtype=str(dtype)).dtype == dtype
        assert pickle.loads(pickle.dumps(dtype)) is copy.deepcopy(dtype) is dtype
        assert {dtype: 1}[ox.zeros(0, dtype=name).dtype] == 1
    assert ox.float32 != ox.float64
    assert ox.zeros(1, dtype=float).dtype == ox.float32
    assert ox.zeros(1, dtype=int).dtype == ox.int64
    assert ox.zeros(1, dtype=bool).dtype == ox.bool
    assert ox.zeros(1, dtype=np.int16).dtype == ox.zeros(1, dtype=np.dtype("i2")).dtype == ox.int16


# Indexing.

SHAPES = st.lists(st.integers(0, 4), min_size=0, max_size=4).map(tuple)


@st.composite
def basic_entry(draw: st.DrawFn, n: int) -> Any:
    if n and draw(st.booleans()):
        return draw(st.integers(-n, n - 1))
    bound = st.none() | st.integers(-n - 2, n + 2)
    step = draw(st.none() | st.integers(-3, 3).filter(bool))
    return slice(draw(bound), draw(bound), step)


@st.composite
def indices(draw: st.DrawFn, shape: tuple[int, ...], advanced: bool) -> tuple[Any, ...]:
    """An index that NumPy admits for an array of this shape."""
    entries: list[Any] = []
    axis = 0
    width = draw(st.integers(1, 3))
    while axis < len(shape) and draw(st.integers(0, 5)):
        kind = draw(st.sampled_from(["basic", "basic", "integers", "mask"])) if advanced else "basic"
        n = shape[axis]
        if kind == "integers" and n:
            sizes = draw(st.sampled_from([(width,), (1,), (2, width), ()]))
            count = int(np.prod(sizes))
            values = draw(st.lists(st.integers(-n, n - 1), min_size=count, max_size=count))
            entries.append(np.array(values, dtype=draw(st.sampled_from(["i8", "i2"]))).reshape(sizes))
            axis += 1
        elif kind == "mask":
            rank = draw(st.integers(0, min(2, len(shape) - axis)))
            covered = shape[axis : axis + rank]
            count = int(np.prod(covered))
            entries.append(
                np.array(draw(st.lists(st.booleans(), min_size=count, max_size=count)), bool).reshape(covered)
            )
            axis += rank
        else:
            entries.append(draw(basic_entry(n)))
            axis += 1
        if draw(st.integers(0, 5)) == 0:
            entries.append(None)
    if draw(st.booleans()):
        entries.insert(draw(st.integers(0, len(entries))), ...)
    return tuple(entries)


def ours(index: tuple[Any, ...]) -> Any:
    """The same index, its arrays as tensors and lists."""
    turned = tuple(
        (ox.tensor(e) if k % 2 or not e.ndim or not e.size else e.tolist())
        if isinstance(e, np.ndarray)
        else e
        for k, e in enumerate(index)
    )
    return turned[0] if len(turned) == 1 else turned


def numbered(shape: tuple[int, ...]) -> np.ndarray:
    return np.arange(int(np.prod(shape)), dtype="f4").reshape(shape)


@settings(max_examples=200)
@given(st.data(), SHAPES, st.booleans())
def test_reading_by_index_is_numpys(data: st.DataObject, shape: tuple[int, ...], advanced: bool) -> None:
    index = data.draw(indices(shape, advanced))
    a = numbered(shape)
    x = ox.tensor(a)
    if data.draw(st.booleans()) and len(shape) > 1:
        # A transposed view; the position among the entries is of its axes, whose sizes are turned.
        a, x = np.ascontiguousarray(a.T).T, ox.tensor(np.ascontiguousarray(a.T)).T if len(shape) == 2 else x
    try:
        want = a[index]
    except IndexError:
        # Masks and integers that do not broadcast with one another.
        with pytest.raises((IndexError, ValueError), match=r"broadcast|index"):
            x[ours(index)].numpy()
        return
    same(x[ours(index)], want)


@settings(max_examples=200)
@given(st.data(), SHAPES, st.booleans())
def test_writing_by_index_is_numpys(data: st.DataObject, shape: tuple[int, ...], advanced: bool) -> None:
    index = data.draw(indices(shape, advanced))
    a = numbered(shape)
    x, before = ox.tensor(a), ox.tensor(a)
    alias = x
    held = x[...]
    try:
        place = a[index].shape
    except IndexError:
        with pytest.raises((IndexError, ValueError), match=r"broadcast|index"):
            x[ours(index)] = 0.0
        return
    # Any shape that broadcasts to the place.
    value_shape = tuple(n if data.draw(st.booleans()) else min(n, 1) for n in place)
    value_shape = value_shape[data.draw(st.integers(0, len(place))) :]
    value = -1.0 - np.arange(int(np.prod(value_shape)), dtype="f4").reshape(value_shape)
    if advanced:
        # Where an index names a place twice, NumPy's last value wins; ours is one of them.
        hits = np.zeros(shape, int)
        np.add.at(hits, index, 1)
        assume((hits < 2).all())
    try:
        a[index] = value
    except ValueError:
        with pytest.raises((IndexError, ValueError), match=r"broadcast|fit"):
            x[ours(index)] = ox.tensor(value)
        return
    x[ours(index)] = ox.tensor(value) if data.draw(st.booleans()) else value
    same(x, a)
    assert alias is x
    # Tensors are values: a view taken before keeps what it saw.
    same(held, before.numpy())


@pytest.mark.parametrize("flag", [True, False])
def test_masks_without_axes(flag: bool) -> None:
    a = np.arange(6.0).reshape(2, 3)
    for mask in (flag, ox.tensor(flag), np.bool_(flag)):
        same(ox.tensor(a)[mask], a[flag])
        x, b = ox.tensor(a), a.copy()
        x[mask] = -1.0
        b[flag] = -1.0
        same(x, b)
    x = ox.tensor(3.0)
    x[x > 5] = 0.0
    assert x.item() == 3.0
    x[x > 1] = 0.0
    assert x.item() == 0.0


class Index:
    def __init__(self, value: Any) -> None:
        self.value = value

    def __index__(self) -> Any:
        return self.value


def test_other_indices() -> None:
    a = np.arange(12.0).reshape(3, 4)
    x = ox.tensor(a)
    same(x[Index(1)], a[1])
    same(x[np.int8(-1), Index(2)], a[-1, 2])
    same(x[ox.tensor(1)], a[1])
    same(x[Index(0) : ox.tensor(2)], a[:2])
    same(x[(0, 2),], a[(0, 2),])
    same(x[[]], a[[]])
    same(x[:: 2**40, :: -(2**40)], a[:: 2**40, :: -(2**40)])
    same(x[-(2**62) : 2**62], a[-(2**62) : 2**62])
    for index, kind in (
        ("a", IndexError),
        (1.0, IndexError),
        ({}, IndexError),
        (3, IndexError),
        (-4, IndexError),
        (2**70, IndexError),
        (Index("no"), IndexError),
        ((0, 0, 0), IndexError),
        ((..., ...), IndexError),
        (slice(None, None, 0), ValueError),
        (slice("a"), TypeError),
        (ox.tensor([0.5]), IndexError),
        (ox.tensor([True, False]), IndexError),
        (ox.tensor([[7]]), IndexError),
    ):
        with pytest.raises(kind):
            x[index].numpy()
        with pytest.raises(kind):
            x[index] = 0.0
        same(x, a)
    with pytest.raises(ox.ShapeError, match=r"\(2,\).*\(4,\)"):
        x[0] = ox.ones(2)
    with pytest.raises(NotImplementedError):
        del x[0]


def test_integers_do_not_lose_what_is_written() -> None:
    x = ox.zeros(2, dtype="uint8")
    for bad in (256, -1):
        with pytest.raises(ValueError, match="does not fit uint8"):
            x[0] = bad
    x[0] = 255
    assert x.tolist() == [255, 0]


def test_iteration() -> None:
    x = ox.arange(6).reshape(3, 2)
    assert [r.tolist() for r in x] == [[0, 1], [2, 3], [4, 5]]
    a, b, c = x
    assert b.tolist() == [2, 3]
    assert len(x) == 3
    assert list(ox.zeros(0, 2)) == []
    assert 5 in x
    assert 7 not in x
    assert None not in x
    assert 1.0 in ox.ones(3)
    for call in (iter, len):
        with pytest.raises(TypeError, match="0-d"):
            call(ox.tensor(1.0))


# As text.

SNAPSHOTS = [
    (lambda: ox.tensor(1.5), "tensor(1.5)"),
    (lambda: ox.tensor([1, -20, 300]), "tensor([  1, -20, 300])"),
    (lambda: ox.tensor([True, False]), "tensor([ True, False])"),
    (lambda: ox.tensor([0.1, 0.25, -3.0]), "tensor([ 0.10,  0.25, -3.00])"),
    (lambda: ox.tensor([float("nan"), float("inf"), -1.0]), "tensor([nan, inf, -1.])"),
    (lambda: ox.ones(2, dtype="float64"), "tensor([1., 1.], dtype=float64)"),
    (lambda: ox.zeros(0, 3), "tensor([], shape=(0, 3), dtype=float32)"),
    (lambda: ox.ones(2, requires_grad=True), "tensor([1., 1.], requires_grad=True)"),
    (lambda: ox.ones(2, requires_grad=True) * 2, "tensor([2., 2.], grad_fn=mul)"),
    (lambda: ox.nn.Parameter(ox.ones(2)), "Parameter([1., 1.], requires_grad=True)"),
    (lambda: ox.arange(2000), "tensor([   0,    1,    2, ..., 1997, 1998, 1999], shape=(2000,))"),
    (
        lambda: ox.arange(8).reshape(2, 2, 2),
        "tensor([[[0, 1],\n         [2, 3]],\n\n        [[4, 5],\n         [6, 7]]])",
    ),
    (lambda: ox.float32, "oxon.float32"),
    (lambda: ox.Generator(3), "Generator(seed=3, offset=0)"),
]


@pytest.mark.parametrize(("make", "text"), SNAPSHOTS)
def test_repr(make: Any, text: str) -> None:
    assert repr(make()) == text


@pytest.mark.parametrize("shape", [(2000,), (40, 50), (7, 3, 500), (1001, 1), (1, 1001), (2, 2, 2, 2, 100)])
def test_repr_of_much_is_short(shape: tuple[int, ...]) -> None:
    text = repr(ox.zeros(shape))
    assert len(text) < 8000
    assert "..." in text
    assert str(tuple(shape)).replace(" ", "") in text.replace(" ", "")
    assert text.count("[") == text.count("]")


# As Python's numbers.


@pytest.mark.parametrize("dtype", ox._core.DTYPES)
def test_item_is_pythons_own(dtype: str) -> None:
    kind = bool if dtype == "bool" else float if "float" in dtype else int
    for x in (ox.ones(1, 1, dtype=dtype), ox.ones((), dtype=dtype)):
        assert type(x.item()) is kind
        assert x.item() == 1
        assert type(x.tolist()) is (list if x.ndim else kind)
    assert float(x) == 1.0
    assert int(x) == 1
    assert bool(x) is True
    assert not ox.zeros((), dtype=dtype)
    if kind is int:
        assert x.__index__() == 1
        assert [10, 20][x] == 20
    else:
        with pytest.raises(TypeError, match="index"):
            [10, 20][x]


def test_number_rules() -> None:
    for call, kind in (
        (bool, ValueError),
        (int, TypeError),
        (float, TypeError),
        (lambda x: x.item(), ValueError),
    ):
        for x in (ox.ones(2), ox.ones(0)):
            with pytest.raises(kind, match=r"\(2,\)|\(0,\)"):
                call(x)
    assert int(ox.tensor(2.7)) == 2
    assert int(ox.tensor(-2.7)) == -2
    assert complex(ox.tensor(2.0)) == 2 + 0j
    with pytest.raises(ValueError, match="NaN"):
        int(ox.tensor(float("nan")))
    with pytest.raises(OverflowError):
        int(ox.tensor(float("inf")))
    assert ox.tensor(2**64 - 1, dtype="uint64").item() == 2**64 - 1
    assert ox.tensor(-(2**63)).item() == -(2**63)
    assert bool(ox.tensor(float("nan")))
    x = ox.ones(1)
    assert hash(x) == hash(x)
    assert {x: 1}[x] == 1


def test_comparison_with_what_is_no_tensor() -> None:
    x = ox.ones(2)
    assert (x == None) is False  # noqa: E711
    assert (x != "a") is True
    for call in (lambda: x < "a", lambda: x + "a", lambda: x + None, lambda: x @ 2, lambda: x + {}):
        with pytest.raises(TypeError):
            call()


# NumPy.


@pytest.mark.parametrize("dtype", NATIVE)
def test_numpy_out_shares_and_is_read_only(dtype: str) -> None:
    x = ox.arange(12).reshape(3, 4).to(dtype).clone()
    a = x.numpy()
    assert not a.flags.writeable
    with pytest.raises(ValueError, match="read-only"):
        a[0, 0] = 1
    with pytest.raises(ValueError):
        a.flags.writeable = True
    assert x.numpy().ctypes.data == a.ctypes.data == np.asarray(x).ctypes.data
    for view, array_ in (
        (x.T, a.T),
        (x[1:, ::2], a[1:, ::2]),
        (x.flip(0), a[::-1]),
        (x[None, 0], a[None, 0]),
    ):
        same(view, array_)
    assert x.T.numpy().strides == a.T.strides
    # The array keeps the memory; the tensor may go or get another value.
    want = a.copy()
    x.fill_(0)
    y = x + 1
    del x
    gc.collect()
    _ = [ox.ones(12).numpy() for _ in range(50)]
    np.testing.assert_array_equal(a, want)
    assert y.numpy().all()


@pytest.mark.parametrize("dtype", NATIVE)
def test_numpy_in_copies_unless_read_only(dtype: str) -> None:
    a = np.arange(12).reshape(3, 4).astype(dtype)
    for make in (ox.tensor, ox.from_numpy, ox.asarray, lambda a: ox.from_numpy(a, copy=True)):
        x = make(a)
        want = a.copy()
        a[:] = 1 - a
        same(x, want)
        a = want
    a.flags.writeable = False
    shared = ox.from_numpy(a)
    assert shared.numpy().ctypes.data == a.ctypes.data
    assert ox.from_numpy(a, copy=True).numpy().ctypes.data != a.ctypes.data
    assert ox.tensor(a).numpy().ctypes.data != a.ctypes.data
    # Borrowed memory is never written.
    want = a.copy()
    if dtype != "bool":
        shared += 1
        same(shared, (want + 1).astype(dtype))
    z = ox.from_numpy(a)
    del shared
    w = z * 1 if dtype != "bool" else ~z
    del z
    w.numpy()
    np.testing.assert_array_equal(a, want)


def test_sharing_what_is_writeable_must_be_asked_for() -> None:
    a = np.arange(4.0)
    x = ox.from_numpy(a, copy=False)
    assert x.numpy().ctypes.data == a.ctypes.data
    alive = weakref.ref(a)
    del a
    gc.collect()
    assert alive() is not None
    assert x.tolist() == [0, 1, 2, 3]
    del x
    gc.collect()
    assert alive() is None
    with pytest.raises(ValueError, match="must be copied"):
        ox.asarray([1, 2], copy=False)
    with pytest.raises(ValueError, match="byte order"):
        ox.from_numpy(np.arange(3, dtype=">i4"), copy=False)
    odd = np.frombuffer(b"\0" * 9, "u1")[1:].view("<i4")
    with pytest.raises(ValueError, match="aligned"):
        ox.from_numpy(odd, copy=False)
    with pytest.raises(TypeError, match="list is no NumPy array"):
        ox.from_numpy([1])


@settings(max_examples=100)
@given(st.data(), SHAPES, st.sampled_from(["<", ">"]), st.booleans(), st.booleans())
def test_arrays_of_every_layout(
    data: st.DataObject, shape: tuple[int, ...], order: str, writeable: bool, odd: bool
) -> None:
    dtype = np.dtype(data.draw(st.sampled_from(["b1", "i1", "u2", "i4", "f2", "f4", "f8"]))).newbyteorder(
        order
    )
    big = np.random.default_rng(len(shape)).integers(
        0, 2 if dtype.kind == "b" else 100, [2 * n + 1 for n in shape]
    )
    raw = np.zeros(big.size * dtype.itemsize + 1, "u1")
    start = int(odd)
    a = raw[start : start + big.size * dtype.itemsize].view(dtype).reshape(big.shape)
    a[...] = big
    a = a[(..., *(slice(None, None, data.draw(st.sampled_from([1, 2, -1, -2]))) for _ in shape))]
    a = a.transpose(data.draw(st.permutations(range(len(shape)))))
    if shape and data.draw(st.booleans()):
        a = np.broadcast_to(a, (2, *a.shape))
    if not writeable:
        a = a.view()
        a.flags.writeable = False
    want = np.array(a, dtype.newbyteorder("="))
    for make in (ox.tensor, ox.from_numpy, ox.asarray):
        same(make(a), want)
    np.testing.assert_array_equal((ox.from_numpy(a) == ox.tensor(want)).numpy(), True)


def test_arithmetic_with_arrays_gives_tensors() -> None:
    a, x = np.arange(2.0), ox.ones(2)
    for got, want in (
        (a + x, a + 1),
        (x + a, a + 1),
        (a - x, a - 1),
        (a * x, a),
        (a / x, a),
        (a**x, a),
        (a @ x, np.array(1.0)),
        (a < x, a < 1),
        (a == x, a == 1),
    ):
        assert isinstance(got, ox.Tensor)
        np.testing.assert_array_equal(got.numpy(), want)
    # NumPy's scalars are weak, as Python's.
    assert (np.float64(2) * x).dtype == (x * np.float64(2)).dtype == ox.float32
    assert isinstance(np.float64(2) * x, ox.Tensor)
    for call in (np.sin, lambda x: np.add(a, x), np.multiply.reduce):
        with pytest.raises(TypeError):
            call(x)


def test_numpy_functions_that_take_arrays() -> None:
    x = ox.arange(4.0)
    same(x.clone(), np.asarray(x))
    assert type(np.stack([x, x])) is np.ndarray
    np.testing.assert_array_equal(np.concatenate([x, x]), [0, 1, 2, 3] * 2)
    assert np.asarray(x, dtype="i4").dtype == "i4"
    assert np.array(x).flags.writeable
    assert np.asarray(ox.ones(2, requires_grad=True)).tolist() == [1, 1]
    assert np.array(x, copy=True).ctypes.data != x.numpy().ctypes.data
    with pytest.raises(ox.GradError, match="detach"):
        ox.ones(2, requires_grad=True).numpy()
    with pytest.raises(ox.DTypeError, match="bfloat16"):
        ox.ones(2).bfloat16().numpy()


# DLPack and buffers.


@pytest.mark.parametrize("dtype", NATIVE)
def test_dlpack_round_trips(dtype: str) -> None:
    x = ox.arange(12).reshape(3, 4).to(dtype)
    for t in (x, x.T, x[1:, ::2], x.flip(0), x[0, 0], x[:0], x[0].expand(2, 4)):
        same(t, np.from_dlpack(t))
        a = np.from_dlpack(t)
        assert not a.flags.writeable or a.ctypes.data != t.numpy().ctypes.data
        same(ox.from_dlpack(a), t.numpy())
        same(ox.from_dlpack(t), t.numpy())
    assert np.from_dlpack(x).ctypes.data == x.numpy().ctypes.data
    assert x.__dlpack_device__() == (1, 0)


class Producer:
    """Hands out a capsule that was made before, in the way of this or of the last version."""

    def __init__(self, capsule: Any, old: bool = False) -> None:
        self.capsule, self.old = capsule, old

    def __dlpack_device__(self) -> tuple[int, int]:
        return (1, 0)

    def __dlpack__(self, **kwargs: Any) -> Any:
        if self.old and kwargs:
            raise TypeError("no keywords")
        return self.capsule


def capsule_name(capsule: Any) -> bytes:
    call = ctypes.pythonapi.PyCapsule_GetName
    call.restype, call.argtypes = ctypes.c_char_p, [ctypes.py_object]
    return call(capsule)


@pytest.mark.parametrize(
    ("version", "name"), [(None, b"dltensor"), ((0, 8), b"dltensor"), ((1, 0), b"dltensor_versioned")]
)
def test_both_kinds_of_capsule(version: Any, name: bytes) -> None:
    x = ox.arange(6.0).reshape(2, 3)
    capsule = x.__dlpack__(max_version=version)
    assert capsule_name(capsule) == name
    y = ox.from_dlpack(Producer(capsule, old=version is None))
    assert capsule_name(capsule) == b"used_" + name
    same(y, x.numpy())
    with pytest.raises(BufferError, match="no capsule that can be used"):
        ox.from_dlpack(Producer(capsule))
    del capsule
    same(y, x.numpy())
    shared = ox.from_dlpack(Producer(x.__dlpack__(max_version=version)), copy=False)
    assert (shared.numpy().ctypes.data == x.numpy().ctypes.data) == (name == b"dltensor_versioned")


def test_capsules_give_memory_back() -> None:
    ox.synchronize()
    gc.collect()
    before = ox.memory_summary()["used"]
    x = ox.ones(1 << 20)
    x.numpy()
    for version in (None, (1, 0)):
        capsule = x.__dlpack__(max_version=version)
        taken = ox.from_dlpack(Producer(x.__dlpack__(max_version=version)), copy=False)
        unused = x.__dlpack__(max_version=version)
        del unused, capsule
        same(taken, x.numpy())
        del taken
    # What a capsule holds outlives the tensor.
    capsule = x.__dlpack__(max_version=(1, 0))
    del x
    gc.collect()
    assert ox.memory_summary()["used"] >= before + (4 << 20)
    assert ox.from_dlpack(Producer(capsule)).sum().item() == 1 << 20
    del capsule
    gc.collect()
    assert ox.memory_summary()["used"] < before + (1 << 20)


def test_dlpack_refusals() -> None:
    x = ox.arange(3.0)
    with pytest.raises(BufferError, match="max_version"):
        x.__dlpack__(copy=False)
    with pytest.raises(BufferError, match="requires grad"):
        ox.ones(2, requires_grad=True).__dlpack__()
    with pytest.raises(BufferError, match="host memory"):
        x.__dlpack__(dl_device=(2, 0))
    with pytest.raises(TypeError, match="does not speak DLPack"):
        ox.from_dlpack([1])
    for capsule in (None, 3, x):
        with pytest.raises(BufferError, match="no capsule"):
            ox.from_dlpack(Producer(capsule))
    with pytest.raises(BufferError, match=r"complex|type code"):
        ox.from_dlpack(np.ones(2, "c8"))


@pytest.mark.parametrize("code", "bBhHiIlLfd")
def test_buffers(code: str) -> None:
    data = array.array(code, [1, 2, 3])
    x = ox.tensor(data)
    assert x.tolist() == [1, 2, 3]
    assert x.itemsize == data.itemsize
    data[0] = 9
    assert x.tolist() == [1, 2, 3]
    assert ox.tensor(memoryview(data)[::-1]).tolist() == [3, 2, 9]


def test_bytes_are_numbers() -> None:
    for data in (bytearray(b"ab"), memoryview(b"ab")):
        x = ox.tensor(data)
        assert (x.tolist(), x.dtype) == ([97, 98], ox.uint8)


# Pickles and copies.


@pytest.mark.parametrize("dtype", ox._core.DTYPES)
@pytest.mark.parametrize("protocol", [2, pickle.HIGHEST_PROTOCOL])
def test_pickles(dtype: str, protocol: int) -> None:
    x = ox.arange(6).reshape(2, 3).to(dtype)
    for t in (x, x.T, x[:, ::2], x[0, 0], x[:0]):
        y = pickle.loads(pickle.dumps(t, protocol))
        assert (y.shape, y.dtype, y.tolist()) == (t.shape, t.dtype, t.tolist())
        assert y.is_contiguous()
        assert not y.is_view
    assert len(pickle.dumps(ox.ones(10, 10)[0, 0])) < 400  # not the whole buffer
    if "float" in dtype:
        assert pickle.loads(pickle.dumps(x.clone().requires_grad_())).requires_grad


def test_damaged_pickles_are_errors() -> None:
    rebuild = ox._core._rebuild
    for args in (
        (ox.Tensor, "float32", (2,), b"123", False),
        (ox.Tensor, "float33", (2,), b"12345678", False),
        (ox.Tensor, "bool", (2,), b"\x01\x02", False),
        (ox.Tensor, "float32", (-1,), b"", False),
        (ox.Tensor, "float32", (2**62,), b"", False),
        (ox.Tensor, "int64", (1,), b"12345678", True),
    ):
        with pytest.raises((ValueError, TypeError, MemoryError)):
            rebuild(*args)


def test_pickles_and_copies_of_parameters_and_generators() -> None:
    p = ox.nn.Parameter(ox.ones(2))
    for q in (pickle.loads(pickle.dumps(p)), copy.deepcopy(p)):
        assert type(q) is ox.nn.Parameter
        assert q.requires_grad
        assert q.tolist() == [1, 1]
    g = ox.Generator(7)
    ox.rand(3, generator=g)
    h, k = pickle.loads(pickle.dumps(g)), copy.deepcopy(g)
    want = ox.rand(3, generator=g).tolist()
    assert ox.rand(3, generator=h).tolist() == ox.rand(3, generator=k).tolist() == want


# Random numbers.

DRAWS = {
    "rand": lambda g: ox.rand(1000, generator=g),
    "randn": lambda g: ox.randn(1000, generator=g),
    "randint": lambda g: ox.randint(0, 1000, (1000,), generator=g),
    "randperm": lambda g: ox.randperm(1000, generator=g),
    "normal": lambda g: ox.normal(1.0, 2.0, (1000,), generator=g),
    "uniform": lambda g: ox.uniform(-1.0, 2.0, (1000,), generator=g),
    "bernoulli": lambda g: ox.bernoulli(ox.full((1000,), 0.3), generator=g),
    "multinomial": lambda g: ox.multinomial(ox.arange(100.0), 50, generator=g),
    "dropout": lambda g: ox.dropout(ox.ones(1000), 0.3, generator=g),
    "uniform_": lambda g: ox.empty(1000).uniform_(generator=g),
    "normal_": lambda g: ox.empty(1000).normal_(generator=g),
}


@pytest.mark.parametrize("name", DRAWS)
def test_the_same_seed_gives_the_same_numbers(name: str) -> None:
    draw = DRAWS[name]
    first, again, other = (draw(ox.Generator(s)).numpy().tobytes() for s in (5, 5, 6))
    assert first == again != other
    g = ox.Generator(5)
    assert draw(g).numpy().tobytes() == first
    assert draw(g).numpy().tobytes() != first
    ox.manual_seed(5)
    assert draw(None).numpy().tobytes() == first
    # With another number of threads, and with draws before that nobody looks at.
    ox.set_num_threads(1)
    assert draw(ox.Generator(5)).numpy().tobytes() == first
    g = ox.Generator(5)
    dead = draw(g)
    state = g.get_state()
    g.set_state((5, 0))
    dead = draw(g)  # noqa: F841
    assert g.get_state() == state
    second = draw(g).numpy().tobytes()
    g = ox.Generator(5)
    draw(g).numpy()
    assert draw(g).numpy().tobytes() == second


def test_generators_remember_where_they_are() -> None:
    ox.manual_seed(3)
    ox.rand(5)
    state = ox.get_rng_state()
    a = ox.rand(5).tolist()
    ox.set_rng_state(state)
    assert ox.rand(5).tolist() == a
    g = ox.Generator(9)
    assert g.initial_seed() == 9
    assert g.manual_seed(-1) is g
    assert g.initial_seed() == 2**64 - 1
    # A stream of its own does not move the global one.
    ox.set_rng_state(state)
    ox.rand(5, generator=g)
    assert ox.rand(5).tolist() == a


@pytest.mark.parametrize("dtype", FLOATS)
def test_moments(dtype: str) -> None:
    g = ox.Generator(11)
    n = 200_000
    u = ox.rand(n, generator=g, dtype=dtype).double().numpy()
    assert u.min() >= 0
    assert u.max() < 1
    step = {"float16": 2**-11, "bfloat16": 2**-8}.get(dtype, 0.0)
    assert abs(u.mean() - 0.5) < 0.004 + step
    assert abs(u.var() - 1 / 12) < 0.002
    z = ox.randn(n, generator=g, dtype=dtype).double().numpy()
    assert z.dtype == np.float64
    assert abs(z.mean()) < 0.01
    assert abs(z.var() - 1) < 0.02
    assert abs(stats.skew(z)) < 0.03
    assert abs(stats.kurtosis(z)) < 0.08
    assert abs(np.corrcoef(z[:-1], z[1:])[0, 1]) < 0.01
    if dtype in ("float32", "float64"):
        assert stats.kstest(u[:50_000], "uniform").pvalue > 1e-3
        assert stats.kstest(z[:50_000], "norm").pvalue > 1e-3


@pytest.mark.parametrize("dtype", INTS)
def test_randint(dtype: str) -> None:
    low = 0 if dtype.startswith("u") else -7
    x = ox.randint(low, 13, (20_000,), dtype=dtype, generator=ox.Generator(1))
    assert x.dtype.name == dtype
    values, counts = np.unique(x.numpy(), return_counts=True)
    assert values.tolist() == list(range(low, 13))
    assert stats.chisquare(counts).pvalue > 1e-3
    info = ox.iinfo(dtype)
    wide = ox.randint(max(info.min, -(2**63)), min(info.max, 2**63 - 1), (1000,), dtype=dtype).numpy()
    assert len(np.unique(wide)) > (100 if info.bits > 8 else 50)
    with pytest.raises(ValueError, match="no integer"):
        ox.randint(3, 3, (2,))
    if info.bits < 64:
        with pytest.raises(ValueError, match="does not fit"):
            ox.randint(0, info.max + 2, (2,), dtype=dtype)


@pytest.mark.parametrize("n", [0, 1, 2, 7, 1000])
def test_permutations(n: int) -> None:
    p = ox.randperm(n, generator=ox.Generator(n))
    assert p.dtype == ox.int64
    assert sorted(p.tolist()) == list(range(n))


def test_permutations_are_fair() -> None:
    g = ox.Generator(2)
    counts = np.zeros((5, 5))
    for _ in range(2000):
        counts[np.arange(5), ox.randperm(5, generator=g).numpy()] += 1
    assert stats.chisquare(counts.ravel()).pvalue > 1e-3


def test_weighted_draws() -> None:
    g = ox.Generator(4)
    p = ox.tensor([[0.1, 0.0, 0.9], [0.5, 0.5, 0.0]])
    drawn = ox.multinomial(p, 20_000, True, generator=g).numpy()
    assert not (drawn[0] == 1).any()
    assert not (drawn[1] == 2).any()
    assert abs((drawn[0] == 2).mean() - 0.9) < 0.01
    assert abs(ox.bernoulli(ox.full((50_000,), 0.3), generator=g).mean().item() - 0.3) < 0.01
    for row in ox.multinomial(ox.ones(50, 6), 6, generator=g).tolist():
        assert sorted(row) == list(range(6))
    x = ox.dropout(ox.ones(50_000), 0.25, generator=g).numpy()
    assert set(np.unique(x)) == {np.float32(0), np.float32(1 / 0.75)}
    assert abs((x == 0).mean() - 0.25) < 0.01


@example(seed=2**64 - 1)
@example(seed=-1)
@given(st.integers(-(2**63), 2**64 - 1))
def test_every_seed(seed: int) -> None:
    a, b = (ox.rand(4, generator=ox.Generator(seed)).tolist() for _ in range(2))
    assert a == b
    assert a != ox.rand(4, generator=ox.Generator(seed ^ 1)).tolist()


def test_what_shows_nobody_elses_elements_may_be_written_in_place() -> None:
    x = ox.arange(6).reshape(2, 3)
    x[0] = 7
    assert x.tolist() == [[7, 7, 7], [3, 4, 5]]
    base = ox.arange(6)
    shown = base.reshape(2, 3).T
    assert shown.is_view
    with pytest.raises(ValueError, match="a view"):
        shown[0] = 1
    assert base.tolist() == [0, 1, 2, 3, 4, 5]
    del base
    assert not shown.is_view
    shown[0] = 9
    assert shown.tolist() == [[9, 9], [1, 4], [2, 5]]


def test_buffer_protocol() -> None:
    x = ox.arange(6.0).reshape(2, 3)
    view = memoryview(x)
    assert (view.shape, view.strides, view.format, view.readonly) == ((2, 3), (12, 4), "f", True)
    assert view.tolist() == x.tolist()
    assert bytes(x) == x.numpy().tobytes()
    assert memoryview(x.T[1:]).tolist() == x.T[1:].tolist()
    assert memoryview(ox.tensor(3)).tolist() == 3
    assert memoryview(ox.zeros(0, 2)).nbytes == 0
    for name in ("bool", "int8", "uint16", "int32", "uint64", "float16", "float64"):
        values = ox.tensor([0, 1, 1], dtype=name)
        assert np.frombuffer(values, dtype=name).tolist() == values.tolist()
    readable = io.BytesIO(bytes(24))
    with pytest.raises(TypeError, match="read-write bytes-like object"):
        readable.readinto(x)
    for refused, why in [
        (ox.ones(2, dtype="bfloat16"), "bfloat16"),
        (ox.ones(2, requires_grad=True), "requires grad"),
    ]:
        with pytest.raises(BufferError, match=why):
            memoryview(refused)
    with pytest.raises(BufferError, match="side by side"):
        io.BytesIO().write(x.T)


def test_a_buffer_outlives_its_tensor() -> None:
    view = memoryview(ox.arange(1000.0) + 1)
    for _ in range(20):
        ox.zeros(1000).numpy()
    assert view[999] == 1000.0
