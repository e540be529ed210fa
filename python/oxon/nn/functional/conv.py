"""Convolution with PyTorch's spellings of padding, and `pad` with its modes."""

from __future__ import annotations

from ..._core import ShapeError, cat
from ..._core import conv1d as _conv1d
from ..._core import conv2d as _conv2d
from ..._core import pad as _pad
from ._check import batched, sizes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from ..._core import Tensor
    from ._check import Size

__all__ = ["conv1d", "conv2d", "pad"]

PAD_MODES = ("reflect", "replicate", "circular")


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
    return _conv("conv1d", _conv1d, 1, x, weight, bias, stride, padding, dilation, groups)


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
    return _conv("conv2d", _conv2d, 2, x, weight, bias, stride, padding, dilation, groups)


def _conv(
    name: str,
    kernel: Callable[..., Tensor],
    rank: int,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Size,
    padding: Size | str,
    dilation: Size,
    groups: int,
) -> Tensor:
    if weight.ndim != rank + 2:
        raise ShapeError(f"{name}: weight must have {rank + 2} axes, not {tuple(weight.shape)}")
    stride = sizes(stride, rank, name, "stride")
    dilation = sizes(dilation, rank, name, "dilation")
    if isinstance(padding, str):
        around = string_padding(padding, tuple(weight.shape[2:]), stride, dilation)
        if all(left == right for left, right in around):
            padding = tuple(left for left, _ in around)
        else:
            x = pad(x, [side for pair in reversed(around) for side in pair])
            padding = 0
    padding = sizes(padding, rank, name, "padding")

    def apply(x: Tensor) -> Tensor:
        return kernel(x, weight, bias, stride, padding, dilation, groups)

    result: Tensor = batched(name, rank, x, apply)
    return result


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


def pad(x: Tensor, pad: Sequence[int], mode: str = "constant", value: float = 0.0) -> Tensor:
    """Add to (or, where negative, cut from) the ends of the last axes.

    Args:
        x: any shape.
        pad: pairs (before, after), the last axis first.
        mode: "constant" for `value`; "reflect" mirrors about the edge element, "replicate" repeats it,
            "circular" continues at the other end.

    >>> nn.functional.pad(ox.tensor([1, 2, 3]), (2, 1), mode="reflect").tolist()
    [3, 2, 1, 2, 3, 2]
    """
    if len(pad) % 2 or len(pad) > 2 * x.ndim:
        raise ValueError(f"pad: {tuple(pad)} is not one pair for each of the last axes of {tuple(x.shape)}")
    if mode == "constant":
        return _pad(x, tuple(pad), value=value)
    if mode not in PAD_MODES:
        raise ValueError(f"pad: mode must be one of constant, {', '.join(PAD_MODES)}, not {mode!r}")
    for axis, (before, after) in enumerate(zip(pad[::2], pad[1::2], strict=True)):
        x = _extend(x, x.ndim - 1 - axis, before, after, mode)
    return x


def _extend(x: Tensor, axis: int, before: int, after: int, mode: str) -> Tensor:
    size = x.shape[axis]
    limit = {"reflect": size - 1, "circular": size}.get(mode, max(before, after) if size else 0)
    if min(before, after) < 0 or max(before, after) > limit:
        raise ShapeError(f"pad: {mode} by ({before}, {after}) does not fit axis {axis} of {tuple(x.shape)}")

    def part(start: int | None, stop: int | None, step: int = 1) -> Tensor:
        index: list[Any] = [slice(None)] * x.ndim
        index[axis] = slice(start, stop, step)
        return x[tuple(index)]

    if mode == "reflect":
        left = part(before, 0, -1)
        right = part(size - 2, size - 2 - after if size - 2 - after >= 0 else None, -1)
    elif mode == "circular":
        left, right = part(size - before, None), part(None, after)
    else:
        shape = list(x.shape)
        shape[axis] = before
        left = part(0, 1).expand(tuple(shape))
        shape[axis] = after
        right = part(size - 1, None).expand(tuple(shape))
    pieces = ([left] if before else []) + [x] + ([right] if after else [])
    return cat(pieces, axis) if len(pieces) > 1 else x
