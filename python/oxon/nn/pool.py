"""Pooling layers. The arithmetic is in `functional/pool.py`."""

from __future__ import annotations

from . import functional as F
from .functional._check import sizes
from .module import Module

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .._core import Tensor
    from .functional._check import Size


def _check_sizes(pool: _MaxPool | _AvgPool, *names: str) -> None:
    for name in names:
        sizes(getattr(pool, name), pool._rank, type(pool).__name__, name)


class _MaxPool(Module):
    _rank: int

    def __init__(
        self,
        kernel_size: Size,
        stride: Size | None = None,
        padding: Size = 0,
        dilation: Size = 1,
        return_indices: bool = False,
        ceil_mode: bool = False,
    ) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.stride = kernel_size if stride is None else stride
        self.padding = padding
        self.dilation = dilation
        self.return_indices = return_indices
        self.ceil_mode = ceil_mode
        _check_sizes(self, "kernel_size", "stride", "padding", "dilation")

    def _arguments(self) -> tuple[Any, ...]:
        return (
            self.kernel_size,
            self.stride,
            self.padding,
            self.dilation,
            self.ceil_mode,
            self.return_indices,
        )

    def extra_repr(self) -> str:
        return (
            f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}, "
            f"dilation={self.dilation}, ceil_mode={self.ceil_mode}"
        )


class MaxPool1d(_MaxPool):
    """The largest value of each window of a sequence.

    Args:
        kernel_size: the size of a window.
        stride: the step between windows; None for `kernel_size`.
        padding: how far windows may start before the edge, at most half of the window.
        dilation: the step between the elements of a window.
        return_indices: also give the position of each maximum.
        ceil_mode: whether a last window may hang over the edge.

    Shape:
        `(N, C, L)` or `(C, L)` to `(N, C, Lₒ)` or `(C, Lₒ)`,
        `Lₒ = ⌊(L + 2 padding - dilation (kernel_size - 1) - 1) / stride⌋ + 1`.

    >>> nn.MaxPool1d(2)(ox.tensor([[1.0, 5.0, 2.0, 3.0]])).tolist()
    [[5.0, 3.0]]
    """

    _rank = 1

    def forward(self, x: Tensor) -> Any:
        return F.max_pool1d(x, *self._arguments())


class MaxPool2d(_MaxPool):
    """The largest value of each window of an image.

    Args:
        kernel_size: the size of a window; one number or (height, width), like all sizes below.
        stride: the step between windows; None for `kernel_size`.
        padding: how far windows may start before the edge, at most half of the window.
        dilation: the step between the elements of a window.
        return_indices: also give the flat position of each maximum in its plane.
        ceil_mode: whether a last window may hang over the edge.

    Shape:
        `(N, C, H, W)` or `(C, H, W)` to `(N, C, Hₒ, Wₒ)` or `(C, Hₒ, Wₒ)`, each as in `MaxPool1d`.

    >>> nn.MaxPool2d(2)(ox.ones(8, 3, 28, 28)).shape
    (8, 3, 14, 14)
    """

    _rank = 2

    def forward(self, x: Tensor) -> Any:
        return F.max_pool2d(x, *self._arguments())


class _AvgPool(Module):
    _rank: int

    def __init__(
        self,
        kernel_size: Size,
        stride: Size | None = None,
        padding: Size = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
    ) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.stride = kernel_size if stride is None else stride
        self.padding = padding
        self.ceil_mode = ceil_mode
        self.count_include_pad = count_include_pad
        _check_sizes(self, "kernel_size", "stride", "padding")

    def _arguments(self) -> tuple[Any, ...]:
        return self.kernel_size, self.stride, self.padding, self.ceil_mode, self.count_include_pad

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class AvgPool1d(_AvgPool):
    """The mean of each window of a sequence.

    Args:
        kernel_size: the size of a window.
        stride: the step between windows; None for `kernel_size`.
        padding: zeros on both sides, at most half of the window.
        ceil_mode: whether a last window may hang over the edge.
        count_include_pad: whether the padding's zeros count in the mean.

    Shape:
        `(N, C, L)` or `(C, L)` to `(N, C, Lₒ)` or `(C, Lₒ)`, as in `MaxPool1d`.

    >>> nn.AvgPool1d(2)(ox.tensor([[1.0, 5.0, 2.0, 4.0]])).tolist()
    [[3.0, 3.0]]
    """

    _rank = 1

    def forward(self, x: Tensor) -> Tensor:
        return F.avg_pool1d(x, *self._arguments())

    def extra_repr(self) -> str:
        one = [v if isinstance(v, int) else v[0] for v in (self.kernel_size, self.stride, self.padding)]
        return f"kernel_size=({one[0]},), stride=({one[1]},), padding=({one[2]},)"


