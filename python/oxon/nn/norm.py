"""Normalisation layers. The arithmetic is in `functional/norm.py`."""

from __future__ import annotations

from .._core import ShapeError, ones, tensor, zeros
from ..autograd import no_grad
from . import functional as F
from . import init
from .module import Module
from .parameter import Parameter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from .._core import Tensor
    from .._core import dtype as DType


class _RunningNorm(Module):
    """What batch and instance norm share: an affine map for each channel, and running statistics."""

    ranks: tuple[int, ...]  # how many axes a batch may have
    layout: str

    weight: Parameter | None
    bias: Parameter | None
    running_mean: Tensor | None
    running_var: Tensor | None
    num_batches_tracked: Tensor | None

    def __init__(
        self,
        num_features: int,
        eps: float,
        momentum: float | None,
        affine: bool,
        track_running_stats: bool,
        device: str | None,
        dtype: DType | None,
        bias: bool,
    ) -> None:
        super().__init__()
        self.num_features = num_features
        self.eps = eps
        self.momentum = momentum
        self.affine = affine
        self.track_running_stats = track_running_stats
        size = (num_features,)
        self.weight = Parameter(ones(size, device=device, dtype=dtype)) if affine else None
        self.bias = Parameter(zeros(size, device=device, dtype=dtype)) if affine and bias else None
        track = track_running_stats
        self.register_buffer("running_mean", zeros(size, device=device, dtype=dtype) if track else None)
        self.register_buffer("running_var", ones(size, device=device, dtype=dtype) if track else None)
        self.register_buffer("num_batches_tracked", tensor(0, device=device) if track else None)

    def reset_running_stats(self) -> None:
        """Back to running mean 0 and variance 1."""
        for buffer, value in (
            (self.running_mean, 0.0),
            (self.running_var, 1.0),
            (self.num_batches_tracked, 0),
        ):
            if buffer is not None:
                init.constant_(buffer, value)

    def reset_parameters(self) -> None:
        """Back to weight 1, bias 0 and no running statistics."""
        self.reset_running_stats()
        if self.weight is not None:
            init.ones_(self.weight)
        if self.bias is not None:
            init.zeros_(self.bias)

    def _check(self, x: Tensor, channel_axis: int = 1) -> None:
        if x.ndim not in self.ranks:
            raise ShapeError(f"{type(self).__name__}: expected {self.layout}, not {tuple(x.shape)}")
        if x.shape[channel_axis] != self.num_features:
            raise ShapeError(
                f"{type(self).__name__}: expected {self.num_features} channels, "
                f"not the {x.shape[channel_axis]} of {tuple(x.shape)}"
            )

    def extra_repr(self) -> str:
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
            f"bias={self.bias is not None}, track_running_stats={self.track_running_stats}"
        )


class _BatchNorm(_RunningNorm):
    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        *,
        device: str | None = None,
        dtype: DType | None = None,
        bias: bool = True,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device, dtype, bias)

    def forward(self, x: Tensor) -> Tensor:
        self._check(x)
        momentum: float | Tensor = 0.0 if self.momentum is None else self.momentum
        if self.training and self.num_batches_tracked is not None:
            with no_grad():
                self.num_batches_tracked.copy_(self.num_batches_tracked + 1)
                if self.momentum is None:
                    momentum = 1.0 / self.num_batches_tracked.to(x.dtype)
        return F.batch_norm(
            x,
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            self.training or self.running_mean is None,
            momentum,
            self.eps,
        )


class BatchNorm1d(_BatchNorm):
    """Brings each channel of a batch of vectors or sequences to mean 0 and variance 1; see `BatchNorm2d`.

    Args:
        num_features, eps, momentum, affine, track_running_stats, bias: as `BatchNorm2d`'s.

    Shape:
        `(N, C)` or `(N, C, L)`, kept.

    >>> nn.BatchNorm1d(3)(ox.randn(20, 3)).shape
    (20, 3)
    """

    ranks = (2, 3)
    layout = "(N, C) or (N, C, L)"


