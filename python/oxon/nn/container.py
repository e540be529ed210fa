"""Modules that hold modules or parameters: Sequential, ModuleList, ModuleDict, ParameterList; Identity."""

from __future__ import annotations

from .module import Module, _indent
from .parameter import Parameter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from typing import Any, Self, overload

    from .._core import Tensor


class Identity(Module):
    """Returns its input; takes and ignores any arguments, to stand where a layer was.

    >>> nn.Identity(54, unused=0.1)(ox.ones(2, 3)).shape
    (2, 3)
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        return x


class _Indexed(Module):
    """A list of children: what Sequential and ModuleList share. Children are named by position."""

    def _items(self) -> list[tuple[str, Module]]:
        return [(name, value) for name, value in self.__dict__.items() if isinstance(value, Module)]

    def _replace(self, modules: Iterable[Module]) -> None:
        """Make `modules` the children, named from '0' on."""
        for name, _ in self._items():
            object.__delattr__(self, name)
        self.extend(modules)

    def _name_at(self, index: int) -> str:
        items = self._items()
        if not -len(items) <= index < len(items):
            raise IndexError(
                f"index {index} is out of range for {type(self).__name__} of length {len(items)}"
            )
        return items[index][0]

    def __len__(self) -> int:
        return len(self._items())

    def __iter__(self) -> Iterator[Module]:
        return iter([module for _, module in self._items()])

    def __contains__(self, module: object) -> bool:
        return any(child is module for child in self)

    if TYPE_CHECKING:

        @overload
        def __getitem__(self, index: int) -> Any: ...
        @overload
        def __getitem__(self, index: slice) -> Self: ...

    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            part = type(self)()
            for name, module in self._items()[index]:
                part.add_module(name, module)
            return part
        return self.__dict__[self._name_at(index)]

    def __setitem__(self, index: int, module: Module) -> None:
        self.add_module(self._name_at(index), _checked(module, self))

    def __delitem__(self, index: int | slice) -> None:
        kept = list(self)
        del kept[index]
        self._replace(kept)

    def append(self, module: Module) -> Self:
        """Add a module at the end."""
        self.add_module(str(len(self)), _checked(module, self))
        return self

    def extend(self, modules: Iterable[Module]) -> Self:
        """Add modules at the end."""
        for module in modules:
            self.append(module)
        return self

    def insert(self, index: int, module: Module) -> Self:
        """Put a module before position `index`; the later ones move up."""
        modules = list(self)
        modules.insert(index, _checked(module, self))
        self._replace(modules)
        return self

    def pop(self, index: int = -1) -> Module:
        """Take the module at `index` out and return it."""
        module: Module = self[index]
        del self[index]
        return module


def _checked(module: Module, owner: Module) -> Module:
    if not isinstance(module, Module):
        hint = f"; pass an instance, {module.__name__}(...)" if isinstance(module, type) else ""
        raise TypeError(f"{type(owner).__name__} holds modules, not {type(module).__name__}{hint}")
    return module


class Sequential(_Indexed):
    """Runs its modules one after the other, each on the output of the one before.

    Args:
        modules: the modules in order, or one dict of modules by name.

    >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    >>> model(ox.ones(3, 4)).shape
    (3, 2)
    >>> model[0]
    Linear(in_features=4, out_features=8, bias=True)
    """

    def __init__(self, *modules: Module | Mapping[str, Module]) -> None:
        super().__init__()
        if len(modules) == 1 and not isinstance(modules[0], Module) and hasattr(modules[0], "items"):
            for name, module in modules[0].items():
                self.add_module(name, _checked(module, self))
        else:
            self.extend(modules)  # type: ignore[arg-type]  # which checks them

    def forward(self, x: Any) -> Any:
        for module in self:
            x = module(x)
        return x


class ModuleList(_Indexed):
    """A list of modules whose parameters belong to the owner; it has no `forward` of its own.

    >>> layers = nn.ModuleList(nn.Linear(3, 3) for _ in range(2))
    >>> len(layers), [name for name, _ in layers.named_parameters()]
    (2, ['0.weight', '0.bias', '1.weight', '1.bias'])
    """

    def __init__(self, modules: Iterable[Module] = ()) -> None:
        super().__init__()
        self.extend(modules)

    def _child_lines(self) -> list[str]:
        """Neighbours with the same repr are written once, as PyTorch writes them."""
        runs: list[tuple[str, int, int]] = []
        for position, module in enumerate(self):
            text = repr(module)
            if runs and runs[-1][0] == text:
                runs[-1] = (text, runs[-1][1], position)
            else:
                runs.append((text, position, position))
        return [
            f"({first}): {_indent(text)}"
            if first == last
            else f"({first}-{last}): {last - first + 1} x {_indent(text)}"
            for text, first, last in runs
        ]


class ModuleDict(Module):
    """A dict of modules whose parameters belong to the owner.

    >>> heads = nn.ModuleDict({"small": nn.Linear(4, 2), "large": nn.Linear(4, 9)})
    >>> heads["large"](ox.ones(1, 4)).shape
    (1, 9)
    """

    def __init__(self, modules: Mapping[str, Module] | Iterable[tuple[str, Module]] = ()) -> None:
        super().__init__()
        self.update(modules)

    def _items(self) -> dict[str, Module]:
        return {name: value for name, value in self.__dict__.items() if isinstance(value, Module)}

    def update(self, modules: Mapping[str, Module] | Iterable[tuple[str, Module]]) -> None:
        """Set every item of a mapping or of an iterable of pairs."""
        for name, module in dict(modules).items():
            self[name] = module

    def keys(self) -> Iterable[str]:
        """The names."""
        return self._items().keys()

    def values(self) -> Iterable[Module]:
        """The modules."""
        return self._items().values()

    def items(self) -> Iterable[tuple[str, Module]]:
        """The `(name, module)` pairs."""
        return self._items().items()

    def pop(self, name: str) -> Module:
        """Take the module `name` out and return it."""
        module: Module = self[name]
        del self[name]
        return module

    def clear(self) -> None:
        """Take every module out."""
        for name in self._items():
            del self[name]

    def __getitem__(self, name: str) -> Any:
        items = self._items()
        if name not in items:
            raise KeyError(f"ModuleDict: no module {name!r}; there are {', '.join(items) or 'none'}")
        return items[name]

    def __setitem__(self, name: str, module: Module) -> None:
        self.add_module(name, _checked(module, self))

    def __delitem__(self, name: str) -> None:
        self[name]  # for its KeyError
        delattr(self, name)

    def __len__(self) -> int:
        return len(self._items())

    def __iter__(self) -> Iterator[str]:
        return iter(self._items())

    def __contains__(self, name: object) -> bool:
        return name in self._items()


class ParameterList(Module):
    """A list of parameters that belong to the owner.

    >>> scales = nn.ParameterList([ox.ones(2), ox.ones(3)])
    >>> [(name, p.shape) for name, p in scales.named_parameters()]
    [('0', (2,)), ('1', (3,))]
    """

    def __init__(self, values: Iterable[Any] = ()) -> None:
        super().__init__()
        self.extend(values)

    def append(self, value: Any) -> Self:
        """Add a parameter, or a tensor that becomes one, at the end."""
        parameter = value if isinstance(value, Parameter) else Parameter(value)
        self.register_parameter(str(len(self)), parameter)
        return self

    def extend(self, values: Iterable[Any]) -> Self:
        """Add parameters at the end."""
        for value in values:
            self.append(value)
        return self

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __iter__(self) -> Iterator[Parameter]:
        return self.parameters(recurse=False)

    def __getitem__(self, index: int) -> Parameter:
        return list(self)[index]

    def extra_repr(self) -> str:
        return "\n".join(f"({i}): Parameter {tuple(p.shape)} {p.dtype}" for i, p in enumerate(self))
