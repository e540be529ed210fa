"""Differentiation as users see it: walks, modes, hooks, functions of their own, checkpoints, anomalies, and
what in-place methods mean where tensors are values. Each operation's own gradient is tested with the operation."""

from __future__ import annotations

import copy
import gc
import inspect
import pickle
import threading
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import oxon as ox
import pytest


def leaf(*values: float, dtype: str = "float64") -> ox.Tensor:
    """A leaf that requires grad: 0-d for one value."""
    return ox.tensor(values[0] if len(values) == 1 else list(values), dtype=dtype, requires_grad=True)


def grad_of(x: ox.Tensor) -> Any:
    assert x.grad is not None
    return x.grad.tolist()


# Walks.


def test_backward_accumulates_into_leaves() -> None:
    x, y = leaf(2.0), leaf(3.0)
    z = x * y + x
    z.backward()
    assert (grad_of(x), grad_of(y)) == (4.0, 2.0)
    (x * 5).backward()
    assert grad_of(x) == 9.0
    assert z.grad is None
    x.grad = None
    (x * x).backward()
    assert grad_of(x) == 4.0


def test_a_value_used_twice_gets_both_gradients() -> None:
    x = leaf(3.0)
    a = x * x
    b = a + a * x
    b.backward()
    assert grad_of(x) == 2 * 3 + 3 * 9


def test_seeds_and_their_errors() -> None:
    x = leaf(1.0, 2.0)
    with pytest.raises(ox.GradError, match=r"shape \(2,\) has many gradients.*x\.sum\(\)"):
        (x * 2).backward()
    with pytest.raises(ox.ShapeError, match=r"a gradient of \(3,\) for a tensor of \(2,\)"):
        (x * 2).backward(ox.ones(3))
    (x * 2).backward(ox.tensor([1, 10]))
    assert grad_of(x) == [2, 20]
    assert x.grad is not None
    assert x.grad.dtype == ox.float64
    with pytest.raises(ox.GradError, match="does not require grad"):
        ox.ones(1).backward()
    with pytest.raises(ox.GradError, match="does not require grad"):
        x.detach().sum().backward()


def test_the_second_backward_says_why() -> None:
    x = leaf(2.0)
    y = x * x
    y.backward()
    with pytest.raises(ox.GradError, match=r"graph through mul has been freed.*retain_graph=True"):
        y.backward()
    y = x * x
    y.backward(retain_graph=True)
    y.backward(retain_graph=True)
    y.backward()
    assert grad_of(x) == 16.0
    # A part that was shared is named as well.
    shared = x.exp()
    (shared * 2).backward()
    with pytest.raises(ox.GradError, match="exp"):
        (shared * 3).backward()


def test_what_backward_has_used_is_let_go() -> None:
    gc.collect()
    before = ox.memory_summary()["used"]
    x = ox.ones(1 << 18, requires_grad=True)
    y = (x * 2).exp().sin()
    loss = y.sum()
    del y
    loss.backward()
    assert x.grad is not None
    x.grad.numpy()
    assert loss.item() != 0
    gc.collect()
    # The leaf, its gradient and no more, though `loss` still lives.
    assert ox.memory_summary()["used"] < before + (2 << 20) + (1 << 19)
    assert loss.requires_grad


def test_grad_touches_no_leaf() -> None:
    x, y, unused = leaf(2.0), leaf(3.0), leaf(1.0)
    z = x * x * y
    assert [g.item() for g in ox.grad(z, [x, y])] == [12.0, 4.0]
    assert x.grad is None
    middle = x * 2
    assert [g.item() for g in ox.grad(middle * middle, [middle, x])] == [8.0, 16.0]
    assert ox.grad(x, x)[0].item() == 1.0
    assert [g.item() for g in ox.grad([x * 2, x * 3], [x, x])] == [5.0, 5.0]
    (g,) = ox.grad(ox.stack([x, x]) * 2, x, ox.tensor([1.0, 10.0]))
    assert g.item() == 22.0
    with pytest.raises(ox.GradError, match="input 1 plays no part"):
        ox.grad(x * 2, [x, unused])
    assert ox.grad(x * 2, [x, unused], allow_unused=True)[1] is None
    with pytest.raises(ox.GradError, match="input 0 does not require grad"):
        ox.grad(x * 2, ox.ones(1))
    with pytest.raises(TypeError, match="2 gradients for 1 tensors"):
        ox.grad(x * 2, x, [ox.ones(()), ox.ones(())])


