"""Backward hooks of modules: where the gradients of a call's inputs and outputs pass by. The other hooks are
plain function calls and live in `module`."""

from __future__ import annotations

from .._core import Tensor, _record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from .module import Module

    Hook = Callable[..., Any]


class BackwardHooks:
    """The backward hooks of one call of a module.

    Inputs and outputs go through an identity each whose gradient rule is here. The outputs' comes first and
    leaves the gradients for the inputs', which calls the hooks.
    """

    def __init__(self, module: Module, pre_hooks: Sequence[Hook], hooks: Sequence[Hook]) -> None:
        self.module = module
        self.pre_hooks = pre_hooks
        self.hooks = hooks
        self.grad_output: tuple[Tensor | None, ...] = ()
        self.count = 0  # of arguments
        # Without an input that requires grad, the hooks are called when the outputs' gradients are known.
        self.at_outputs = True

    def on_inputs(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """The arguments, tied to the rule of the inputs."""
        places = _places(args)
        self.count, self.at_outputs = len(args), not places
        if not places:
            return args

        def rule(*grads: Tensor | None) -> tuple[Tensor | None, ...]:
            found = self._call_hooks(_spread(places, grads, len(args)))
            return tuple(found[i] for i in places)

        return _tied(args, places, rule)

    def on_output(self, output: Any) -> Any:
        """The output, tied to the rule of the outputs."""
        outputs = output if isinstance(output, (tuple, list)) else (output,)
        places = _places(outputs)
        if not places:
            return output

        def rule(*grads: Tensor | None) -> tuple[Tensor | None, ...]:
            found = _spread(places, grads, len(outputs))
            for hook in self.pre_hooks:
                found = _replaced("register_full_backward_pre_hook", found, hook(self.module, found))
            self.grad_output = found
            if self.at_outputs:
                self._call_hooks((None,) * self.count)
            return tuple(found[i] for i in places)

        tied = _tied(tuple(outputs), places, rule)
        if isinstance(output, Tensor):
            return tied[0]
        return type(output)(*tied) if hasattr(output, "_fields") else type(output)(tied)

    def _call_hooks(self, grad_input: tuple[Tensor | None, ...]) -> tuple[Tensor | None, ...]:
        for hook in self.hooks:
            changed = hook(self.module, grad_input, self.grad_output)
            grad_input = _replaced("register_full_backward_hook", grad_input, changed)
        return grad_input


def _places(values: Sequence[Any]) -> list[int]:
    return [i for i, value in enumerate(values) if isinstance(value, Tensor) and value.requires_grad]


def _tied(values: tuple[Any, ...], places: list[int], rule: Callable[..., Any]) -> tuple[Any, ...]:
    """The values, those at `places` with `rule` for their gradient."""
    tensors = [values[i] for i in places]
    tied = dict(zip(places, _record(tensors, tensors, rule), strict=True))
    return tuple(tied.get(i, value) for i, value in enumerate(values))


def _spread(places: list[int], grads: Sequence[Tensor | None], count: int) -> tuple[Tensor | None, ...]:
    """Gradients as one for each value, None for those that have none."""
    by_place = dict(zip(places, grads, strict=True))
    return tuple(by_place.get(i) for i in range(count))


def _replaced(name: str, grads: tuple[Tensor | None, ...], changed: Any) -> tuple[Tensor | None, ...]:
    """The gradients that a hook gave, or those that it was given."""
    if changed is None:
        return grads
    found: tuple[Tensor | None, ...] = (changed,) if isinstance(changed, Tensor) else tuple(changed)
    if len(found) != len(grads):
        raise ValueError(f"{name}: the hook gave {len(found)} gradients for {len(grads)}")
    return found
