"""Differentiation: modes, gradients of functions, gradients written by hand, checkpoints and checks.

The walk itself is Rust's; here is what reads better in Python.
"""

from __future__ import annotations

from . import _core
from ._core import Tensor, is_grad_enabled

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType
    from typing import Any, TypeVar

    F = TypeVar("F", bound=Callable[..., Any])


class set_grad_enabled:
    """Record operations or not, as a context manager or a decorator.

    >>> import oxon as ox
    >>> x = ox.ones(2, requires_grad=True)
    >>> with ox.set_grad_enabled(False):
    ...     (x * 2).requires_grad
    False
    """

    def __init__(self, mode: bool) -> None:
        self.mode = mode
        self._before: list[bool] = []

    def __enter__(self) -> None:
        self._before.append(_core._set_grad_enabled(self.mode))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _core._set_grad_enabled(self._before.pop())

    def __call__(self, function: F) -> F:
        from functools import wraps

        @wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            with set_grad_enabled(self.mode):
                return function(*args, **kwargs)

        return wrapper  # type: ignore[return-value]


class no_grad(set_grad_enabled):
    """Do not record operations: for inference, and for changing parameters by hand.

    >>> import oxon as ox
    >>> w = ox.ones(2, requires_grad=True)
    >>> with ox.no_grad():
    ...     w -= 0.5
    >>> w.tolist()
    [0.5, 0.5]
    """

    def __init__(self) -> None:
        super().__init__(False)


class enable_grad(set_grad_enabled):
    """Record operations again within `no_grad`."""

    def __init__(self) -> None:
        super().__init__(True)


class detect_anomaly:
    """Stop the backward pass at the first NaN and name the operation and the line that made it.

    Every gradient is observed at once, so this is slow; use it to find a NaN, then take it away.

    >>> import oxon as ox
    >>> x = ox.zeros(1, requires_grad=True)
    >>> with ox.detect_anomaly():
    ...     y = (x.sqrt() * 0).sum()
    ...     try:
    ...         y.backward()
    ...     except ox.GradError as error:
    ...         "sqrt gave NaN" in str(error)
    True
    """

    def __init__(self) -> None:
        self._before: list[bool] = []

    def __enter__(self) -> None:
        self._before.append(_core._set_anomaly_enabled(True))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _core._set_anomaly_enabled(self._before.pop())


def _list(tensors: Tensor | Sequence[Tensor]) -> list[Tensor]:
    return [tensors] if isinstance(tensors, Tensor) else list(tensors)


def backward(
    tensors: Tensor | Sequence[Tensor],
    gradients: Tensor | Sequence[Tensor | None] | None = None,
    retain_graph: bool = False,
    create_graph: bool = False,
) -> None:
    """Accumulate the gradients of several tensors into the leaves that they were computed from."""
    given = [gradients] if isinstance(gradients, Tensor) else gradients
    _core._backward(_list(tensors), None if given is None else list(given), retain_graph, create_graph)


def grad(
    outputs: Tensor | Sequence[Tensor],
    inputs: Tensor | Sequence[Tensor],
    grad_outputs: Tensor | Sequence[Tensor | None] | None = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    allow_unused: bool = False,
) -> tuple[Tensor | None, ...]:
    """The gradients of `outputs` with respect to `inputs`, without touching any `grad`.

    With `create_graph` they can be differentiated again. An input that plays no part raises GradError, or
    gives `None` with `allow_unused`.

    >>> import oxon as ox
    >>> x = ox.tensor(3.0, requires_grad=True)
    >>> (dy,) = ox.grad(x**3, x, create_graph=True)
    >>> (ddy,) = ox.grad(dy, x)
    >>> dy.item(), ddy.item()
    (27.0, 18.0)
    """
    given = [grad_outputs] if isinstance(grad_outputs, Tensor) else grad_outputs
    found = _core._grad(
        _list(outputs),
        _list(inputs),
        None if given is None else list(given),
        create_graph if retain_graph is None else retain_graph,
        create_graph,
    )
    if not allow_unused:
        for i, g in enumerate(found):
            if g is None:
                raise _core.GradError(
                    f"grad: input {i} plays no part in the outputs; pass allow_unused=True to get None for it"
                )
    return tuple(found)


