"""Layers that only change the shape."""

from __future__ import annotations

from .module import Module

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from .._core import Tensor


class Flatten(Module):
    """Joins the axes from `start_dim` to `end_dim` into one.

    Shape:
        `(N, C, H, W)` to `(N, C·H·W)` with the defaults.

    >>> nn.Flatten()(ox.ones(8, 3, 4, 5)).shape
    (8, 60)
    """

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        super().__init__()
        self.start_dim = start_dim
        self.end_dim = end_dim

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(self.start_dim, self.end_dim)

    def extra_repr(self) -> str:
        return f"start_dim={self.start_dim}, end_dim={self.end_dim}"


class Unflatten(Module):
    """Splits axis `dim` into axes of the sizes `unflattened_size`, of which one may be -1.

    Shape:
        `(*, S, *)` to `(*, *unflattened_size, *)`.

    >>> nn.Unflatten(1, (3, -1, 5))(ox.ones(8, 60)).shape
    (8, 3, 4, 5)
    """

    def __init__(self, dim: int, unflattened_size: Sequence[int]) -> None:
        super().__init__()
        self.dim = dim
        self.unflattened_size = tuple(unflattened_size)

    def forward(self, x: Tensor) -> Tensor:
        if not -x.ndim <= self.dim < x.ndim:
            raise IndexError(f"Unflatten: dim {self.dim} is out of range for {tuple(x.shape)}")
        axis = self.dim % x.ndim
        # A -1 is found within the axis, not within the whole tensor, which may have no elements.
        known = 1
        for size in self.unflattened_size:
            known *= size if size != -1 else 1
        sizes = tuple(
            x.shape[axis] // max(known, 1) if size == -1 else size for size in self.unflattened_size
        )
        return x.reshape((*x.shape[:axis], *sizes, *x.shape[axis + 1 :]))

    def extra_repr(self) -> str:
        return f"dim={self.dim}, unflattened_size={self.unflattened_size}"
