"""Schedules that follow a formula in one direction: steps, straight lines, powers, functions of yours.

The recursive ones change the rate that they find, as PyTorch's do, so that several may act on one
optimizer. t counts the steps of a scheduler and base is the rate at its start.
"""

from __future__ import annotations

from .scheduler import LRScheduler

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..optimizer import Optimizer


class LambdaLR(LRScheduler):
    """lr = base · lr_lambda(t).

    Args:
        lr_lambda: a function of t, or one for each group. The state dict does not hold it.

    >>> optimizer = optim.SGD([nn.Parameter(ox.ones(1))], lr=1.0)
    >>> scheduler = optim.LambdaLR(optimizer, lambda t: 1 / (1 + t))
    >>> scheduler.step()
    >>> scheduler.get_last_lr()
    [0.5]
    """

    def __init__(
        self,
        optimizer: Optimizer,
        lr_lambda: Callable[[int], float] | Sequence[Callable[[int], float]],
        last_epoch: int = -1,
    ) -> None:
        self._fn = _per_group(optimizer, lr_lambda)
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        return [base * fn(self.last_epoch) for base, fn in zip(self.base_lrs, self._fn, strict=True)]


class MultiplicativeLR(LRScheduler):
    """lr ← lr · lr_lambda(t).

    Args:
        lr_lambda: a function of t, or one for each group. The state dict does not hold it.

    >>> optimizer = optim.SGD([nn.Parameter(ox.ones(1))], lr=1.0)
    >>> scheduler = optim.MultiplicativeLR(optimizer, lambda t: 0.5)
    >>> scheduler.step()
    >>> scheduler.get_last_lr()
    [0.5]
    """

    def __init__(
        self,
        optimizer: Optimizer,
        lr_lambda: Callable[[int], float] | Sequence[Callable[[int], float]],
        last_epoch: int = -1,
    ) -> None:
        self._fn = _per_group(optimizer, lr_lambda)
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        if self.last_epoch <= 0:
            return self._rates
        return [rate * fn(self.last_epoch) for rate, fn in zip(self._rates, self._fn, strict=True)]


def _per_group(
    optimizer: Optimizer, function: Callable[[int], float] | Sequence[Callable[[int], float]]
) -> list[Callable[[int], float]]:
    count = len(optimizer.param_groups)
    functions = [function] * count if callable(function) else list(function)
    if len(functions) != count:
        raise ValueError(f"{len(functions)} functions for {count} parameter groups")
    return functions


class StepLR(LRScheduler):
    """lr ← gamma lr every `step_size` steps.

    >>> optimizer = optim.SGD([nn.Parameter(ox.ones(1))], lr=1.0)
    >>> scheduler = optim.StepLR(optimizer, step_size=2, gamma=0.5)
    >>> for _ in range(4):
    ...     scheduler.step()
    >>> scheduler.get_last_lr()
    [0.25]
    """

    def __init__(
        self, optimizer: Optimizer, step_size: int, gamma: float = 0.1, last_epoch: int = -1
    ) -> None:
        if step_size < 1:
            raise ValueError(f"StepLR: step_size must be at least 1, not {step_size}")
        self.step_size = step_size
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        if self.last_epoch == 0 or self.last_epoch % self.step_size:
            return self._rates
        return [rate * self.gamma for rate in self._rates]


class MultiStepLR(LRScheduler):
    """lr ← gamma lr when t reaches one of `milestones`.

    >>> optimizer = optim.SGD([nn.Parameter(ox.ones(1))], lr=1.0)
    >>> scheduler = optim.MultiStepLR(optimizer, milestones=[1, 3], gamma=0.5)
    >>> for _ in range(3):
    ...     scheduler.step()
    >>> scheduler.get_last_lr()
    [0.25]
    """

    def __init__(
        self, optimizer: Optimizer, milestones: Sequence[int], gamma: float = 0.1, last_epoch: int = -1
    ) -> None:
        self.milestones = sorted(milestones)
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        factor = self.gamma ** self.milestones.count(self.last_epoch)
        return [rate * factor for rate in self._rates]


