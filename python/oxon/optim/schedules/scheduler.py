"""LRScheduler, the base of schedules: it counts steps and sets "lr" in the optimizer's groups."""

from __future__ import annotations

from ..optimizer import Optimizer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any


class LRScheduler:
    """The base class of schedules: a subclass defines `get_lr`.

    Args:
        optimizer: whose groups are changed.
        last_epoch: the last t of an interrupted schedule, or -1 to begin.

    Attributes:
        base_lrs: the rate of each group at the start.
        last_epoch: t.

    >>> class Halving(optim.LRScheduler):
    ...     def get_lr(self):
    ...         return [base / 2**self.last_epoch for base in self.base_lrs]
    >>> optimizer = optim.SGD([nn.Parameter(ox.ones(1))], lr=1.0)
    >>> scheduler = Halving(optimizer)
    >>> scheduler.step()
    >>> optimizer.param_groups[0]["lr"], scheduler.get_last_lr()
    (0.5, [0.5])
    """

    def __init__(self, optimizer: Optimizer, last_epoch: int = -1) -> None:
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"a schedule needs an optimizer, not {type(optimizer).__name__}")
        self.optimizer = optimizer
        for group in optimizer.param_groups:
            if last_epoch == -1:
                group.setdefault("initial_lr", group["lr"])
            elif "initial_lr" not in group:
                raise KeyError(
                    "last_epoch is given, but a parameter group has no 'initial_lr' to resume from"
                )
        self.base_lrs: list[float] = [group["initial_lr"] for group in optimizer.param_groups]
        self.last_epoch = last_epoch
        self._last_lr: list[float] = []
        self.step()

    @property
    def _rates(self) -> list[float]:
        """The groups' rates now."""
        return [group["lr"] for group in self.optimizer.param_groups]

    def get_lr(self) -> list[float]:
        """The rate of each group at t = `last_epoch`."""
        raise NotImplementedError(f"{type(self).__name__} does not define get_lr()")

    def get_last_lr(self) -> list[float]:
        """The rates that the last step set."""
        return self._last_lr

    def step(self) -> None:
        """Go on to the next t."""
        self.last_epoch += 1
        self._set(self.get_lr())

    def restart(self) -> None:
        """Go back to t = 0 and the base rates, as `SequentialLR` does when it switches schedules."""
        for group, base in zip(self.optimizer.param_groups, self.base_lrs, strict=True):
            group["lr"] = base
        self.last_epoch = 0
        self._set(self.get_lr())

    def _set(self, rates: Sequence[float]) -> None:
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
        self._last_lr = list(rates)

    def state_dict(self) -> dict[str, Any]:
        """Everything but the optimizer and functions."""
        return {
            name: value
            for name, value in self.__dict__.items()
            if name != "optimizer" and not name.startswith("_fn")
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from `state_dict()`; load the optimizer's beside it."""
        self.__dict__.update(state_dict)
