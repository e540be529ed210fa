"""Activation layers: modules around the functions of `functional/activation.py`.

All keep the shape of their input, unless they say otherwise.
"""

from __future__ import annotations

from .._core import full
from . import functional as F
from . import init
from .module import Module
from .parameter import Parameter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .._core import Tensor
    from .._core import dtype as DType


class _Inplace(Module):
    """Accepts `inplace` for PyTorch's sake; the input never changes, and memory is reused anyway."""

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.inplace = inplace

    def extra_repr(self) -> str:
        return "inplace=True" if self.inplace else ""


class Sigmoid(Module):
    """σ(x) = 1 / (1 + exp(-x)).

    >>> nn.Sigmoid()(ox.tensor([0.0])).tolist()
    [0.5]
    """

    def forward(self, x: Tensor) -> Tensor:
        return F.sigmoid(x)


class LogSigmoid(Module):
    """log σ(x), without overflow.

    >>> nn.LogSigmoid()(ox.tensor([-1000.0])).tolist()
    [-1000.0]
    """

    def forward(self, x: Tensor) -> Tensor:
        return F.logsigmoid(x)


class Tanh(Module):
    """The hyperbolic tangent.

    >>> nn.Tanh()(ox.tensor([0.0, 100.0])).tolist()
    [0.0, 1.0]
    """

    def forward(self, x: Tensor) -> Tensor:
        return F.tanh(x)


class Tanhshrink(Module):
    """x - tanh(x).

    >>> nn.Tanhshrink()(ox.tensor([100.0])).tolist()
    [99.0]
    """

    def forward(self, x: Tensor) -> Tensor:
        return F.tanhshrink(x)


class Softsign(Module):
    """x / (1 + |x|).

    >>> nn.Softsign()(ox.tensor([-1.0, 3.0])).tolist()
    [-0.5, 0.75]
    """

    def forward(self, x: Tensor) -> Tensor:
        return F.softsign(x)


class ReLU(_Inplace):
    """max(x, 0) (Nair and Hinton, 2010).

    >>> nn.ReLU()(ox.tensor([-1.0, 2.0])).tolist()
    [0.0, 2.0]
    """

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x)


class ReLU6(_Inplace):
    """min(max(x, 0), 6) (Krizhevsky, 2010).

    >>> nn.ReLU6()(ox.tensor([-1.0, 2.0, 9.0])).tolist()
    [0.0, 2.0, 6.0]
    """

    def forward(self, x: Tensor) -> Tensor:
        return F.relu6(x)


class LeakyReLU(_Inplace):
    """x where x > 0, else negative_slope · x (Maas et al., 2013).

    >>> nn.LeakyReLU(0.25)(ox.tensor([-4.0, 2.0])).tolist()
    [-1.0, 2.0]
    """

    def __init__(self, negative_slope: float = 0.01, inplace: bool = False) -> None:
        super().__init__(inplace)
        self.negative_slope = negative_slope

    def forward(self, x: Tensor) -> Tensor:
        return F.leaky_relu(x, self.negative_slope)

    def extra_repr(self) -> str:
        return f"negative_slope={self.negative_slope}" + (", inplace=True" if self.inplace else "")


class PReLU(Module):
    """x where x > 0, else w x with w learned (He et al., 2015, https://arxiv.org/abs/1502.01852).

    Args:
        num_parameters: 1 for one w, or the number of channels C for one each.
        init: where w starts.

    Shape:
        `(N, C, *)`, or any for one w; kept.

    Attributes:
        weight: `(num_parameters,)`.

    >>> nn.PReLU()(ox.tensor([-4.0, 2.0])).tolist()
    [-1.0, 2.0]
    """

    def __init__(
        self,
        num_parameters: int = 1,
        init: float = 0.25,
        *,
        device: str | None = None,
        dtype: DType | None = None,
    ) -> None:
        super().__init__()
        self.num_parameters = num_parameters
        self.init = init
        self.weight = Parameter(full((num_parameters,), init, device=device, dtype=dtype))

    def reset_parameters(self) -> None:
        """Back to where w starts."""
        init.constant_(self.weight, self.init)

    def forward(self, x: Tensor) -> Tensor:
        return F.prelu(x, self.weight)

    def extra_repr(self) -> str:
        return f"num_parameters={self.num_parameters}"


