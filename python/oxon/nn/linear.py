"""Linear layers. Their arithmetic is `functional.linear`; their starting values are in `init.py`."""

from __future__ import annotations

from .._core import empty
from . import functional as F
from . import init
from .module import Module
from .parameter import Parameter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .._core import Tensor
    from .._core import dtype as DType


class Linear(Module):
    """An affine map of the last axis: y = x Wᵀ + b.

    Args:
        in_features: size of the last axis of the input.
        out_features: size of the last axis of the output.
        bias: whether b is added and learned.

    Shape:
        `(*, in_features)` to `(*, out_features)`.

    Attributes:
        weight: `(out_features, in_features)`, starts uniform in ±1/√in_features.
        bias: `(out_features,)`, likewise, or None.

    >>> nn.Linear(20, 30)(ox.ones(128, 20)).shape
    (128, 30)
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        device: str | None = None,
        dtype: DType | None = None,
    ) -> None:
        super().__init__()
        self.in_features = in_features
        self.out_features = out_features
        self.weight = Parameter(empty((out_features, in_features), device=device, dtype=dtype))
        self.bias = Parameter(empty((out_features,), device=device, dtype=dtype)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new starting values."""
        init.default_(self.weight, self.bias)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias)

    def extra_repr(self) -> str:
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"
        )


class Bilinear(Module):
    """A bilinear map of two inputs: yₖ = x₁ᵀ Wₖ x₂ + bₖ.

    Args:
        in1_features, in2_features: sizes of the last axes of the inputs.
        out_features: size of the last axis of the output.
        bias: whether b is added and learned.

    Shape:
        `(*, in1_features)` and `(*, in2_features)` to `(*, out_features)`.

    Attributes:
        weight: `(out_features, in1_features, in2_features)`, starts uniform in ±1/√in1_features.
        bias: `(out_features,)`, likewise, or None.

    >>> nn.Bilinear(3, 4, 5)(ox.ones(8, 3), ox.ones(8, 4)).shape
    (8, 5)
    """

    def __init__(
        self,
        in1_features: int,
        in2_features: int,
        out_features: int,
        bias: bool = True,
        *,
        device: str | None = None,
        dtype: DType | None = None,
    ) -> None:
        super().__init__()
        self.in1_features = in1_features
        self.in2_features = in2_features
        self.out_features = out_features
        shape = (out_features, in1_features, in2_features)
        self.weight = Parameter(empty(shape, device=device, dtype=dtype))
        self.bias = Parameter(empty((out_features,), device=device, dtype=dtype)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new starting values."""
        bound = self.in1_features**-0.5 if self.in1_features else 0.0
        init.uniform_(self.weight, -bound, bound)
        if self.bias is not None:
            init.uniform_(self.bias, -bound, bound)

    def forward(self, x1: Tensor, x2: Tensor) -> Tensor:
        return F.bilinear(x1, x2, self.weight, self.bias)

    def extra_repr(self) -> str:
        return (
            f"in1_features={self.in1_features}, in2_features={self.in2_features}, "
            f"out_features={self.out_features}, bias={self.bias is not None}"
        )