class BatchNorm2d(_BatchNorm):
    """Brings each channel of a batch of images to mean 0 and variance 1.

    y = (x - E[x]) / √(Var[x] + eps) · weight + bias, with the batch's statistics (biased variance) in
    training and the running ones in evaluation. Training moves those towards the batch's (unbiased
    variance): running ← (1 - momentum) running + momentum batch.
    (Ioffe and Szegedy, 2015, https://arxiv.org/abs/1502.03167)

    Args:
        num_features: the number of channels C.
        eps: added to the variance.
        momentum: the share of a batch in the running statistics; None for the mean over all batches.
        affine: whether weight and bias are learned, or left out.
        track_running_stats: whether there are running statistics; without them evaluation uses the batch's.
        bias: whether there is a bias too.

    Shape:
        `(N, C, H, W)`, kept.

    Attributes:
        weight, bias: `(C,)`, start as 1 and 0.
        running_mean, running_var: `(C,)`; num_batches_tracked: `()`, int64. Buffers.

    Raises:
        ShapeError: in training, when there is only one value for each channel.

    >>> layer = nn.BatchNorm2d(3)
    >>> layer(ox.randn(8, 3, 4, 4)).shape
    (8, 3, 4, 4)
    >>> layer.num_batches_tracked.item()
    1
    """

    ranks = (4,)
    layout = "(N, C, H, W)"


class _InstanceNorm(_RunningNorm):
    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float = 0.1,
        affine: bool = False,
        track_running_stats: bool = False,
        *,
        device: str | None = None,
        dtype: DType | None = None,
        bias: bool = True,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device, dtype, bias)

    def forward(self, x: Tensor) -> Tensor:
        batched = x.ndim == max(self.ranks)
        self._check(x, 1 if batched else 0)
        y = F.instance_norm(
            x if batched else x.unsqueeze(0),
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            self.training or self.running_mean is None,
            0.0 if self.momentum is None else self.momentum,
            self.eps,
        )
        return y if batched else y.squeeze(0)


class InstanceNorm1d(_InstanceNorm):
    """Brings each channel of each sequence to mean 0 and variance 1; see `InstanceNorm2d`.

    Args:
        num_features, eps, momentum, affine, track_running_stats, bias: as `InstanceNorm2d`'s.

    Shape:
        `(N, C, L)` or `(C, L)`, kept.

    >>> nn.InstanceNorm1d(3)(ox.randn(8, 3, 20)).shape
    (8, 3, 20)
    """

    ranks = (2, 3)
    layout = "(N, C, L) or (C, L)"


class InstanceNorm2d(_InstanceNorm):
    """Brings each channel of each image to mean 0 and variance 1.

    As `BatchNorm2d`, but over one image, in training and in evaluation.
    (Ulyanov et al., 2016, https://arxiv.org/abs/1607.08022)

    Args:
        num_features: the number of channels C.
        eps: added to the variance.
        momentum: the share of a batch in the running statistics.
        affine: whether weight and bias are learned.
        track_running_stats: whether there are running statistics, which evaluation then uses.
        bias: whether there is a bias too.

    Shape:
        `(N, C, H, W)` or `(C, H, W)`, kept.

    >>> nn.InstanceNorm2d(3)(ox.randn(8, 3, 4, 4)).shape
    (8, 3, 4, 4)
    """

    ranks = (3, 4)
    layout = "(N, C, H, W) or (C, H, W)"


