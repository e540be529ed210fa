"""Parameter: a tensor that a module learns. What a module does with it is in `module.py`."""

from __future__ import annotations

from .._core import Tensor, tensor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Parameter(Tensor):
    """A tensor which, set as an attribute of a `Module`, is one of its parameters.

    Args:
        data: a tensor, of which the value is taken (a later change of either does not reach the
            other), or anything that `ox.tensor` accepts.
        requires_grad: whether gradients are accumulated in `.grad`. Only floating-point
            parameters can.

    Operations on a parameter give plain tensors. In-place methods and optimizers bind the same
    parameter to a new value, so that a parameter shared by two modules stays shared.

    >>> w = nn.Parameter(ox.zeros(2, 3))
    >>> w.requires_grad, w.is_leaf, type(w + 1).__name__
    (True, True, 'Tensor')
    """

    def __new__(cls, data: Any, requires_grad: bool = True) -> Parameter:
        value = data.detach() if isinstance(data, Tensor) else tensor(data)
        self = super().__new__(cls, value)
        return self.requires_grad_(requires_grad)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.detach(), self.requires_grad)

    def __deepcopy__(self, memo: dict[int, Any]) -> Parameter:
        copied = memo[id(self)] = type(self)(self, self.requires_grad)
        return copied
