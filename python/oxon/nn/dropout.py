"""Dropout layers. The arithmetic is in `functional/dropout.py`."""

from __future__ import annotations

from . import functional as F
from .functional._check import probability
from .module import Module

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .._core import Tensor


class _Dropout(Module):
    def __init__(self, p: float = 0.5, inplace: bool = False) -> None:
        super().__init__()
        probability(type(self).__name__, p)
        self.p = p
        self.inplace = inplace

    def extra_repr(self) -> str:
        return f"p={self.p}, inplace={self.inplace}"


class Dropout(_Dropout):
    """In training sets each element to 0 with probability p and divides the others by 1 - p.

    In evaluation it returns its input. (Srivastava et al., 2014,
    https://jmlr.org/papers/v15/srivastava14a.html)

    Args:
        p: the probability of a zero.
        inplace: accepted for PyTorch's sake; the input never changes.

    Shape:
        any, kept.

    >>> layer = nn.Dropout(0.5)
    >>> sorted(set(layer(ox.ones(1000)).tolist()))
    [0.0, 2.0]
    >>> layer.eval()(ox.ones(3)).tolist()
    [1.0, 1.0, 1.0]
    """

    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.p, self.training)


class Dropout1d(_Dropout):
    """Dropout of whole channels of a sequence; arguments as `Dropout`'s.

    Shape:
        `(N, C, L)` or `(C, L)`, kept.

    >>> nn.Dropout1d(0.2)(ox.ones(2, 3, 5)).shape
    (2, 3, 5)
    """

    def forward(self, x: Tensor) -> Tensor:
        return F.dropout1d(x, self.p, self.training)


class Dropout2d(_Dropout):
    """Dropout of whole channels of an image (Tompson et al., 2015, https://arxiv.org/abs/1411.4280).

    Arguments as `Dropout`'s.

    Shape:
        `(N, C, H, W)` or `(C, H, W)`, kept.

    >>> nn.Dropout2d(0.2)(ox.ones(2, 3, 5, 5)).shape
    (2, 3, 5, 5)
    """

    def forward(self, x: Tensor) -> Tensor:
        return F.dropout2d(x, self.p, self.training)
