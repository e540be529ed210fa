"""Module, the base of every layer and model: a tree of attributes with parameters at its leaves.

A module *is* its attributes. Parameters are the attributes that are a `Parameter`, children those
that are a `Module`; only buffers need a list of names. So nothing has to be kept in step, reading
an attribute costs what it costs in any Python object, and `super().__init__()` is optional.
"""

from __future__ import annotations

import itertools

from .._core import Tensor, zeros_like
from ..autograd import no_grad
from ._hooks import BackwardHooks
from ._messages import as_tensor, describe_mismatch, note_module
from .parameter import Parameter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import Any, Self

    from .._core import dtype as DType


class RemovableHandle:
    """Returned when a hook is registered: `remove()` takes the hook off again.

    It is also a context manager that removes the hook on leaving.
    """

    _ids = itertools.count()

    def __init__(self, hooks: dict[int, Any]) -> None:
        self._hooks = hooks
        self.id = next(RemovableHandle._ids)

    def remove(self) -> None:
        """Remove the hook; removing twice is allowed."""
        self._hooks.pop(self.id, None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.remove()


class IncompatibleKeys(tuple[list[str], list[str]]):
    """What `load_state_dict(strict=False)` could not match: `missing_keys` and `unexpected_keys`."""

    __slots__ = ()

    def __new__(cls, missing_keys: list[str], unexpected_keys: list[str]) -> Self:
        return super().__new__(cls, (missing_keys, unexpected_keys))

    @property
    def missing_keys(self) -> list[str]:
        """Keys that the model has and the state dict has not."""
        return self[0]

    @property
    def unexpected_keys(self) -> list[str]:
        """Keys that the state dict has and the model has not."""
        return self[1]

    def __repr__(self) -> str:
        if not self[0] and not self[1]:
            return "<All keys matched successfully>"
        return f"IncompatibleKeys(missing_keys={self[0]}, unexpected_keys={self[1]})"


class Module:
    """The base class of layers and models. Subclasses set attributes and define `forward`.

    Calling a module runs its hooks and `forward`. An exception raised inside gets a note that says
    in which module, for example `in model.2 Linear(128, 10)`, where `model` is the module that was
    called first.

    >>> class Net(nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.hidden = nn.Linear(4, 8)
    ...         self.out = nn.Linear(8, 2)
    ...
    ...     def forward(self, x):
    ...         return self.out(self.hidden(x).relu())
    >>> net = Net()
    >>> net(ox.ones(3, 4)).shape
    (3, 2)
    >>> list(net.state_dict())
    ['hidden.weight', 'hidden.bias', 'out.weight', 'out.bias']
    """

    # Class-level defaults; an instance gets dictionaries of its own when it first needs them.
    training: bool = True
    _buffers: Mapping[str, bool] = {}  # name -> persistent
    _forward_pre_hooks: Mapping[int, tuple[Callable[..., Any], bool]] = {}  # id -> hook, with_kwargs
    _forward_hooks: Mapping[int, tuple[Callable[..., Any], bool]] = {}
    _backward_pre_hooks: Mapping[int, Callable[..., Any]] = {}
    _backward_hooks: Mapping[int, Callable[..., Any]] = {}

    def __init__(self) -> None:
        pass

    # -- calling -------------------------------------------------------------------------------

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the module computes. Every subclass defines it; call the module itself to run it."""
        raise NotImplementedError(f"{type(self).__name__} does not define forward()")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        try:
            if not (
                self._forward_pre_hooks
                or self._forward_hooks
                or self._backward_hooks
                or self._backward_pre_hooks
            ):
                return self.forward(*args, **kwargs)
            return self._call_with_hooks(args, kwargs)
        except Exception as error:
            note_module(error, self)
            raise

    def _call_with_hooks(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        for hook, with_kwargs in list(self._forward_pre_hooks.values()):
            if with_kwargs:
                changed = hook(self, args, kwargs)
                if changed is not None:
                    args, kwargs = changed
            else:
                changed = hook(self, args)
                if changed is not None:
                    args = changed if isinstance(changed, tuple) else (changed,)
        backward = None
        if self._backward_hooks or self._backward_pre_hooks:
            backward = BackwardHooks(
                self, list(self._backward_pre_hooks.values()), list(self._backward_hooks.values())
            )
            args = backward.on_inputs(args)
        output = self.forward(*args, **kwargs)
        for hook, with_kwargs in list(self._forward_hooks.values()):
            changed = hook(self, args, kwargs, output) if with_kwargs else hook(self, args, output)
            if changed is not None:
                output = changed
        return output if backward is None else backward.on_output(output)

    def register_forward_pre_hook(
        self, hook: Callable[..., Any], *, prepend: bool = False, with_kwargs: bool = False
    ) -> RemovableHandle:
        """Call `hook(module, args)` before every `forward`; what it returns replaces `args`.

        Returning None keeps them. With `with_kwargs` it is called as `hook(module, args, kwargs)` and
        returns None or both.
        """
        return self._add_hook("_forward_pre_hooks", (hook, with_kwargs), prepend)

    def register_forward_hook(
        self, hook: Callable[..., Any], *, prepend: bool = False, with_kwargs: bool = False
    ) -> RemovableHandle:
        """Call `hook(module, args, output)` after every `forward`; what it returns replaces `output`.

        Returning None keeps it. With `with_kwargs` it is called as `hook(module, args, kwargs, output)`.

        >>> layer = nn.Linear(4, 2)
        >>> shapes = []
        >>> handle = layer.register_forward_hook(lambda module, args, output: shapes.append(output.shape))
        >>> _ = layer(ox.ones(3, 4))
        >>> handle.remove()
        >>> shapes
        [(3, 2)]
        """
        return self._add_hook("_forward_hooks", (hook, with_kwargs), prepend)

    def register_full_backward_hook(self, hook: Callable[..., Any], prepend: bool = False) -> RemovableHandle:
        """Call `hook(module, grad_input, grad_output)` when the gradients of a call have been computed.

        Both are tuples, one entry for each positional argument and each output, None where there is no
        gradient. What the hook returns replaces `grad_input`; returning None keeps it. Outputs must be a
        tensor or a tuple or list of them.

        >>> layer = nn.Linear(2, 1)
        >>> seen = []
        >>> handle = layer.register_full_backward_hook(lambda module, inputs, outputs: seen.append(outputs))
        >>> layer(ox.ones(1, 2, requires_grad=True)).sum().backward()
        >>> seen[0][0].tolist()
        [[1.0]]
        """
        return self._add_hook("_backward_hooks", hook, prepend)

    def register_full_backward_pre_hook(
        self, hook: Callable[..., Any], prepend: bool = False
    ) -> RemovableHandle:
        """Call `hook(module, grad_output)` before the gradients of a call are computed.

        `grad_output` is as for `register_full_backward_hook`; what the hook returns replaces it.
        """
        return self._add_hook("_backward_pre_hooks", hook, prepend)

    def _add_hook(self, kind: str, entry: Any, prepend: bool) -> RemovableHandle:
        hooks = self.__dict__.setdefault(kind, {})
        handle = RemovableHandle(hooks)
        others = dict(hooks) if prepend else {}
        if prepend:
            hooks.clear()
        hooks[handle.id] = entry
        hooks.update(others)
        return handle

    # -- attributes ----------------------------------------------------------------------------

    def __setattr__(self, name: str, value: Any) -> None:
        old = self.__dict__.get(name)
        if isinstance(old, Parameter) and isinstance(value, Tensor) and not isinstance(value, Parameter):
            raise TypeError(
                f"{type(self).__name__}.{name} is a parameter and cannot become a plain tensor: "
                f"write nn.Parameter(value) for a new parameter, or {name}.copy_(value) for a new value"
            )
        if name in self._buffers and value is not None and not isinstance(value, Tensor):
            raise TypeError(f"{type(self).__name__}.{name} is a buffer and takes a tensor or None")
        object.__setattr__(self, name, value)

    def __delattr__(self, name: str) -> None:
        object.__delattr__(self, name)
        if name in self._buffers:
            self._buffers = {key: value for key, value in self._buffers.items() if key != name}

    def register_buffer(self, name: str, value: Tensor | None, persistent: bool = True) -> None:
        """Set `value` as attribute `name` that moves with the module but is not learned.

        Args:
            name: the attribute's name, without dots.
            value: a tensor, or None for a buffer that is absent from the state dict.
            persistent: whether the state dict holds it.
        """
        if value is not None and not isinstance(value, Tensor):
            raise TypeError(f"buffer {name!r} must be a tensor or None, not {type(value).__name__}")
        self._check_name(name, "buffer")
        self._buffers = {**self._buffers, name: persistent}
        self.__dict__[name] = value

    def register_parameter(self, name: str, value: Parameter | None) -> None:
        """Set `value` as the parameter `name`; the same as assigning the attribute."""
        if value is not None and not isinstance(value, Parameter):
            raise TypeError(f"parameter {name!r} must be an nn.Parameter or None, not {type(value).__name__}")
        self._check_name(name, "parameter")
        setattr(self, name, value)

    def add_module(self, name: str, module: Module | None) -> None:
        """Set `module` as the child `name`; the same as assigning the attribute, for names such as '0'."""
        if module is not None and not isinstance(module, Module):
            raise TypeError(f"child {name!r} must be a Module or None, not {type(module).__name__}")
        self._check_name(name, "child")
        setattr(self, name, module)

    register_module = add_module

    def _check_name(self, name: str, what: str) -> None:
        if not isinstance(name, str):
            raise TypeError(f"the name of a {what} must be a str, not {type(name).__name__}")
        if not name or "." in name:
            raise KeyError(f"the name of a {what} must not be empty or hold a dot: {name!r}")
        taken = self.__dict__.get(name, getattr(type(self), name, None))
        if taken is not None and not isinstance(taken, (Tensor, Module)):
            raise KeyError(f"{type(self).__name__} already has an attribute {name!r}")

    # -- walking the tree ----------------------------------------------------------------------

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """The children as `(name, module)`, each module once, in the order of assignment."""
        seen = set()
        for name, value in self.__dict__.items():
            if isinstance(value, Module) and id(value) not in seen:
                seen.add(id(value))
                yield name, value

    def children(self) -> Iterator[Module]:
        """The modules that are attributes of this one."""
        return (module for _, module in self.named_children())

    def named_modules(
        self, memo: set[int] | None = None, prefix: str = "", remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Module]]:
        """This module (named by `prefix`) and all below it, parents first, as `(dotted path, module)`.

        >>> [path for path, _ in nn.Sequential(nn.Sequential(nn.ReLU()), nn.ReLU()).named_modules()]
        ['', '0', '0.0', '1']
        """
        memo = set() if memo is None else memo
        if remove_duplicate:
            if id(self) in memo:
                return
            memo.add(id(self))
        yield prefix, self
        for name, value in list(self.__dict__.items()):
            if isinstance(value, Module):
                yield from value.named_modules(memo, f"{prefix}.{name}" if prefix else name, remove_duplicate)

    def modules(self) -> Iterator[Module]:
        """This module and all below it, each once."""
        return (module for _, module in self.named_modules())

    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Parameter]]:
        """The parameters as `(dotted path, parameter)`; a shared one is given once, under its first path."""
        return self._named_tensors(
            lambda module: [item for item in module.__dict__.items() if isinstance(item[1], Parameter)],
            prefix,
            recurse,
            remove_duplicate,
        )

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        """The parameters, which is what an optimizer takes."""
        return (parameter for _, parameter in self.named_parameters(recurse=recurse))

    def named_buffers(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Tensor]]:
        """The buffers as `(dotted path, tensor)`, persistent or not."""
        return self._named_tensors(
            lambda module: [(name, module.__dict__.get(name)) for name in module._buffers],
            prefix,
            recurse,
            remove_duplicate,
        )

    def buffers(self, recurse: bool = True) -> Iterator[Tensor]:
        """The buffers, persistent or not."""
        return (buffer for _, buffer in self.named_buffers(recurse=recurse))

    def _named_tensors(
        self,
        own: Callable[[Module], list[tuple[str, Any]]],
        prefix: str,
        recurse: bool,
        remove_duplicate: bool,
    ) -> Iterator[tuple[str, Any]]:
        modules = self.named_modules(None, prefix, remove_duplicate) if recurse else iter([(prefix, self)])
        seen = set()
        for path, module in modules:
            for name, value in own(module):
                if value is None or (remove_duplicate and id(value) in seen):
                    continue
                seen.add(id(value))
                yield f"{path}.{name}" if path else name, value

    def get_submodule(self, target: str) -> Module:
        """The module at a dotted path; the empty path is this module.

        Raises:
            AttributeError: when the path does not lead to a module.
        """
        found = self._lookup(target)
        if not isinstance(found, Module):
            raise AttributeError(f"{type(self).__name__}: {target!r} is not a module")
        return found

    def get_parameter(self, target: str) -> Parameter:
        """The parameter at a dotted path. Raises AttributeError when there is none."""
        found = self._lookup(target)
        if not isinstance(found, Parameter):
            raise AttributeError(f"{type(self).__name__}: {target!r} is not a parameter")
        return found

    def get_buffer(self, target: str) -> Tensor:
        """The buffer at a dotted path. Raises AttributeError when there is none."""
        path, _, name = target.rpartition(".")
        found = self._lookup(target)
        if name not in self.get_submodule(path)._buffers or not isinstance(found, Tensor):
            raise AttributeError(f"{type(self).__name__}: {target!r} is not a buffer")
        return found

    def _lookup(self, target: str) -> Any:
        found: Any = self
        for depth, name in enumerate(target.split(".") if target else []):
            if name not in getattr(found, "__dict__", {}):
                parent = ".".join(target.split(".")[:depth]) or type(self).__name__
                raise AttributeError(
                    f"{type(self).__name__}: no {target!r}, because {parent} has no {name!r}"
                )
            found = found.__dict__[name]
        return found

    # -- state ---------------------------------------------------------------------------------

    def _named_state(self) -> Iterator[tuple[str, Tensor]]:
        """Parameters and persistent buffers under all their names, in PyTorch's order."""
        for path, module in self.named_modules(remove_duplicate=False):
            dot = f"{path}." if path else ""
            for name, value in module.__dict__.items():
                if isinstance(value, Parameter):
                    yield dot + name, value
            for name, persistent in module._buffers.items():
                value = module.__dict__.get(name)
                if persistent and value is not None:
                    yield dot + name, value

    def state_dict(self, *, prefix: str = "", keep_vars: bool = False) -> dict[str, Tensor]:
        """Parameters and persistent buffers by dotted path: PyTorch's keys, order and layouts.

        Tensors are values, so the result is a snapshot that later training does not change.

        Args:
            prefix: put before every key.
            keep_vars: give the parameters themselves instead of detached tensors.
        """
        return {prefix + key: value if keep_vars else value.detach() for key, value in self._named_state()}

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True) -> IncompatibleKeys:
        """Copy the values of `state_dict`, cast to each parameter's dtype and device, into the module.

        Everything is checked before anything is written, so a failed load changes nothing.

        Args:
            state_dict: tensors or arrays by dotted path, as `state_dict()` gives and `ox.load` reads.
            strict: whether a missing or unexpected key is an error; a wrong shape always is.

        Raises:
            RuntimeError: names the missing and unexpected keys and the shapes that differ.
        """
        if not hasattr(state_dict, "keys"):
            raise TypeError(f"load_state_dict takes tensors by name, not {type(state_dict).__name__}")
        own = dict(self._named_state())
        missing = [key for key in own if key not in state_dict]
        unexpected = [key for key in state_dict if key not in own]
        values = {key: as_tensor(key, state_dict[key]) for key in own if key in state_dict}
        problems = describe_mismatch(own, values, missing if strict else [], unexpected if strict else [])
        if problems:
            raise RuntimeError(f"load_state_dict of {type(self).__name__}:\n" + "\n".join(problems))
        with no_grad():
            for key, value in values.items():
                own[key].copy_(value)
        return IncompatibleKeys(missing, unexpected)

    # -- changing all of it --------------------------------------------------------------------

    def train(self, mode: bool = True) -> Self:
        """Switch this module and all below it to training (dropout drops, batch norm uses the batch)."""
        for module in self.modules():
            module.training = bool(mode)
        return self

    def eval(self) -> Self:
        """Switch this module and all below it to evaluation; the same as `train(False)`."""
        return self.train(False)

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Freeze or unfreeze every parameter."""
        for parameter in self.parameters():
            parameter.requires_grad_(requires_grad)
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients of every parameter, or fill them with zeros."""
        for parameter in self.parameters():
            if parameter.grad is not None:
                parameter.grad = None if set_to_none else zeros_like(parameter.grad)

    def apply(self, function: Callable[[Module], object]) -> Self:
        """Call `function` on every module, children first, which is how weights are initialised by hand.

        >>> def init(module):
        ...     if isinstance(module, nn.Linear):
        ...         nn.init.zeros_(module.weight)
        >>> nn.Sequential(nn.Linear(2, 1, bias=False)).apply(init)[0].weight.tolist()
        [[0.0, 0.0]]
        """
        for child in self.children():
            child.apply(function)
        function(self)
        return self

    def to(self, *args: Any, device: Any = None, dtype: DType | None = None) -> Self:
        """Move the parameters and buffers to a device, cast the floating-point ones to a dtype, or both.

        `to("gpu")`, `to(ox.float16)`, `to("gpu", ox.float16)`, `to(tensor)` for both of a tensor's, and
        the keywords are all accepted.
        Parameters keep their identity, so an optimizer made before still holds them.
        """
        for argument in args:
            if isinstance(argument, Tensor):
                device, dtype = argument.device, argument.dtype
            elif isinstance(argument, str):
                device = argument
            else:
                dtype = argument
        if dtype is not None and not dtype.is_floating_point:
            raise TypeError(f"Module.to casts to floating-point dtypes only, not to {dtype}")

        def move(value: Tensor) -> Tensor:
            if device is not None:
                value = value.to(device)
            if dtype is not None and value.dtype.is_floating_point:
                value = value.to(dtype)
            return value

        return self._apply(move)

    def _apply(self, function: Callable[[Tensor], Tensor]) -> Self:
        for value in [*self.parameters(), *self.buffers()]:
            grad = value.grad
            value.data = function(value.data)
            if grad is not None:
                value.grad = function(grad)
        return self

    def cpu(self) -> Self:
        """Move the parameters and buffers to the CPU."""
        return self.to(device="cpu")

    def float(self) -> Self:
        """Cast the floating-point parameters and buffers to float32."""
        return self._apply(lambda value: value.float() if value.dtype.is_floating_point else value)

    def double(self) -> Self:
        """Cast the floating-point parameters and buffers to float64."""
        return self._apply(lambda value: value.double() if value.dtype.is_floating_point else value)

    def half(self) -> Self:
        """Cast the floating-point parameters and buffers to float16."""
        return self._apply(lambda value: value.half() if value.dtype.is_floating_point else value)

    def bfloat16(self) -> Self:
        """Cast the floating-point parameters and buffers to bfloat16."""
        return self._apply(lambda value: value.bfloat16() if value.dtype.is_floating_point else value)

    # -- showing -------------------------------------------------------------------------------

    def extra_repr(self) -> str:
        """What stands between the parentheses in the repr, before the children."""
        return ""

    def _child_lines(self) -> list[str]:
        return [
            f"({name}): {_indent(repr(value))}"
            for name, value in self.__dict__.items()
            if isinstance(value, Module)
        ]

    def __repr__(self) -> str:
        extra = self.extra_repr()
        lines = extra.split("\n") if extra else []
        children = self._child_lines()
        if not children and len(lines) <= 1:
            return f"{type(self).__name__}({extra})"
        body = "".join(f"\n  {line}" for line in lines + children)
        return f"{type(self).__name__}({body}\n)"

    def summary(self, input_shape: Any = None, **options: Any) -> Any:
        """A table of layers, output shapes and parameter counts; see `oxon.train.summary`.

        Args:
            input_shape: the shape of one example without the batch axis, or several for several inputs.
        """
        from ..train.summary import summary

        return summary(self, input_shape, **options)


def _indent(text: str) -> str:
    return text.replace("\n", "\n  ")
