"""Mixed precision: products in a half float, the rest in float32, and gradients kept within float16's range.

Which operations run in which dtype says one table, `rust/ops/autocast.rs`; here are the region that a program
enters and the scaler of its loss.
"""

from __future__ import annotations

import math

from . import _core
from ._core import Tensor, stack
from ._core import get_autocast_dtype as get_autocast_dtype
from ._core import is_autocast_cache_enabled as is_autocast_cache_enabled
from ._core import is_autocast_enabled as is_autocast_enabled
from .autograd import no_grad

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import TracebackType
    from typing import Any, TypeVar

    F = TypeVar("F", bound=Callable[..., Any])

__all__ = ["GradScaler", "autocast", "get_autocast_dtype", "is_autocast_cache_enabled", "is_autocast_enabled"]


class autocast:
    """Operations in the dtypes that suit them, as a context manager or a decorator; regions nest.

    Within it, matrix products, convolutions, attention and recurrent layers take float32 operands as
    `dtype`; softmax, losses, norms, sums, exponentials and logarithms take half floats as float32; everything
    else takes its operands as they come. float64 and integers stay as they are. Parameters stay float32, and
    so do their gradients: call the model and the loss within a region, and `backward()` and `step()` behind
    it. Holds for the calling thread (Micikevicius et al., "Mixed precision training", 2018).

    Args:
        device_type: "cpu" or "gpu"; operations on other devices are not touched.
        dtype: float16, which needs a `GradScaler`, or bfloat16. None for bfloat16 on the CPU and float16 on
            GPUs.
        enabled: False to go back to ordinary dtypes within another region.
        cache_enabled: whether a weight is cast once only until the outermost region ends.

    Raises:
        TypeError: for another dtype.
        ValueError: for another device type.

    >>> model = nn.Linear(3, 2)
    >>> with ox.autocast("cpu", dtype=ox.bfloat16):
    ...     y = model(ox.ones(1, 3))
    ...     loss = y.sum()
    >>> y.dtype, loss.dtype
    (oxon.bfloat16, oxon.float32)
    >>> loss.backward()
    >>> model.weight.grad.dtype
    oxon.float32
    """

    def __init__(
        self, device_type: str, dtype: Any = None, enabled: bool = True, cache_enabled: bool | None = None
    ) -> None:
        self.device_type = device_type
        self.dtype = _core._autocast_dtype(device_type, dtype)
        self.enabled = bool(enabled)
        self.cache_enabled = True if cache_enabled is None else bool(cache_enabled)

    def __enter__(self) -> autocast:
        _core._autocast_enter(self.device_type, self.dtype, self.enabled, self.cache_enabled)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _core._autocast_exit()

    def __call__(self, function: F) -> F:
        from functools import wraps

        if not callable(function):
            raise TypeError(f"autocast: decorates functions, not {type(function).__name__}")

        @wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            with self:
                return function(*args, **kwargs)

        return wrapper  # type: ignore[return-value]

    def __repr__(self) -> str:
        return f"autocast({self.device_type!r}, dtype={self.dtype}, enabled={self.enabled})"


#: Gradients of so many elements at most are searched as one.
_SMALL = 1 << 16


