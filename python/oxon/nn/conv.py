"""Convolution layers. The arithmetic is in `functional/conv.py`."""

from __future__ import annotations

from .._core import empty
from . import functional as F
from . import init
from .functional._check import sizes
from .functional.conv import string_padding
from .module import Module
from .parameter import Parameter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .._core import Tensor
    from .._core import dtype as DType
    from .functional._check import Size


PADDING_MODES = ("zeros", "reflect", "replicate", "circular")


class _Conv(Module):
    """What the convolutions share; `rank` is the number of axes that the window slides along."""

    rank: int

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        stride: Size = 1,
        padding: Size | str = 0,
        dilation: Size = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        *,
        device: str | None = None,
        dtype: DType | None = None,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        if groups < 1 or in_channels % groups or out_channels % groups:
            raise ValueError(
                f"{name}: {in_channels} and {out_channels} channels do not split into {groups} groups"
            )
        if padding_mode not in PADDING_MODES:
            raise ValueError(
                f"{name}: padding_mode must be one of {', '.join(PADDING_MODES)}, not {padding_mode!r}"
            )
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kernel_size = sizes(kernel_size, self.rank, name, "kernel_size")
        self.stride = sizes(stride, self.rank, name, "stride")
        self.padding = padding if isinstance(padding, str) else sizes(padding, self.rank, name, "padding")
        self.dilation = sizes(dilation, self.rank, name, "dilation")
        self.groups = groups
        self.padding_mode = padding_mode
        # The zeros that a padding by name stands for; also a first check of the name.
        if isinstance(self.padding, str):
            around = string_padding(self.padding, self.kernel_size, self.stride, self.dilation)
        else:
            around = [(size, size) for size in self.padding]
        self._around = [side for pair in reversed(around) for side in pair]
        shape = (out_channels, in_channels // groups, *self.kernel_size)
        self.weight = Parameter(empty(shape, device=device, dtype=dtype))
        self.bias = Parameter(empty((out_channels,), device=device, dtype=dtype)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new starting values."""
        init.default_(self.weight, self.bias)

    def forward(self, x: Tensor) -> Tensor:
        padding: Size | str = self.padding
        if self.padding_mode != "zeros":
            x, padding = F.pad(x, self._around, self.padding_mode), 0
        conv = F.conv1d if self.rank == 1 else F.conv2d
        return conv(x, self.weight, self.bias, self.stride, padding, self.dilation, self.groups)

    def extra_repr(self) -> str:
        parts = [
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"
        ]
        if self.padding != (0,) * self.rank:
            parts.append(f"padding={self.padding}")
        if self.dilation != (1,) * self.rank:
            parts.append(f"dilation={self.dilation}")
        if self.groups != 1:
            parts.append(f"groups={self.groups}")
        if self.bias is None:
            parts.append("bias=False")
        if self.padding_mode != "zeros":
            parts.append(f"padding_mode={self.padding_mode}")
        return ", ".join(parts)


class Conv1d(_Conv):
    """Cross-correlation of a sequence with learned windows.

    y[n, k, i] = b[k] + Σ over c, j of W[k, c, j] x[n, c, stride i + dilation j - padding]

    Args:
        in_channels, out_channels: the numbers C and K of channels.
        kernel_size: the size of the window.
        stride: the step between windows.
        padding: zeros on both sides, "valid" for none or "same" for an output as long as the input.
        dilation: the step between the elements of a window.
        groups: into how many groups, each convolved on its own, both kinds of channels are split.
        bias: whether b is added and learned.
        padding_mode: "zeros", "reflect", "replicate" or "circular".

    Shape:
        `(N, C, L)` or `(C, L)` to `(N, K, Lₒ)` or `(K, Lₒ)`,
        `Lₒ = ⌊(L + 2 padding - dilation (kernel_size - 1) - 1) / stride⌋ + 1`.

    Attributes:
        weight: `(K, C / groups, kernel_size)`, starts uniform in ±1/√(C / groups · kernel_size).
        bias: `(K,)`, likewise, or None.

    >>> nn.Conv1d(16, 33, 3, stride=2)(ox.ones(20, 16, 50)).shape
    (20, 33, 24)
    """

    rank = 1


class Conv2d(_Conv):
    """Cross-correlation of images with learned windows (LeCun et al., 1989).

    y[n, k, i, j] = b[k] + Σ over c, u, v of W[k, c, u, v] x[n, c, i + u, j + v], with stride, padding
    and dilation in each axis as in `Conv1d`.

    Args:
        in_channels, out_channels: the numbers C and K of channels.
        kernel_size: the size of the window; one number or (height, width), like all sizes below.
        stride: the step between windows.
        padding: zeros on both sides, "valid" for none or "same" for an output as large as the input.
        dilation: the step between the elements of a window.
        groups: into how many groups, each convolved on its own, both kinds of channels are split.
        bias: whether b is added and learned.
        padding_mode: "zeros", "reflect", "replicate" or "circular".

    Shape:
        `(N, C, H, W)` or `(C, H, W)` to `(N, K, Hₒ, Wₒ)` or `(K, Hₒ, Wₒ)`,
        `Hₒ = ⌊(H + 2 padding - dilation (kernel_size - 1) - 1) / stride⌋ + 1`.

    Attributes:
        weight: `(K, C / groups, kernel height, kernel width)`, starts uniform in ±1/√(fan in).
        bias: `(K,)`, likewise, or None.

    >>> nn.Conv2d(1, 32, 3, padding="same")(ox.ones(8, 1, 28, 28)).shape
    (8, 32, 28, 28)
    """

    rank = 2
