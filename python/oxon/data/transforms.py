"""Transforms of whole batches of images `(N, C, H, W)`. A loader applies them; see
`DataLoader(transform=...)`."""

from __future__ import annotations

from .._core import Generator, Tensor, arange, float32, rand, randint, tensor, where

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class Transform:
    """Something done to a batch. A subclass defines `apply`; random ones draw from the generator that it is
    given.

    >>> import oxon as ox
    >>> class Invert(ox.data.transforms.Transform):
    ...     def apply(self, x, generator):
    ...         return 1.0 - x
    >>> Invert()(ox.zeros(2)).tolist()
    [1.0, 1.0]
    """

    def __call__(self, x: Tensor, generator: Generator | None = None) -> Tensor:
        return self.apply(x, generator)

    def apply(self, x: Tensor, generator: Generator | None) -> Tensor:
        """The transformed batch. `generator` is None where the caller wants the global one."""
        raise NotImplementedError(f"{type(self).__name__} must define apply")

    def __repr__(self) -> str:
        fields = ", ".join(
            f"{name}={value!r}" for name, value in vars(self).items() if not name.startswith("_")
        )
        return f"{type(self).__name__}({fields})"


class Compose(Transform):
    """One transform after the other; plain functions of one tensor may stand among them.

    >>> import oxon as ox
    >>> from oxon.data import transforms
    >>> both = transforms.Compose(transforms.ToFloat(), lambda x: x + 1)
    >>> both(ox.tensor([0, 255], dtype=ox.uint8)).tolist()
    [1.0, 2.0]
    """

    def __init__(self, *parts: Callable[[Tensor], Tensor]) -> None:
        self.parts = parts

    def apply(self, x: Tensor, generator: Generator | None) -> Tensor:
        for part in self.parts:
            x = part(x, generator) if isinstance(part, Transform) else part(x)
        return x


class ToFloat(Transform):
    """Cast to float32 and multiply by `scale`, by default from 0..255 to 0..1.

    >>> import oxon as ox
    >>> ox.data.transforms.ToFloat()(ox.tensor([0, 255], dtype=ox.uint8)).tolist()
    [0.0, 1.0]
    """

    def __init__(self, scale: float = 1 / 255) -> None:
        self.scale = scale

    def apply(self, x: Tensor, generator: Generator | None) -> Tensor:
        return x.to(float32) * self.scale


class Normalize(Transform):
    """`(x - mean) / std`, with one number each or one per channel of `(N, C, H, W)`.

    Raises ValueError where a standard deviation is not positive.

    >>> import oxon as ox
    >>> ox.data.transforms.Normalize(2.0, 4.0)(ox.tensor([2.0, 4.0])).tolist()
    [0.0, 0.5]
    """

    def __init__(self, mean: float | Sequence[float], std: float | Sequence[float]) -> None:
        self.mean = mean
        self.std = std
        if not all(value > 0 for value in ([std] if isinstance(std, (int, float)) else std)):
            raise ValueError(f"Normalize: std must be positive, got {std}")

    def apply(self, x: Tensor, generator: Generator | None) -> Tensor:
        return (x - _per_channel(self.mean, x)) / _per_channel(self.std, x)


def _per_channel(values: float | Sequence[float], x: Tensor) -> Tensor | float:
    if isinstance(values, (int, float)):
        return values
    return tensor(list(values), device=x.device).to(x.dtype).reshape(-1, 1, 1)


class RandomFlip(Transform):
    """Mirror each image left to right with probability `p`.

    >>> import oxon as ox
    >>> ox.data.transforms.RandomFlip(p=1.0)(ox.arange(3).reshape(1, 1, 1, 3)).tolist()
    [[[[2, 1, 0]]]]
    """

    def __init__(self, p: float = 0.5) -> None:
        if not 0.0 <= p <= 1.0:
            raise ValueError(f"RandomFlip: p must lie between 0 and 1, got {p}")
        self.p = p

    def apply(self, x: Tensor, generator: Generator | None) -> Tensor:
        _check_images("RandomFlip", x)
        chosen = (rand(x.shape[0], generator=generator) < self.p).to(x.device)
        return where(chosen.reshape(-1, 1, 1, 1), x.flip(-1), x)


class RandomCrop(Transform):
    """Cut `(size, size)` at a place drawn for each image, after adding `padding` pixels of value `fill` on
    every side.

    >>> import oxon as ox
    >>> crop = ox.data.transforms.RandomCrop(28, padding=2)
    >>> crop(ox.ones(5, 1, 28, 28)).shape == (5, 1, 28, 28)
    True
    """

    def __init__(self, size: int, padding: int = 0, fill: float = 0.0) -> None:
        if size < 1 or padding < 0:
            raise ValueError(f"RandomCrop: bad size={size} or padding={padding}")
        self.size = size
        self.padding = padding
        self.fill = fill

    def apply(self, x: Tensor, generator: Generator | None) -> Tensor:
        _check_images("RandomCrop", x)
        n, c, height, width = x.shape
        rows = self._places(n, height, generator)
        columns = self._places(n, width, generator)
        inside = _inside(rows, height).reshape(n, 1, -1, 1) & _inside(columns, width).reshape(n, 1, 1, -1)
        rows, columns = rows.clamp(0, height - 1), columns.clamp(0, width - 1)
        cut = x[
            arange(n).reshape(n, 1, 1, 1).to(x.device),
            arange(c).reshape(1, c, 1, 1).to(x.device),
            rows.reshape(n, 1, -1, 1).to(x.device),
            columns.reshape(n, 1, 1, -1).to(x.device),
        ]
        return (
            where(inside.to(x.device), cut, tensor(self.fill).to(x.dtype).to(x.device))
            if self.padding
            else cut
        )

    def _places(self, n: int, length: int, generator: Generator | None) -> Tensor:
        """`(n, size)`: which rows (or columns) of each image; below 0 or from `length` on they lie in the
        padding."""
        room = length + 2 * self.padding - self.size
        if room < 0:
            raise ValueError(
                f"RandomCrop: size {self.size} is larger than {length} with padding {self.padding}"
            )
        start = randint(0, room + 1, (n, 1), generator=generator) - self.padding
        return start + arange(self.size)


def _inside(places: Tensor, length: int) -> Tensor:
    return (places >= 0) & (places < length)


def _check_images(name: str, x: Tensor) -> None:
    if len(x.shape) != 4:
        raise ValueError(f"{name}: expected images (N, C, H, W), got shape {tuple(x.shape)}")