class GradScaler:
    """Multiplies the loss so that gradients in float16 do not vanish, and divides them again before the step.

    A step whose gradients are not finite is left out and lowers the scale; `growth_interval` good ones in
    a row raise it. bfloat16 has the range of float32 and needs no scaler.

    Args:
        device: the device type; the scaler works on all, and the argument is there as PyTorch has it.
        init_scale: the first scale.
        growth_factor: what a good interval multiplies it by, above 1.
        backoff_factor: what a bad step multiplies it by, between 0 and 1.
        growth_interval: how many good steps in a row make the scale grow.
        enabled: False for a scaler that does nothing, and steps as the optimizer does.

    Raises:
        ValueError: for an argument out of its range.

    >>> model = nn.Linear(3, 2)
    >>> optimizer, scaler = optim.SGD(model.parameters(), lr=0.1), ox.amp.GradScaler()
    >>> with ox.autocast("cpu", dtype=ox.float16):
    ...     loss = model(ox.ones(4, 3)).square().mean()
    >>> scaler.scale(loss).backward()
    >>> scaler.unscale_(optimizer)
    >>> norm = optim.clip_grad_norm_(model.parameters(), 1.0)
    >>> scaler.step(optimizer)
    >>> scaler.update()
    >>> scaler.get_scale()
    65536.0
    """

    def __init__(
        self,
        device: str = "gpu",
        init_scale: float = 2.0**16,
        growth_factor: float = 2.0,
        backoff_factor: float = 0.5,
        growth_interval: int = 2000,
        enabled: bool = True,
    ) -> None:
        _core._autocast_dtype(device, None)
        self._device = device
        self._enabled = bool(enabled)
        self._scale = _positive("init_scale", init_scale)
        self._growth_tracker = 0
        self.set_growth_factor(growth_factor)
        self.set_backoff_factor(backoff_factor)
        self.set_growth_interval(growth_interval)
        #: What has been done for an optimizer since the last `update`: whether its gradients are finite, and
        #: whether it has stepped.
        self._found: dict[int, tuple[Tensor, bool]] = {}

    def scale(self, outputs: Any) -> Any:
        """`outputs`, a tensor or a nest of tuples, lists and dicts of tensors, times the scale."""
        if not self._enabled:
            return outputs
        if isinstance(outputs, Tensor):
            return outputs * self._scale
        if isinstance(outputs, dict):
            return {key: self.scale(value) for key, value in outputs.items()}
        if isinstance(outputs, (tuple, list)):
            return type(outputs)(self.scale(value) for value in outputs)
        raise TypeError(f"scale: takes tensors and nests of tensors, not {type(outputs).__name__}")

    def unscale_(self, optimizer: Any) -> None:
        """Divide the gradients of an optimizer's parameters by the scale, so that they can be clipped.

        `step` does it unless it has been done.

        Raises:
            RuntimeError: when it has been done since the last `update`, or `step` has been called.
            ValueError: for gradients in float16, whose range the quotients leave.
        """
        if not self._enabled:
            return
        if id(optimizer) in self._found:
            done = "step" if self._found[id(optimizer)][1] else "unscale_"
            raise RuntimeError(f"unscale_: {done} has been called for this optimizer since the last update")
        with no_grad():
            grads: list[Tensor] = []
            for p in _parameters(optimizer):
                g = p.grad
                if g is None:
                    continue
                if g.dtype == _core.float16:
                    raise ValueError("unscale_: gradients are float16; keep parameters in float32")
                grads.append(g)
                p.grad = g * (1.0 / self._scale)
            self._found[id(optimizer)] = (_all_finite(grads), False)

    def step(self, optimizer: Any, *args: Any, **kwargs: Any) -> Any:
        """`optimizer.step(*args, **kwargs)` if all gradients are finite, which reads one number back.

        Returns:
            What the optimizer returned; None for a step that was left out.

        Raises:
            RuntimeError: when `step` has been called since the last `update`, when there are no gradients, or
                for a closure.
        """
        if not self._enabled:
            return optimizer.step(*args, **kwargs)
        if args or kwargs.get("closure") is not None:
            raise RuntimeError("step: a scaler cannot call a closure: its gradients would not be unscaled")
        finite, stepped = self._found.get(id(optimizer), (None, False))
        if stepped:
            raise RuntimeError("step: it has been called for this optimizer since the last update")
        if finite is None:
            self.unscale_(optimizer)
            finite = self._found[id(optimizer)][0]
        self._found[id(optimizer)] = (finite, True)
        return optimizer.step(**kwargs) if finite.item() else None

    def update(self, new_scale: float | Tensor | None = None) -> None:
        """Change the scale by what the steps since the last update found, or to `new_scale`.

        Raises:
            RuntimeError: when there was no `unscale_` and no `step`.
            ValueError: for a scale that is not positive and finite.
        """
        if not self._enabled:
            return
        if new_scale is not None:
            scale = new_scale.item() if isinstance(new_scale, Tensor) else new_scale
            self._scale = _positive("new_scale", scale)
        elif not self._found:
            raise RuntimeError("update: there was no step since the last one")
        elif all(finite.item() for finite, _ in self._found.values()):
            self._growth_tracker += 1
            if self._growth_tracker == self._growth_interval:
                self._growth_tracker = 0
                grown = self._scale * self._growth_factor
                self._scale = grown if grown <= _core.finfo(_core.float32).max else self._scale
        else:
            self._growth_tracker = 0
            self._scale *= self._backoff_factor
        self._found.clear()

    def is_enabled(self) -> bool:
        """Whether the scaler does anything."""
        return self._enabled

    def get_scale(self) -> float:
        """The scale; 1.0 if the scaler is not enabled."""
        return self._scale if self._enabled else 1.0

    def get_growth_factor(self) -> float:
        """What a good interval multiplies the scale by."""
        return self._growth_factor

    def set_growth_factor(self, new_factor: float) -> None:
        """Set what a good interval multiplies the scale by; raises ValueError unless above 1."""
        if not 1.0 < new_factor < math.inf:
            raise ValueError(f"GradScaler: growth_factor must be above 1, not {new_factor}")
        self._growth_factor = float(new_factor)

    def get_backoff_factor(self) -> float:
        """What a bad step multiplies the scale by."""
        return self._backoff_factor

    def set_backoff_factor(self, new_factor: float) -> None:
        """Set what a bad step multiplies the scale by; raises ValueError unless between 0 and 1."""
        if not 0.0 < new_factor < 1.0:
            raise ValueError(f"GradScaler: backoff_factor must lie between 0 and 1, not {new_factor}")
        self._backoff_factor = float(new_factor)

    def get_growth_interval(self) -> int:
        """How many good steps in a row make the scale grow."""
        return self._growth_interval

    def set_growth_interval(self, new_interval: int) -> None:
        """Set how many good steps in a row make the scale grow; raises ValueError unless at least 1."""
        if not isinstance(new_interval, int) or isinstance(new_interval, bool):
            raise TypeError(
                f"GradScaler: growth_interval must be an integer, not {type(new_interval).__name__}"
            )
        if new_interval < 1:
            raise ValueError(f"GradScaler: growth_interval must be positive, not {new_interval}")
        self._growth_interval = new_interval

    def state_dict(self) -> dict[str, Any]:
        """Scale, factors and the number of good steps in PyTorch's form; empty if not enabled."""
        if not self._enabled:
            return {}
        return {
            "scale": self._scale,
            "growth_factor": self._growth_factor,
            "backoff_factor": self._backoff_factor,
            "growth_interval": self._growth_interval,
            "_growth_tracker": self._growth_tracker,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what `state_dict()` gave.

        Raises:
            RuntimeError: for the empty state of a scaler that was not enabled.
            KeyError: for a state that lacks an entry.
        """
        if not self._enabled:
            return
        if len(state_dict) == 0:
            raise RuntimeError("load_state_dict: the state is empty, of a scaler that was not enabled")
        scale, tracker = _positive("scale", state_dict["scale"]), int(state_dict["_growth_tracker"])
        self.set_growth_factor(state_dict["growth_factor"])
        self.set_backoff_factor(state_dict["backoff_factor"])
        self.set_growth_interval(state_dict["growth_interval"])
        self._scale, self._growth_tracker = scale, tracker


def _positive(name: str, value: Any) -> float:
    if not 0.0 < value < math.inf:
        raise ValueError(f"GradScaler: {name} must be positive and finite, not {value}")
    return float(value)


def _parameters(optimizer: Any) -> Iterable[Tensor]:
    groups = getattr(optimizer, "param_groups", None)
    if groups is None:
        raise TypeError(f"GradScaler: expected an optimizer, not {type(optimizer).__name__}")
    return [p for group in groups for p in group["params"]]


def _all_finite(grads: list[Tensor]) -> Tensor:
    """Whether all elements are finite, as one bool that has not been read yet.

    Raises:
        RuntimeError: when there are none.
    """
    if not grads:
        raise RuntimeError("step: no parameter of the optimizer has a gradient")
    found: list[Tensor] = [g.isfinite().all() for g in grads if g.numel() > _SMALL]
    by_kind: dict[Any, list[Tensor]] = {}
    for g in grads:
        if g.numel() <= _SMALL:
            by_kind.setdefault((g.dtype, g.device), []).append(g.reshape(-1))
    found += [_core.cat(small).isfinite().all() for small in by_kind.values()]
    home = found[0].device
    return stack([flag.to(home) for flag in found]).all()
