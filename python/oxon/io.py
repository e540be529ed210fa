"""Saving and loading: nested dicts, lists and numbers around tensors, as safetensors files."""

from __future__ import annotations

import os

from ._core import Tensor, load_safetensors, save_safetensors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_TREE = "oxon.tree"


def save(obj: Any, path: str | os.PathLike[str], metadata: dict[str, str] | None = None) -> None:
    """Write `obj` to a safetensors file: a dict of tensors, or dicts, lists and tuples around tensors,
    numbers and text.

    A flat dict of tensors, such as a `state_dict`, becomes a plain safetensors file that other programs
    read as well. Anything nested, such as an optimizer's state, keeps its structure as JSON in the file's
    metadata. The file is written under a temporary name and renamed, so that there is never half a file at
    `path`. `metadata` is text to store along with it. Raises TypeError, naming the place, for what cannot
    be stored.

    >>> import os, tempfile
    >>> import oxon as ox
    >>> path = os.path.join(tempfile.mkdtemp(), "state.safetensors")
    >>> ox.save({"weights": {"w": ox.ones(2)}, "epoch": 3}, path)
    >>> state = ox.load(path)
    >>> state["weights"]["w"].tolist(), state["epoch"]
    ([1.0, 1.0], 3)
    """
    notes = dict(metadata or {})
    if _TREE in notes:
        raise ValueError(f"save: the metadata key {_TREE!r} is taken")
    if isinstance(obj, dict) and all(isinstance(k, str) and isinstance(v, Tensor) for k, v in obj.items()):
        tensors: dict[str, Tensor] = dict(obj)
    else:
        import json

        tensors = {}
        notes[_TREE] = json.dumps(_encode(obj, "", tensors))
    save_safetensors(os.fspath(path), tensors, notes)


def load(path: str | os.PathLike[str], device: str | None = None) -> Any:
    """Read what `save` wrote, or any safetensors file as a dict of tensors.

    The tensors come to `device`, or to the CPU where none is given. Raises DeviceError where there is no such
    device, OSError where the file cannot be read, is not a safetensors file or is damaged. Nothing in the
    file is ever executed.

    >>> import oxon as ox
    >>> model.load_state_dict(ox.load("model.safetensors"))  # doctest: +SKIP
    """
    name = os.fspath(path)  # a number is no path, though `open` takes it for a file that is open already
    open(name, "rb").close()  # for Python's own exceptions, FileNotFoundError above all
    tensors, metadata = load_safetensors(name)
    if device is not None:
        for key in tensors:  # one by one, so that each gives its host memory back at once
            tensors[key] = tensors[key].to(device)
    if _TREE not in metadata:
        return tensors
    import json

    try:
        return _decode(json.loads(metadata[_TREE]), tensors)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError) as error:
        raise OSError(f"load: {name}: the structure in its metadata is damaged: {error!r}") from error


def _encode(value: Any, path: str, tensors: dict[str, Tensor]) -> Any:
    """`value` as JSON; each tensor goes to `tensors` under its path. Containers become one-key objects, so
    that int keys and tuples survive."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Tensor):
        name = path or "value"
        while name in tensors:  # {"a.b": x, "a": {"b": y}}
            name += "_"
        tensors[name] = value
        return {"tensor": name}
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, (str, int)):
                raise TypeError(
                    f"save: {path or 'the object'}: a key is {type(key).__name__}, not str or int"
                )
        return {"dict": [[key, _encode(part, _join(path, key), tensors)] for key, part in value.items()]}
    if isinstance(value, (tuple, list)):
        kind = "tuple" if isinstance(value, tuple) else "list"
        return {kind: [_encode(part, _join(path, number), tensors) for number, part in enumerate(value)]}
    hint = ": save its state_dict()" if hasattr(value, "state_dict") else ""
    raise TypeError(
        f"save: {path or 'the object'} is of type {type(value).__name__}, which cannot be stored{hint}"
    )


def _decode(value: Any, tensors: dict[str, Tensor]) -> Any:
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "dict":
        return {key: _decode(part, tensors) for key, part in content}
    if kind in ("tuple", "list"):
        parts = [_decode(part, tensors) for part in content]
        return tuple(parts) if kind == "tuple" else parts
    raise ValueError(f"unknown kind {kind!r}")


def _join(path: str, key: object) -> str:
    return f"{path}.{key}" if path else str(key)
