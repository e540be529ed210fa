"""Metrics that are fed batch by batch. They keep tensors and read a number only when asked for the result."""

from __future__ import annotations

from .._core import Tensor, arange, float32, int64
from ..nn import BCEWithLogitsLoss, CrossEntropyLoss, NLLLoss

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


class Metric:
    """A figure computed over many batches: `update` per batch, `compute` for the result, `reset` to begin
    anew.

    A subclass adds to tensors in `update` and reads them in `compute`, so that no batch has to wait for the
    device. `name` is the column's name in the history.

    >>> import oxon as ox
    >>> class Largest(ox.metrics.Metric):
    ...     name = "largest"
    ...
    ...     def reset(self):
    ...         self.value = ox.tensor(float("-inf"))
    ...
    ...     def update(self, outputs, targets):
    ...         self.value = ox.maximum(self.value, outputs.max())
    ...
    ...     def compute(self):
    ...         return self.value.item()
    >>> metric = Largest()
    >>> metric.update(ox.tensor([1.0, 4.0]), None)
    >>> metric.compute()
    4.0
    """

    name = "metric"

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget all batches."""
        raise NotImplementedError(f"{type(self).__name__} must define reset")

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        """Take in one batch: what the model returned and what it should have."""
        raise NotImplementedError(f"{type(self).__name__} must define update")

    def compute(self) -> float:
        """The figure over all batches since `reset`; NaN where there were none."""
        raise NotImplementedError(f"{type(self).__name__} must define compute")

    def __repr__(self) -> str:
        return f"{type(self).__name__}(name={self.name!r})"


class Mean(Metric):
    """The mean over samples of `function(outputs, targets)`, which gives a batch's mean as a 0-d tensor.

    >>> import oxon as ox
    >>> bias = ox.metrics.Mean(lambda outputs, targets: (outputs - targets).mean(), "bias")
    >>> bias.update(ox.tensor([1.0, 2.0]), ox.tensor([0.0, 0.0]))
    >>> bias.compute()
    1.5
    """

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor], name: str | None = None) -> None:
        self.function = function
        self.name = str(name or getattr(function, "__name__", "metric"))
        super().__init__()

    def reset(self) -> None:
        self._total: Any = 0.0
        self._count = 0

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        size = int(outputs.shape[0])
        self._total = self._total + self.function(outputs, targets) * size
        self._count += size

    def compute(self) -> float:
        return _ratio(_number(self._total), self._count)


class MSE(Mean):
    """The mean squared error over all elements.

    >>> import oxon as ox
    >>> mse = ox.metrics.MSE()
    >>> mse.update(ox.tensor([1.0, 2.0]), ox.tensor([1.0, 4.0]))
    >>> mse.compute()
    2.0
    """

    def __init__(self) -> None:
        super().__init__(lambda outputs, targets: ((_same(outputs, targets) - targets) ** 2).mean(), "mse")


class MAE(Mean):
    """The mean absolute error over all elements.

    >>> import oxon as ox
    >>> mae = ox.metrics.MAE()
    >>> mae.update(ox.tensor([1.0, 2.0]), ox.tensor([1.0, 4.0]))
    >>> mae.compute()
    1.0
    """

    def __init__(self) -> None:
        super().__init__(lambda outputs, targets: (_same(outputs, targets) - targets).abs().mean(), "mae")


class R2(Metric):
    """The coefficient of determination 1 - Σ(y - ŷ)² / Σ(y - ȳ)², averaged over the outputs where there are
    several.

    Takes `(N,)` or `(N, D)`. The variance is merged from batch to batch (Chan, Golub and LeVeque 1979), so
    that a large mean does not drown it. A constant target gives 1 where it is met exactly and else 0.

    >>> import oxon as ox
    >>> r2 = ox.metrics.R2()
    >>> r2.update(ox.tensor([1.0, 2.0, 3.0]), ox.tensor([1.0, 2.0, 4.0]))
    >>> round(r2.compute(), 4)
    0.7857
    """

    name = "r2"

    def reset(self) -> None:
        self._count = 0
        self._residual: Any = 0.0
        self._mean: Any = 0.0
        self._spread: Any = 0.0

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        size = int(targets.shape[0])
        if size == 0:
            return
        targets = targets.to(float32).reshape(size, -1)
        outputs = _same(outputs.reshape(size, -1), targets)
        mean = targets.mean(0)
        delta = mean - self._mean
        total = self._count + size
        self._residual = self._residual + ((targets - outputs) ** 2).sum(0)
        self._spread = self._spread + ((targets - mean) ** 2).sum(0) + delta**2 * (self._count * size / total)
        self._mean = self._mean + delta * (size / total)
        self._count = total

    def compute(self) -> float:
        if self._count == 0:
            return float("nan")
        scores = []
        for residual, spread in zip(self._residual.tolist(), self._spread.tolist(), strict=True):
            scores.append(1.0 - residual / spread if spread else float(residual == 0.0))
        return sum(scores) / len(scores)


class Accuracy(Metric):
    """The share of right answers.

    `outputs` are scores `(N, C, ...)` with targets `(N, ...)` of class indices; or one score per target,
    right where `score > threshold` says the same as the target (0 or 1); or predicted classes (integers).
    `task="multiclass"` also takes targets given as probabilities `(N, C)`. Targets equal to `ignore_index`
    do not count.

    In a Trainer `"accuracy"` follows the loss: with `BCEWithLogitsLoss` the threshold is 0.

    >>> import oxon as ox
    >>> accuracy = ox.metrics.Accuracy()
    >>> accuracy.update(ox.tensor([[0.1, 0.9], [0.8, 0.2]]), ox.tensor([1, 1]))
    >>> accuracy.compute()
    0.5
    """

    name = "accuracy"

    def __init__(self, task: str = "auto", threshold: float = 0.5, ignore_index: int | None = None) -> None:
        self.task = _checked(task)
        self.threshold = threshold
        self.ignore_index = ignore_index
        super().__init__()

    def reset(self) -> None:
        self._right: Any = 0
        self._count: Any = 0

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        predicted, true, _ = _labels(outputs, targets, self.task, self.threshold)
        right = predicted == true
        if self.ignore_index is None:
            self._count = self._count + true.numel()
        else:
            counted = true != self.ignore_index
            right = right & counted
            self._count = self._count + counted.sum()
        self._right = self._right + right.sum()

    def compute(self) -> float:
        return _ratio(_number(self._right), _number(self._count))


class TopKAccuracy(Metric):
    """The share of samples whose class is among the `k` highest scores; `outputs` are `(N, C)`, targets
    `(N,)`.

    >>> import oxon as ox
    >>> top2 = ox.metrics.TopKAccuracy(2)
    >>> top2.update(ox.tensor([[0.5, 0.3, 0.2], [0.5, 0.3, 0.2]]), ox.tensor([1, 2]))
    >>> top2.compute()
    0.5
    """

    def __init__(self, k: int = 5) -> None:
        if k < 1:
            raise ValueError(f"TopKAccuracy: k must be at least 1, got {k}")
        self.k = k
        self.name = f"top{k}_accuracy"
        super().__init__()

    def reset(self) -> None:
        self._right: Any = 0
        self._count = 0

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        if len(outputs.shape) != 2 or tuple(targets.shape) != (outputs.shape[0],):
            raise ValueError(
                "TopKAccuracy: expected outputs (N, C) and targets (N,), "
                f"got {tuple(outputs.shape)} and {tuple(targets.shape)}"
            )
        own = outputs.gather(1, targets.to(int64).reshape(-1, 1))
        # Scores that are not below or equal count as above, so that a NaN is never a hit.
        above = (~(outputs <= own)).sum(1)
        self._right = self._right + (above < self.k).sum()
        self._count += int(targets.shape[0])

    def compute(self) -> float:
        return _ratio(_number(self._right), self._count)


class ConfusionMatrix(Metric):
    """How often class `i` (row) was called `j` (column): `compute` gives an int64 tensor `(C, C)`.

    Takes what `Accuracy` takes. `num_classes` is needed where the outputs are predicted classes rather than
    scores. Not a single figure, hence not for a Trainer. Raises ValueError where a label lies outside
    0..C-1.

    >>> import oxon as ox
    >>> matrix = ox.metrics.ConfusionMatrix(num_classes=2)
    >>> matrix.update(ox.tensor([1, 1, 0]), ox.tensor([1, 0, 0]))
    >>> matrix.compute().tolist()
    [[1, 1], [0, 1]]
    """

    name = "confusion_matrix"

    def __init__(self, num_classes: int | None = None, task: str = "auto", threshold: float = 0.5) -> None:
        self.num_classes = num_classes
        self.task = _checked(task)
        self.threshold = threshold
        super().__init__()

    def reset(self) -> None:
        self._matrix: Any = None
        self._count = 0

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        predicted, true, found = _labels(outputs, targets, self.task, self.threshold)
        classes = self.num_classes or found
        if classes is None:
            raise ValueError(
                f"{type(self).__name__}: pass num_classes, the outputs are classes and not scores"
            )
        each = arange(classes).to(true.device)
        rows = (true.reshape(-1, 1).to(int64) == each).to(float32)
        columns = (predicted.reshape(-1, 1).to(int64) == each).to(float32)
        counts = (rows.T @ columns).to(int64)  # exact: float32 counts to 2^24
        self._matrix = counts if self._matrix is None else self._matrix + counts
        self._count += true.numel()

    def compute(self) -> Any:
        if self._matrix is None:
            raise ValueError(f"{type(self).__name__}: no batch yet")
        if (found := int(self._matrix.sum().item())) != self._count:
            raise ValueError(
                f"{type(self).__name__}: {self._count - found} labels outside 0..{self._matrix.shape[0] - 1}"
            )
        return self._matrix


class _ByClass(ConfusionMatrix):
    """A score per class from the confusion matrix, then an average over the classes."""

    def __init__(
        self,
        average: str = "auto",
        num_classes: int | None = None,
        task: str = "auto",
        threshold: float = 0.5,
    ) -> None:
        if average not in ("auto", "macro", "micro", "weighted"):
            raise ValueError(
                f"{type(self).__name__}: average must be auto, macro, micro or weighted, got {average!r}"
            )
        self.average = average
        super().__init__(num_classes, task, threshold)

    def reset(self) -> None:
        super().reset()
        self._binary = False

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        super().update(outputs, targets)
        self._binary = int(self._matrix.shape[0]) == 2

    def compute(self) -> float:
        if self._matrix is None:
            return float("nan")
        matrix = super().compute().tolist()
        classes = range(len(matrix))
        hits = [matrix[i][i] for i in classes]
        true = [sum(matrix[i]) for i in classes]
        called = [sum(row[i] for row in matrix) for i in classes]
        if self.average == "auto" and self._binary:
            return self._score(hits[1], true[1], called[1])
        if self.average == "micro":
            return self._score(sum(hits), sum(true), sum(called))
        scores = [self._score(hits[i], true[i], called[i]) for i in classes]
        weights = true if self.average == "weighted" else [1] * len(scores)
        return _ratio(sum(s * w for s, w in zip(scores, weights, strict=True)), sum(weights))

    def _score(self, hits: int, true: int, called: int) -> float:
        raise NotImplementedError


class Precision(_ByClass):
    """Of what was called a class, the share that is of it. Takes what `Accuracy` takes.

    `average`: "macro" is the mean over classes, "weighted" weighs them by their samples, "micro" pools
    them, "auto" is the positive class alone where there are two classes and else "macro". An empty class
    scores 0.

    >>> import oxon as ox
    >>> precision = ox.metrics.Precision()
    >>> precision.update(ox.tensor([0.9, 0.8, 0.1]), ox.tensor([1, 0, 1]))
    >>> precision.compute()
    0.5
    """

    name = "precision"

    def _score(self, hits: int, true: int, called: int) -> float:
        return hits / called if called else 0.0


class Recall(_ByClass):
    """Of what is of a class, the share that was called so. Averages as `Precision`.

    >>> import oxon as ox
    >>> recall = ox.metrics.Recall()
    >>> recall.update(ox.tensor([0.9, 0.8, 0.1, 0.2]), ox.tensor([1, 1, 1, 1]))
    >>> recall.compute()
    0.5
    """

    name = "recall"

    def _score(self, hits: int, true: int, called: int) -> float:
        return hits / true if true else 0.0


class F1(_ByClass):
    """The harmonic mean of precision and recall. Averages as `Precision`.

    >>> import oxon as ox
    >>> f1 = ox.metrics.F1()
    >>> f1.update(ox.tensor([0.9, 0.8, 0.1]), ox.tensor([1, 0, 1]))
    >>> f1.compute()
    0.5
    """

    name = "f1"

    def _score(self, hits: int, true: int, called: int) -> float:
        return 2 * hits / (true + called) if true + called else 0.0


_BY_NAME: dict[str, Callable[[], Metric]] = {
    "mse": MSE,
    "mae": MAE,
    "r2": R2,
    "top_k_accuracy": TopKAccuracy,
}
_OF_CLASSES: dict[str, Any] = {"accuracy": Accuracy, "precision": Precision, "recall": Recall, "f1": F1}


def resolve(metric: Any, loss: Any = None) -> Metric:
    """A metric from a `Metric`, a name, or a function of `(outputs, targets)`.

    The names are accuracy, precision, recall, f1, top_k_accuracy (k = 5) and top2_accuracy and so on, mse,
    mae, r2. The loss tells how outputs are to be read. Raises ValueError for another name.

    >>> import oxon as ox
    >>> ox.metrics.resolve("top3_accuracy").k
    3
    """
    if isinstance(metric, Metric):
        return metric
    if not isinstance(metric, str):
        if callable(metric):
            return Mean(metric)
        raise TypeError(f"metrics: expected a Metric, a name or a function, got {type(metric).__name__}")
    if metric in _OF_CLASSES:
        if isinstance(loss, (CrossEntropyLoss, NLLLoss)):
            made: Metric = _OF_CLASSES[metric](task="multiclass")
            if isinstance(made, Accuracy):
                made.ignore_index = loss.ignore_index
        elif isinstance(loss, BCEWithLogitsLoss):
            made = _OF_CLASSES[metric](task="binary", threshold=0.0)
        else:
            made = _OF_CLASSES[metric]()
        return made
    if metric in _BY_NAME:
        return _BY_NAME[metric]()
    k = metric.removeprefix("top").removesuffix("_accuracy")
    if k.isdigit() and metric == f"top{k}_accuracy":
        return TopKAccuracy(int(k))
    raise ValueError(
        f"metrics: unknown name {metric!r}; known are {', '.join(sorted([*_OF_CLASSES, *_BY_NAME]))}"
    )


def _labels(
    outputs: Tensor, targets: Tensor, task: str, threshold: float
) -> tuple[Tensor, Tensor, int | None]:
    """Predicted and true labels of equal shape, and the number of classes where it is known."""
    given, wanted = tuple(outputs.shape), tuple(targets.shape)
    if len(given) == len(wanted) + 1 and given[1] == 1 and task != "multiclass":
        outputs, given = outputs.squeeze(1), given[:1] + given[2:]
    if not outputs.dtype.is_floating_point and given == wanted and task != "binary":
        return outputs, targets, None
    if task != "binary" and len(given) >= 2 and given[:1] + given[2:] == wanted:
        return outputs.argmax(1), targets, given[1]
    if task == "multiclass" and given == wanted and len(given) >= 2:
        return outputs.argmax(1), targets.argmax(1), given[1]
    if task != "multiclass" and given == wanted:
        true = targets > 0.5 if targets.dtype.is_floating_point else targets != 0
        return (outputs > threshold).to(int64), true.to(int64), 2
    raise ValueError(
        f"metrics: outputs of shape {given} do not fit targets of shape {wanted} (task {task!r})"
    )


def _checked(task: str) -> str:
    if task not in ("auto", "multiclass", "binary"):
        raise ValueError(f"metrics: task must be auto, multiclass or binary, got {task!r}")
    return task


def _same(outputs: Tensor, targets: Tensor) -> Tensor:
    if tuple(outputs.shape) != tuple(targets.shape):
        raise ValueError(
            f"metrics: outputs of shape {tuple(outputs.shape)}, targets of shape {tuple(targets.shape)}"
        )
    return outputs


def _number(value: Any) -> float:
    return float(value.item()) if isinstance(value, Tensor) else float(value)


def _ratio(numerator: float, denominator: float) -> float:
    return numerator / denominator if denominator else float("nan")
