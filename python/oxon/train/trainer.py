"""The training loop: fit, evaluate, predict. What happens around it lives in `callbacks`, `metrics`,
`progress`."""

from __future__ import annotations

import math
import time
import warnings

from .. import _core
from .._core import Tensor, cat, manual_seed
from ..amp import GradScaler, autocast
from ..autograd import no_grad
from ..data.dataset import as_tensor
from ..data.loader import DataLoader
from ..data.nested import map_tensors, tensors_of
from ..optim import OneCycleLR, ReduceLROnPlateau, clip_grad_norm_
from .callbacks import CallbackList
from .history import History
from .metrics import resolve
from .progress import Progress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any

    from .._core import dtype as DType
    from .callbacks import Callback
    from .metrics import Metric


class Trainer:
    """Trains a model: the usual loop, written once.

    - `loss`: called as `loss(outputs, targets)`, gives the batch's mean as a 0-d tensor.
    - `metrics`: names ("accuracy", "f1", "mae", ...), `Metric`s, or functions of `(outputs, targets)`.
    - `scheduler`: stepped after every epoch, or after every batch with `scheduler_step="batch"`; "auto"
      steps `OneCycleLR` by batch and all others by epoch. A plateau schedule is given `val_loss`, or `loss`
      without validation.
    - `device`: the model is moved there, and every batch; without it batches go where the model is.
    - `clip_grad_norm`: the largest norm of all gradients together.
    - `mixed_precision`: `ox.float16` or `ox.bfloat16`, in which `ox.autocast` has products computed; float16
      with an `ox.amp.GradScaler`, which leaves steps out whose gradients are not finite.

    Data are tuples `(X, Y)` of tensors or arrays, data sets, `DataLoader`s, or other iterables of batches.
    A batch is `(inputs, targets)`. The model is called as `model(inputs)`, with tuples and dicts of inputs
    spread out. A batch that is one tensor is its own target. To train in another way, override `forward`.

    >>> import oxon as ox
    >>> from oxon import nn, optim
    >>> X = ox.linspace(-1, 1, 64).reshape(64, 1)
    >>> model = nn.Linear(1, 1)
    >>> trainer = ox.Trainer(model, optim.SGD(model.parameters(), lr=0.1), nn.MSELoss())
    >>> history = trainer.fit((X, 2 * X), epochs=30, batch_size=16, verbose=False, seed=0)
    >>> history["loss"][-1] < 1e-3
    True
    """

    def __init__(
        self,
        model: Any,
        optimizer: Any,
        loss: Callable[[Any, Any], Tensor],
        metrics: Iterable[str | Metric | Callable[[Tensor, Tensor], Tensor]] = (),
        *,
        scheduler: Any = None,
        scheduler_step: str = "auto",
        device: str | None = None,
        clip_grad_norm: float | None = None,
        mixed_precision: DType | str | None = None,
    ) -> None:
        if scheduler_step not in ("auto", "epoch", "batch"):
            raise ValueError(f"Trainer: scheduler_step must be auto, epoch or batch, got {scheduler_step!r}")
        if clip_grad_norm is not None and not clip_grad_norm > 0:
            raise ValueError(f"Trainer: clip_grad_norm must be positive, got {clip_grad_norm}")
        self.model = model
        self.optimizer = optimizer
        self.loss = loss
        names = [metrics] if isinstance(metrics, str) else metrics
        self.metrics: list[Metric] = [resolve(metric, loss) for metric in names]
        self.scheduler = scheduler
        if scheduler_step == "auto":
            scheduler_step = "batch" if isinstance(scheduler, OneCycleLR) else "epoch"
        self.scheduler_step = scheduler_step
        self.clip_grad_norm = clip_grad_norm
        self._low = None if mixed_precision is None else _core._autocast_dtype("cpu", mixed_precision)
        self._scaler = GradScaler(enabled=self._low is not None and self._low == _core.float16)
        self._device = device
        if device is not None:
            model.to(device)
        #: Set to True, by a callback for instance, to end `fit` after the current epoch.
        self.stop = False
        #: How many epochs this trainer has trained in all.
        self.epoch = 0
        #: The history of the latest `fit`.
        self.history = History()

    # -- what to override ------------------------------------------------------------------------------------

    def forward(self, batch: Any) -> tuple[Tensor, Any, Any]:
        """Loss, outputs and targets of a batch. The outputs and targets are for the metrics."""
        inputs, targets = _split(batch)
        outputs = _call(self.model, inputs)
        return self.loss(outputs, targets), outputs, targets

    # -- training --------------------------------------------------------------------------------------------

    def fit(
        self,
        train: Any,
        validation: Any = None,
        epochs: int = 1,
        *,
        batch_size: int = 32,
        shuffle: bool = True,
        callbacks: Iterable[Callback] = (),
        verbose: bool | str = True,
        seed: int | None = None,
    ) -> History:
        """Train for `epochs` passes over `train`, and measure on `validation` after each.

        `batch_size` and `shuffle` are for data that do not come in batches already. `seed` sets the global
        generator first and makes the order of the samples repeatable. `verbose` is True for what suits the
        output (a bar, a notebook's display, or plain lines), False for silence, or a mode's name.

        Warns of parameters that get no gradient and of those that the optimizer does not hold. Raises
        FloatingPointError when the loss is no longer finite, ValueError where there is no data.
        """
        if epochs < 0:
            raise ValueError(f"fit: epochs must not be negative, got {epochs}")
        if seed is not None:
            manual_seed(seed)
        loader = _loader(train, batch_size, shuffle, seed)
        if loader is not train and isinstance(loader, DataLoader):
            loader.set_epoch(self.epoch)  # a second call goes on where the first ended
        if validation is not None:
            validation = _loader(validation, max(batch_size, 256), False)
        hooks = CallbackList(callbacks)
        progress = Progress(epochs, verbose)
        self.history, self.stop = History(), False
        self._check_optimizer()
        hooks.on_fit_begin(self)
        try:
            for epoch in range(1, epochs + 1):
                start = time.perf_counter()
                logs: dict[str, float] = {}
                hooks.on_epoch_begin(self, epoch, logs)
                progress.begin(epoch, _length(loader))
                logs.update(self._train_epoch(loader, epoch, hooks, progress))
                if validation is not None:
                    figures = self.evaluate(validation)
                    logs.update({f"val_{name}": value for name, value in figures.items()})
                self._step_scheduler("epoch", logs)
                self.epoch += 1
                hooks.on_epoch_end(self, epoch, logs)
                seconds = time.perf_counter() - start
                self.history.append(logs, seconds)
                progress.end(logs, seconds)
                if self.stop:
                    break
        finally:
            progress.close()
        hooks.on_fit_end(self)
        return self.history

    def _train_epoch(
        self, loader: Iterable[Any], epoch: int, hooks: CallbackList, progress: Progress
    ) -> dict[str, float]:
        self.model.train()
        figures = _Figures(self.metrics)
        device = self.device
        step = 0
        for step, batch in enumerate(loader, start=1):
            batch = _to_device(batch, device)
            self.optimizer.zero_grad()
            with self._autocast(device):
                loss, outputs, targets = self.forward(batch)
            self._scaler.scale(loss).backward()
            if self.history.epochs == 0 and step == 1:
                self._check_gradients()
            if self.clip_grad_norm is not None:
                self._scaler.unscale_(self.optimizer)
                clip_grad_norm_(self.model.parameters(), self.clip_grad_norm)
            self._scaler.step(self.optimizer)
            self._scaler.update()
            self._step_scheduler("batch", {})
            figures.add(loss, outputs, targets, _size(batch))
            hooks.on_batch_end(self, step, figures.last_loss)
            if progress.due():
                progress.update(step, self._finite(figures.read(), epoch, step))
        if step == 0:
            raise ValueError("fit: the training data gave no batch")
        return self._finite(figures.read(), epoch, step)

    def _autocast(self, device: Any) -> autocast:
        kind = "cpu" if device is None or device == "cpu" else "gpu"
        return autocast(kind, self._low, enabled=self._low is not None)

    def _step_scheduler(self, when: str, logs: dict[str, float]) -> None:
        if self.scheduler is None or self.scheduler_step != when:
            return
        if isinstance(self.scheduler, ReduceLROnPlateau):
            self.scheduler.step(logs["val_loss"] if "val_loss" in logs else logs["loss"])
        else:
            self.scheduler.step()

    def _finite(self, logs: dict[str, float], epoch: int, step: int) -> dict[str, float]:
        if not math.isfinite(logs["loss"]):
            raise FloatingPointError(
                f"fit: the loss became {logs['loss']} in epoch {epoch}, at or before batch {step}. "
                "Lower the learning rate, pass clip_grad_norm=1.0 to the Trainer, or look for NaN in the data"
            )
        return logs

    def _check_optimizer(self) -> None:
        held = {id(parameter) for group in self.optimizer.param_groups for parameter in group["params"]}
        trainable = [(name, p) for name, p in self.model.named_parameters() if p.requires_grad]
        missing = [name for name, parameter in trainable if id(parameter) not in held]
        if missing and len(missing) == len(trainable):
            raise ValueError(
                "fit: the optimizer holds none of the model's parameters; was it made for another model?"
            )
        if missing:
            _warn(f"the optimizer does not hold {_names(missing)}, which will not be trained")

    def _check_gradients(self) -> None:
        trainable = [(name, p) for name, p in self.model.named_parameters() if p.requires_grad]
        missing = [name for name, parameter in trainable if parameter.grad is None]
        if missing and len(missing) == len(trainable):
            raise RuntimeError("fit: no parameter received a gradient: the loss does not depend on the model")
        if missing:
            _warn(
                f"the first batch gave no gradient to {_names(missing)}: is it used in forward? "
                "If it is not meant to be trained, freeze it with requires_grad_(False)"
            )

    # -- using -----------------------------------------------------------------------------------------------

    def evaluate(self, data: Any, *, batch_size: int = 256) -> dict[str, float]:
        """The loss and the metrics on `data`, without training: `{"loss": ..., "accuracy": ...}`.

        The model is in evaluation mode meanwhile. Raises ValueError where there is no data.
        """
        figures = _Figures(self.metrics)
        empty = True
        device = self.device
        with _Evaluating(self.model), no_grad():
            for batch in _loader(data, batch_size, False):
                batch = _to_device(batch, device)
                with self._autocast(device):
                    found = self.forward(batch)
                figures.add(*found, _size(batch))
                empty = False
        if empty:
            raise ValueError("evaluate: the data gave no batch")
        return figures.read()

    def predict(self, data: Any, *, batch_size: int = 256) -> Any:
        """The model's outputs for all of `data`, joined along the first dimension.

        `data` is a tensor or array of inputs, or data as for `fit`, of which the targets are ignored. The
        model is in evaluation mode meanwhile. Raises ValueError where there is no data.
        """
        if isinstance(data, Tensor) or hasattr(data, "__array__"):
            data = (as_tensor(data),)
        outputs = []
        device = self.device
        with _Evaluating(self.model), no_grad():
            for batch in _loader(data, batch_size, False):
                inputs, _ = _split(_to_device(batch, device))
                with self._autocast(device):
                    outputs.append(_call(self.model, inputs))
        if not outputs:
            raise ValueError("predict: the data gave no batch")
        return _join(outputs)

    @property
    def device(self) -> Any:
        """Where batches are sent: the device given, or that of the model's first parameter."""
        if self._device is not None:
            return self._device
        first = next(iter(self.model.parameters()), None)
        return None if first is None else first.device

    # -- state -----------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """All that is needed to go on training later: model, optimizer, scheduler, number of epochs. See
        `ox.save`."""
        state = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "epoch": self.epoch,
        }
        if self.scheduler is not None:
            state["scheduler"] = self.scheduler.state_dict()
        if self._scaler.is_enabled():
            state["scaler"] = self._scaler.state_dict()
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to where `state_dict` was taken."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.scheduler is not None:
            self.scheduler.load_state_dict(state["scheduler"])
        if "scaler" in state:
            self._scaler.load_state_dict(state["scaler"])
        self.epoch = int(state["epoch"])

    def __repr__(self) -> str:
        names = [metric.name for metric in self.metrics]
        kinds = f"{type(self.model).__name__}, {type(self.optimizer).__name__}, {type(self.loss).__name__}"
        return f"Trainer({kinds}, metrics={names})"


class _Figures:
    """Loss and metrics summed up over batches as tensors; only `read` waits for the device."""

    def __init__(self, metrics: list[Metric]) -> None:
        self.metrics = metrics
        self.total: Any = 0.0
        self.count = 0
        for metric in metrics:
            metric.reset()

    def add(self, loss: Tensor, outputs: Any, targets: Any, size: int) -> None:
        with no_grad():
            self.last_loss = loss.detach()
            self.total = self.total + self.last_loss * size
            self.count += size
            if self.metrics:
                outputs = map_tensors(lambda tensor: tensor.detach(), outputs)
                for metric in self.metrics:
                    metric.update(outputs, targets)

    def read(self) -> dict[str, float]:
        figures = {"loss": float(self.total.item()) / self.count if self.count else float("nan")}
        for metric in self.metrics:
            value = metric.compute()
            if not isinstance(value, (int, float)):
                raise TypeError(
                    f"the metric {metric.name!r} is not a single number; apply it to predict's result instead"
                )
            figures[metric.name] = float(value)
        return figures


class _Evaluating:
    """Puts a model in evaluation mode, and each of its modules back into the mode it had."""

    def __init__(self, model: Any) -> None:
        self.model = model

    def __enter__(self) -> None:
        self.modes = [(module, module.training) for module in self.model.modules()]
        self.model.eval()

    def __exit__(self, *error: object) -> None:
        for module, training in self.modes:
            module.training = training


def _loader(data: Any, batch_size: int, shuffle: bool, seed: int | None = None) -> Iterable[Any]:
    """Data as an iterable of batches."""
    if isinstance(data, DataLoader):
        return data
    if isinstance(data, tuple) or (hasattr(data, "__getitem__") and hasattr(data, "__len__")):
        return DataLoader(data, batch_size, shuffle, seed=seed)
    if hasattr(data, "__next__"):
        raise TypeError(
            "an iterator serves for one epoch only: pass a DataLoader or another object that can start anew"
        )
    if not hasattr(data, "__iter__"):
        raise TypeError(f"expected (X, Y), a data set or a DataLoader, got {type(data).__name__}")
    return data  # type: ignore[no-any-return]


def _length(loader: Iterable[Any]) -> int | None:
    length = getattr(loader, "__len__", None)
    return None if length is None else int(length())


def _split(batch: Any) -> tuple[Any, Any]:
    """Inputs and targets."""
    if not isinstance(batch, (tuple, list)):
        return batch, batch
    if len(batch) == 1:
        return batch[0], batch[0]
    if len(batch) == 2:
        return batch[0], batch[1]
    raise ValueError(
        f"expected batches of (inputs, targets), got {len(batch)} parts; override Trainer.forward for these"
    )


def _call(model: Any, inputs: Any) -> Any:
    if isinstance(inputs, (tuple, list)):
        return model(*inputs)
    if isinstance(inputs, dict):
        return model(**inputs)
    return model(inputs)


def _to_device(batch: Any, device: Any) -> Any:
    return batch if device is None else map_tensors(lambda tensor: tensor.to(device), batch)


def _size(batch: Any) -> int:
    """The number of samples: the first dimension of the first tensor."""
    for tensor in tensors_of(batch):
        return int(tensor.shape[0]) if tensor.shape else 1
    return 1


def _join(parts: Sequence[Any]) -> Any:
    first = parts[0]
    if isinstance(first, dict):
        return {key: _join([part[key] for part in parts]) for key in first}
    if isinstance(first, (tuple, list)):
        return tuple(_join(column) for column in zip(*parts, strict=True))
    return first if len(parts) == 1 else cat(list(parts))


def _names(names: list[str]) -> str:
    shown = ", ".join(names[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"


def _warn(message: str) -> None:
    warnings.warn(f"Trainer.fit: {message}", UserWarning, stacklevel=4)
