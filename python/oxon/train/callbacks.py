"""What may happen around epochs and batches: stopping, checkpoints, logs. Epochs are counted from 1."""

from __future__ import annotations

import os

from .history import direction

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from .._core import Tensor
    from .trainer import Trainer

    Logs = dict[str, float]


class Callback:
    """The base of callbacks: every hook does nothing until a subclass defines it.

    `logs` is one dict per epoch, empty at its beginning. What a hook puts into it appears in the history.
    Setting `trainer.stop = True` ends the training after the current epoch.

    >>> import oxon as ox
    >>> class Shout(ox.callbacks.Callback):
    ...     def on_epoch_end(self, trainer, epoch, logs):
    ...         print(f"EPOCH {epoch}!")
    >>> Shout().on_epoch_end(None, 1, {})
    EPOCH 1!
    """

    def on_fit_begin(self, trainer: Trainer) -> None:
        """Before the first epoch."""

    def on_fit_end(self, trainer: Trainer) -> None:
        """After the last epoch, not after an exception."""

    def on_epoch_begin(self, trainer: Trainer, epoch: int, logs: Logs) -> None:
        """Before an epoch's first batch."""

    def on_epoch_end(self, trainer: Trainer, epoch: int, logs: Logs) -> None:
        """After an epoch's training and validation."""

    def on_batch_end(self, trainer: Trainer, step: int, loss: Tensor) -> None:
        """After the optimizer's step number `step` of this epoch. Reading `loss` waits for the device."""


class LambdaCallback(Callback):
    """A callback made of functions, one for each hook that is wanted.

    >>> import oxon as ox
    >>> note = ox.callbacks.LambdaCallback(
    ...     on_epoch_end=lambda trainer, epoch, logs: print(epoch, logs["loss"])
    ... )
    >>> note.on_epoch_end(None, 3, {"loss": 0.25})
    3 0.25
    """

    def __init__(
        self,
        on_fit_begin: Callable[[Trainer], None] | None = None,
        on_fit_end: Callable[[Trainer], None] | None = None,
        on_epoch_begin: Callable[[Trainer, int, Logs], None] | None = None,
        on_epoch_end: Callable[[Trainer, int, Logs], None] | None = None,
        on_batch_end: Callable[[Trainer, int, Tensor], None] | None = None,
    ) -> None:
        hooks = {
            "on_fit_begin": on_fit_begin,
            "on_fit_end": on_fit_end,
            "on_epoch_begin": on_epoch_begin,
            "on_epoch_end": on_epoch_end,
            "on_batch_end": on_batch_end,
        }
        vars(self).update({name: hook for name, hook in hooks.items() if hook is not None})


class _Monitor(Callback):
    """Watches one figure for improvement."""

    def __init__(self, monitor: str, mode: str, min_delta: float = 0.0) -> None:
        self.monitor = monitor
        self.min_delta = min_delta
        self._sign = direction(monitor, mode)
        #: The best figure so far and its epoch.
        self.best: float | None = None
        self.best_epoch = 0

    def on_fit_begin(self, trainer: Trainer) -> None:
        self.best, self.best_epoch = None, 0

    def _improved(self, epoch: int, logs: Logs) -> bool:
        try:
            value = logs[self.monitor]
        except KeyError:
            raise KeyError(
                f"{type(self).__name__}: no figure {self.monitor!r} to monitor; "
                f"there are {', '.join(logs) or 'none'}"
                + ("; pass validation to fit" if self.monitor.startswith("val_") else "")
            ) from None
        # A NaN is never an improvement, and anything improves on nothing.
        if value != value or (self.best is not None and self._sign * (value - self.best) <= self.min_delta):
            return False
        self.best, self.best_epoch = value, epoch
        return True


