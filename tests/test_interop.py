"""Tensors and what else holds arrays: NumPy, DLPack, the buffer protocol, pickles and copies."""

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
from hypothesis import given, settings
from hypothesis import strategies as st
from numeric import NATIVE, same

SHAPES = st.lists(st.integers(0, 4), min_size=0, max_size=4).map(tuple)


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