class AvgPool2d(_AvgPool):
    """The mean of each window of an image.

    Args:
        kernel_size: the size of a window; one number or (height, width), like all sizes below.
        stride: the step between windows; None for `kernel_size`.
        padding: zeros on both sides, at most half of the window.
        ceil_mode: whether a last window may hang over the edge.
        count_include_pad: whether the padding's zeros count in the mean.

    Shape:
        `(N, C, H, W)` or `(C, H, W)` to `(N, C, Hₒ, Wₒ)` or `(C, Hₒ, Wₒ)`, each as in `MaxPool1d`.

    >>> nn.AvgPool2d(3, stride=2, padding=1)(ox.ones(8, 3, 28, 28)).shape
    (8, 3, 14, 14)
    """

    _rank = 2

    def forward(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(x, *self._arguments())


class _Adaptive(Module):
    def __init__(self, output_size: Any) -> None:
        super().__init__()
        self.output_size = output_size

    def extra_repr(self) -> str:
        return f"output_size={self.output_size}"


class _AdaptiveMax(_Adaptive):
    def __init__(self, output_size: Any, return_indices: bool = False) -> None:
        super().__init__(output_size)
        self.return_indices = return_indices


class AdaptiveAvgPool1d(_Adaptive):
    """Means of windows that cover the sequence evenly, as many as asked for.

    Args:
        output_size: the number of windows.

    Shape:
        `(N, C, L)` or `(C, L)` to `(N, C, output_size)` or `(C, output_size)`.

    >>> nn.AdaptiveAvgPool1d(2)(ox.tensor([[1.0, 2.0, 3.0]])).tolist()
    [[1.5, 2.5]]
    """

    def forward(self, x: Tensor) -> Tensor:
        return F.adaptive_avg_pool1d(x, self.output_size)


class AdaptiveAvgPool2d(_Adaptive):
    """Means of windows that cover the image evenly; size 1 is global average pooling.

    Args:
        output_size: one number or (height, width), where None keeps the input's size.

    Shape:
        `(N, C, H, W)` or `(C, H, W)` to `(N, C, *output_size)` or `(C, *output_size)`.

    >>> nn.AdaptiveAvgPool2d((1, None))(ox.ones(8, 3, 28, 20)).shape
    (8, 3, 1, 20)
    """

    def forward(self, x: Tensor) -> Tensor:
        return F.adaptive_avg_pool2d(x, self.output_size)


class AdaptiveMaxPool1d(_AdaptiveMax):
    """The largest values of windows that cover the sequence evenly, as many as asked for.

    Args:
        output_size: the number of windows.
        return_indices: also give the position of each maximum.

    Shape:
        `(N, C, L)` or `(C, L)` to `(N, C, output_size)` or `(C, output_size)`.

    >>> nn.AdaptiveMaxPool1d(2)(ox.tensor([[1.0, 2.0, 3.0]])).tolist()
    [[2.0, 3.0]]
    """

    def forward(self, x: Tensor) -> Any:
        return F.adaptive_max_pool1d(x, self.output_size, self.return_indices)


class AdaptiveMaxPool2d(_AdaptiveMax):
    """The largest values of windows that cover the image evenly.

    Args:
        output_size: one number or (height, width), where None keeps the input's size.
        return_indices: also give the flat position of each maximum in its plane.

    Shape:
        `(N, C, H, W)` or `(C, H, W)` to `(N, C, *output_size)` or `(C, *output_size)`.

    >>> nn.AdaptiveMaxPool2d(7)(ox.ones(8, 3, 28, 28)).shape
    (8, 3, 7, 7)
    """

    def forward(self, x: Tensor) -> Any:
        return F.adaptive_max_pool2d(x, self.output_size, self.return_indices)
