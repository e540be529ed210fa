"""Dropout: zeros at random in training, nothing in evaluation."""

from __future__ import annotations

from ..._core import ShapeError, dropout, dropout_channels

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..._core import Tensor

__all__ = ["dropout", "dropout1d", "dropout2d"]


def dropout1d(x: Tensor, p: float = 0.5, training: bool = True) -> Tensor:
    """`dropout` of whole channels of `(N, C, L)` or `(C, L)`."""
    return _channels("dropout1d", x, 1, p, training)


def dropout2d(x: Tensor, p: float = 0.5, training: bool = True) -> Tensor:
    """`dropout` of whole channels of `(N, C, H, W)` or `(C, H, W)`."""
    return _channels("dropout2d", x, 2, p, training)


def _channels(name: str, x: Tensor, rank: int, p: float, training: bool) -> Tensor:
    if x.ndim == rank + 2:
        return dropout_channels(x, p, training)
    if x.ndim != rank + 1:
        raise ShapeError(f"{name}: expected {rank + 1} or {rank + 2} axes, not {tuple(x.shape)}")
    return dropout_channels(x.unsqueeze(0), p, training).squeeze(0)
