"""Functions with gradients of their own, and checkpoints, which are one of them."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import oxon as ox
import pytest
from numeric import grad_of, leaf

# Functions with gradients of their own.


class Scaled(ox.Function):
    """`a · k` and `b + 1`; several outputs, and arguments that are no tensors."""

    @staticmethod
    def forward(ctx: Any, a: ox.Tensor, k: float, b: ox.Tensor, name: str | None = None) -> Any:
        ctx.k, ctx.name = k, name
        ctx.save_for_backward(a, None, b)
        assert not ox.is_grad_enabled()
        return a * k, b + 1

    @staticmethod
    def backward(ctx: Any, da: ox.Tensor, db: ox.Tensor) -> Any:
        a, nothing, b = ctx.saved_tensors
        assert nothing is None
        assert (ctx.needs_input_grad, ctx.name) == ((True, False, True, False), "x")
        return da * ctx.k, None, db, None


def test_functions_of_several_inputs_and_outputs() -> None:
    a, b = leaf(1.0), leaf(2.0)
    u, v = Scaled.apply(a, 3, b, "x")
    assert u.grad_fn == v.grad_fn == "Function"
    (u * v).backward()
    assert (grad_of(a), grad_of(b)) == (9.0, 3.0)
    a, b = leaf(1.0), leaf(2.0)
    Scaled.apply(a, 3, b, "x")[0].backward()  # the other output's gradient is zero
    assert (grad_of(a), grad_of(b)) == (3.0, 0.0)
    with ox.no_grad():
        assert not Scaled.apply(a, 3, b)[0].requires_grad
    assert not Scaled.apply(ox.ones(1), 3, ox.ones(1))[0].requires_grad


class Cube(ox.Function):
    @staticmethod
    def forward(ctx: Any, x: ox.Tensor) -> ox.Tensor:
        ctx.save_for_backward(x)
        return x * x * x

    @staticmethod
    def backward(ctx: Any, dy: ox.Tensor) -> ox.Tensor:
        (x,) = ctx.saved_tensors
        return dy * 3 * x * x


class Exp(ox.Function):
    """Saves its output, which must keep its history for the second derivative."""

    @staticmethod
    def forward(ctx: Any, x: ox.Tensor) -> ox.Tensor:
        y = x.exp()
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Any, dy: ox.Tensor) -> ox.Tensor:
        return dy * ctx.saved_tensors[0]


class Pair(ox.Function):
    """Two outputs of which one is saved beside the input."""

    @staticmethod
    def forward(ctx: Any, x: ox.Tensor) -> Any:
        s, c = x.sin(), x.cos()
        ctx.save_for_backward(x, c)
        return s, c

    @staticmethod
    def backward(ctx: Any, ds: ox.Tensor, dc: ox.Tensor) -> ox.Tensor:
        x, c = ctx.saved_tensors
        return ds * c - dc * x.sin()


@pytest.mark.parametrize("function", [Cube, Exp, Pair])
def test_functions_differentiate_twice(function: type[ox.Function]) -> None:
    def call(x: ox.Tensor) -> Any:
        out = function.apply(x)
        return out if isinstance(out, ox.Tensor) else out[0] * out[1] + out[0]

    assert ox.gradcheck(call, ox.tensor([0.3, -0.7]), order=2)
    x = leaf(0.5)
    y = call(x)
    d1 = ox.grad(y, x, create_graph=True)[0]
    d2 = ox.grad(d1, x, create_graph=True)[0]
    d3 = ox.grad(d2, x)[0]
    e = np.exp(0.5)
    third = {Cube: 6.0, Exp: e, Pair: -4 * np.cos(1.0) - np.cos(0.5)}[function]
    assert d3.item() == pytest.approx(third)


def test_functions_keep_what_they_saw() -> None:
    w = leaf(2.0)
    x = w * 1
    y = Cube.apply(x)
    x += 100  # another value in the same handle
    y.backward()
    assert grad_of(w) == 12.0
    w = leaf(2.0)
    y = Cube.apply(w)
    with ox.no_grad():
        w += 100
    y.backward()
    assert grad_of(w) == 12.0


def test_a_function_may_give_its_input_back() -> None:
    class Reverse(ox.Function):
        @staticmethod
        def forward(ctx: Any, x: ox.Tensor) -> ox.Tensor:
            return x

        @staticmethod
        def backward(ctx: Any, dy: ox.Tensor) -> ox.Tensor:
            return -dy

    x = leaf(2.0)
    y = Reverse.apply(x)
    (y * 3).backward()
    assert grad_of(x) == -3.0
    assert x.is_leaf


def test_functions_are_let_go() -> None:
    x = leaf(2.0)
    y = Exp.apply(x)
    (g,) = ox.grad(y, x, create_graph=True)
    big = ox.ones(10)
    seen = weakref.ref(big)

    class Holds(ox.Function):
        @staticmethod
        def forward(ctx: Any, x: ox.Tensor) -> ox.Tensor:
            ctx.held = big  # noqa: F821
            return x * 2

        @staticmethod
        def backward(ctx: Any, dy: ox.Tensor) -> ox.Tensor:
            return dy * 2

    z = Holds.apply(x)
    del z, g, y, Holds, big
    gc.collect()
    assert seen() is None


@pytest.mark.parametrize(
    ("result", "kind", "text"),
    [
        (lambda d: (d, d), TypeError, "Bad.backward gave 2 gradients for 1 arguments"),
        (lambda d: 3, TypeError, "Bad.backward gives tensors and None, not int"),
        (lambda d: (3,), TypeError, "a tensor or None, not int"),
        (lambda d: ox.ones(5), ox.ShapeError, r"a gradient of \(5,\) for an input of \(2,\)"),
        (lambda d: {}["mine"], KeyError, "mine"),
    ],
)
def test_errors_of_functions(result: Any, kind: type[Exception], text: str) -> None:
    class Bad(ox.Function):
        @staticmethod
        def forward(ctx: Any, x: ox.Tensor) -> ox.Tensor:
            return x * 1

        @staticmethod
        def backward(ctx: Any, dy: ox.Tensor) -> Any:
            return result(dy)

    x = leaf(1.0, 2.0)
    with pytest.raises(kind, match=text):
        Bad.apply(x).sum().backward()


def test_more_errors_of_functions() -> None:
    class Number(ox.Function):
        @staticmethod
        def forward(ctx: Any, x: ox.Tensor) -> Any:
            return 3

    with pytest.raises(TypeError, match=r"Number\.forward gives a tensor .*not int"):
        Number.apply(leaf(1.0))
    with pytest.raises(TypeError, match="forward"):
        ox.Function.apply(leaf(1.0))

    class Nameless(Number):
        @staticmethod
        def forward(ctx: Any, x: ox.Tensor) -> Any:
            return ctx.nothing

    with pytest.raises(AttributeError, match="no 'nothing'"):
        Nameless.apply(leaf(1.0))


def test_missing_gradients_are_zero_and_unwanted_ones_are_ignored() -> None:
    class Blind(ox.Function):
        @staticmethod
        def forward(ctx: Any, a: ox.Tensor, b: ox.Tensor) -> ox.Tensor:
            return a * b

        @staticmethod
        def backward(ctx: Any, dy: ox.Tensor) -> Any:
            return None, dy

    a, b = leaf(2.0), leaf(3.0)
    Blind.apply(a, b).backward()
    assert (a.grad, grad_of(b)) == (None, 1.0)


# Checkpoints.


@pytest.mark.cpu("counts bytes of the host")
def test_checkpoints_give_the_same_gradients_and_keep_less() -> None:
    rng = np.random.default_rng(0)
    start = ox.tensor(rng.standard_normal((256, 256)), dtype="float32")

    def block(x: ox.Tensor) -> ox.Tensor:
        for _ in range(10):
            x = (x * 1.1).tanh()
        return x

    def run(call: Callable[[ox.Tensor], ox.Tensor]) -> tuple[bytes, int]:
        x = start.clone().requires_grad_()
        gc.collect()
        before = ox.memory_summary()["used"]
        y = x
        for _ in range(4):
            y = call(y)
        y.numpy() if not y.requires_grad else y.detach().numpy()
        held = ox.memory_summary()["used"] - before
        y.sum().backward()
        assert x.grad is not None
        return x.grad.numpy().tobytes(), held

    plain, much = run(block)
    again, little = run(lambda x: ox.checkpoint(block, x))
    assert plain == again
    assert little < much / 4


def test_checkpoints_draw_the_same_numbers() -> None:
    x = ox.ones(1000, requires_grad=True)
    ox.manual_seed(1)
    y = ox.checkpoint(lambda x: ox.dropout(x * 2, 0.5), x)
    ox.rand(7)
    state = ox.get_rng_state()
    y.sum().backward()
    assert ox.get_rng_state() == state  # the second run moves no stream
    assert x.grad is not None
    np.testing.assert_array_equal(x.grad.numpy(), y.detach().numpy())


def test_checkpoints_of_closures_several_values_and_arguments() -> None:
    w, x = leaf(2.0), leaf(3.0)
    ox.checkpoint(lambda x: x * w, x).backward()
    assert (grad_of(w), grad_of(x)) == (3.0, 2.0)
    w = leaf(2.0)
    ox.checkpoint(lambda x: x * w, ox.tensor(5.0)).backward()
    assert grad_of(w) == 5.0
    u, v, k = ox.checkpoint(lambda x, n, y: (x * n, x + y, (x > 0).long()), x, 7, ox.tensor(1.0))
    assert not k.requires_grad
    x.grad = None
    (u * v).backward()
    assert grad_of(x) == 7 * (3 + 1) + 21
    with ox.no_grad():
        assert not ox.checkpoint(lambda x: x * 2, x).requires_grad


def test_checkpoints_keep_what_they_saw() -> None:
    w = leaf(2.0)
    x = w * 1
    y = ox.checkpoint(lambda x: x**3, x)
    x += 100
    y.backward()
    assert grad_of(w) == 12.0


def test_checkpoints_cannot_be_differentiated_twice_silently() -> None:
    x = leaf(2.0)
    with pytest.raises(ox.GradError, match="cannot be differentiated again"):
        ox.grad(ox.checkpoint(lambda x: x**3, x) + x**2, x, create_graph=True)
    with pytest.raises(TypeError, match="not int"):
        ox.checkpoint(lambda x: 3, x)
