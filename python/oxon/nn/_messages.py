"""What a module says when something fails: where it happened, and which keys do not fit."""

from __future__ import annotations

from .._core import Tensor, tensor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from .module import Module


def as_tensor(key: str, value: Any) -> Tensor:
    """A value of a state dict; what is no array of numbers is an error that names the key."""
    if isinstance(value, Tensor):
        return value
    try:
        return tensor(value, device="cpu")
    except (TypeError, ValueError) as error:
        raise TypeError(f"load_state_dict: {key} is no tensor but {type(value).__name__}") from error


def describe_mismatch(
    own: Mapping[str, Tensor], values: Mapping[str, Tensor], missing: list[str], unexpected: list[str]
) -> list[str]:
    """A line for each key that is missing, unexpected (with what may be meant) or of another shape."""
    lines = [f"  missing: {key} {tuple(own[key].shape)}" for key in missing]
    if unexpected:
        from difflib import get_close_matches

        for key in unexpected:
            close = get_close_matches(key, missing or own, n=1)
            lines.append(f"  unexpected: {key}" + (f" (did you mean {close[0]}?)" if close else ""))
    lines += [
        f"  shape: {key} is {tuple(own[key].shape)} in the model, {tuple(value.shape)} in the state dict"
        for key, value in values.items()
        if tuple(value.shape) != tuple(own[key].shape)
    ]
    return lines


def _brief(module: Module) -> str:
    """`Linear(128, 10)`: the sizes that `extra_repr` starts with, or all of it if it does not."""
    extra = module.extra_repr()
    sizes = []
    for part in extra.split(", "):
        value = part.rpartition("=")[2]
        if not value.isdigit():
            break
        sizes.append(value)
    return f"{type(module).__name__}({', '.join(sizes) or extra})"


def note_module(error: Exception, module: Module) -> None:
    """Keep one note on `error` that says in which module it was raised, as seen from `module`.

    The innermost module is met first and remembered on the error; every module further out
    rewrites the path, which costs nothing unless something fails.
    """
    state = error.__dict__
    innermost = state.setdefault("_oxon_module", module)
    path = "" if innermost is module else _path_of(module, innermost)
    if path is None:
        return
    note = f"in model{path and '.' + path} {_brief(innermost)}"
    notes = getattr(error, "__notes__", None)
    if notes and state.get("_oxon_note") in notes:
        notes[notes.index(state["_oxon_note"])] = note
    else:
        error.add_note(note)
    state["_oxon_note"] = note


def _path_of(root: Module, module: Module) -> str | None:
    return next((path for path, found in root.named_modules() if found is module), None)
