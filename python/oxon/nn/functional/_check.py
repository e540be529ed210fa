"""What the functions of this package share: sizes given as one number, agreement of shapes, reductions."""

from __future__ import annotations

from ..._core import ShapeError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..._core import Tensor

    Size = int | Sequence[int]


def sizes(value: Size, rank: int, function: str, name: str) -> tuple[int, ...]:
    """`value` for each of `rank` axes: an integer stands for all of them."""
    if isinstance(value, int):
        return (value,) * rank
    result = tuple(value)
    if len(result) == 1:
        result *= rank
    if len(result) != rank or not all(isinstance(item, int) for item in result):
        raise ValueError(f"{function}: {name} must be an integer or {rank} integers, not {value!r}")
    return result


def positive(function: str, **values: int) -> None:
    """Raise unless each of the named values is an integer above 0."""
    for name, value in values.items():
        if not isinstance(value, int) or isinstance(value, bool):
            raise TypeError(f"{function}: {name} must be an integer, not {type(value).__name__}")
        if value < 1:
            raise ValueError(f"{function}: {name} must be positive, not {value}")


def same_shape(function: str, x: Tensor, target: Tensor) -> None:
    """Losses do not broadcast: (N, 1) against (N,) would silently compare every pair."""
    if x.shape != target.shape:
        raise ShapeError(
            f"{function}: input {tuple(x.shape)} and target {tuple(target.shape)} must have one shape"
        )


def probability(function: str, p: float) -> None:
    """Raise unless 0 ≤ p ≤ 1."""
    if not 0.0 <= p <= 1.0:
        raise ValueError(f"{function}: p must lie between 0 and 1, not {p}")


def reduced(loss: Tensor, reduction: str) -> Tensor:
    """The mean or the sum of an elementwise loss, or the loss itself."""
    if reduction == "mean":
        return loss.mean()
    if reduction == "sum":
        return loss.sum()
    if reduction == "none":
        return loss
    raise ValueError(f"reduction must be 'none', 'mean' or 'sum', not {reduction!r}")