def test_several_tensors_at_once() -> None:
    x = leaf(1.0, 2.0)
    ox.autograd.backward([x.sum(), (x * x)], [None, ox.tensor([1.0, 1.0])])
    assert grad_of(x) == [3.0, 5.0]


def test_gradients_have_the_dtype_of_their_leaf() -> None:
    for dtype in ("float16", "bfloat16", "float32", "float64"):
        x = ox.ones(2, dtype=dtype, requires_grad=True)
        (x.double() * 3 + x.float()).sum().backward()
        assert x.grad is not None
        assert (x.grad.dtype.name, x.grad.tolist()) == (dtype, [4, 4])


def test_whole_numbers_have_no_gradients() -> None:
    with pytest.raises(ox.DTypeError, match="int64"):
        ox.tensor([1], requires_grad=True)
    x = leaf(1.0, 2.0)
    for y in (x.long(), x > 0, x.argmax(), x.argsort(), x.isnan()):
        assert not y.requires_grad


# Modes.


def test_modes() -> None:
    x = leaf(1.0)
    with ox.no_grad():
        assert not (x * 2).requires_grad
        with ox.enable_grad():
            assert (x * 2).requires_grad
        assert not ox.is_grad_enabled()
        fresh = ox.ones(1, requires_grad=True)
    assert ox.is_grad_enabled()
    assert fresh.requires_grad
    with pytest.raises(KeyError), ox.no_grad():
        raise KeyError
    assert ox.is_grad_enabled()

    @ox.no_grad()
    def inner(x: ox.Tensor) -> ox.Tensor:
        return x * 2

    assert not inner(x).requires_grad
    assert inner.__name__ == "inner"
    mode = ox.no_grad()
    with mode, mode:
        assert not ox.is_grad_enabled()
    assert ox.is_grad_enabled()
    with ox.set_grad_enabled(False):
        seen: list[bool] = []
        thread = threading.Thread(target=lambda: seen.append(ox.is_grad_enabled()))
        thread.start()
        thread.join()
        assert seen == [True]  # a mode belongs to its thread


def test_detach_and_requires_grad() -> None:
    x = leaf(2.0)
    y = x * x
    assert not y.detach().requires_grad
    (y.detach() * x).backward()
    assert grad_of(x) == 4.0
    assert (x.is_leaf, y.is_leaf, y.detach().is_leaf) == (True, False, True)
    assert (x.grad_fn, y.grad_fn) == (None, "mul")
    with pytest.raises(ox.GradError, match="use `detach"):
        y.requires_grad = False
    z = y.detach().requires_grad_()
    (z * 3).backward()
    assert grad_of(z) == 3.0
    z.requires_grad_(False)
    assert not (z * 3).requires_grad
    assert z.grad is None


# Hooks.


def test_hooks_look_and_replace() -> None:
    x, seen = leaf(2.0), []
    y = x * 3
    handle = y.register_hook(lambda g: g * 10)
    y.register_hook(lambda g: seen.append(g.item()))
    x.register_hook(lambda g: seen.append(g.item()))
    (y * 2).backward()
    assert seen == [20.0, 60.0]  # in order: the second sees what the first gave
    assert grad_of(x) == 60.0
    handle.remove()
    handle.remove()
    (x * 3).backward()
    assert seen[2:] == [3.0]


