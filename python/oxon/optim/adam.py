"""Adam and AdamW: running means of the gradient and of its square, corrected for their start at zero."""

from __future__ import annotations

import math

from .._core import fused, maximum, sqrt, zeros_like
from .optimizer import Optimizer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .._core import Tensor
    from .optimizer import Params


class Adam(Optimizer):
    """Adaptive moment estimation.

        g ← g + weight_decay p
        m ← β₁ m + (1 - β₁) g
        v ← β₂ v + (1 - β₂) g²
        p ← p - lr m / (1 - β₁ᵗ) / (√(v / (1 - β₂ᵗ)) + eps)

    (Kingma and Ba, 2014, https://arxiv.org/abs/1412.6980; amsgrad: Reddi et al., 2019,
    https://arxiv.org/abs/1904.09237)

    Args:
        params: tensors or parameter groups.
        lr: the learning rate.
        betas: β₁ and β₂, how slowly the two means forget.
        eps: added to the denominator.
        weight_decay: adds this times the parameter to the gradient.
        amsgrad: use the largest v so far.
        maximize: climb instead of descend.
        decoupled_weight_decay: shrink the parameters instead, as `AdamW` does.

    >>> w = nn.Parameter(ox.tensor([3.0]))
    >>> optimizer = optim.Adam([w], lr=0.5)
    >>> (w * w).sum().backward()
    >>> optimizer.step()
    >>> w.tolist()
    [2.5]
    """

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        decoupled_weight_decay: bool = False,
    ) -> None:
        super().__init__(
            params,
            {
                "lr": lr,
                "betas": betas,
                "eps": eps,
                "weight_decay": weight_decay,
                "amsgrad": amsgrad,
                "maximize": maximize,
                "decoupled_weight_decay": decoupled_weight_decay,
            },
        )

    def update(self, p: Tensor, g: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        if not state:
            state["step"] = 0
            state["exp_avg"] = zeros_like(p)
            state["exp_avg_sq"] = zeros_like(p)
            if group["amsgrad"]:
                state["max_exp_avg_sq"] = zeros_like(p)
        state["step"] = t = state["step"] + 1
        lr, decay = group["lr"], group["weight_decay"] or None
        beta1, beta2 = group["betas"]
        keep = None
        if decay and group["decoupled_weight_decay"]:
            keep, decay = 1 - lr * decay, None
        # The corrections are numbers, which a kernel takes as parameters.
        step_size, root = lr / (1 - beta1**t), math.sqrt(1 - beta2**t)
        m, v, most = state["exp_avg"], state["exp_avg_sq"], state.get("max_exp_avg_sq")
        new, state["exp_avg"], state["exp_avg_sq"], *rest = _adam(
            p, g, m, v, most, keep, decay, beta1, 1 - beta1, beta2, 1 - beta2, step_size, root, group["eps"]
        )
        if rest:
            state["max_exp_avg_sq"] = rest[0]
        p.copy_(new)


@fused
def _adam(
    p: Tensor,
    g: Tensor,
    m: Tensor,
    v: Tensor,
    most: Tensor | None,
    keep: float | None,
    decay: float | None,
    beta1: float,
    rest1: float,
    beta2: float,
    rest2: float,
    step_size: float,
    root: float,
    eps: float,
) -> tuple[Tensor, ...]:
    if decay is not None:
        g = g + decay * p
    m = beta1 * m + rest1 * g
    v = beta2 * v + rest2 * (g * g)
    top = v if most is None else maximum(most, v)
    if keep is not None:
        p = keep * p
    p = p - step_size * (m / (sqrt(top) / root + eps))
    return (p, m, v) if most is None else (p, m, v, top)


class AdamW(Adam):
    """Adam with weight decay that does not pass through the means: p ← p - lr weight_decay p, then Adam.

    (Loshchilov and Hutter, 2017, https://arxiv.org/abs/1711.05101)

    Args:
        params, lr, betas, eps, amsgrad, maximize: as `Adam`'s.
        weight_decay: the share of each parameter, times lr, that a step takes away.

    >>> w = nn.Parameter(ox.tensor([3.0]))
    >>> optimizer = optim.AdamW([w], lr=0.5, weight_decay=0.25)
    >>> (w * w).sum().backward()
    >>> optimizer.step()
    >>> w.tolist()
    [2.125]
    """

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(
            params, lr, betas, eps, weight_decay, amsgrad, maximize=maximize, decoupled_weight_decay=True
        )
