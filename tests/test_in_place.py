"""What in-place methods do where tensors are values, and the slots that handles point to."""

from __future__ import annotations

import copy
import gc
import pickle
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import oxon as ox
import pytest
from numeric import grad_of, leaf

# In place, where tensors are values.


def test_a_slice_keeps_what_it_saw() -> None:
    x = ox.arange(4.0)
    part, whole, twice = x[1:3], x.reshape(2, 2), x * 2
    x += 10
    x[0] = -1.0
    assert x.tolist() == [-1, 11, 12, 13]
    assert part.tolist() == [1, 2]
    assert whole.tolist() == [[0, 1], [2, 3]]
    assert twice.tolist() == [0, 2, 4, 6]
    same = x
    x += 1
    assert same is x
    assert same.tolist() == [0, 12, 13, 14]


def test_in_place_on_views_and_leaves_raises() -> None:
    x = ox.ones(3)
    for call in (
        lambda: x[0].fill_(1),
        lambda: x[1:].add_(1),
        lambda: x[:2].zero_(),
        lambda: x.reshape(3, 1).copy_(ox.ones(3, 1)),
        lambda: x[None].T.mul_(2),
    ):
        with pytest.raises(ValueError, match=r"view.*x\[index\] = value"):
            call()
    part = x[1:]
    with pytest.raises(ValueError, match="view"):
        part += 1
    with pytest.raises(ValueError, match="view"):
        part[0] = 5.0
    assert x.tolist() == [1, 1, 1]
    w = leaf(1.0, 2.0)

    def add() -> None:
        nonlocal w
        w += 1

    def put() -> None:
        w[0] = 1.0

    for call in (
        add,
        put,
        lambda: w.zero_(),
        lambda: w.fill_(3),
        lambda: w.copy_(ox.ones(2)),
        lambda: w.normal_(),
    ):
        with pytest.raises(ox.GradError, match=r"leaf that requires grad.*no_grad"):
            call()
    assert w.tolist() == [1, 2]
    with ox.no_grad():
        w += 1
        w[0] = 7.0
    assert (w.tolist(), w.requires_grad, w.is_leaf) == ([7, 3], True, True)


def test_in_place_refuses_other_shapes_and_kinds() -> None:
    x = ox.ones(2)
    with pytest.raises(ox.ShapeError, match=r"\(3, 2\) does not fit a tensor of \(2,\)"):
        x += ox.ones(3, 2)
    n = x.long()
    with pytest.raises(ox.DTypeError, match="float32 and does not fit a tensor of int64"):
        n += 0.5
    n += 2
    x += ox.ones(2).double()
    assert (n.tolist(), n.dtype, x.dtype) == ([3, 3], ox.int64, ox.float32)


def test_in_place_with_gradients() -> None:
    w = leaf(1.0, 2.0, 3.0)
    y = w * 2
    z = y * y
    y *= 10
    y[ox.tensor([True, False, False])] = 0.0
    (z.sum() + y.sum()).backward()
    assert grad_of(w) == [8 * 1 + 0, 8 * 2 + 20, 8 * 3 + 20]
    # The value that is written gets its gradient as well.
    v, w = leaf(5.0), leaf(1.0, 2.0)
    x = w * 1
    x[0] = v
    x[1] = x[1] * 3
    (x * ox.tensor([10.0, 100.0])).sum().backward()
    assert (grad_of(v), grad_of(w)) == (10.0, [0.0, 300.0])
    rows, w = leaf(1.0, 2.0), leaf(0.0, 0.0, 0.0)
    x = w * 1
    x[[0, 2]] = rows * 2
    (x * ox.arange(3.0) + x).sum().backward()
    assert (grad_of(rows), grad_of(w)) == ([2.0, 6.0], [0.0, 2.0, 0.0])
    x = ox.zeros(3)
    x[1] = v
    assert x.requires_grad