def test_a_leafs_hook_sees_the_whole_gradient_once() -> None:
    x, seen = leaf(2.0), []
    x.register_hook(lambda g: seen.append(g.item()))
    (x * 2 + x * 3 + x).backward()
    assert seen == [6.0]


def test_hooks_after_accumulation() -> None:
    x, seen = leaf(2.0), []

    def after(total: ox.Tensor) -> None:
        assert x.grad is not None
        seen.append((total.item(), x.grad.item()))

    handle = x.register_post_accumulate_grad_hook(after)
    (x * 2).backward()
    (x * 2).backward()
    handle.remove()
    (x * 2).backward()
    assert seen == [(2.0, 2.0), (4.0, 4.0)]
    with pytest.raises(ox.GradError, match="leaves"):
        (x * 2).register_post_accumulate_grad_hook(after)
    with pytest.raises(ox.GradError, match="require grad"):
        ox.ones(1).register_hook(after)


def test_a_hook_may_step_the_optimizer() -> None:
    """Updating a parameter as soon as its gradient is there."""
    x = leaf(2.0)

    def update(gradient: ox.Tensor) -> None:
        with ox.no_grad():
            x.sub_(gradient * 0.5)
        x.grad = None

    x.register_post_accumulate_grad_hook(update)
    (x * x).backward()
    assert x.item() == 0.0
    assert x.grad is None


def test_errors_of_hooks_come_through() -> None:
    for hook, kind, text in (
        (lambda g: 1 / 0, ZeroDivisionError, "division"),
        (lambda g: 3, TypeError, "a tensor or None"),
        (lambda g: ox.ones(5), ox.ShapeError, r"\(5,\)"),
    ):
        x = leaf(1.0)
        x.register_hook(hook)
        with pytest.raises(kind, match=text):
            (x * 2).backward()


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


# Higher order.


def test_third_derivatives() -> None:
    x = leaf(0.7)
    y = (x.sin() * x.exp()).tanh()
    derivative = y
    for _ in range(3):
        (derivative,) = ox.grad(derivative, x, create_graph=True)

    def f(t: complex) -> complex:
        return np.tanh(np.sin(t) * np.exp(t))

    h = 1e-3
    want = (f(0.7 + 2 * h) - 2 * f(0.7 + h) + 2 * f(0.7 - h) - f(0.7 - 2 * h)) / (2 * h**3)
    assert derivative.item() == pytest.approx(want, rel=1e-4)


def test_a_penalty_on_gradients() -> None:
    """backward through a gradient, as in gradient penalties, against numbers done by hand."""
    w, x = leaf(2.0, -1.0), leaf(0.5, 3.0)
    out = (w * x * x).sum()
    (g,) = ox.grad(out, x, create_graph=True)  # 2 w x
    (g * g).sum().backward()  # 4 w² x²
    assert grad_of(w) == [8 * 2 * 0.25, 8 * -1 * 9]
    assert grad_of(x) == [8 * 4 * 0.5, 8 * 1 * 3]


def test_hessian_of_a_network() -> None:
    rng = np.random.default_rng(0)
    a, b = (ox.tensor(rng.standard_normal(s)) for s in ((5, 3), (4, 5)))
    x = ox.tensor(rng.standard_normal(3))

    def f(x: ox.Tensor) -> ox.Tensor:
        return (b @ (a @ x).tanh()).logsumexp(0)

    p = x.clone().requires_grad_()
    (g,) = ox.grad(f(p), p, create_graph=True)
    hessian = np.stack([ox.grad(g[i], p, retain_graph=True)[0].numpy() for i in range(3)])
    np.testing.assert_allclose(hessian, hessian.T, rtol=1e-9)
    for i in range(3):
        step = np.zeros(3)
        step[i] = 1e-5
        ends = []
        for sign in (1, -1):
            q = (x + ox.tensor(sign * step)).requires_grad_()
            ends.append(ox.grad(f(q), q)[0].numpy())
        np.testing.assert_allclose(hessian[i], (ends[0] - ends[1]) / 2e-5, atol=1e-7)


