"""`ox.fused`: a function of elementwise operations, traced once and recorded as one; not the window that groups
what is recorded one by one (`test_fusion`)."""

from __future__ import annotations

from typing import Any

import numpy as np
import oxon as ox
import pytest


def momentum(p: ox.Tensor, g: ox.Tensor, b: ox.Tensor | None, rate: float, keep: float, ahead: bool) -> Any:
    b = g.clone() if b is None else keep * b + g
    g = g + keep * b if ahead else b
    return p - rate * g, b


@pytest.mark.parametrize("dtype", [ox.float32, ox.float64, ox.bfloat16])
@pytest.mark.parametrize("ahead", [False, True])
def test_a_fused_function_gives_what_the_function_gives(dtype: ox.DType, ahead: bool) -> None:
    rng = np.random.default_rng(0)
    p, g, b = (ox.tensor(rng.standard_normal((3, 5)), dtype=dtype) for _ in range(3))
    step = ox.fused(momentum)
    for rate, keep in [(0.1, 0.9), (0.25, 0.5)]:
        for last in (None, b):
            got, want = step(p, g, last, rate, keep, ahead), momentum(p, g, last, rate, keep, ahead)
            for one, other in zip(got, want, strict=True):
                assert one.dtype == other.dtype == dtype
                np.testing.assert_array_equal(one.float().numpy(), other.float().numpy())


def test_a_fused_function_is_one_kernel() -> None:
    step = ox.fused(momentum)
    x = ox.ones(64)
    step(x, x, x, 0.1, 0.9, True)
    with ox.profile() as profile:
        ox.flush(list(step(x, x, x, 0.1, 0.9, True)))
    assert [row.calls for row in profile.rows] == [1]


def test_numbers_belong_outside_a_fused_function() -> None:
    mean = ox.fused(lambda x, y, keep: keep * x + (1 - keep) * y)
    with pytest.raises(ValueError, match="computes a number"):
        mean(ox.ones(2), ox.ones(2), 0.25)


def test_a_fused_function_runs_as_it_stands_where_it_is_not_one_chain() -> None:
    x, y = ox.tensor([[1.0, 2.0], [3.0, 4.0]]), ox.tensor([1.0, 2.0])
    assert ox.fused(lambda a, b: a * b)(x, y).tolist() == [[1, 4], [3, 8]]  # broadcast
    assert ox.fused(lambda a: a.sum())(x).item() == 10
    assert ox.fused(lambda a: a @ a)(x).tolist() == [[7, 10], [15, 22]]
    assert ox.fused(lambda a: a)(x) is x
    assert ox.fused(lambda a: [a + 1])(y)[0].tolist() == [2, 3]
    assert ox.fused(lambda a, n: a + n)(y, "s" and 2).tolist() == [3, 4]
    w = ox.tensor([1.0, 2.0], requires_grad=True)
    ox.fused(lambda a: a * a)(w).sum().backward()  # gradients need the operations
    assert w.grad is not None
    assert w.grad.tolist() == [2, 4]


def test_choices_are_part_of_a_fused_function() -> None:
    power = ox.fused(lambda x, n, negate: -(x**n) if negate else x**n)
    x = ox.tensor([1.0, 2.0])
    assert [power(x, n, False).tolist() for n in (1, 2, 3)] == [[1, 2], [1, 4], [1, 8]]
    assert power(x, 2, True).tolist() == [-1, -4]
    assert ox.fused(lambda x, n: x + (1 if n is True else 5))(x, 1).tolist() == [6, 7]


def test_what_a_traced_function_keeps_can_be_read() -> None:
    kept: list[ox.Tensor] = []

    def function(x: ox.Tensor) -> ox.Tensor:
        kept.append(x + 1)
        return kept[-1] * 2

    assert ox.fused(function)(ox.ones(3)).tolist() == [4, 4, 4]
    assert [t.numpy().shape for t in kept] == [(2,), (2,), (3,)]  # traced twice, and called: it kept a value


def test_a_step_is_written_where_the_last_one_was() -> None:
    def rule(p: Any, m: Any, v: Any) -> Any:
        return p - v, m + p, v * m

    want: Any = (0.0, 1.0, 2.0)
    state: Any = tuple(ox.full(5000, x) for x in want)
    step = ox.fused(rule)
    for _ in range(4):
        state, want = step(*state), rule(*want)
        ox.flush(list(state))
        assert [(t[0].item(), t[-1].item()) for t in state] == [(x, x) for x in want]
