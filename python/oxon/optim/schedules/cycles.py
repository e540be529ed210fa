"""Schedules that go down and up again: cosines and the one cycle."""

from __future__ import annotations

import math

from .scheduler import LRScheduler

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..optimizer import Optimizer


class CosineAnnealingLR(LRScheduler):
    """lr = eta_min + (base - eta_min) (1 + cos(π t / T_max)) / 2 (Loshchilov and Hutter, 2016,
    https://arxiv.org/abs/1608.03983, without restarts).

    Past T_max the rate rises again; `CosineAnnealingWarmRestarts` jumps back instead.

    >>> optimizer = optim.SGD([nn.Parameter(ox.ones(1))], lr=1.0)
    >>> scheduler = optim.CosineAnnealingLR(optimizer, T_max=2)
    >>> scheduler.step()
    >>> [round(lr, 6) for lr in scheduler.get_last_lr()]
    [0.5]
    """

    def __init__(self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0, last_epoch: int = -1) -> None:
        if T_max < 1:
            raise ValueError(f"CosineAnnealingLR: T_max must be at least 1, not {T_max}")
        self.T_max = T_max
        self.eta_min = eta_min
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        t = self.last_epoch
        if t == 0:
            return self._rates
        now, before = (1 + math.cos(math.pi * i / self.T_max) for i in (t, t - 1))
        if (t - 1 - self.T_max) % (2 * self.T_max) == 0:
            # The step out of the valley, where the rate found is eta_min and has no ratio to the next.
            return [
                rate + (base - self.eta_min) * now / 2
                for rate, base in zip(self._rates, self.base_lrs, strict=True)
            ]
        return [(rate - self.eta_min) * now / before + self.eta_min for rate in self._rates]


class CosineAnnealingWarmRestarts(LRScheduler):
    """Cosine annealing that jumps back to base after T_0 steps, then T_0 T_mult, T_0 T_mult², …

    (Loshchilov and Hutter, 2016, https://arxiv.org/abs/1608.03983)

    >>> optimizer = optim.SGD([nn.Parameter(ox.ones(1))], lr=1.0)
    >>> scheduler = optim.CosineAnnealingWarmRestarts(optimizer, T_0=2)
    >>> scheduler.step()
    >>> scheduler.step()
    >>> scheduler.get_last_lr()
    [1.0]
    """

    def __init__(
        self, optimizer: Optimizer, T_0: int, T_mult: int = 1, eta_min: float = 0.0, last_epoch: int = -1
    ) -> None:
        if T_0 < 1 or T_mult < 1:
            raise ValueError(
                f"CosineAnnealingWarmRestarts: T_0 and T_mult must be at least 1, not {T_0}, {T_mult}"
            )
        self.T_0 = T_0
        self.T_mult = T_mult
        self.eta_min = eta_min
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        t, period = self.last_epoch, self.T_0
        if self.T_mult == 1:
            t %= period
        while t >= period:
            t -= period
            period *= self.T_mult
        factor = (1 + math.cos(math.pi * t / period)) / 2
        return [self.eta_min + (base - self.eta_min) * factor for base in self.base_lrs]