class Context:
    """What `Function.forward` leaves for `Function.backward`: tensors through `save_for_backward`, and any
    attribute."""

    def __init__(self) -> None:
        self._given: tuple[Tensor | None, ...] = ()
        self._saved: tuple[Tensor | None, ...] = ()
        self.needs_input_grad: tuple[bool, ...] = ()

    def save_for_backward(self, *tensors: Tensor | None) -> None:
        """Keep tensors for the backward pass, with the values that they have now."""
        self._given = tensors
        # Each in a handle of its own, which nobody else changes in place.
        self._saved = tuple(None if t is None else _core.asarray(t) for t in tensors)

    @property
    def saved_tensors(self) -> tuple[Any, ...]:
        """The tensors that were kept."""
        return self._saved

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"the context has no {name!r}; set it in forward")


class Function:
    """A function with a gradient of its own: subclass it, write `forward` and `backward` as static methods,
    and call `apply`.

    `forward(ctx, *args)` computes without being recorded. `backward(ctx, *grads)` gets the gradients of the
    outputs and gives one for each argument, `None` for those that are no tensors. Written in tensor
    operations it can be differentiated again.

    >>> import oxon as ox
    >>> class Cube(ox.Function):
    ...     @staticmethod
    ...     def forward(ctx, x):
    ...         ctx.save_for_backward(x)
    ...         return x * x * x
    ...
    ...     @staticmethod
    ...     def backward(ctx, dy):
    ...         (x,) = ctx.saved_tensors
    ...         return dy * 3 * x * x
    >>> x = ox.tensor(2.0, requires_grad=True)
    >>> Cube.apply(x).backward()
    >>> x.grad.item()
    12.0
    """

    @staticmethod
    def forward(ctx: Any, *args: Any) -> Any:
        """Compute the outputs; subclasses write this."""
        raise TypeError("a Function needs a static method `forward(ctx, *args)`")

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        """Compute the gradients of the arguments; subclasses write this."""
        raise TypeError("a Function needs a static method `backward(ctx, *grads)`")

    @classmethod
    def apply(cls, *args: Any) -> Any:
        """Call the function."""
        ctx = Context()
        places = [i for i, a in enumerate(args) if isinstance(a, Tensor)]
        tensors = [_core.asarray(args[i]) for i in places]
        ctx.needs_input_grad = tuple(isinstance(a, Tensor) and a.requires_grad for a in args)
        with no_grad():
            result = cls.forward(ctx, *args)
        outputs = _outputs(f"{cls.__name__}.forward", result)
        recorded = _core._record(tensors, outputs, _Rule(cls, ctx, len(args), places, tensors, outputs))
        return recorded[0] if isinstance(result, Tensor) else tuple(recorded)