class ELU(_Inplace):
    """x where x > 0, else α (exp(x) - 1) (Clevert et al., 2015, https://arxiv.org/abs/1511.07289).

    >>> nn.ELU()(ox.tensor([-1000.0, 2.0])).tolist()
    [-1.0, 2.0]
    """

    def __init__(self, alpha: float = 1.0, inplace: bool = False) -> None:
        super().__init__(inplace)
        self.alpha = alpha

    def forward(self, x: Tensor) -> Tensor:
        return F.elu(x, self.alpha)

    def extra_repr(self) -> str:
        return f"alpha={self.alpha}" + (", inplace=True" if self.inplace else "")


class SELU(_Inplace):
    """λ x where x > 0, else λ α (exp(x) - 1), with the λ and α that keep mean 0 and variance 1.

    (Klambauer et al., 2017, https://arxiv.org/abs/1706.02515)

    >>> nn.SELU()(ox.tensor([0.0])).tolist()
    [0.0]
    """

    def forward(self, x: Tensor) -> Tensor:
        return F.selu(x)


class CELU(_Inplace):
    """x where x > 0, else α (exp(x / α) - 1) (Barron, 2017, https://arxiv.org/abs/1704.07483).

    >>> nn.CELU(2.0)(ox.tensor([-1000.0, 2.0])).tolist()
    [-2.0, 2.0]
    """

    def __init__(self, alpha: float = 1.0, inplace: bool = False) -> None:
        super().__init__(inplace)
        if alpha == 0:
            raise ValueError("CELU: alpha must not be 0")
        self.alpha = alpha

    def forward(self, x: Tensor) -> Tensor:
        return F.celu(x, self.alpha)

    def extra_repr(self) -> str:
        return f"alpha={self.alpha}" + (", inplace=True" if self.inplace else "")


class GELU(Module):
    """x Φ(x), with Φ the normal distribution's (Hendrycks and Gimpel, 2016, https://arxiv.org/abs/1606.08415).

    Args:
        approximate: "none", or "tanh" for x (1 + tanh(√(2/π) (x + 0.044715 x³))) / 2.

    >>> nn.GELU()(ox.tensor([-100.0, 0.0, 100.0])).abs().tolist()
    [0.0, 0.0, 100.0]
    """

    def __init__(self, approximate: str = "none") -> None:
        super().__init__()
        if approximate not in ("none", "tanh"):
            raise ValueError(f"GELU: approximate must be 'none' or 'tanh', not {approximate!r}")
        self.approximate = approximate

    def forward(self, x: Tensor) -> Tensor:
        return F.gelu(x, self.approximate)

    def extra_repr(self) -> str:
        return f"approximate={self.approximate!r}"


class SiLU(_Inplace):
    """x σ(x), also called swish (Elfwing et al., 2017, https://arxiv.org/abs/1702.03118).

    >>> nn.SiLU()(ox.tensor([0.0, 100.0])).tolist()
    [0.0, 100.0]
    """

    def forward(self, x: Tensor) -> Tensor:
        return F.silu(x)


class Mish(_Inplace):
    """x tanh(log(1 + exp(x))) (Misra, 2019, https://arxiv.org/abs/1908.08681).

    >>> nn.Mish()(ox.tensor([0.0, 100.0])).tolist()
    [0.0, 100.0]
    """

    def forward(self, x: Tensor) -> Tensor:
        return F.mish(x)


class Softplus(Module):
    """log(1 + exp(β x)) / β, and x itself where β x > threshold.

    >>> nn.Softplus()(ox.tensor([-1000.0, 100.0])).tolist()
    [0.0, 100.0]
    """

    def __init__(self, beta: float = 1.0, threshold: float = 20.0) -> None:
        super().__init__()
        self.beta = beta
        self.threshold = threshold

    def forward(self, x: Tensor) -> Tensor:
        return F.softplus(x, self.beta, self.threshold)

    def extra_repr(self) -> str:
        return f"beta={self.beta}, threshold={self.threshold}"


class Softshrink(Module):
    """x moved towards 0 by λ, and 0 where |x| ≤ λ.

    >>> nn.Softshrink()(ox.tensor([-2.0, 0.25, 2.0])).tolist()
    [-1.5, 0.0, 1.5]
    """

    def __init__(self, lambd: float = 0.5) -> None:
        super().__init__()
        self.lambd = lambd

    def forward(self, x: Tensor) -> Tensor:
        return F.softshrink(x, self.lambd)

    def extra_repr(self) -> str:
        return str(self.lambd)


class Hardshrink(Module):
    """x where |x| > λ, else 0.

    >>> nn.Hardshrink()(ox.tensor([-2.0, 0.25, 2.0])).tolist()
    [-2.0, 0.0, 2.0]
    """

    def __init__(self, lambd: float = 0.5) -> None:
        super().__init__()
        self.lambd = lambd

    def forward(self, x: Tensor) -> Tensor:
        return F.hardshrink(x, self.lambd)

    def extra_repr(self) -> str:
        return str(self.lambd)


