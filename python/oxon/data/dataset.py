"""What a data set is, and the ways to cut and join them. Batching and shuffling live in `loader`."""

from __future__ import annotations

from bisect import bisect_right
from itertools import pairwise

from .._core import Generator, Tensor, float32, float64, from_numpy, int64, randperm, tensor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any


def as_tensor(values: Any) -> Tensor:
    """`values` as a tensor: a tensor stays itself; arrays, data frames and nested lists are converted.

    NumPy computes in float64 and layers in float32, so floating-point arrays and lists become float32. To
    keep float64, pass a tensor.

    >>> import oxon as ox
    >>> ox.data.as_tensor([[1.0, 2.0], [3.0, 4.0]]).shape == (2, 2)
    True
    """
    if isinstance(values, Tensor):
        return values
    if hasattr(values, "__array__"):
        import numpy

        array = numpy.asarray(values)
        return from_numpy(array.astype(numpy.float32) if array.dtype == numpy.float64 else array)
    result = tensor(values)
    return result.to(float32) if result.dtype == float64 else result


class Dataset:
    """Samples that have a number: the base of all data sets.

    A subclass defines `__len__` and `__getitem__`. It need not derive from this class: lists, arrays and
    anything else with these two methods serve as well. A data set that can make a whole batch faster than
    item by item also defines `batch(indices)`, where `indices` is a slice or a tensor `(B,)` of int64 on the
    CPU; the loader then calls only that.

    >>> import oxon as ox
    >>> class Squares(ox.data.Dataset):
    ...     def __len__(self):
    ...         return 4
    ...
    ...     def __getitem__(self, index):
    ...         return index, index**2
    >>> list(Squares())
    [(0, 0), (1, 1), (2, 4), (3, 9)]
    """

    def __len__(self) -> int:
        raise NotImplementedError(f"{type(self).__name__} must define __len__")

    def __getitem__(self, index: int) -> Any:
        raise NotImplementedError(f"{type(self).__name__} must define __getitem__")

    def __iter__(self) -> Iterator[Any]:
        return (self[index] for index in range(len(self)))

    def __add__(self, other: Any) -> ConcatDataset:
        return ConcatDataset([self, other])


def device_of(dataset: Any) -> str:
    """Where a data set that gathers takes its indices: its tensors' device."""
    if isinstance(dataset, Tensor):
        return dataset.device
    if isinstance(dataset, Subset):
        return device_of(dataset.dataset)
    return dataset.tensors[0].device if isinstance(dataset, TensorDataset) else "cpu"


class TensorDataset(Dataset):
    """Tensors, arrays or lists of equal length, indexed together along their first dimension.

    Raises ValueError where the lengths differ or one of them has no dimension.

    >>> import oxon as ox
    >>> pairs = ox.data.TensorDataset(ox.arange(6).reshape(3, 2), ox.tensor([0, 1, 0]))
    >>> x, y = pairs[1]
    >>> x.tolist(), y.item()
    ([2, 3], 1)
    """

    def __init__(self, *arrays: Any, classes: Sequence[str] | None = None) -> None:
        if not arrays:
            raise ValueError("TensorDataset: needs at least one tensor")
        self.tensors: tuple[Tensor, ...] = tuple(as_tensor(array) for array in arrays)
        shapes = [tuple(part.shape) for part in self.tensors]
        if any(not shape for shape in shapes):
            raise ValueError(f"TensorDataset: every tensor needs a first dimension, got shapes {shapes}")
        if len({shape[0] for shape in shapes}) > 1:
            raise ValueError(f"TensorDataset: the first dimensions differ, got shapes {shapes}")
        #: The names of the classes, where the labels have names.
        self.classes: tuple[str, ...] | None = None if classes is None else tuple(classes)

    def __len__(self) -> int:
        return int(self.tensors[0].shape[0])

    def __getitem__(self, index: Any) -> tuple[Tensor, ...]:
        if isinstance(index, int) and not -len(self) <= index < len(self):
            raise IndexError(f"TensorDataset: index {index} is out of range for {len(self)} samples")
        return tuple(part[index] for part in self.tensors)

    def batch(self, indices: Any) -> tuple[Tensor, ...]:
        """The samples of a slice or of a tensor `(B,)` of int64: one gather per tensor."""
        if isinstance(indices, Tensor):
            return tuple(part[indices.to(part.device)] for part in self.tensors)
        return tuple(part[indices] for part in self.tensors)

    def to(self, device: str) -> TensorDataset:
        """The same data on another device."""
        return TensorDataset(*(part.to(device) for part in self.tensors), classes=self.classes)

    def __repr__(self) -> str:
        parts = ", ".join(f"{tuple(part.shape)} {part.dtype}" for part in self.tensors)
        return f"TensorDataset({parts})"


