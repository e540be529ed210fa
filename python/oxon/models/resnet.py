"""Residual networks for images."""

from __future__ import annotations

from .. import nn
from .._core import ShapeError
from ..nn import functional as F
from ..nn.functional._check import positive

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from .._core import Tensor
    from .._core import dtype as DType


class BasicBlock(nn.Module):
    """Two 3×3 convolutions beside a residual path.

    Where the block halves the image or changes the number of channels, a 1×1 convolution on the residual path
    does so, too.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int,
        device: str | None = None,
        dtype: DType | None = None,
    ) -> None:
        super().__init__()
        self.conv1 = _conv(in_channels, out_channels, 3, stride, device, dtype)
        self.bn1 = nn.BatchNorm2d(out_channels, device=device, dtype=dtype)
        self.conv2 = _conv(out_channels, out_channels, 3, 1, device, dtype)
        self.bn2 = nn.BatchNorm2d(out_channels, device=device, dtype=dtype)
        self.downsample = None
        if stride != 1 or in_channels != out_channels:
            self.downsample = nn.Sequential(
                _conv(in_channels, out_channels, 1, stride, device, dtype),
                nn.BatchNorm2d(out_channels, device=device, dtype=dtype),
            )

    def forward(self, x: Tensor) -> Tensor:
        rest = x if self.downsample is None else self.downsample(x)
        x = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(x)) + rest)


def _conv(
    in_channels: int, out_channels: int, size: int, stride: int, device: str | None, dtype: DType | None
) -> nn.Conv2d:
    """A convolution without bias, since a norm follows, and with normal weights scaled by its outputs."""
    conv = nn.Conv2d(
        in_channels, out_channels, size, stride, size // 2, bias=False, device=device, dtype=dtype
    )
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return conv


class ResNet(nn.Module):
    """A residual network of basic blocks.

    (He et al., "Deep residual learning for image recognition", 2015, https://arxiv.org/abs/1512.03385.) The
    parameters bear the names of torchvision's ResNet.

    Args:
        layers: the numbers of blocks of the four stages, which have 64, 128, 256 and 512 channels; each stage
            but the first halves the image.
        num_classes: the number of outputs.
        cifar: whether the stem is a 3×3 convolution of stride 1, for images of 32×32, instead of a 7×7
            convolution and a pool that make an image a quarter as high and wide.

    Shape:
        `(N, 3, H, W)` to `(N, num_classes)`, the logits.

    >>> model = ox.models.ResNet((1, 1, 1, 1), num_classes=10, cifar=True)
    >>> model(ox.randn(2, 3, 32, 32)).shape
    (2, 10)
    """

    layer1: nn.Sequential
    layer2: nn.Sequential
    layer3: nn.Sequential
    layer4: nn.Sequential

    def __init__(
        self,
        layers: Sequence[int] = (2, 2, 2, 2),
        num_classes: int = 1000,
        cifar: bool = False,
        *,
        device: str | None = None,
        dtype: DType | None = None,
    ) -> None:
        super().__init__()
        positive("ResNet", num_classes=num_classes)
        counts = tuple(layers)
        if len(counts) != 4:
            raise ValueError(f"ResNet: layers must be the numbers of blocks of 4 stages, not {layers!r}")
        for stage, count in enumerate(counts, 1):
            positive("ResNet", **{f"layers[{stage - 1}]": count})
        self.cifar = bool(cifar)
        self.conv1 = _conv(3, 64, 3 if cifar else 7, 1 if cifar else 2, device, dtype)
        self.bn1 = nn.BatchNorm2d(64, device=device, dtype=dtype)
        self.maxpool = nn.Identity() if cifar else nn.MaxPool2d(3, 2, 1)
        channels = 64
        for stage, count in enumerate(counts):
            width = 64 << stage
            blocks = []
            for place in range(count):
                stride = 2 if stage and not place else 1
                blocks.append(BasicBlock(channels, width, stride, device, dtype))
                channels = width
            setattr(self, f"layer{stage + 1}", nn.Sequential(*blocks))
        self.fc = nn.Linear(channels, num_classes, device=device, dtype=dtype)

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim != 4 or x.shape[1] != 3:
            raise ShapeError(f"ResNet: expected images (N, 3, H, W), not {tuple(x.shape)}")
        x = self.maxpool(F.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(x.mean((-2, -1)))  # type: ignore[no-any-return]


def resnet18(
    num_classes: int = 1000,
    cifar: bool = False,
    *,
    device: str | None = None,
    dtype: DType | None = None,
) -> ResNet:
    """ResNet-18: two blocks in each stage, 11.7 million parameters for 1000 classes.

    Args:
        num_classes, cifar: as `ResNet`'s.

    >>> model = ox.models.resnet18()
    >>> sum(p.numel() for p in model.parameters())
    11689512
    """
    return ResNet((2, 2, 2, 2), num_classes, cifar, device=device, dtype=dtype)