class OneCycleLR(LRScheduler):
    """One rise to max_lr and one fall to far below where it began; step it after every batch.

    Momentum (or β₁) goes the other way. (Smith and Topin, 2017, https://arxiv.org/abs/1708.07120)

    Args:
        max_lr: the peak, one number or one for each group.
        total_steps: the number of steps; or give `epochs` and `steps_per_epoch`.
        pct_start: the share of the steps that the rise takes.
        anneal_strategy: "cos" or "linear".
        cycle_momentum: whether momentum goes from max_momentum to base_momentum and back.
        div_factor: max_lr over the first rate.
        final_div_factor: the first rate over the last.
        three_phase: fall back to the first rate as long as the rise took, and only then below.

    >>> optimizer = optim.SGD([nn.Parameter(ox.ones(1))], lr=1.0, momentum=0.9)
    >>> scheduler = optim.OneCycleLR(optimizer, max_lr=1.0, total_steps=10, anneal_strategy="linear")
    >>> scheduler.step()
    >>> scheduler.step()
    >>> [round(lr, 6) for lr in scheduler.get_last_lr()]
    [1.0]
    """

    def __init__(
        self,
        optimizer: Optimizer,
        max_lr: float | Sequence[float],
        total_steps: int | None = None,
        epochs: int | None = None,
        steps_per_epoch: int | None = None,
        pct_start: float = 0.3,
        anneal_strategy: str = "cos",
        cycle_momentum: bool = True,
        base_momentum: float = 0.85,
        max_momentum: float = 0.95,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
        three_phase: bool = False,
        last_epoch: int = -1,
    ) -> None:
        if total_steps is None:
            if epochs is None or steps_per_epoch is None:
                raise ValueError("OneCycleLR: give total_steps, or epochs and steps_per_epoch")
            total_steps = epochs * steps_per_epoch
        if total_steps < 1:
            raise ValueError(f"OneCycleLR: there must be at least one step, not {total_steps}")
        if not 0.0 <= pct_start <= 1.0:
            raise ValueError(f"OneCycleLR: pct_start must lie between 0 and 1, not {pct_start}")
        if not div_factor > 0 or not final_div_factor > 0:
            raise ValueError(
                "OneCycleLR: div_factor and final_div_factor must be positive, "
                f"not {div_factor} and {final_div_factor}"
            )
        if anneal_strategy not in ("cos", "linear"):
            raise ValueError(
                f"OneCycleLR: anneal_strategy must be 'cos' or 'linear', not {anneal_strategy!r}"
            )
        self.total_steps = total_steps
        self.anneal_strategy = anneal_strategy
        self.cycle_momentum = cycle_momentum
        rise = pct_start * total_steps - 1
        # Phases as (last step, name of the rate at its start, at its end, momentum likewise).
        high, low = "max_momentum", "base_momentum"
        if three_phase:
            self._phases = [
                (rise, "initial_lr", "max_lr", high, low),
                (2 * rise, "max_lr", "initial_lr", low, high),
                (total_steps - 1, "initial_lr", "min_lr", high, high),
            ]
        else:
            self._phases = [
                (rise, "initial_lr", "max_lr", high, low),
                (total_steps - 1, "max_lr", "min_lr", low, high),
            ]
        groups = optimizer.param_groups
        peaks = [max_lr] * len(groups) if isinstance(max_lr, (int, float)) else list(max_lr)
        if len(peaks) != len(groups):
            raise ValueError(f"OneCycleLR: {len(peaks)} values of max_lr for {len(groups)} parameter groups")
        for group, peak in zip(groups, peaks, strict=True):
            if cycle_momentum and "momentum" not in group and "betas" not in group:
                raise ValueError("OneCycleLR: cycle_momentum needs an optimizer with momentum or betas")
            if last_epoch == -1:
                group["initial_lr"] = peak / div_factor
                group["max_lr"] = peak
                group["min_lr"] = group["initial_lr"] / final_div_factor
                if cycle_momentum:
                    group["max_momentum"] = max_momentum
                    group["base_momentum"] = base_momentum
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        t = self.last_epoch
        if t > self.total_steps:
            raise ValueError(f"OneCycleLR: step {t} of a cycle of {self.total_steps} steps")
        start = 0.0
        for phase in self._phases:
            end = phase[0]
            if t <= end or phase is self._phases[-1]:
                break
            start = end
        share = (t - start) / (end - start) if end != start else 1.0
        rates = []
        for group in self.optimizer.param_groups:
            rates.append(self._between(group[phase[1]], group[phase[2]], share))
            if self.cycle_momentum:
                momentum = self._between(group[phase[3]], group[phase[4]], share)
                if "betas" in group:
                    group["betas"] = (momentum, *group["betas"][1:])
                else:
                    group["momentum"] = momentum
        return rates

    def _between(self, start: float, end: float, share: float) -> float:
        if self.anneal_strategy == "cos":
            share = (1 - math.cos(math.pi * share)) / 2
        return start + (end - start) * share
