"""Optimizer, the base: parameter groups, state and the loop over parameters. A subclass is its `update`."""

from __future__ import annotations

from collections import defaultdict

from .._core import Tensor, flush, tensor, zeros_like
from ..autograd import enable_grad, no_grad

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    Params = Iterable[Tensor] | Iterable[dict[str, Any]]


class Optimizer:
    """The base class of optimizers.

    A subclass hands its default options to `__init__` and defines `update`, in tensor operations:
    they are recorded for one parameter after the other and run together. A rule that is `ox.fused`
    costs one operation a parameter, however many it consists of.

    >>> class SignSGD(optim.Optimizer):
    ...     def __init__(self, params, lr=0.1):
    ...         super().__init__(params, {"lr": lr})
    ...
    ...     def update(self, p, g, state, group):
    ...         p.copy_(self.rule(p, g, group["lr"]))
    ...
    ...     rule = staticmethod(ox.fused(lambda p, g, lr: p - lr * g.sign()))
    >>> w = nn.Parameter(ox.tensor([3.0, -4.0]))
    >>> (w * w).sum().backward()
    >>> SignSGD([w], lr=1.0).step()
    >>> w.tolist()
    [2.0, -3.0]

    Args:
        params: tensors, or dicts with "params" and options that differ from the defaults.
        defaults: the options of every group that does not set its own.

    Attributes:
        param_groups: one dict a group, with "params" and every option; schedules change "lr" here.
        state: what `update` keeps for each parameter.
    """

    def __init__(self, params: Params, defaults: dict[str, Any]) -> None:
        self.defaults = defaults
        self.param_groups: list[dict[str, Any]] = []
        self.state: defaultdict[Tensor, dict[str, Any]] = defaultdict(dict)
        if isinstance(params, (Tensor, dict)):
            raise TypeError(
                f"params must be an iterable of tensors or of dicts, not one {type(params).__name__}: "
                "put it into a list"
            )
        if hasattr(params, "parameters"):
            raise TypeError(
                f"params must be an iterable of tensors, not a {type(params).__name__}: pass its parameters()"
            )
        given: list[Any] = list(params)
        if not given:
            raise ValueError("the optimizer got no parameters")
        for group in given if isinstance(given[0], dict) else [{"params": given}]:
            self.add_param_group(group)

    def add_param_group(self, group: dict[str, Any]) -> None:
        """Optimize more parameters, with options of their own.

        Args:
            group: "params", a tensor or an iterable of tensors, and any options.
        """
        if not isinstance(group, dict) or "params" not in group:
            raise TypeError(f"a parameter group must be a dict with 'params', not {type(group).__name__}")
        params = group["params"]
        if isinstance(params, (set, frozenset)):
            raise TypeError("parameters must come in an order, which a set has not: pass a list")
        params = [params] if isinstance(params, Tensor) else list(params)
        known = {id(p) for other in self.param_groups for p in other["params"]}
        for p in params:
            if not isinstance(p, Tensor):
                raise TypeError(f"an optimizer changes tensors, not {type(p).__name__}")
            if not p.is_leaf:
                raise ValueError(f"cannot optimize a tensor {tuple(p.shape)} that is computed from others")
            if id(p) in known:
                raise ValueError(f"a parameter {tuple(p.shape)} is given to the optimizer twice")
            known.add(id(p))
        full = {**self.defaults, **group, "params": params}
        self.check(full)
        self.param_groups.append(full)

    def check(self, group: dict[str, Any]) -> None:
        """Raise ValueError if an option of a group is out of its range; subclasses add their own."""
        for name in ("lr", "eps", "weight_decay", "momentum"):
            if not group.get(name, 0.0) >= 0.0:
                raise ValueError(f"{type(self).__name__}: {name} must not be negative, not {group[name]}")
        for beta in group.get("betas", ()):
            if not 0.0 <= beta < 1.0:
                raise ValueError(f"{type(self).__name__}: betas must lie in [0, 1), not {group['betas']}")

    def update(self, p: Tensor, g: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        """Change one parameter; runs without recording gradients. Subclasses define it.

        Args:
            p: the parameter, to be given its new value by `p.copy_`.
            g: its gradient, negated if the group says `maximize`.
            state: the parameter's own dict, empty at first; numbers and tensors.
            group: the options.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define update()")

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Change every parameter that has a gradient.

        Args:
            closure: computes the loss and its gradients again; called first.

        Returns:
            What `closure` returned, or None.
        """
        loss = None
        if closure is not None:
            with enable_grad():
                loss = closure()
        changed: list[Tensor] = []
        with no_grad():
            for group in self.param_groups:
                maximize = group.get("maximize", False)
                for p in group["params"]:
                    g = p.grad
                    if g is None:
                        continue
                    self.update(p, -g if maximize else g, self.state[p], group)
                    changed.append(p)
        # With its parameters goes the state that they are made of.
        flush(changed)
        return loss

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients of every parameter, or fill them with zeros."""
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    p.grad = None if set_to_none else zeros_like(p.grad)

    def state_dict(self) -> dict[str, Any]:
        """The state and the options, with parameters as numbers in their order: PyTorch's form.

        Tensors are values, so the result is a snapshot that later steps do not change.
        """
        numbers: dict[int, int] = {}
        for group in self.param_groups:
            for p in group["params"]:
                numbers[id(p)] = len(numbers)
        return {
            "state": {numbers[id(p)]: dict(state) for p, state in self.state.items()},
            "param_groups": [
                {**group, "params": [numbers[id(p)] for p in group["params"]]} for group in self.param_groups
            ],
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over the state and the options from `state_dict()`, onto the parameters in their order.

        State tensors are cast to their parameter's dtype and device.

        Raises:
            ValueError: when the numbers of groups or of parameters in them, or shapes, differ.
        """
        saved = state_dict["param_groups"]
        sizes = [len(group["params"]) for group in self.param_groups]
        if sizes != [len(group["params"]) for group in saved]:
            raise ValueError(
                f"the state dict has parameter groups of {[len(g['params']) for g in saved]} tensors, "
                f"the optimizer of {sizes}"
            )
        params: dict[int, Tensor] = {}
        for group, saved_group in zip(self.param_groups, saved, strict=True):
            params.update(zip(saved_group["params"], group["params"], strict=True))
        state = {
            params[number]: {name: _restored(name, value, params[number]) for name, value in values.items()}
            for number, values in state_dict["state"].items()
        }
        for group, saved_group in zip(self.param_groups, saved, strict=True):
            group.update({name: value for name, value in saved_group.items() if name != "params"})
        self.state = defaultdict(dict, state)

    def __repr__(self) -> str:
        lines = [f"{type(self).__name__} ("]
        for number, group in enumerate(self.param_groups):
            lines.append(f"Parameter Group {number}")
            lines += [f"    {name}: {group[name]}" for name in sorted(group) if name != "params"]
        return "\n".join(lines) + "\n)"


def _restored(name: str, value: Any, p: Tensor) -> Any:
    """A saved entry as `update` expects it: the step as an integer, arrays as tensors like the parameter."""
    if name == "step":
        return int(value)
    if not hasattr(value, "shape"):
        return value
    value = value.detach() if isinstance(value, Tensor) else tensor(value)
    if value.ndim and value.shape != p.shape:
        raise ValueError(f"the state {name!r} is {tuple(value.shape)} for a parameter {tuple(p.shape)}")
    return value.to(p.device).to(p.dtype) if value.dtype.is_floating_point else value.to(p.device)