class _Rule:
    """The gradient of one call of a `Function`.

    No closure: that would hold itself, and all that was saved, until the garbage collector comes.
    """

    def __init__(
        self,
        function: type[Function],
        ctx: Context,
        arguments: int,
        places: list[int],
        tensors: list[Tensor],
        outputs: list[Tensor],
    ) -> None:
        self.function = function
        self.ctx = ctx
        self.arguments = arguments
        self.places = places
        self.tensors = tensors
        self.kinds = [(out.shape, out.dtype, out.device) for out in outputs]
        # Outputs that were saved have no history, which would lead back to the rule itself.
        self.again = {k: i for k, t in enumerate(ctx._given) for i, out in enumerate(outputs) if t is out}
        ctx._given = ()

    def __call__(self, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        ctx, saved, name = self.ctx, self.ctx._saved, self.function.__name__
        filled = [
            _core.zeros(shape, dtype=dtype, device=device) if g is None else g
            for g, (shape, dtype, device) in zip(grads, self.kinds, strict=True)
        ]
        if self.again and is_grad_enabled():
            # To be differentiated again, they come from another call that is like this one.
            same = [_core.empty(shape, dtype=dtype, device=device) for shape, dtype, device in self.kinds]
            for k, i in self.again.items():
                same[i] = ctx.saved_tensors[k]
            linked = _core._record(self.tensors, same, self)
            ctx._saved = tuple(linked[self.again[k]] if k in self.again else t for k, t in enumerate(saved))
        try:
            found = self.function.backward(ctx, *filled)
        finally:
            ctx._saved = saved
        if isinstance(found, Tensor) or found is None:
            found = (found,)
        if not isinstance(found, (tuple, list)):
            raise TypeError(f"{name}.backward gives tensors and None, not {type(found).__name__}")
        if len(found) != self.arguments:
            raise TypeError(f"{name}.backward gave {len(found)} gradients for {self.arguments} arguments")
        return tuple(found[i] for i in self.places)


def _outputs(what: str, result: Any) -> list[Tensor]:
    """What a function gave, which is a tensor or several."""
    outputs = [result] if isinstance(result, Tensor) else result
    if not isinstance(outputs, (tuple, list)) or not all(isinstance(out, Tensor) for out in outputs):
        raise TypeError(f"{what} gives a tensor or a tuple of tensors, not {type(result).__name__}")
    return list(outputs)


def checkpoint(function: Callable[..., Any], *args: Any) -> Any:
    """Call `function(*args)` without keeping what its gradient needs, and compute it again in the backward
    pass: memory for time (Chen et al., "Training deep nets with sublinear memory cost", 2016).

    Random numbers come out the same the second time. Gradients through a checkpoint cannot be differentiated
    again, and `grad` cannot ask for those of tensors that the function closes over; `backward` gives them.

    >>> import oxon as ox
    >>> x = ox.tensor([1.0, 2.0], requires_grad=True)
    >>> ox.checkpoint(lambda x: x.exp().sin(), x).sum().backward()
    >>> bool((x.grad == (x.exp().cos() * x.exp())).all())
    True
    """
    if not is_grad_enabled():
        return function(*args)
    state = _core.get_rng_state()
    regions = [
        (kind, _core.get_autocast_dtype(kind), _core.is_autocast_enabled(kind)) for kind in ("cpu", "gpu")
    ]
    cache = _core.is_autocast_cache_enabled()
    places = [i for i, a in enumerate(args) if isinstance(a, Tensor)]
    # As they are now, whatever happens to them in place.
    kept = [_core.asarray(a) if isinstance(a, Tensor) else a for a in args]
    with no_grad():
        result = function(*args)
    outputs = _outputs("checkpoint: the function", result)

    def rule(*grads: Tensor | None) -> tuple[Tensor | None, ...]:
        if is_grad_enabled():
            raise _core.GradError(
                "checkpoint: its gradient cannot be differentiated again (create_graph=True); "
                "call the function without checkpoint"
            )
        again = list(kept)
        for i in places:
            again[i] = kept[i].detach().requires_grad_(kept[i].requires_grad)
        after = _core.get_rng_state()
        _core.set_rng_state(state)
        try:
            for region in regions:  # the walk back has left them
                _core._autocast_enter(*region, cache)
            with enable_grad():
                second = function(*again)
        finally:
            for _ in regions:
                _core._autocast_exit()
            _core.set_rng_state(after)
        second = _outputs("checkpoint: the function", second)
        pairs = [(o, g) for o, g in zip(second, grads, strict=True) if g is not None and o.requires_grad]
        if pairs:
            # Parameters that the function closes over get their gradients here; arguments get theirs below.
            _core._backward([o for o, _ in pairs], [g for _, g in pairs], False, False)
        return tuple(again[i].grad for i in places)

    closed_over = any(out.dtype.is_floating_point for out in outputs)
    if closed_over and not any(kept[i].requires_grad for i in places):
        # A tensor that requires grad ties the outputs to parameters that only the function knows.
        tie = _core.zeros(0, requires_grad=True)

        def tied(*grads: Tensor | None) -> tuple[Tensor | None, ...]:
            rule(*grads)
            return (None,)

        recorded = _core._record([tie], outputs, tied)
    else:
        recorded = _core._record([kept[i] for i in places], outputs, rule)
    return recorded[0] if isinstance(result, Tensor) else tuple(recorded)


def gradcheck(
    function: Callable[..., Any],
    inputs: Tensor | Sequence[Any],
    *,
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    order: int = 1,
) -> bool:
    """Compare the gradients of `function(*inputs)` with central differences, in float64.

    `inputs` that are float tensors are taken as float64 and differentiated; the rest is passed on. With
    `order=2` the gradient's own gradient is checked as well. Raises GradError with the worst place.

    >>> import oxon as ox
    >>> ox.gradcheck(lambda x: (x * x).sin(), ox.tensor([0.5, -1.0]), order=2)
    True
    """
    given = [inputs] if isinstance(inputs, Tensor) else list(inputs)
    places = [i for i, a in enumerate(given) if isinstance(a, Tensor) and a.dtype.is_floating_point]
    base = list(given)
    for i in places:
        base[i] = given[i].detach().double()
    if order > 1:

        def first(*args: Any) -> Any:
            leaves = [args[i] for i in places]
            out = _weighted(function(*args))
            found = grad(out, leaves, create_graph=True, allow_unused=True)
            return [g for g in found if g is not None and g.requires_grad]

        gradcheck(function, inputs, eps=eps, atol=atol, rtol=rtol)
        return _check(first, base, places, eps, atol, rtol, "second-order gradient")
    return _check(function, base, places, eps, atol, rtol, "gradient")


def _weighted(result: Any) -> Tensor:
    """All outputs as one number, each element with a weight of its own, so that no mistake cancels."""
    outputs = [result] if isinstance(result, Tensor) else list(result)
    total = _core.zeros((), dtype=_core.float64)
    for n, out in enumerate(outputs):
        if isinstance(out, Tensor) and out.dtype.is_floating_point:
            count = out.numel()
            spread = _core.arange(count, dtype=_core.float64) * 0.7548776662 + 0.5698 * (n + 1)
            total = total + (out.reshape(count) * (spread % 1.0 + 0.5)).sum()
    return total


def _check(
    function: Callable[..., Any],
    base: list[Any],
    places: list[int],
    eps: float,
    atol: float,
    rtol: float,
    what: str,
) -> bool:
    leaves = list(base)
    for i in places:
        leaves[i] = base[i].clone().requires_grad_()
    out = _weighted(function(*leaves))
    if not out.requires_grad:
        return True
    found = grad(out, [leaves[i] for i in places], allow_unused=True)
    for i, g in zip(places, found, strict=True):
        flat = base[i].reshape(-1)
        analytic = _core.zeros_like(flat) if g is None else g.reshape(-1)
        have = analytic.tolist()
        for k in range(flat.numel()):
            step = _core.zeros_like(flat)
            step[k] = eps
            ends = []
            for sign in (1.0, -1.0):
                moved = list(base)
                moved[i] = (flat + step * sign).reshape(base[i].shape)
                for j in places:
                    # Second order: the function differentiates its arguments itself.
                    moved[j] = moved[j].clone().requires_grad_()
                ends.append(_weighted(function(*moved)).item())
            want = (ends[0] - ends[1]) / (2 * eps)
            if not abs(have[k] - want) <= atol + rtol * abs(want):
                raise _core.GradError(
                    f"gradcheck: the {what} of input {i} at element {k} is {have[k]!r}, "
                    f"central differences give {want!r}"
                )
    return True