class Hardtanh(_Inplace):
    """x kept between `min_val` and `max_val`.

    >>> nn.Hardtanh()(ox.tensor([-2.0, 0.5, 2.0])).tolist()
    [-1.0, 0.5, 1.0]
    """

    def __init__(self, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> None:
        super().__init__(inplace)
        if min_val >= max_val:
            raise ValueError(f"Hardtanh: min_val {min_val} must lie below max_val {max_val}")
        self.min_val = min_val
        self.max_val = max_val

    def forward(self, x: Tensor) -> Tensor:
        return F.hardtanh(x, self.min_val, self.max_val)

    def extra_repr(self) -> str:
        return f"min_val={self.min_val}, max_val={self.max_val}" + (", inplace=True" if self.inplace else "")


class Hardsigmoid(_Inplace):
    """relu6(x + 3) / 6.

    >>> nn.Hardsigmoid()(ox.tensor([-4.0, 0.0, 4.0])).tolist()
    [0.0, 0.5, 1.0]
    """

    def forward(self, x: Tensor) -> Tensor:
        return F.hardsigmoid(x)

    def extra_repr(self) -> str:
        return ""


class Hardswish(_Inplace):
    """x relu6(x + 3) / 6 (Howard et al., 2019, https://arxiv.org/abs/1905.02244).

    >>> nn.Hardswish()(ox.tensor([-4.0, 0.0, 4.0])).abs().tolist()
    [0.0, 0.0, 4.0]
    """

    def forward(self, x: Tensor) -> Tensor:
        return F.hardswish(x)

    def extra_repr(self) -> str:
        return ""


class Threshold(_Inplace):
    """x where x > threshold, else value.

    >>> nn.Threshold(0.5, 20.0)(ox.tensor([0.25, 2.0])).tolist()
    [20.0, 2.0]
    """

    def __init__(self, threshold: float, value: float, inplace: bool = False) -> None:
        super().__init__(inplace)
        self.threshold = threshold
        self.value = value

    def forward(self, x: Tensor) -> Tensor:
        return F.threshold(x, self.threshold, self.value)

    def extra_repr(self) -> str:
        return f"threshold={self.threshold}, value={self.value}" + (", inplace=True" if self.inplace else "")


class GLU(Module):
    """a σ(b), where a and b are the halves of x along `dim` (Dauphin et al., 2016, https://arxiv.org/abs/1612.08083).

    Shape:
        `(*, 2 S, *)` to `(*, S, *)`.

    >>> nn.GLU()(ox.tensor([[4.0, 0.0]])).tolist()
    [[2.0]]
    """

    def __init__(self, dim: int = -1) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, x: Tensor) -> Tensor:
        return F.glu(x, self.dim)

    def extra_repr(self) -> str:
        return f"dim={self.dim}"


class _AlongDim(Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def extra_repr(self) -> str:
        return f"dim={self.dim}"


class Softmax(_AlongDim):
    """exp(xᵢ) / Σⱼ exp(xⱼ) along `dim`.

    >>> nn.Softmax(dim=1)(ox.tensor([[0.0, 0.0], [0.0, 1000.0]])).tolist()
    [[0.5, 0.5], [0.0, 1.0]]
    """

    def forward(self, x: Tensor) -> Tensor:
        return F.softmax(x, self.dim)


class Softmin(_AlongDim):
    """exp(-xᵢ) / Σⱼ exp(-xⱼ) along `dim`.

    >>> nn.Softmin(dim=1)(ox.tensor([[0.0, 1000.0]])).tolist()
    [[1.0, 0.0]]
    """

    def forward(self, x: Tensor) -> Tensor:
        return F.softmin(x, self.dim)


class LogSoftmax(_AlongDim):
    """log softmax(x) along `dim`, without overflow.

    >>> nn.LogSoftmax(dim=1)(ox.tensor([[0.0, 1000.0]])).tolist()
    [[-1000.0, 0.0]]
    """

    def forward(self, x: Tensor) -> Tensor:
        return F.log_softmax(x, self.dim)


class Softmax2d(Module):
    """Softmax over the channels at each place of `(N, C, H, W)` or `(C, H, W)`.

    >>> nn.Softmax2d()(ox.zeros(1, 2, 1, 1)).flatten().tolist()
    [0.5, 0.5]
    """

    def forward(self, x: Tensor) -> Tensor:
        return F.softmax(x, -3)
