"""A table of a model's layers, their output shapes and numbers of parameters, as Keras prints one."""

from __future__ import annotations

from .._core import Tensor, float32, zeros
from ..autograd import no_grad

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Summary:
    """The table that `summary` makes: `print` it, or look at `rows`, `parameters`, `trainable` and
    `bytes`."""

    def __init__(
        self, rows: list[tuple[str, str, str, int]], parameters: int, trainable: int, size: int
    ) -> None:
        #: For each layer its path, its type, its output shape and the number of its own parameters.
        self.rows = rows
        self.parameters = parameters
        self.trainable = trainable
        #: What parameters and buffers take in memory.
        self.bytes = size

    def _cells(self) -> list[tuple[str, ...]]:
        return [(*row[:3], f"{row[3]:,}") for row in self.rows]

    def _total(self) -> str:
        frozen = self.parameters - self.trainable
        unit = f"{self.bytes / 2**20:.1f} MiB" if self.bytes >= 2**20 else f"{self.bytes / 2**10:.1f} KiB"
        return (
            f"{self.parameters:,} parameters"
            + (f", {frozen:,} of them frozen" if frozen else "")
            + f", {unit}"
        )

    def __repr__(self) -> str:
        head = ("layer", "type", "output", "parameters")
        cells = [head, *self._cells()]
        widths = [max(len(row[column]) for row in cells) for column in range(4)]
        lines = []
        for row in cells:
            first = "  ".join(row[column].ljust(widths[column]) for column in range(3))
            lines.append(f"{first}  {row[3].rjust(widths[3])}")
        rule = "-" * len(lines[0])
        return "\n".join([lines[0], rule, *lines[1:], rule, self._total()])

    def _repr_html_(self) -> str:
        from html import escape

        head = "".join(f"<th>{name}</th>" for name in ("layer", "type", "output", "parameters"))
        body = "".join(
            "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in self._cells()
        )
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table><p>{self._total()}</p>"


def summary(model: Any, input_shape: Any = None, *, dtype: Any = float32) -> Summary:
    """The table of `model`'s layers, for one sample of zeros of shape `input_shape` (without the batch
    dimension).

    `input_shape` is one shape, `(1, 28, 28)`, or several, `((10,), (3, 4))`, for a model with several
    inputs. Without it there are no output shapes. `dtype` is that of the inputs, `ox.int64` for an
    embedding. `N` stands for the batch. Layers of one class that serve several times are listed once; a
    shared parameter counts once in the total.

    >>> import oxon as ox
    >>> from oxon import nn
    >>> print(ox.summary(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)), (4,)))
    layer  type    output  parameters
    ---------------------------------
    0      Linear  (N, 8)          40
    1      ReLU    (N, 8)           0
    2      Linear  (N, 2)          18
    ---------------------------------
    58 parameters, 0.2 KiB
    """
    shapes = {} if input_shape is None else _output_shapes(model, input_shape, dtype)
    rows = []
    for path, module in model.named_modules():
        own = sum(parameter.numel() for _, parameter in module.named_parameters(recurse=False))
        if own or not any(True for _ in module.children()):
            rows.append((path or "(model)", type(module).__name__, shapes.get(id(module), "-"), own))
    parameters = list(model.parameters())
    size = sum(part.nbytes for part in [*parameters, *model.buffers()])
    return Summary(
        rows,
        sum(parameter.numel() for parameter in parameters),
        sum(parameter.numel() for parameter in parameters if parameter.requires_grad),
        size,
    )


def _output_shapes(model: Any, input_shape: Any, dtype: Any) -> dict[int, str]:
    """What each module returns for a batch of one, by the module's id."""
    shapes: dict[int, str] = {}

    def note(module: Any, _: Any, output: Any) -> None:
        shapes.setdefault(id(module), _describe(output))

    if not isinstance(input_shape, (tuple, list)):
        raise TypeError(f"summary: input_shape must be a tuple, not {type(input_shape).__name__}")
    several = bool(input_shape) and isinstance(input_shape[0], (tuple, list))
    first = next(iter(model.parameters()), None)
    device = "cpu" if first is None else first.device
    inputs = [
        zeros((1, *shape), dtype=dtype, device=device)
        for shape in (input_shape if several else [input_shape])
    ]
    modes = [(module, module.training) for module in model.modules()]
    handles = [module.register_forward_hook(note) for module, _ in modes]
    try:
        model.eval()
        with no_grad():
            model(*inputs)
    finally:
        for handle in handles:
            handle.remove()
        for module, training in modes:
            module.training = training
    return shapes


def _describe(output: Any) -> str:
    if isinstance(output, Tensor):
        sizes = [str(size) for size in output.shape]
        return f"({', '.join(['N', *sizes[1:]])})" if sizes and sizes[0] == "1" else f"({', '.join(sizes)})"
    if isinstance(output, dict):
        output = list(output.values())
    if isinstance(output, (tuple, list)):
        return ", ".join(_describe(part) for part in output)
    return type(output).__name__
