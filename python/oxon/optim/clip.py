"""Gradient clipping, between `backward()` and `step()`."""

from __future__ import annotations

import math

from .._core import Tensor, stack, zeros
from ..autograd import no_grad

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


def _with_grad(parameters: Tensor | Iterable[Tensor]) -> list[tuple[Tensor, Tensor]]:
    parameters = [parameters] if isinstance(parameters, Tensor) else parameters
    return [(p, p.grad) for p in parameters if p.grad is not None]


def clip_grad_norm_(
    parameters: Tensor | Iterable[Tensor],
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
) -> Tensor:
    """Scale the gradients so that their norm, taken over all as one vector, is at most `max_norm`.

    Args:
        parameters: a tensor or several; those without gradient are passed over.
        max_norm: the bound.
        norm_type: the p of the p-norm, `float("inf")` for the largest magnitude.
        error_if_nonfinite: raise RuntimeError when the norm is not finite, which reads the data.

    Returns:
        the norm before scaling, `()`.

    >>> w = nn.Parameter(ox.tensor([3.0, 4.0]))
    >>> (w * w / 2).sum().backward()
    >>> optim.clip_grad_norm_([w], max_norm=1.0).item()
    5.0
    >>> [round(g, 4) for g in w.grad.tolist()]
    [0.6, 0.8]
    """
    pairs = _with_grad(parameters)
    if not pairs:
        return zeros(())
    p = float(norm_type)
    with no_grad():
        if p == math.inf:
            total = stack([g.abs().amax() for _, g in pairs]).amax()
        elif p == 2:
            total = stack([(g * g).sum() for _, g in pairs]).sum().sqrt()
        else:
            total = stack([(g.abs() ** p).sum() for _, g in pairs]).sum() ** (1.0 / p)
        if error_if_nonfinite and not math.isfinite(total.item()):
            raise RuntimeError(f"clip_grad_norm_: the norm of the gradients is {total.item()}")
        factor = (max_norm / (total + 1e-6)).clamp(max=1.0)
        for parameter, g in pairs:
            parameter.grad = g * factor.to(g.dtype)
    return total


def clip_grad_value_(parameters: Tensor | Iterable[Tensor], clip_value: float) -> None:
    """Bring every element of the gradients between -`clip_value` and `clip_value`.

    >>> w = nn.Parameter(ox.tensor([3.0, -0.5]))
    >>> (w * w / 2).sum().backward()
    >>> optim.clip_grad_value_([w], 1.0)
    >>> w.grad.tolist()
    [1.0, -0.5]
    """
    with no_grad():
        for parameter, g in _with_grad(parameters):
            parameter.grad = g.clamp(-clip_value, clip_value)
