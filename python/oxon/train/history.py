"""What a training run measured, epoch by epoch."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any


class History(dict[str, list[float]]):
    """The figures of each epoch: `history["loss"]` is a list with one number per epoch.

    `fit` returns one. `history.seconds` holds how long each epoch took.

    >>> import oxon as ox
    >>> history = ox.History()
    >>> history.append({"loss": 0.7, "val_loss": 0.8})
    >>> history.append({"loss": 0.5, "val_loss": 0.9})
    >>> history["loss"], history.best("val_loss")
    ([0.7, 0.5], (1, 0.8))
    """

    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float] = []

    @property
    def epochs(self) -> int:
        """How many epochs have been recorded."""
        return max((len(values) for values in self.values()), default=0)

    def append(self, logs: Mapping[str, float], seconds: float = float("nan")) -> None:
        """Add an epoch. A figure that was absent in other epochs has NaN there."""
        if not hasattr(logs, "items"):
            raise TypeError(f"History.append: takes figures by name, not {type(logs).__name__}")
        before = self.epochs
        for name in [*self, *(name for name in logs if name not in self)]:
            values = self.setdefault(name, [])
            values += [float("nan")] * (before - len(values))
            values.append(float(logs.get(name, float("nan"))))
        self.seconds.append(seconds)

    def best(self, monitor: str = "val_loss", mode: str = "auto") -> tuple[int, float]:
        """The epoch, counted from 1, with the best figure, and the figure. Raises KeyError for an unknown
        one."""
        sign = direction(monitor, mode)
        if monitor not in self:
            raise KeyError(f"History: no figure {monitor!r}; there are {', '.join(self) or 'none'}")
        known = [(sign * value, -number) for number, value in enumerate(self[monitor]) if value == value]
        if not known:
            raise ValueError(f"History: {monitor!r} is NaN in every epoch")
        value, number = max(known)
        return 1 - number, sign * value

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a CSV file: a column `epoch`, then one column for each figure."""
        import csv

        with open(os.fspath(path), "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["epoch", *self])
            for number, row in enumerate(zip(*self.values(), strict=True), start=1):
                writer.writerow([number, *row])

    def plot(self, path: str | os.PathLike[str] | None = None) -> Any:
        """Draw the figures over the epochs, a panel for each, training and validation together.

        Returns matplotlib's figure, and saves it where `path` is given. Needs no display. Raises
        ImportError where matplotlib is not installed and ValueError where there is nothing to draw.
        """
        if not self.epochs:
            raise ValueError("History: nothing to plot, no epoch has been recorded")
        panels = [name for name in self if not (name.startswith("val_") and name[4:] in self)]
        figure = _figure(width=4.5 * len(panels))
        epochs = range(1, self.epochs + 1)
        for axes, name in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
            axes.plot(epochs, self[name], marker="o", markersize=3, label="training")
            if f"val_{name}" in self:
                axes.plot(epochs, self[f"val_{name}"], marker="o", markersize=3, label="validation")
                axes.legend()
            axes.set_title(name)
            axes.set_xlabel("epoch")
            axes.grid(alpha=0.3)
        if path is not None:
            figure.savefig(path)
        return figure

    def __repr__(self) -> str:
        if not self.epochs:
            return "History(no epochs)"
        last = ", ".join(f"{name} {brief(values[-1])}" for name, values in self.items())
        return f"History({self.epochs} epochs; last: {last})"

    def _repr_html_(self) -> str:
        from html import escape

        head = "".join(f"<th>{escape(name)}</th>" for name in ["epoch", *self])
        rows = "".join(
            f"<tr><td>{number}</td>{''.join(f'<td>{brief(value)}</td>' for value in row)}</tr>"
            for number, row in enumerate(zip(*self.values(), strict=True), start=1)
        )
        return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


def brief(value: float) -> str:
    """A number as progress lines and tables show it.

    >>> brief(0.98764), brief(0.0000123), brief(0.0)
    ('0.9876', '1.230e-05', '0.0000')
    """
    return f"{value:.4f}" if value == 0 or 1e-3 <= abs(value) < 1e5 else f"{value:.3e}"


def direction(monitor: str, mode: str = "auto") -> int:
    """1 where larger figures are better and -1 where smaller are.

    With mode "auto" the name tells: accuracy, precision, recall, f1, auc and r2 are to grow, all else is to
    shrink.

    >>> direction("val_accuracy"), direction("val_loss"), direction("reward", "max")
    (1, -1, 1)
    """
    if not isinstance(monitor, str):
        raise TypeError(f"the figure to monitor is given by its name, not {type(monitor).__name__}")
    if mode not in ("auto", "min", "max"):
        raise ValueError(f"mode must be auto, min or max, got {mode!r}")
    if mode == "auto":
        grows = any(word in monitor for word in ("acc", "precision", "recall", "f1", "auc", "r2"))
        return 1 if grows else -1
    return 1 if mode == "max" else -1


def _figure(width: float) -> Any:
    """A bare figure, or one of pyplot, which shows itself, where that or an interactive Python is in use."""
    import sys
    from importlib import import_module  # so that type checkers do not need matplotlib

    try:
        figure = import_module("matplotlib.figure").Figure
    except ImportError as error:
        raise ImportError("History.plot needs matplotlib: pip install matplotlib") from error
    if "matplotlib.pyplot" in sys.modules or "IPython" in sys.modules or hasattr(sys, "ps1"):
        figure = import_module("matplotlib.pyplot").figure
    return figure(figsize=(width, 3.5), layout="constrained")
