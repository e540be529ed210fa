"""RMSprop: the gradient over the root of its recent mean square."""

from __future__ import annotations

from .._core import fused, sqrt, zeros_like
from .optimizer import Optimizer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .._core import Tensor
    from .optimizer import Params


class RMSprop(Optimizer):
    """Divides the gradient by the root of a running mean of its square.

        g ← g + weight_decay p
        v ← alpha v + (1 - alpha) g²
        m ← alpha m + (1 - alpha) g               (centered)
        d = g / (√(v - m²) + eps), without m² unless centered
        b ← momentum b + d,  p ← p - lr b         (with momentum, else p ← p - lr d)

    (Tieleman and Hinton, 2012, lecture 6.5 of "Neural Networks for Machine Learning"; centered:
    Graves, 2013, https://arxiv.org/abs/1308.0850)

    Args:
        params: tensors or parameter groups.
        lr: the learning rate.
        alpha: how slowly the means forget.
        eps: added to the denominator.
        weight_decay: adds this times the parameter to the gradient.
        momentum: how much of the last direction is kept.
        centered: divide by the standard deviation instead of the root mean square.
        maximize: climb instead of descend.

    >>> w = nn.Parameter(ox.tensor([3.0]))
    >>> optimizer = optim.RMSprop([w], lr=0.1)
    >>> (w * w).sum().backward()
    >>> optimizer.step()
    >>> round(w.item(), 4)
    2.0
    """

    def __init__(
        self,
        params: Params,
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        centered: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(
            params,
            {
                "lr": lr,
                "alpha": alpha,
                "eps": eps,
                "weight_decay": weight_decay,
                "momentum": momentum,
                "centered": centered,
                "maximize": maximize,
            },
        )

    def check(self, group: dict[str, Any]) -> None:
        super().check(group)
        if not group["alpha"] >= 0.0:
            raise ValueError(f"RMSprop: alpha must not be negative, not {group['alpha']}")

    def update(self, p: Tensor, g: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        if not state:
            state["step"] = 0
            state["square_avg"] = zeros_like(p)
            if group["centered"]:
                state["grad_avg"] = zeros_like(p)
            if group["momentum"]:
                state["momentum_buffer"] = zeros_like(p)
        state["step"] += 1
        alpha = group["alpha"]
        v, m, b = state["square_avg"], state.get("grad_avg"), state.get("momentum_buffer")
        decay, rest = group["weight_decay"] or None, 1 - alpha
        new, state["square_avg"], *more = _rmsprop(
            p, g, v, m, b, decay, alpha, rest, group["momentum"], group["lr"], group["eps"]
        )
        for name in ("grad_avg", "momentum_buffer"):
            if name in state:
                state[name] = more.pop(0)
        p.copy_(new)


@fused
def _rmsprop(
    p: Tensor,
    g: Tensor,
    v: Tensor,
    m: Tensor | None,
    b: Tensor | None,
    decay: float | None,
    alpha: float,
    rest: float,
    momentum: float,
    lr: float,
    eps: float,
) -> tuple[Tensor, ...]:
    if decay is not None:
        g = g + decay * p
    v = alpha * v + rest * (g * g)
    if m is not None:
        m = alpha * m + rest * g
    d = g / (sqrt(v if m is None else v - m * m) + eps)
    if b is not None:
        b = d = momentum * b + d
    return p - lr * d, v, *(x for x in (m, b) if x is not None)
