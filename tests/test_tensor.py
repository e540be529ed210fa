"""The tensor as an object: making it, indexing it as NumPy's arrays, printing it, Python's numbers. What it
computes is tested elsewhere."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import oxon as ox
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numeric import INTS, same

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


@pytest.mark.cpu("float64")
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
@pytest.mark.cpu("float64")
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


@pytest.mark.cpu("float64")
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


@pytest.mark.cpu("a GPU finds bad indices when it runs, after the assignment")
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
@pytest.mark.cpu("a repr names the device")
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