class ConstantLR(LRScheduler):
    """lr = factor · base until t = total_iters, then base.

    >>> optimizer = optim.SGD([nn.Parameter(ox.ones(1))], lr=1.0)
    >>> scheduler = optim.ConstantLR(optimizer, factor=0.5, total_iters=1)
    >>> scheduler.get_last_lr()
    [0.5]
    >>> scheduler.step()
    >>> scheduler.get_last_lr()
    [1.0]
    """

    def __init__(
        self, optimizer: Optimizer, factor: float = 1.0 / 3, total_iters: int = 5, last_epoch: int = -1
    ) -> None:
        if not 0.0 < factor <= 1.0:
            raise ValueError(f"ConstantLR: factor must lie in (0, 1], not {factor}")
        self.factor = factor
        self.total_iters = total_iters
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        if self.last_epoch == 0:
            return [rate * self.factor for rate in self._rates]
        if self.last_epoch == self.total_iters:
            return [rate / self.factor for rate in self._rates]
        return self._rates


class LinearLR(LRScheduler):
    """lr = base times a factor that goes straight from start_factor to end_factor in total_iters steps.

    >>> optimizer = optim.SGD([nn.Parameter(ox.ones(1))], lr=1.0)
    >>> scheduler = optim.LinearLR(optimizer, start_factor=0.5, total_iters=2)
    >>> scheduler.step()
    >>> scheduler.get_last_lr()
    [0.75]
    """

    def __init__(
        self,
        optimizer: Optimizer,
        start_factor: float = 1.0 / 3,
        end_factor: float = 1.0,
        total_iters: int = 5,
        last_epoch: int = -1,
    ) -> None:
        if not 0.0 < start_factor <= 1.0 or not 0.0 <= end_factor <= 1.0:
            raise ValueError(
                f"LinearLR: start_factor must lie in (0, 1] and end_factor in [0, 1], "
                f"not {start_factor} and {end_factor}"
            )
        if total_iters < 1:
            raise ValueError(f"LinearLR: total_iters must be at least 1, not {total_iters}")
        self.start_factor = start_factor
        self.end_factor = end_factor
        self.total_iters = total_iters
        super().__init__(optimizer, last_epoch)

    def _factor(self, t: int) -> float:
        return self.start_factor + (self.end_factor - self.start_factor) * t / self.total_iters

    def get_lr(self) -> list[float]:
        t = self.last_epoch
        if t == 0:
            return [rate * self.start_factor for rate in self._rates]
        if t > self.total_iters:
            return self._rates
        return [rate * (self._factor(t) / self._factor(t - 1)) for rate in self._rates]


class ExponentialLR(LRScheduler):
    """lr ← gamma lr at every step.

    >>> optimizer = optim.SGD([nn.Parameter(ox.ones(1))], lr=1.0)
    >>> scheduler = optim.ExponentialLR(optimizer, gamma=0.5)
    >>> scheduler.step()
    >>> scheduler.get_last_lr()
    [0.5]
    """

    def __init__(self, optimizer: Optimizer, gamma: float, last_epoch: int = -1) -> None:
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        return [rate * self.gamma if self.last_epoch else rate for rate in self._rates]


class PolynomialLR(LRScheduler):
    """lr = base (1 - t / total_iters)^power until total_iters, then 0.

    >>> optimizer = optim.SGD([nn.Parameter(ox.ones(1))], lr=1.0)
    >>> scheduler = optim.PolynomialLR(optimizer, total_iters=4, power=2.0)
    >>> scheduler.step()
    >>> scheduler.get_last_lr()
    [0.5625]
    """

    def __init__(
        self, optimizer: Optimizer, total_iters: int = 5, power: float = 1.0, last_epoch: int = -1
    ) -> None:
        self.total_iters = total_iters
        self.power = power
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        t = self.last_epoch
        if t == 0 or t > self.total_iters:
            return self._rates
        factor = ((self.total_iters - t) / (self.total_iters - t + 1)) ** self.power
        return [rate * factor for rate in self._rates]
