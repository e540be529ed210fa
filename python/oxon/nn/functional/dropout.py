"""Dropout: zeros at random in training, nothing in evaluation."""

from __future__ import annotations

from ..._core import ShapeError, ones
from ..._core import dropout as _dropout
from ._check import probability

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..._core import Tensor

__all__ = ["dropout", "dropout1d", "dropout2d"]


def dropout(x: Tensor, p: float = 0.5, training: bool = True) -> Tensor:
    """Each element is 0 with probability p, else x / (1 - p); in evaluation x itself.

    Raises:
        ValueError: unless 0 ≤ p ≤ 1.
    """
    probability("dropout", p)
    return _dropout(x, p, True) if training and p else x


def dropout1d(x: Tensor, p: float = 0.5, training: bool = True) -> Tensor:
    """`dropout` of whole channels of `(N, C, L)` or `(C, L)`."""
    return _channels("dropout1d", x, 1, p, training)


def dropout2d(x: Tensor, p: float = 0.5, training: bool = True) -> Tensor:
    """`dropout` of whole channels of `(N, C, H, W)` or `(C, H, W)`."""
    return _channels("dropout2d", x, 2, p, training)


def _channels(name: str, x: Tensor, rank: int, p: float, training: bool) -> Tensor:
    probability(name, p)
    if x.ndim not in (rank + 1, rank + 2):
        raise ShapeError(f"{name}: expected {rank + 1} or {rank + 2} axes, not {tuple(x.shape)}")
    if not training or p == 0:
        return x
    per_channel = (*x.shape[: x.ndim - rank],) + (1,) * rank
    return x * _dropout(ones(per_channel, dtype=x.dtype, device=x.device), p, True)
