"""Pooling: the largest or the mean value of windows, given by their size or by the size of the output."""

from __future__ import annotations

from ..._core import (
    adaptive_avg_pool1d,
    adaptive_max_pool1d,
    avg_pool1d,
    avg_pool2d,
    max_pool1d,
    max_pool2d,
)
from ..._core import adaptive_avg_pool2d as _adaptive_avg_pool2d
from ..._core import adaptive_max_pool2d as _adaptive_max_pool2d

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from ..._core import Tensor

    OutputSize = int | Sequence[int | None]

__all__ = [
    "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_max_pool1d", "adaptive_max_pool2d",
    "avg_pool1d", "avg_pool2d", "max_pool1d", "max_pool2d",
]  # fmt: skip


def adaptive_avg_pool2d(x: Tensor, output_size: OutputSize) -> Tensor:
    """Means of as many windows as the output has elements.

    Args:
        x: `(N, C, H, W)` or `(C, H, W)`.
        output_size: one number, or one for each axis, where None keeps the input's.

    Returns:
        `(N, C, *output_size)`; output i is the mean of the input from ⌊i H / Hₒ⌋ to ⌈(i + 1) H / Hₒ⌉.
    """
    return _adaptive_avg_pool2d(x, _plane(x, output_size))


def adaptive_max_pool2d(x: Tensor, output_size: OutputSize, return_indices: bool = False) -> Any:
    """The largest values of the windows that `adaptive_avg_pool2d` takes.

    Args:
        x, output_size: as `adaptive_avg_pool2d`'s.
        return_indices: also give the flat position of each maximum in its plane.
    """
    return _adaptive_max_pool2d(x, _plane(x, output_size), return_indices)


def _plane(x: Tensor, output_size: OutputSize) -> Any:
    if isinstance(output_size, int) or len(output_size) != 2 or x.ndim < 2:
        return output_size
    return [have if want is None else want for want, have in zip(output_size, x.shape[-2:], strict=True)]
