"""Adagrad and Adadelta: step sizes from the history of each parameter's gradients."""

from __future__ import annotations

from .._core import full_like, fused, sqrt, zeros_like
from .optimizer import Optimizer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .._core import Tensor
    from .optimizer import Params


class Adagrad(Optimizer):
    """Divides the learning rate by the root of the sum of all squared gradients.

        g ← g + weight_decay p
        s ← s + g²
        p ← p - lr / (1 + (t - 1) lr_decay) · g / (√s + eps)

    (Duchi et al., 2011, https://jmlr.org/papers/v12/duchi11a.html)

    Args:
        params: tensors or parameter groups.
        lr: the learning rate.
        lr_decay: how fast it falls with the step t.
        weight_decay: adds this times the parameter to the gradient.
        initial_accumulator_value: where s starts.
        eps: added to the denominator.
        maximize: climb instead of descend.

    >>> w = nn.Parameter(ox.tensor([3.0]))
    >>> optimizer = optim.Adagrad([w], lr=0.5)
    >>> (w * w).sum().backward()
    >>> optimizer.step()
    >>> w.tolist()
    [2.5]
    """

    def __init__(
        self,
        params: Params,
        lr: float = 1e-2,
        lr_decay: float = 0.0,
        weight_decay: float = 0.0,
        initial_accumulator_value: float = 0.0,
        eps: float = 1e-10,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(
            params,
            {
                "lr": lr,
                "lr_decay": lr_decay,
                "weight_decay": weight_decay,
                "initial_accumulator_value": initial_accumulator_value,
                "eps": eps,
                "maximize": maximize,
            },
        )

    def check(self, group: dict[str, Any]) -> None:
        super().check(group)
        for name in ("lr_decay", "initial_accumulator_value"):
            if not group[name] >= 0.0:
                raise ValueError(f"Adagrad: {name} must not be negative, not {group[name]}")

    def update(self, p: Tensor, g: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        if not state:
            state["step"] = 0
            state["sum"] = full_like(p, group["initial_accumulator_value"])
        state["step"] += 1
        lr = group["lr"] / (1 + (state["step"] - 1) * group["lr_decay"])
        new, state["sum"] = _adagrad(p, g, state["sum"], group["weight_decay"] or None, lr, group["eps"])
        p.copy_(new)


@fused
def _adagrad(
    p: Tensor, g: Tensor, s: Tensor, decay: float | None, lr: float, eps: float
) -> tuple[Tensor, Tensor]:
    if decay is not None:
        g = g + decay * p
    s = s + g * g
    return p - lr * (g / (sqrt(s) + eps)), s


class Adadelta(Optimizer):
    """Scales the gradient by the size of recent steps over that of recent gradients.

        g ← g + weight_decay p
        v ← rho v + (1 - rho) g²
        d = √(u + eps) / √(v + eps) · g
        u ← rho u + (1 - rho) d²
        p ← p - lr d

    (Zeiler, 2012, https://arxiv.org/abs/1212.5701)

    Args:
        params: tensors or parameter groups.
        lr: scales the step.
        rho: how slowly the two means forget.
        eps: added under the roots.
        weight_decay: adds this times the parameter to the gradient.
        maximize: climb instead of descend.

    >>> w = nn.Parameter(ox.tensor([3.0]))
    >>> optimizer = optim.Adadelta([w], lr=100.0)
    >>> (w * w).sum().backward()
    >>> optimizer.step()
    >>> w.item() < 3.0
    True
    """

    def __init__(
        self,
        params: Params,
        lr: float = 1.0,
        rho: float = 0.9,
        eps: float = 1e-6,
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(
            params, {"lr": lr, "rho": rho, "eps": eps, "weight_decay": weight_decay, "maximize": maximize}
        )

    def check(self, group: dict[str, Any]) -> None:
        super().check(group)
        if not 0.0 <= group["rho"] <= 1.0:
            raise ValueError(f"Adadelta: rho must lie in [0, 1], not {group['rho']}")

    def update(self, p: Tensor, g: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        if not state:
            state["step"] = 0
            state["square_avg"] = zeros_like(p)
            state["acc_delta"] = zeros_like(p)
        state["step"] += 1
        rho, eps = group["rho"], group["eps"]
        decay = group["weight_decay"] or None
        v, u = state["square_avg"], state["acc_delta"]
        new, state["square_avg"], state["acc_delta"] = _adadelta(
            p, g, v, u, decay, rho, 1 - rho, group["lr"], eps
        )
        p.copy_(new)


@fused
def _adadelta(
    p: Tensor,
    g: Tensor,
    v: Tensor,
    u: Tensor,
    decay: float | None,
    rho: float,
    rest: float,
    lr: float,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor]:
    if decay is not None:
        g = g + decay * p
    v = rho * v + rest * (g * g)
    d = sqrt(u + eps) / sqrt(v + eps) * g
    u = rho * u + rest * (d * d)
    return p - lr * d, v, u