class GroupNorm(Module):
    """Brings each group of channels of each example to mean 0 and variance 1.

    y = (x - E[x]) / √(Var[x] + eps) · weight + bias, weight and bias for each channel.
    (Wu and He, 2018, https://arxiv.org/abs/1803.08494)

    Args:
        num_groups: into how many groups the channels are split.
        num_channels: the number of channels C.
        eps: added to the variance.
        affine: whether weight and bias are learned.
        bias: whether there is a bias too.

    Shape:
        `(N, C, *)`, kept.

    Attributes:
        weight, bias: `(C,)`, start as 1 and 0, or None.

    >>> nn.GroupNorm(3, 6)(ox.randn(20, 6, 10, 10)).shape
    (20, 6, 10, 10)
    """

    def __init__(
        self,
        num_groups: int,
        num_channels: int,
        eps: float = 1e-5,
        affine: bool = True,
        *,
        device: str | None = None,
        dtype: DType | None = None,
        bias: bool = True,
    ) -> None:
        super().__init__()
        if num_groups < 1 or num_channels % num_groups:
            raise ValueError(f"GroupNorm: {num_channels} channels do not split into {num_groups} groups")
        self.num_groups = num_groups
        self.num_channels = num_channels
        self.eps = eps
        self.affine = affine
        size = (num_channels,)
        self.weight = Parameter(ones(size, device=device, dtype=dtype)) if affine else None
        self.bias = Parameter(zeros(size, device=device, dtype=dtype)) if affine and bias else None

    def reset_parameters(self) -> None:
        """Back to weight 1 and bias 0."""
        if self.weight is not None:
            init.ones_(self.weight)
        if self.bias is not None:
            init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        return F.group_norm(x, self.num_groups, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return (
            f"{self.num_groups}, {self.num_channels}, eps={self.eps}, affine={self.affine}, "
            f"bias={self.bias is not None}"
        )


def _shape(normalized_shape: int | Sequence[int]) -> tuple[int, ...]:
    return (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)


class LayerNorm(Module):
    """Brings the features of each example to mean 0 and variance 1.

    y = (x - E[x]) / √(Var[x] + eps) · weight + bias, over the last axes.
    (Ba et al., 2016, https://arxiv.org/abs/1607.06450)

    Args:
        normalized_shape: the sizes of those axes, or one size for the last.
        eps: added to the variance.
        elementwise_affine: whether weight (and bias) are learned.
        bias: whether there is a bias too.

    Shape:
        `(*, *normalized_shape)`, kept.

    Attributes:
        weight, bias: `normalized_shape`, start as 1 and 0, or None.

    >>> nn.LayerNorm(64)(ox.randn(8, 10, 64)).shape
    (8, 10, 64)
    """

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        *,
        device: str | None = None,
        dtype: DType | None = None,
    ) -> None:
        super().__init__()
        self.normalized_shape = shape = _shape(normalized_shape)
        self.eps = eps
        self.elementwise_affine = elementwise_affine
        self.weight = Parameter(ones(shape, device=device, dtype=dtype)) if elementwise_affine else None
        affine_bias = elementwise_affine and bias
        self.bias = Parameter(zeros(shape, device=device, dtype=dtype)) if affine_bias else None

    def reset_parameters(self) -> None:
        """Back to weight 1 and bias 0."""
        if self.weight is not None:
            init.ones_(self.weight)
        if self.bias is not None:
            init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return (
            f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}, "
            f"bias={self.bias is not None}"
        )


class RMSNorm(Module):
    """Brings the features of each example to root mean square 1.

    y = x / √(E[x²] + eps) · weight, over the last axes.
    (Zhang and Sennrich, 2019, https://arxiv.org/abs/1910.07467)

    Args:
        normalized_shape: the sizes of those axes, or one size for the last.
        eps: added to the mean square; None for the spacing of numbers at 1 in the input's dtype.
        elementwise_affine: whether weight is learned.

    Shape:
        `(*, *normalized_shape)`, kept.

    Attributes:
        weight: `normalized_shape`, starts as 1, or None.

    >>> nn.RMSNorm(2)(ox.tensor([[3.0, 3.0]])).tolist()
    [[1.0, 1.0]]
    """

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float | None = None,
        elementwise_affine: bool = True,
        *,
        device: str | None = None,
        dtype: DType | None = None,
    ) -> None:
        super().__init__()
        self.normalized_shape = shape = _shape(normalized_shape)
        self.eps = eps
        self.elementwise_affine = elementwise_affine
        self.weight = Parameter(ones(shape, device=device, dtype=dtype)) if elementwise_affine else None

    def reset_parameters(self) -> None:
        """Back to weight 1."""
        if self.weight is not None:
            init.ones_(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, self.normalized_shape, self.weight, self.eps)

    def extra_repr(self) -> str:
        return f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}"
