"""Batches of a data set: order, collation and transforms. The threads behind it live in `prefetch`."""

from __future__ import annotations

from .._core import Generator, Tensor, float64, flush, from_numpy, randint, randperm, stack, tensor
from .dataset import TensorDataset, as_tensor, device_of
from .nested import tensors_of
from .transforms import Transform

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from typing import Any


def default_collate(samples: Sequence[Any]) -> Any:
    """Join samples into one batch, by what the first of them is.

    Tensors and arrays are stacked along a new first dimension, numbers become a tensor `(B,)` (floats as
    float32, integers as int64), tuples, lists and dicts are joined part by part, strings and bytes stay a
    list. Raises ValueError where shapes or lengths differ and TypeError for anything else; pass
    `collate_fn` to the loader then.

    >>> import oxon as ox
    >>> x, names = ox.data.default_collate([(1.0, "one"), (2.0, "two")])
    >>> x.tolist(), names
    ([1.0, 2.0], ['one', 'two'])
    """
    if not isinstance(samples, (list, tuple)) or not samples:
        raise TypeError(
            f"default_collate: takes a list of samples, not {type(samples).__name__} {samples!r:.50}"
        )
    first = samples[0]
    if isinstance(first, Tensor):
        _same([tuple(sample.shape) for sample in samples], "shape")
        return stack(list(samples))
    if isinstance(first, (bool, int, float)):
        return _floats_to_default(tensor(list(samples)))
    if isinstance(first, (str, bytes)):
        return list(samples)
    if isinstance(first, dict):
        _same([sorted(map(str, sample)) for sample in samples], "keys")
        return {key: default_collate([sample[key] for sample in samples]) for key in first}
    if isinstance(first, (tuple, list)):
        _same([len(sample) for sample in samples], "length")
        parts = [default_collate(part) for part in zip(*samples, strict=True)]
        return parts if isinstance(first, list) else _like(first, parts)
    if hasattr(first, "__array__"):
        import numpy

        _same([numpy.shape(sample) for sample in samples], "shape")
        array = numpy.stack([numpy.asarray(sample) for sample in samples])
        return from_numpy(array.astype(numpy.float32) if array.dtype == numpy.float64 else array)
    raise TypeError(f"default_collate: cannot join {type(first).__name__} into a batch; pass collate_fn")


def _floats_to_default(batch: Tensor) -> Tensor:
    return batch.float() if batch.dtype == float64 else batch


def _like(first: Any, parts: list[Any]) -> Any:
    return type(first)(*parts) if hasattr(first, "_fields") else tuple(parts)


def _same(values: Sequence[Any], what: str) -> None:
    for number, value in enumerate(values):
        if value != values[0]:
            raise ValueError(
                f"default_collate: samples of one batch differ in {what}: {values[0]} for the first, "
                f"{value} for number {number}"
            )


