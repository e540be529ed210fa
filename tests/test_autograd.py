"""Differentiation as users see it: walks, modes, hooks, higher order, checks, anomalies. Each operation's own
gradient is tested with the operation."""

from __future__ import annotations

import gc
import inspect
import threading
from typing import Any

import numpy as np
import oxon as ox
import pytest
from numeric import grad_of, leaf

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


@pytest.mark.cpu("float64")
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


@pytest.mark.cpu("finite differences need float64")
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


@pytest.mark.cpu("gradcheck is float64")
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


def test_the_gradient_of_a_transposed_operand_lies_in_memory_as_it_does() -> None:
    w = ox.ones(3, 4, requires_grad=True)
    (ox.ones(2, 4) @ w.T).sum().backward()
    assert w.grad is not None
    assert w.grad.is_contiguous()
    assert w.grad.tolist() == [[2.0] * 4] * 3