def test_gradcheck_of_assignments() -> None:
    def put(index: Any) -> Callable[..., ox.Tensor]:
        def call(x: ox.Tensor, v: ox.Tensor) -> ox.Tensor:
            y = x * 1
            y[index] = v
            return y * y

        return call

    x = ox.tensor(np.random.default_rng(0).standard_normal((3, 4)))
    mask = x > 0
    count = int(mask.sum())
    for index, shape in (
        (0, (4,)),
        ((slice(None), 1), (3,)),
        ((slice(None, None, -2), slice(1, None)), (2, 3)),
        (([0, 2],), (2, 4)),
        (([0, 2], [1, 1]), (2,)),
        (mask, (count,)),
        (mask, ()),
        ((..., None, 0), (3, 1)),
    ):
        v = ox.tensor(np.random.default_rng(1).standard_normal(shape))
        assert ox.gradcheck(put(index), [x, v], order=2)


def test_history_is_that_of_the_value_seen() -> None:
    """A leaf changed between forward and backward: the gradient belongs to the value that was used."""
    w = leaf(3.0)
    y = w * w
    with ox.no_grad():
        w.fill_(100.0)
    y.backward()
    assert grad_of(w) == 6.0
    (w * w).backward()
    assert grad_of(w) == 206.0


# Slots: data, grad, copies.


def test_data_and_grad_alias_the_slot() -> None:
    p = leaf(1.0, 2.0)
    data = p.data
    assert not data.requires_grad
    data += 1
    data[0] = 9.0
    assert p.tolist() == [9, 3]
    p.data = ox.zeros(2)
    assert data.tolist() == [0, 0]
    assert p.requires_grad
    with pytest.raises(ox.DTypeError, match="int64"):
        p.data = ox.zeros(2).long()
    y = p * 2
    with pytest.raises(ox.ShapeError, match=r"\(3,\)"):
        y.data = ox.zeros(3)
    (p * 3).sum().backward()
    g = p.grad
    assert g is not None
    (p * 3).sum().backward()
    assert g.tolist() == [6, 6]  # the same slot
    g.zero_()
    assert grad_of(p) == [0, 0]
    g += 5
    assert grad_of(p) == [5, 5]
    mine = ox.ones(2)
    p.grad = mine
    p.sum().backward()
    assert mine.tolist() == [2, 2]
    p.grad = None
    assert p.grad is None
    assert mine.tolist() == [2, 2]


def test_what_grad_may_not_be() -> None:
    p = leaf(1.0, 2.0)
    with pytest.raises(ox.ShapeError, match=r"\(3,\) for a tensor of \(2,\)"):
        p.grad = ox.ones(3)
    with pytest.raises(ox.DTypeError, match="int64"):
        p.grad = ox.ones(2).long()
    with pytest.raises(TypeError):
        p.grad = 3
    with pytest.raises(ox.GradError, match="leaf"):
        (p * 2).grad = ox.ones(2)


def test_copies() -> None:
    p = leaf(1.0, 2.0)
    (p * 2).sum().backward()
    deep, shallow, clone = copy.deepcopy(p), copy.copy(p), p.clone()
    assert (deep.is_leaf, deep.requires_grad, deep.grad) == (True, True, None)
    with ox.no_grad():
        p += 1
    assert deep.tolist() == shallow.tolist() == clone.tolist() == [1, 2]
    (clone * 3).sum().backward()
    assert grad_of(p) == [5, 5]
    (deep * 3).sum().backward()
    assert grad_of(deep) == [3, 3]
    assert grad_of(p) == [5, 5]
    with pytest.raises(ox.GradError, match="only leaves"):
        copy.deepcopy(p * 2)
    assert copy.deepcopy((p * 2).detach()).tolist() == [4, 6]
    q = pickle.loads(pickle.dumps(p))
    assert (q.tolist(), q.requires_grad, q.is_leaf) == ([2, 3], True, True)
    # One tensor twice stays one tensor.
    pair = copy.deepcopy([p, p])
    assert pair[0] is pair[1]


def test_handles_can_be_held_weakly_and_carry_attributes() -> None:
    x = ox.ones(2)
    x.note = "mine"  # type: ignore[attr-defined]
    reference = weakref.ref(x)
    assert reference() is x
    del x
    gc.collect()
    assert reference() is None


def test_cycles_through_hooks_are_found() -> None:
    """A hook that closes over its tensor is a cycle through Rust; it may not crash, and removing it lets go."""
    x = leaf(1.0)
    handle = x.register_hook(lambda g: g * x.detach())  # noqa: F821
    (x * 2).backward()
    assert grad_of(x) == 2.0
    handle.remove()
    reference = weakref.ref(x)
    del x, handle
    gc.collect()
    assert reference() is None