class EarlyStopping(_Monitor):
    """Stop when a figure has not improved by more than `min_delta` for `patience` epochs.

    `mode` says whether it should fall ("min") or grow ("max"); "auto" goes by its name. With `restore_best`
    the model gets back, at the end of the training, the weights of its best epoch. Raises KeyError where
    the figure does not exist.

    >>> import oxon as ox
    >>> ox.callbacks.EarlyStopping("val_accuracy", patience=3, restore_best=True).monitor
    'val_accuracy'
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        patience: int = 5,
        min_delta: float = 0.0,
        mode: str = "auto",
        restore_best: bool = False,
    ) -> None:
        super().__init__(monitor, mode, min_delta)
        if patience < 1:
            raise ValueError(f"EarlyStopping: patience must be at least 1, got {patience}")
        self.patience = patience
        self.restore_best = restore_best
        #: The epoch after which the training was stopped; 0 where it ran to its end.
        self.stopped_epoch = 0
        self._waited = 0
        self._weights: dict[str, Tensor] | None = None

    def on_fit_begin(self, trainer: Trainer) -> None:
        super().on_fit_begin(trainer)
        self.stopped_epoch, self._waited, self._weights = 0, 0, None

    def on_epoch_end(self, trainer: Trainer, epoch: int, logs: Logs) -> None:
        if self._improved(epoch, logs):
            self._waited = 0
            if self.restore_best:
                self._weights = {name: value.clone() for name, value in trainer.model.state_dict().items()}
            return
        self._waited += 1
        if self._waited >= self.patience:
            self.stopped_epoch = epoch
            trainer.stop = True

    def on_fit_end(self, trainer: Trainer) -> None:
        if self._weights is not None:
            trainer.model.load_state_dict(self._weights)
            self._weights = None


class ModelCheckpoint(_Monitor):
    """Save the model's weights after every epoch, or after those only in which a figure was the best so far.

    `path` is a safetensors file. It may hold `{epoch}` and any figure of the epoch, with Python's format
    codes, as in `"model-{epoch:02d}-{val_loss:.3f}.safetensors"`. With `weights_only=False` the file holds
    what `Trainer.state_dict` gives, from which training can be resumed. Raises KeyError where a figure does
    not exist.

    >>> import oxon as ox
    >>> ox.callbacks.ModelCheckpoint("best.safetensors", monitor="val_loss", save_best_only=True).path
    'best.safetensors'
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        monitor: str = "val_loss",
        save_best_only: bool = False,
        mode: str = "auto",
        weights_only: bool = True,
    ) -> None:
        super().__init__(monitor, mode)
        self.path = os.fspath(path)
        self.save_best_only = save_best_only
        self.weights_only = weights_only
        #: The file written last.
        self.saved = ""

    def on_epoch_end(self, trainer: Trainer, epoch: int, logs: Logs) -> None:
        if self.save_best_only and not self._improved(epoch, logs):
            return
        from ..io import save

        try:
            path = self.path.format(**{**logs, "epoch": epoch})
        except KeyError as error:
            raise KeyError(
                f"ModelCheckpoint: {self.path!r} names {error}; there are epoch, {', '.join(logs)}"
            ) from None
        if folder := os.path.dirname(path):
            os.makedirs(folder, exist_ok=True)
        save(trainer.model.state_dict() if self.weights_only else trainer.state_dict(), path)
        self.saved = path


class CSVLogger(Callback):
    """Write the figures of every epoch to a CSV file as they come, so that a run can be watched or survive
    a crash.

    With `append` an existing file is continued; its columns must be the same.

    >>> import oxon as ox
    >>> ox.callbacks.CSVLogger("run.csv").path
    'run.csv'
    """

    def __init__(self, path: str | os.PathLike[str], append: bool = False) -> None:
        self.path = os.fspath(path)
        self.append = append
        self._columns: list[str] | None = None

    def on_fit_begin(self, trainer: Trainer) -> None:
        import csv

        self._columns = None
        if self.append and os.path.exists(self.path):
            with open(self.path, newline="", encoding="utf-8") as file:
                self._columns = next(csv.reader(file), None)

    def on_epoch_end(self, trainer: Trainer, epoch: int, logs: Logs) -> None:
        import csv

        row = {"epoch": epoch, **logs}
        begun = self._columns is not None
        if self._columns is None:
            self._columns = list(row)
            if folder := os.path.dirname(self.path):
                os.makedirs(folder, exist_ok=True)
        if set(row) != set(self._columns):
            raise ValueError(
                f"CSVLogger: {self.path} has columns {self._columns}, this epoch has {list(row)}"
            )
        with open(self.path, "a" if begun else "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, self._columns)
            if not begun:
                writer.writeheader()
            writer.writerow(row)


class LearningRateLogger(Callback):
    """Put the learning rate with which each epoch began into its logs, as `lr` (`lr_1`, ... for further
    groups).

    >>> import oxon as ox
    >>> callbacks = [ox.callbacks.LearningRateLogger()]
    """

    def on_epoch_begin(self, trainer: Trainer, epoch: int, logs: Logs) -> None:
        for number, group in enumerate(trainer.optimizer.param_groups):
            logs[f"lr_{number}" if number else "lr"] = float(group["lr"])


class CallbackList(Callback):
    """Passes every hook on to each of several callbacks, in order."""

    def __init__(self, callbacks: Any) -> None:
        self.callbacks: list[Callback] = list(callbacks)
        for callback in self.callbacks:
            if not isinstance(callback, Callback):
                raise TypeError(f"fit: expected a Callback, got {type(callback).__name__}")

    def on_fit_begin(self, trainer: Trainer) -> None:
        for callback in self.callbacks:
            callback.on_fit_begin(trainer)

    def on_fit_end(self, trainer: Trainer) -> None:
        for callback in self.callbacks:
            callback.on_fit_end(trainer)

    def on_epoch_begin(self, trainer: Trainer, epoch: int, logs: Logs) -> None:
        for callback in self.callbacks:
            callback.on_epoch_begin(trainer, epoch, logs)

    def on_epoch_end(self, trainer: Trainer, epoch: int, logs: Logs) -> None:
        for callback in self.callbacks:
            callback.on_epoch_end(trainer, epoch, logs)

    def on_batch_end(self, trainer: Trainer, step: int, loss: Tensor) -> None:
        for callback in self.callbacks:
            callback.on_batch_end(trainer, step, loss)