def test_create_graph_gives_gradients_a_history() -> None:
    x = leaf(2.0)
    (x**3).backward(create_graph=True)
    assert x.grad is not None
    assert ox.grad(x.grad, x)[0].item() == 12.0
    x.grad = None
    (x**3).backward()
    assert x.grad is not None
    assert not x.grad.requires_grad


# Checkpoints.


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


# Checks that can fail.


class Wrong(ox.Function):
    """sin, with a gradient that is `factor` times too large."""

    @staticmethod
    def forward(ctx: Any, x: ox.Tensor, factor: float) -> ox.Tensor:
        ctx.factor = factor
        ctx.save_for_backward(x)
        return x.sin()

    @staticmethod
    def backward(ctx: Any, dy: ox.Tensor) -> Any:
        return dy * ctx.saved_tensors[0].cos() * ctx.factor, None


def test_gradcheck_catches_wrong_gradients() -> None:
    x = ox.tensor([0.5, -1.0, 2.0])
    assert ox.gradcheck(lambda x: Wrong.apply(x, 1.0), x)
    for factor in (1.01, -1.0, 0.0):
        with pytest.raises(ox.GradError, match=r"gradient of input 0 at element 0 .* central differences"):
            ox.gradcheck(lambda x, f=factor: Wrong.apply(x, f), x)

    class Flat(ox.Function):
        """Right at first order, with a second order that is lost."""

        @staticmethod
        def forward(ctx: Any, x: ox.Tensor) -> ox.Tensor:
            ctx.save_for_backward(x)
            return x * x

        @staticmethod
        def backward(ctx: Any, dy: ox.Tensor) -> ox.Tensor:
            return dy * 2 * ctx.saved_tensors[0].detach()

    assert ox.gradcheck(Flat.apply, x)
    with pytest.raises(ox.GradError, match="second-order"):
        ox.gradcheck(lambda x: Flat.apply(x) + x**3, x, order=2)
    # One element of many, one output of several, one input of several.
    with pytest.raises(ox.GradError, match="element 2"):
        ox.gradcheck(lambda x: x * ox.cat([ox.ones(2), x[2:].detach()]), x)
    with pytest.raises(ox.GradError, match="input 1"):
        ox.gradcheck(lambda x, y: (x * 2, y.detach() * x), [x, x])
    with pytest.raises(ox.GradError, match="nan"):
        ox.gradcheck(lambda x: x.sqrt(), ox.tensor([-1.0]))
    assert ox.gradcheck(lambda x, k: x * k, [x, 3])


# Anomalies.


def test_anomalies_name_operation_and_line() -> None:
    def line() -> int:
        frame = inspect.currentframe()
        assert frame is not None
        assert frame.f_back is not None
        return frame.f_back.f_lineno

    x = ox.zeros(3, requires_grad=True)
    with ox.detect_anomaly():
        y = x * 2
        at = line() + 1
        z = y.sqrt()
        loss = (z * 0).sum()
        with pytest.raises(ox.GradError, match=rf"sqrt gave NaN .*input 0.*test_autograd\.py:{at}\b"):
            loss.backward()
        (x * 2).sum().backward()  # no NaN, no error
    loss = (x.sqrt() * 0).sum()
    loss.backward()
    assert x.grad is not None
    assert np.isnan(x.grad.numpy()).all()


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


def test_the_gradient_of_a_transposed_operand_lies_in_memory_as_it_does() -> None:
    w = ox.ones(3, 4, requires_grad=True)
    (ox.ones(2, 4) @ w.T).sum().backward()
    assert w.grad is not None
    assert w.grad.is_contiguous()
    assert w.grad.tolist() == [[2.0] * 4] * 3
