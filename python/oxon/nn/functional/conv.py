"""Convolution with PyTorch's spellings of padding."""

from __future__ import annotations

from ..._core import ShapeError, pad
from ..._core import conv1d as _conv1d
from ..._core import conv2d as _conv2d
from ._check import sizes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..._core import Tensor
    from ._check import Size

__all__ = ["conv1d", "conv2d", "pad"]


def conv1d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Size = 1,
    padding: Size | str = 0,
    dilation: Size = 1,
    groups: int = 1,
) -> Tensor:
    """Cross-correlation along one axis.

    Args:
        x: `(N, C, L)` or `(C, L)`.
        weight: `(K, C / groups, kernel)`.
        bias: `(K,)` or None.
        stride, dilation, groups: as in PyTorch.
        padding: zeros on both sides, "valid" for none, or "same" for an output as long as the input
            (stride 1 only).

    Returns:
        `(N, K, Lₒ)` with `Lₒ = ⌊(L + 2 padding - dilation (kernel - 1) - 1) / stride⌋ + 1`.
    """
    if isinstance(padding, str):
        x, padding = _padded("conv1d", x, weight, stride, padding, dilation, 1)
    return _conv1d(x, weight, bias, stride, padding, dilation, groups)


def conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Size = 1,
    padding: Size | str = 0,
    dilation: Size = 1,
    groups: int = 1,
) -> Tensor:
    """Cross-correlation over height and width.

    Args:
        x: `(N, C, H, W)` or `(C, H, W)`.
        weight: `(K, C / groups, kernel height, kernel width)`.
        bias: `(K,)` or None.
        stride, dilation, groups: as in PyTorch; one number or one for each axis.
        padding: zeros on both sides of each axis, "valid" for none, or "same" for an output as large
            as the input (stride 1 only).

    Returns:
        `(N, K, Hₒ, Wₒ)`, each as in `conv1d`.
    """
    if isinstance(padding, str):
        x, padding = _padded("conv2d", x, weight, stride, padding, dilation, 2)
    return _conv2d(x, weight, bias, stride, padding, dilation, groups)


def _padded(
    name: str, x: Tensor, weight: Tensor, stride: Size, padding: str, dilation: Size, rank: int
) -> tuple[Tensor, tuple[int, ...]]:
    """The input and the number of zeros that the convolution adds, for a padding given by name."""
    if weight.ndim != rank + 2:
        raise ShapeError(f"{name}: weight must have {rank + 2} axes, not {tuple(weight.shape)}")
    stride, dilation = sizes(stride, rank, name, "stride"), sizes(dilation, rank, name, "dilation")
    around = string_padding(padding, tuple(weight.shape[2:]), stride, dilation)
    if all(before == after for before, after in around):
        return x, tuple(before for before, _ in around)
    return pad(x, [side for pair in reversed(around) for side in pair]), (0,) * rank


def string_padding(
    padding: str, kernel: tuple[int, ...], stride: tuple[int, ...], dilation: tuple[int, ...]
) -> list[tuple[int, int]]:
    """The zeros before and after each axis which "same" or "valid" stand for."""
    if padding == "valid":
        return [(0, 0)] * len(kernel)
    if padding != "same":
        raise ValueError(f"padding must be a number, 'same' or 'valid', not {padding!r}")
    if any(step != 1 for step in stride):
        raise ValueError(f"padding='same' needs stride 1, not {stride}")
    totals = [step * (size - 1) for size, step in zip(kernel, dilation, strict=True)]
    return [(total // 2, total - total // 2) for total in totals]
