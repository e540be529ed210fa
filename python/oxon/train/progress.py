"""Showing how far a training is: a bar in a terminal, a display in a notebook, one plain line per epoch
elsewhere."""

from __future__ import annotations

import sys
import time

from .history import brief

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, TextIO


def mode_of(verbose: bool | str, stream: TextIO) -> str:
    """What suits a stream: "bar", "notebook", "lines", or "silent" where `verbose` is False.

    `verbose` may also name the mode. Raises ValueError for an unknown one.

    >>> import io
    >>> mode_of(True, io.StringIO()), mode_of(False, io.StringIO()), mode_of("bar", io.StringIO())
    ('lines', 'silent', 'bar')
    """
    if verbose in ("bar", "notebook", "lines", "silent"):
        return str(verbose)
    if not isinstance(verbose, bool):
        raise ValueError(f"verbose must be True, False, bar, notebook, lines or silent, got {verbose!r}")
    if not verbose:
        return "silent"
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    if type(shell).__name__ == "ZMQInteractiveShell":
        return "notebook"
    return "bar" if stream.isatty() else "lines"


class Progress:
    """Reports on `epochs` epochs. The bar is redrawn ten times a second at most, and in place with a
    carriage return and blanks alone: no escape codes, so that nothing odd ends up in a log file or on a
    simple terminal.

    >>> import io
    >>> out = io.StringIO()
    >>> progress = Progress(epochs=2, verbose=True, stream=out)
    >>> progress.begin(1, steps=10)
    >>> progress.end({"loss": 0.25}, seconds=1.5)
    >>> out.getvalue()
    'epoch 1/2  1.5s  loss 0.2500\\n'
    """

    def __init__(self, epochs: int, verbose: bool | str = True, stream: TextIO | None = None) -> None:
        self.stream = sys.stdout if stream is None else stream
        self.mode = mode_of(verbose, self.stream)
        self.epochs = epochs
        self.interval = 0.1
        self._width = 0  # of what stands on the terminal's current line
        self._lines: list[str] = []  # of the notebook's display
        self._handle: Any = None

    def begin(self, epoch: int, steps: int | None) -> None:
        """An epoch begins; `steps` is None where the number of batches is not known."""
        self.epoch, self.steps = epoch, steps
        self._start = self._last = time.monotonic()

    def due(self) -> bool:
        """Whether it is time to call `update`. Asking first spares reading figures that nobody would see."""
        return self.mode in ("bar", "notebook") and time.monotonic() - self._last >= self.interval

    def update(self, step: int, logs: Mapping[str, float]) -> None:
        """Redraw the bar: `step` batches are done."""
        self._last = time.monotonic()
        elapsed = self._last - self._start
        if self.steps:
            left = f"{elapsed * (self.steps - step) / step:.0f}s left"
            bar = self._bar(step / self.steps)
            line = f"{self._head()}  {bar} {step}/{self.steps}  {left}  {_figures(logs)}"
        else:
            line = f"{self._head()}  {step} batches  {elapsed:.0f}s  {_figures(logs)}"
        self._show(line)

    def end(self, logs: Mapping[str, float], seconds: float) -> None:
        """The epoch has ended: its line stays."""
        line = f"{self._head()}  {seconds:.1f}s  {_figures(logs)}"
        if self.mode == "lines":
            self.stream.write(line + "\n")
            self.stream.flush()
        elif self.mode == "bar":
            self._write("\r" + line.ljust(self._width) + "\n")
            self._width = 0
        elif self.mode == "notebook":
            self._lines.append(line)
            self._display(self._lines)

    def close(self) -> None:
        """Leave the cursor at the beginning of a line, also after an exception in mid-epoch."""
        if self._width:
            self._write("\n")
            self._width = 0

    def _head(self) -> str:
        return f"epoch {self.epoch:>{len(str(self.epochs))}}/{self.epochs}"

    def _bar(self, share: float, width: int = 20) -> str:
        full, empty = (
            ("━", "─") if "utf" in (getattr(self.stream, "encoding", "") or "").lower() else ("#", ".")
        )
        done = min(width, int(share * width))
        return full * done + empty * (width - done)

    def _show(self, line: str) -> None:
        if self.mode == "notebook":
            self._display([*self._lines, line])
            return
        import shutil

        line = line[: max(20, shutil.get_terminal_size().columns - 1)]
        self._write("\r" + line.ljust(self._width))
        self._width = len(line)

    def _write(self, text: str) -> None:
        self.stream.write(text)
        self.stream.flush()

    def _display(self, lines: list[str]) -> None:
        from html import escape
        from importlib import import_module

        ipython = import_module("IPython.display")
        page = ipython.HTML("<pre>" + escape("\n".join(lines)) + "</pre>")
        if self._handle is None:
            self._handle = ipython.display(page, display_id=True)
        else:
            self._handle.update(page)


def _figures(logs: Mapping[str, float]) -> str:
    return "  ".join(f"{name} {brief(value)}" for name, value in logs.items())
