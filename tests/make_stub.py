"""Writes the blocks of the elementwise table and of other names into `_core.pyi`; `test_house.py` holds the file to
them.

Run `python tests/make_stub.py` after changing the table.
"""

from __future__ import annotations

from pathlib import Path

STUB = Path(__file__).parents[1] / "python" / "oxon" / "_core.pyi"


def blocks() -> dict[str, list[str]]:
    """The generated lines, in the class and in the module: the table's rows, and other names of what is there."""
    from oxon._core import ALIASES, ELEMENTWISE, Tensor

    methods, functions = [], []
    for name, (_, arity, _, _) in sorted(ELEMENTWISE.items()):
        if arity == 1:
            methods.append(f"    def {name}(self, /) -> Tensor: ...")
            functions.append(f"def {name}(self: Tensor, /) -> Tensor: ...")
        elif arity == 2:
            methods.append(f"    def {name}(self, /, other: _TensorLike) -> Tensor: ...")
            functions.append(f"def {name}(a: _TensorLike, b: _TensorLike, /) -> Tensor: ...")
    names = sorted(ALIASES.items())
    return {
        "table methods": methods,
        "table functions": functions,
        "names of methods": [f"    {name} = {of}" for name, of in names if hasattr(Tensor, name)],
        "names of functions": [f"{name} = {of}" for name, of in names],
    }


def render(text: str) -> str:
    """The stub with its generated blocks renewed."""
    for name, lines in blocks().items():
        begin, end = f"# {name}: begin\n", f"# {name}: end"
        indent = "    " if name.endswith("methods") else ""
        head, rest = text.split(begin)
        _, tail = rest.split(end)
        text = head + begin + "\n".join(lines) + "\n" + indent + end + tail
    return text


if __name__ == "__main__":
    STUB.write_text(render(STUB.read_text()))
