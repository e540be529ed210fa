"""ReduceLROnPlateau, the schedule that watches a metric."""

from __future__ import annotations

import math

from .scheduler import LRScheduler

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..._core import Tensor
    from ..optimizer import Optimizer


class ReduceLROnPlateau(LRScheduler):
    """lr ← factor lr when a metric has not improved for `patience` steps; `step` takes the metric.

    Args:
        mode: "min" if smaller is better, "max" if larger.
        factor: below 1.
        patience: how many steps without improvement are let pass.
        threshold: by how much a step must improve on the best to count.
        threshold_mode: "rel" as a share of the best, "abs" as a difference.
        cooldown: how many steps after a reduction do not count.
        min_lr: the lowest rate, one number or one for each group.
        eps: a reduction by less than this is not made.

    >>> optimizer = optim.SGD([nn.Parameter(ox.ones(1))], lr=1.0)
    >>> scheduler = optim.ReduceLROnPlateau(optimizer, factor=0.5, patience=1)
    >>> for loss in [3.0, 2.0, 2.0, 2.0]:
    ...     scheduler.step(loss)
    >>> scheduler.get_last_lr()
    [0.5]
    """

    def __init__(
        self,
        optimizer: Optimizer,
        mode: str = "min",
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        threshold_mode: str = "rel",
        cooldown: int = 0,
        min_lr: float | Sequence[float] = 0.0,
        eps: float = 1e-8,
    ) -> None:
        if not factor < 1.0:
            raise ValueError(f"ReduceLROnPlateau: factor must be below 1, not {factor}")
        if mode not in ("min", "max"):
            raise ValueError(f"ReduceLROnPlateau: mode must be 'min' or 'max', not {mode!r}")
        if threshold_mode not in ("rel", "abs"):
            raise ValueError(
                f"ReduceLROnPlateau: threshold_mode must be 'rel' or 'abs', not {threshold_mode!r}"
            )
        groups = optimizer.param_groups
        self.optimizer = optimizer
        self.mode = mode
        self.factor = factor
        self.patience = patience
        self.threshold = threshold
        self.threshold_mode = threshold_mode
        self.cooldown = cooldown
        self.min_lrs = [min_lr] * len(groups) if isinstance(min_lr, (int, float)) else list(min_lr)
        if len(self.min_lrs) != len(groups):
            raise ValueError(
                f"ReduceLROnPlateau: {len(self.min_lrs)} values of min_lr for {len(groups)} parameter groups"
            )
        self.eps = eps
        self.best = math.inf if mode == "min" else -math.inf
        self.num_bad_epochs = 0
        self.cooldown_counter = 0
        self.last_epoch = 0
        self._last_lr = self._rates

    def is_better(self, value: float) -> bool:
        """Whether a metric improves on the best so far by more than the threshold."""
        sign = 1.0 if self.mode == "max" else -1.0
        if self.threshold_mode == "abs":
            return sign * value > sign * self.best + self.threshold
        return sign * value > sign * self.best * (1.0 + sign * self.threshold)

    def step(self, metrics: float | Tensor) -> None:  # type: ignore[override]  # takes the metric
        """Take note of a metric and reduce the rate if it is time."""
        value = float(metrics)
        self.last_epoch += 1
        if self.is_better(value):
            self.best = value
            self.num_bad_epochs = 0
        else:
            self.num_bad_epochs += 1
        if self.cooldown_counter > 0:
            self.cooldown_counter -= 1
            self.num_bad_epochs = 0
        if self.num_bad_epochs > self.patience:
            lower = [
                max(rate * self.factor, low) for rate, low in zip(self._rates, self.min_lrs, strict=True)
            ]
            rates = zip(self._rates, lower, strict=True)
            self._set([new if rate - new > self.eps else rate for rate, new in rates])
            self.cooldown_counter = self.cooldown
            self.num_bad_epochs = 0
        self._last_lr = self._rates
