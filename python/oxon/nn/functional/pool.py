"""Pooling: the largest or the mean value of windows, given by their size or by the size of the output."""

from __future__ import annotations

from ..._core import adaptive_avg_pool1d as _adaptive_avg_pool1d
from ..._core import adaptive_avg_pool2d as _adaptive_avg_pool2d
from ..._core import adaptive_max_pool1d as _adaptive_max_pool1d
from ..._core import adaptive_max_pool2d as _adaptive_max_pool2d
from ..._core import avg_pool1d as _avg_pool1d
from ..._core import avg_pool2d as _avg_pool2d
from ..._core import max_pool1d as _max_pool1d
from ..._core import max_pool2d as _max_pool2d
from ._check import batched, sizes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from ..._core import Tensor
    from ._check import Size

    OutputSize = int | Sequence[int | None]

__all__ = [
    "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_max_pool1d", "adaptive_max_pool2d",
    "avg_pool1d", "avg_pool2d", "max_pool1d", "max_pool2d",
]  # fmt: skip


def max_pool1d(
    x: Tensor,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    dilation: Size = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """The largest value of each window of `(N, C, L)` or `(C, L)`; see `max_pool2d`."""
    return _max_pool(
        "max_pool1d", _max_pool1d, 1, x, kernel_size, stride, padding, dilation, ceil_mode, return_indices
    )


def max_pool2d(
    x: Tensor,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    dilation: Size = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """The largest value of each window.

    Args:
        x: `(N, C, H, W)` or `(C, H, W)`.
        kernel_size: the size of a window; one number or one for each axis, like all that follow.
        stride: the step between windows; None for `kernel_size`.
        padding: how far windows may start before the edge, at most half of the window.
        dilation: the step between the elements of a window.
        ceil_mode: whether a last window may hang over the edge.
        return_indices: also give the flat position of each maximum in its plane.

    Returns:
        `(N, C, Hₒ, Wₒ)`, each `⌊(H + 2 padding - dilation (kernel - 1) - 1) / stride⌋ + 1`.
    """
    return _max_pool(
        "max_pool2d", _max_pool2d, 2, x, kernel_size, stride, padding, dilation, ceil_mode, return_indices
    )


def _max_pool(
    name: str,
    kernel: Callable[..., Any],
    rank: int,
    x: Tensor,
    kernel_size: Size,
    stride: Size | None,
    padding: Size,
    dilation: Size,
    ceil_mode: bool,
    return_indices: bool,
) -> Any:
    window = sizes(kernel_size, rank, name, "kernel_size")
    arguments = (
        window,
        window if stride is None else sizes(stride, rank, name, "stride"),
        sizes(padding, rank, name, "padding"),
        sizes(dilation, rank, name, "dilation"),
        ceil_mode,
        return_indices,
    )
    return batched(name, rank, x, lambda x: kernel(x, *arguments))


def avg_pool1d(
    x: Tensor,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Tensor:
    """The mean of each window of `(N, C, L)` or `(C, L)`; see `avg_pool2d`."""
    return _avg_pool(
        "avg_pool1d", _avg_pool1d, 1, x, kernel_size, stride, padding, ceil_mode, count_include_pad
    )


def avg_pool2d(
    x: Tensor,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Tensor:
    """The mean of each window.

    Args:
        x: `(N, C, H, W)` or `(C, H, W)`.
        kernel_size, stride, padding, ceil_mode: as in `max_pool2d`; padding is zeros.
        count_include_pad: whether the padding's zeros count in the mean.

    Returns:
        `(N, C, Hₒ, Wₒ)`.
    """
    return _avg_pool(
        "avg_pool2d", _avg_pool2d, 2, x, kernel_size, stride, padding, ceil_mode, count_include_pad
    )


def _avg_pool(
    name: str,
    kernel: Callable[..., Tensor],
    rank: int,
    x: Tensor,
    kernel_size: Size,
    stride: Size | None,
    padding: Size,
    ceil_mode: bool,
    count_include_pad: bool,
) -> Tensor:
    window = sizes(kernel_size, rank, name, "kernel_size")
    arguments = (
        window,
        window if stride is None else sizes(stride, rank, name, "stride"),
        sizes(padding, rank, name, "padding"),
        ceil_mode,
        count_include_pad,
    )
    result: Tensor = batched(name, rank, x, lambda x: kernel(x, *arguments))
    return result


def adaptive_avg_pool1d(x: Tensor, output_size: OutputSize) -> Tensor:
    """Means of `output_size` windows that cover `(N, C, L)` or `(C, L)` evenly."""
    return _adaptive("adaptive_avg_pool1d", _adaptive_avg_pool1d, 1, x, output_size)


def adaptive_avg_pool2d(x: Tensor, output_size: OutputSize) -> Tensor:
    """Means of as many windows as the output has elements.

    Args:
        x: `(N, C, H, W)` or `(C, H, W)`.
        output_size: one number, or one for each axis, where None keeps the input's.

    Returns:
        `(N, C, *output_size)`; output i is the mean of the input from ⌊i H / Hₒ⌋ to ⌈(i + 1) H / Hₒ⌉.
    """
    return _adaptive("adaptive_avg_pool2d", _adaptive_avg_pool2d, 2, x, output_size)


def adaptive_max_pool1d(x: Tensor, output_size: OutputSize) -> Tensor:
    """The largest values of `output_size` windows that cover `(N, C, L)` or `(C, L)` evenly."""
    return _adaptive("adaptive_max_pool1d", _adaptive_max_pool1d, 1, x, output_size)


def adaptive_max_pool2d(x: Tensor, output_size: OutputSize) -> Tensor:
    """The largest values of the windows that `adaptive_avg_pool2d` takes."""
    return _adaptive("adaptive_max_pool2d", _adaptive_max_pool2d, 2, x, output_size)


def _adaptive(
    name: str, kernel: Callable[..., Tensor], rank: int, x: Tensor, output_size: OutputSize
) -> Tensor:
    wanted = (output_size,) * rank if isinstance(output_size, int) else tuple(output_size)
    if len(wanted) == rank and x.ndim >= rank:
        wanted = tuple(
            have if want is None else want for want, have in zip(wanted, x.shape[-rank:], strict=True)
        )
    size = sizes(wanted, rank, name, "output_size")  # type: ignore[arg-type]  # no None is left
    result: Tensor = batched(name, rank, x, lambda x: kernel(x, size))
    return result