def _mix(seed: int, number: int) -> int:
    """A 63-bit seed from a seed and a counter: the finaliser of SplitMix64 (Steele, Lea and Flood 2014)."""
    z = (seed + (number + 1) * 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
    return (z ^ (z >> 31)) >> 1


class DataLoader:
    """Iterate over a data set in batches.

    `dataset` is a `Dataset`, any other object with `__len__` and `__getitem__` (a tensor too), or a tuple
    of tensors or arrays of equal length. Each pass over the loader is an epoch.

    - `batch_size`: samples per batch; the last batch may be smaller unless `drop_last`.
    - `shuffle`: a new order every epoch. The order depends on `seed` and the epoch's number only, never on
      threads. Without `seed` one is drawn from the global generator at the first epoch, so `manual_seed`
      governs it; with `generator` every epoch draws from that. `set_epoch` resumes a run in the middle.
    - `sampler`: an iterable of indices that gives the order instead, iterated anew each epoch.
    - `collate_fn`: makes a batch from a list of samples; `default_collate` serves without it.
    - `transform`: applied to each batch's inputs: to the whole batch, or to its first part where it is a
      tuple. A `Transform` gets a random generator of its own for every batch, so random crops are
      repeatable too.
    - `num_workers`: threads that prepare batches in the background, each up to `prefetch` batches ahead; 0
      prepares them in the caller's thread. By default 1, but 0 where a batch is a single gather from
      tensors in memory, because handing it from thread to thread costs about as much as making it.

    An exception in the data set is raised at the consumer, with a note naming the item and the batch.
    Raises ValueError for a size below 1 or for arguments that exclude each other, TypeError for a data set
    that cannot be indexed.

    >>> import oxon as ox
    >>> loader = ox.data.DataLoader((ox.arange(10), ox.arange(10) ** 2), batch_size=4, shuffle=True, seed=0)
    >>> [tuple(x.shape) for x, y in loader]
    [(4,), (4,), (2,)]
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int = 1,
        shuffle: bool = False,
        *,
        sampler: Iterable[int] | None = None,
        collate_fn: Callable[[list[Any]], Any] | None = None,
        transform: Callable[[Any], Any] | None = None,
        drop_last: bool = False,
        seed: int | None = None,
        generator: Generator | None = None,
        num_workers: int | None = None,
        prefetch: int = 2,
    ) -> None:
        if isinstance(dataset, tuple):
            dataset = TensorDataset(*dataset)
        elif hasattr(dataset, "__array__"):
            dataset = as_tensor(dataset)
        if not (hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")):
            raise TypeError(f"DataLoader: {type(dataset).__name__} has no __len__ and __getitem__")
        if batch_size < 1:
            raise ValueError(f"DataLoader: batch_size must be at least 1, got {batch_size}")
        if shuffle and sampler is not None:
            raise ValueError(
                "DataLoader: shuffle and sampler exclude each other: the sampler gives the order"
            )
        if seed is not None and generator is not None:
            raise ValueError("DataLoader: pass seed or generator, not both")
        if not 1 <= prefetch <= 4096:
            raise ValueError(f"DataLoader: prefetch must lie between 1 and 4096, not {prefetch}")
        if num_workers is not None and not 0 <= num_workers <= 1024:
            raise ValueError(f"DataLoader: num_workers must lie between 0 and 1024, not {num_workers}")
        self.dataset = dataset
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.sampler = sampler
        self.collate_fn = collate_fn
        self.transform = transform
        self.drop_last = drop_last
        self.prefetch = prefetch
        self.generator = generator
        self.seed = seed
        #: The number of the next epoch.
        self.epoch = 0
        self._gather: Callable[[Any], Any] | None = None
        if collate_fn is None:
            gather = dataset.__getitem__ if isinstance(dataset, Tensor) else getattr(dataset, "batch", None)
            self._gather = gather
        in_memory = self._gather is not None and transform is None
        self.num_workers = (0 if in_memory else 1) if num_workers is None else num_workers

    def __len__(self) -> int:
        """The number of batches in an epoch."""
        samples = len(self.dataset if self.sampler is None else self.sampler)  # type: ignore[arg-type]
        return samples // self.batch_size if self.drop_last else -(-samples // self.batch_size)

    def set_epoch(self, epoch: int) -> None:
        """Let the next pass be the epoch of this number, as when a run is resumed."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[Any]:
        seed = self._epoch_seed() if self.shuffle or isinstance(self.transform, Transform) else 0
        self.epoch += 1

        def make(number: int, indices: Any) -> Any:
            return self._batch(number, indices, seed)

        batches = self._indices(seed)
        if self.num_workers == 0:
            return (make(number, indices) for number, indices in enumerate(batches))
        from .prefetch import ordered

        def compute(number: int, indices: Any) -> Any:
            batch = make(number, indices)
            flush(tensors_of(batch))  # else the arithmetic would be left to whoever looks at the batch
            return batch

        return ordered(compute, batches, self.num_workers, self.num_workers * self.prefetch)

    def _epoch_seed(self) -> int:
        if self.generator is not None:
            return int(randint(0, 2**62, (1,), generator=self.generator, device="cpu").item())
        if self.seed is None:
            self.seed = int(randint(0, 2**62, (1,), device="cpu").item())
        return _mix(self.seed, self.epoch)

    def _indices(self, seed: int) -> Iterator[Any]:
        """The indices of each batch: slices or tensors for a data set that gathers, else lists of int."""
        if self.sampler is not None:
            batch: list[int] = []
            for index in self.sampler:
                batch.append(int(index))
                if len(batch) == self.batch_size:
                    yield self._order(batch)
                    batch = []
            if batch and not self.drop_last:
                yield self._order(batch)
            return
        size = len(self.dataset)
        order: Any = None
        if self.shuffle:
            # Where the data is, whatever the default device of this thread: a worker's is its own.
            home = "cpu" if self._gather is None else device_of(self.dataset)
            order = randperm(size, generator=Generator(seed), device=home)
            if self._gather is None:
                order = order.tolist()
        for start in range(0, size, self.batch_size):
            stop = min(start + self.batch_size, size)
            if self.drop_last and stop - start < self.batch_size:
                return
            if order is not None:
                yield order[start:stop]
            else:
                yield range(start, stop) if self._gather is None else slice(start, stop)

    def _order(self, indices: list[int]) -> Any:
        return indices if self._gather is None else tensor(indices, device=device_of(self.dataset))

    def _batch(self, number: int, indices: Any, seed: int) -> Any:
        if self._gather is not None:
            batch = self._gather(indices)
        else:
            samples = []
            for index in indices:
                try:
                    samples.append(self.dataset[index])
                except Exception as error:
                    error.add_note(f"in DataLoader: item {index}, batch {number}")
                    raise
            try:
                batch = default_collate(samples) if self.collate_fn is None else self.collate_fn(samples)
            except Exception as error:
                error.add_note(f"in DataLoader: joining batch {number}, items {list(indices)}")
                raise
        return batch if self.transform is None else self._transformed(batch, Generator(_mix(seed, number)))

    def _transformed(self, batch: Any, generator: Generator) -> Any:
        def apply(inputs: Any) -> Any:
            if isinstance(self.transform, Transform):
                return self.transform(inputs, generator)
            assert self.transform is not None
            return self.transform(inputs)

        if isinstance(batch, (tuple, list)):
            return (apply(batch[0]), *batch[1:])
        return apply(batch)

    def __repr__(self) -> str:
        return (
            f"DataLoader({self.dataset!r}, batch_size={self.batch_size}, shuffle={self.shuffle}, "
            f"drop_last={self.drop_last}, num_workers={self.num_workers})"
        )