class Subset(Dataset):
    """The samples of `dataset` that `indices` names, in that order.

    Raises IndexError where an index does not exist.

    >>> import oxon as ox
    >>> list(ox.data.Subset("abcdef", [5, 0, 2]))
    ['f', 'a', 'c']
    """

    def __init__(self, dataset: Any, indices: Sequence[int] | Tensor) -> None:
        self.dataset = dataset
        values = indices.tolist() if isinstance(indices, Tensor) else indices
        self.indices: list[int] = []
        size = len(dataset)
        for index in map(int, values):
            if not 0 <= index < size:
                raise IndexError(f"Subset: index {index} is out of range for {size} samples")
            self.indices.append(index)
        self._positions: Tensor | None = None

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Any:
        return self.dataset[self.indices[index]]

    @property
    def batch(self) -> Callable[[Any], Any]:
        """`batch` of the data set underneath; AttributeError where that has none."""
        inner: Callable[[Any], Any] = self.dataset.batch
        if self._positions is None:
            home = device_of(self.dataset)
            self._positions = tensor(self.indices, dtype=int64, device=home)
        positions = self._positions
        return lambda indices: inner(
            positions[indices.to(positions.device) if isinstance(indices, Tensor) else indices]
        )

    def __repr__(self) -> str:
        return f"Subset({len(self)} of {self.dataset!r})"


class ConcatDataset(Dataset):
    """Several data sets one after the other; `a + b` makes one too.

    >>> import oxon as ox
    >>> joined = ox.data.ConcatDataset(["ab", "cde"])
    >>> len(joined), joined[1], joined[2], joined[-1]
    (5, 'b', 'c', 'e')
    """

    def __init__(self, datasets: Sequence[Any]) -> None:
        self.datasets = list(datasets)
        if not self.datasets:
            raise ValueError("ConcatDataset: needs at least one data set")
        self._ends: list[int] = []
        for dataset in self.datasets:
            self._ends.append(len(dataset) + (self._ends[-1] if self._ends else 0))

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, index: int) -> Any:
        position = index + len(self) if index < 0 else index
        if not 0 <= position < len(self):
            raise IndexError(f"ConcatDataset: index {index} is out of range for {len(self)} samples")
        part = bisect_right(self._ends, position)
        return self.datasets[part][position - (self._ends[part - 1] if part else 0)]

    def __repr__(self) -> str:
        return f"ConcatDataset({self.datasets!r})"


def random_split(
    dataset: Any, lengths: Sequence[int] | Sequence[float], generator: Generator | None = None
) -> list[Subset]:
    """Cut `dataset` at random into parts that share no sample.

    `lengths` are counts that add up to `len(dataset)`, or fractions that add up to 1 (the samples left over
    by rounding down go to the first parts, one each). `generator` makes the cut repeatable; the global
    generator serves without it. Raises ValueError where the lengths do not add up.

    >>> import oxon as ox
    >>> train, held_out = ox.data.random_split(range(10), [0.8, 0.2], ox.Generator(0))
    >>> len(train), len(held_out), sorted([*train, *held_out]) == list(range(10))
    (8, 2, True)
    """
    size = len(dataset)
    if any(length < 0 for length in lengths):
        raise ValueError(f"random_split: negative length in {list(lengths)}")
    if all(isinstance(length, int) for length in lengths):
        counts = [int(length) for length in lengths]
        if sum(counts) != size:
            raise ValueError(
                f"random_split: lengths {counts} add up to {sum(counts)}, the data set has {size}"
            )
    else:
        if abs(sum(lengths) - 1.0) > 1e-6:
            raise ValueError(f"random_split: fractions {list(lengths)} add up to {sum(lengths)}, not 1")
        counts = [int(size * fraction + 1e-9) for fraction in lengths]
        for part in range(size - sum(counts)):
            counts[part % len(counts)] += 1
    order = randperm(size, generator=generator, device="cpu").tolist()
    ends = [sum(counts[:part]) for part in range(len(counts) + 1)]
    return [Subset(dataset, order[start:end]) for start, end in pairwise(ends)]
