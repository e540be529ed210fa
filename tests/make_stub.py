"""Writes the block of the elementwise table into `_core.pyi`; `test_house.py` holds the file to it.

Run `python tests/make_stub.py` after changing the table.
"""

from __future__ import annotations

from pathlib import Path

STUB = Path(__file__).parents[1] / "python" / "oxon" / "_core.pyi"


def blocks() -> dict[str, list[str]]:
    """The generated lines: methods of the class, and functions of the module."""
    from oxon._core import ELEMENTWISE

    methods, functions = [], []
    for name, (_, arity, _, _) in sorted(ELEMENTWISE.items()):
        if arity == 1:
            methods.append(f"    def {name}(self, /) -> Tensor: ...")
            functions.append(f"def {name}(self: Tensor, /) -> Tensor: ...")
        elif arity == 2:
            methods.append(f"    def {name}(self, /, other: _TensorLike) -> Tensor: ...")
            functions.append(f"def {name}(a: _TensorLike, b: _TensorLike, /) -> Tensor: ...")
    return {"methods": methods, "functions": functions}


def render(text: str) -> str:
    """The stub with its generated blocks renewed."""
    for name, lines in blocks().items():
        begin, end = f"# table {name}: begin\n", f"# table {name}: end"
        indent = "    " if name == "methods" else ""
        head, rest = text.split(begin)
        _, tail = rest.split(end)
        text = head + begin + "\n".join(lines) + "\n" + indent + end + tail
    return text


if __name__ == "__main__":
    STUB.write_text(render(STUB.read_text()))
