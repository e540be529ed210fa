"""Which devices there are, and on which of them new tensors are made. How they are tried is in `oxon.probe`,
what GPUs hold in `oxon.gpu`."""

from __future__ import annotations

from dataclasses import dataclass

from . import _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Any, TypeVar

    F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, repr=False)
class Cpu:
    """The processor.

    Attributes:
        device: its name as a device, `"cpu"`.
        isa: the instruction set that kernels use: `"avx512"`, `"avx2"`, `"neon"` or `"portable"`.
        threads: how many threads kernels use.
        memory: bytes that this process may use, None where the system does not tell.
    """

    device: str
    isa: str
    threads: int
    memory: int | None

    def __repr__(self) -> str:
        memory = "" if self.memory is None else f", {_bytes(self.memory)}"
        threads = f"{self.threads} thread{'s' if self.threads != 1 else ''}"
        return f"<{self.device}: {self.isa}, {threads}{memory}>"


@dataclass(frozen=True, repr=False)
class Gpu:
    """A GPU, or software that behaves as one.

    Attributes:
        device: its name as a device: `"gpu"`, `"gpu:1"`, or `"gpu:"` and its name where it is used only when
            it is named.
        name, vendor, driver: what the driver says.
        backend: the interface that reaches it: `"vulkan"`, `"metal"` or `"dx12"`.
        type: `"discrete"`, `"integrated"`, `"virtual"`, `"other"` or `"software"`.
        max_buffer: the largest buffer in bytes, the most that one tensor may take.
        max_binding: the largest part of a buffer in bytes that one kernel sees.
        float16, int64, subgroups: whether kernels may use 16-bit floats, 64-bit integers, and registers of
            their neighbours.
        cooperative: rows and columns of the float16 matrices that subgroups multiply together, 0 where they
            do not; used where `OXON_GPU_COOPERATIVE=1` allows it and a trial succeeds.
        rejection: why `"gpu"` does not count it, if so.
    """

    device: str
    name: str
    vendor: str
    backend: str
    type: str
    driver: str
    max_buffer: int
    max_binding: int
    float16: bool
    int64: bool
    subgroups: bool
    cooperative: int
    rejection: str | None

    @property
    def usable(self) -> bool:
        """Whether it is used without being named."""
        return self.rejection is None

    def __repr__(self) -> str:
        optional = [what for what in ("float16", "int64", "subgroups") if getattr(self, what)]
        if self.cooperative:
            optional.append(f"cooperative {self.cooperative}x{self.cooperative}")
        can = ", ".join(optional) or "none"
        text = (
            f"<{self.device}: {self.name} ({self.vendor}, {self.type}, {self.backend}, driver {self.driver})"
            f", buffers up to {_bytes(self.max_buffer)}, bindings up to {_bytes(self.max_binding)}"
            f", optional: {can}"
        )
        return f"{text}>" if self.rejection is None else f"{text}; not chosen: {self.rejection}>"


def devices() -> list[Cpu | Gpu]:
    """The devices of this machine: the CPU, then each adapter that the system shows.

    Adapters that `"gpu"` does not count, such as software, are listed with the reason. The first look for
    adapters in a process loads the drivers, and is tried in another process before; no device is opened.
    Raises DeviceError where the drivers crash or do not answer.

    >>> import oxon as ox
    >>> cpu, *gpus = ox.devices()
    >>> cpu.device, cpu.threads == ox.get_num_threads()
    ('cpu', True)
    """
    return [cpu(), *(Gpu(**adapter) for adapter in adapters())]


def adapters() -> list[dict[str, Any]]:
    """The adapters as `devices()` lists them, each as a dict; none where the build has no GPU support."""
    return _core._adapters() if _core.build_info()["gpu"] else []


def cpu() -> Cpu:
    """The processor as `devices()` lists it, without a look for adapters."""
    build = _core.build_info()
    return Cpu("cpu", build["isa"], build["threads"], build["memory"])


class device:
    """Makes new tensors of this thread on a device, as a context manager or a decorator.

    `name` is `"cpu"`, `"gpu"`, `"gpu:1"`, `"gpu:"` and a part of an adapter's name, or `"auto"`. Tensors that
    are there already stay where they are. Raises DeviceError at the start of the block where there is no
    such device.

    >>> import oxon as ox
    >>> with ox.device("cpu"):
    ...     ox.ones(2).device
    'cpu'
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._before: list[str] = []

    def __enter__(self) -> None:
        self._before.append(_core.set_default_device(self.name))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _core.set_default_device(self._before.pop())

    def __call__(self, function: F) -> F:
        from functools import wraps

        @wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            with device(self.name):
                return function(*args, **kwargs)

        return wrapper  # type: ignore[return-value]


def _bytes(count: float) -> str:
    """A number of bytes for people."""
    units = ["bytes", "KiB", "MiB", "GiB", "TiB"]
    while count >= 1024 and len(units) > 1:
        count, units = count / 1024, units[1:]
    return f"{count:.4g} {units[0]}"
