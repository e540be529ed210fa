"""What a piece of a program costs, kernel by kernel."""

from __future__ import annotations

from dataclasses import dataclass

from . import _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType


@dataclass
class Row:
    """What one kernel cost on one set of shapes.

    Attributes:
        kernel: its name; the operations of a chain, in order; after ` | ` those done to a product's result.
        device: where it ran.
        inputs, outputs: the shapes of its operands and results.
        calls: how often it ran.
        seconds: for how long, all calls together.
        bytes: what it read and wrote, each element once.
        flops: multiplications and additions, of products, convolutions (as by their definition), attention
            and recurrent layers.
    """

    device: str
    kernel: str
    inputs: list[tuple[int, ...]]
    outputs: list[tuple[int, ...]]
    calls: int
    seconds: float
    bytes: int
    flops: int


class profile:
    """Counts the kernels that run in a `with` block, and for how long, costliest first.

    What is still pending at the start runs before it, and what the block has left pending at its end, since
    calls compute nothing before somebody looks: only what the block asks for is counted. A GPU is waited for
    after each kernel, so a block takes longer than without. One block at a time.

    Attributes:
        rows: a `Row` for each kernel and its shapes, once the block has ended.

    >>> x, w = ox.randn(32, 64), ox.randn(64, 16)
    >>> with ox.profile() as costs:
    ...     y = (x @ w).relu().sum().item()
    >>> costs.rows[0].calls
    1
    >>> sorted(row.kernel for row in costs.rows)
    ['matmul | relu', 'sum']
    """

    rows: list[Row]
    _busy = False

    def __enter__(self) -> profile:
        if profile._busy:
            raise RuntimeError("profile: another profile is running; one block at a time")
        _core.synchronize()
        profile._busy = True
        self.rows = []
        _core._profile_start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                _core.synchronize()
        finally:
            profile._busy = False
            found = [
                Row(device, kernel, [tuple(x) for x in inputs], [tuple(x) for x in outputs], *cost)
                for device, kernel, inputs, outputs, cost in _core._profile_stop()
            ]
            self.rows = sorted(found, key=lambda row: -row.seconds)

    def table(self, limit: int = 20) -> str:
        """The costliest kernels as text: milliseconds, share of the whole, calls, GFLOP/s, GB/s, shapes."""
        whole = sum(row.seconds for row in self.rows) or 1.0
        lines = [f"{'ms':>10} {'share':>6} {'calls':>6} {'GFLOP/s':>8} {'GB/s':>6}  kernel"]
        for row in self.rows[:limit]:
            rate = f"{row.flops / row.seconds / 1e9:8.1f}" if row.flops and row.seconds else " " * 8
            speed = row.bytes / max(row.seconds, 1e-9) / 1e9
            kernel = row.kernel if len(row.kernel) <= 48 else row.kernel[:45] + "..."
            shapes = ", ".join("×".join(map(str, shape)) or "()" for shape in row.inputs)
            results = ", ".join("×".join(map(str, shape)) or "()" for shape in row.outputs)
            lines.append(
                f"{row.seconds * 1e3:10.3f} {row.seconds / whole:6.1%} {row.calls:6} {rate} {speed:6.1f}  "
                f"{kernel}: {shapes} → {results}"
            )
        lines.append(f"{whole * 1e3:10.3f} 100.0% {sum(row.calls for row in self.rows):6}  all kernels")
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.table()
