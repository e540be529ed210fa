"""Parts of a tensor whose gradients are joined at once.

The core writes the gradient of each view into zeros of the whole tensor's size and adds those up. Where all
parts are used, as queries, keys and values are, joining them is one copy.
"""

from __future__ import annotations

from ..._core import Tensor, is_grad_enabled, stack
from ...autograd import Function

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class _Unbind(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, dim: int) -> tuple[Tensor, ...]:
        ctx.dim = dim
        return tuple(x.unbind(dim))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return stack(grads, ctx.dim), None


def unbind(x: Tensor, dim: int) -> tuple[Tensor, ...]:
    """A view for each index of `dim`, all of which are meant to be used."""
    if x.requires_grad and is_grad_enabled():
        parts: tuple[Tensor, ...] = _Unbind.apply(x, dim)
        return parts
    return tuple(x.unbind(dim))
