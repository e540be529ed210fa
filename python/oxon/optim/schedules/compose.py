"""Schedules made of schedules: one after the other, or all at once."""

from __future__ import annotations

from .scheduler import LRScheduler

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from ..optimizer import Optimizer


class SequentialLR(LRScheduler):
    """Several schedules one after the other, each beginning anew at its milestone.

    Args:
        schedulers: of this optimizer, in order.
        milestones: the t at which the second, third, … takes over; one fewer than schedulers.

    >>> optimizer = optim.SGD([nn.Parameter(ox.ones(1))], lr=1.0)
    >>> warmup = optim.LinearLR(optimizer, start_factor=0.5, total_iters=2)
    >>> decay = optim.ExponentialLR(optimizer, gamma=0.5)
    >>> scheduler = optim.SequentialLR(optimizer, [warmup, decay], milestones=[2])
    >>> rates = []
    >>> for _ in range(4):
    ...     rates.append(optimizer.param_groups[0]["lr"])
    ...     scheduler.step()
    >>> rates
    [0.5, 0.75, 1.0, 0.5]
    """

    def __init__(
        self,
        optimizer: Optimizer,
        schedulers: Sequence[LRScheduler],
        milestones: Sequence[int],
        last_epoch: int = -1,
    ) -> None:
        if not schedulers or len(milestones) != len(schedulers) - 1:
            raise ValueError(
                f"SequentialLR: {len(schedulers)} schedulers need {len(schedulers) - 1} milestones"
            )
        if any(scheduler.optimizer is not optimizer for scheduler in schedulers):
            raise ValueError("SequentialLR: every scheduler must belong to the given optimizer")
        self.optimizer = optimizer
        self.schedulers = list(schedulers)
        self.milestones = list(milestones)
        self.last_epoch = last_epoch + 1
        # Making the schedulers moved the rate, each from where the one before left it.
        self.schedulers[0].restart()
        self._last_lr = self.schedulers[0].get_last_lr()

    def step(self) -> None:
        """Go on to the next t of the schedule whose turn it is."""
        self.last_epoch += 1
        turn = sum(milestone <= self.last_epoch for milestone in self.milestones)
        scheduler = self.schedulers[turn]
        if turn and self.milestones[turn - 1] == self.last_epoch:
            scheduler.restart()
        else:
            scheduler.step()
        self._last_lr = scheduler.get_last_lr()

    def state_dict(self) -> dict[str, Any]:
        return _nested_state(super().state_dict(), self.schedulers)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(_load_nested(state_dict, self.schedulers))


class ChainedScheduler(LRScheduler):
    """Several schedules at once: each step runs all of them, each on the rate that the one before left.

    Args:
        schedulers: of one optimizer.

    >>> optimizer = optim.SGD([nn.Parameter(ox.ones(1))], lr=1.0)
    >>> first = optim.ConstantLR(optimizer, factor=0.5, total_iters=2)
    >>> second = optim.ExponentialLR(optimizer, gamma=0.5)
    >>> scheduler = optim.ChainedScheduler([first, second])
    >>> scheduler.step()
    >>> scheduler.get_last_lr()
    [0.25]
    """

    def __init__(self, schedulers: Sequence[LRScheduler], optimizer: Optimizer | None = None) -> None:
        schedulers = list(schedulers)
        if not schedulers:
            raise ValueError("ChainedScheduler: needs at least one scheduler")
        self.optimizer = schedulers[0].optimizer if optimizer is None else optimizer
        if any(scheduler.optimizer is not self.optimizer for scheduler in schedulers):
            raise ValueError("ChainedScheduler: every scheduler must belong to one optimizer")
        self.schedulers = schedulers
        self._last_lr = self._rates

    def step(self) -> None:
        """Step every schedule."""
        for scheduler in self.schedulers:
            scheduler.step()
        self._last_lr = self._rates

    def state_dict(self) -> dict[str, Any]:
        return _nested_state(super().state_dict(), self.schedulers)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(_load_nested(state_dict, self.schedulers))


def _nested_state(state: dict[str, Any], schedulers: Sequence[LRScheduler]) -> dict[str, Any]:
    return {**state, "schedulers": [scheduler.state_dict() for scheduler in schedulers]}


def _load_nested(state_dict: dict[str, Any], schedulers: Sequence[LRScheduler]) -> dict[str, Any]:
    for scheduler, state in zip(schedulers, state_dict["schedulers"], strict=True):
        scheduler.load_state_dict(state)
    return {name: value for name, value in state_dict.items() if name != "schedulers"}
