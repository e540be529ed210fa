"""Walks over the tensors in nested tuples, lists and dicts, which is what batches are made of."""

from __future__ import annotations

from .._core import Tensor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


def map_tensors(function: Callable[[Tensor], Any], value: Any) -> Any:
    """`value` with `function` applied to each tensor in it; lists become tuples, all else stays.

    >>> import oxon as ox
    >>> map_tensors(lambda x: x.tolist(), {"x": (ox.ones(2), "text")})
    {'x': ([1.0, 1.0], 'text')}
    """
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, dict):
        return {key: map_tensors(function, part) for key, part in value.items()}
    if isinstance(value, (tuple, list)):
        return tuple(map_tensors(function, part) for part in value)
    return value


def tensors_of(value: Any) -> list[Tensor]:
    """All tensors in `value`, in order.

    >>> import oxon as ox
    >>> [x.item() for x in tensors_of([ox.tensor(1), (ox.tensor(2), None)])]
    [1, 2]
    """
    found: list[Tensor] = []
    map_tensors(found.append, value)
    return found
