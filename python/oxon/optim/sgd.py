"""SGD: stochastic gradient descent, plain, with momentum or with Nesterov's."""

from __future__ import annotations

from .._core import fused
from .optimizer import Optimizer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .._core import Tensor
    from .optimizer import Params


class SGD(Optimizer):
    """Stochastic gradient descent.

        g ← g + weight_decay p
        b ← momentum b + (1 - dampening) g        (b = g at first)
        g ← g + momentum b  with nesterov, else b
        p ← p - lr g

    (Sutskever et al., 2013, http://proceedings.mlr.press/v28/sutskever13.html)

    Args:
        params: tensors or parameter groups.
        lr: the learning rate.
        momentum: how much of the last direction is kept.
        dampening: how much of the gradient is left out of the momentum.
        weight_decay: adds this times the parameter to the gradient.
        nesterov: look ahead along the momentum; needs momentum and no dampening.
        maximize: climb instead of descend.

    >>> w = nn.Parameter(ox.tensor([3.0]))
    >>> optimizer = optim.SGD([w], lr=0.25)
    >>> (w * w).sum().backward()
    >>> optimizer.step()
    >>> w.tolist()
    [1.5]
    """

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(
            params,
            {
                "lr": lr,
                "momentum": momentum,
                "dampening": dampening,
                "weight_decay": weight_decay,
                "nesterov": nesterov,
                "maximize": maximize,
            },
        )

    def check(self, group: dict[str, Any]) -> None:
        super().check(group)
        if group["nesterov"] and (group["momentum"] <= 0 or group["dampening"] != 0):
            raise ValueError("SGD: nesterov needs a momentum and no dampening")

    def update(self, p: Tensor, g: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        momentum, decay = group["momentum"], group["weight_decay"] or None
        if not momentum:
            p.copy_(_sgd(p, g, decay, group["lr"]))
            return
        b, rest = state.get("momentum_buffer"), 1 - group["dampening"]
        new, b = _momentum(p, g, b, decay, group["lr"], momentum, rest, group["nesterov"])
        state["momentum_buffer"] = b
        p.copy_(new)


@fused
def _sgd(p: Tensor, g: Tensor, decay: float | None, lr: float) -> Tensor:
    if decay is not None:
        g = g + decay * p
    return p - lr * g


@fused
def _momentum(
    p: Tensor,
    g: Tensor,
    b: Tensor | None,
    decay: float | None,
    lr: float,
    momentum: float,
    rest: float,
    nesterov: bool,
) -> tuple[Tensor, Tensor]:
    if decay is not None:
        g = g + decay * p
    b = g.clone() if b is None else momentum * b + rest * g
    g = g + momentum * b if nesterov else b
    return p - lr * g, b
