"""The memory of GPUs: what it is used for, and how much may be. Which GPUs there are is in `ox.devices()`."""

from __future__ import annotations

from . import _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypedDict

    class Summary(TypedDict):
        """What `memory_summary` gives, in bytes."""

        used: int
        cached: int
        peak: int
        limit: int | None
        largest: list[tuple[int, int]]


def memory_summary(device: str = "gpu") -> Summary:
    """Bytes of a GPU's memory: `used` by tensors, `cached` for reuse, the `peak` that tensors used, and the
    `limit` that was set, or None. `largest` holds (bytes, count) for the sizes of buffer that take most.

    Opens no device: where nothing has been computed yet, all are zero. Raises DeviceError where there is no
    such device, ValueError for the CPU, which has `ox.memory_summary()`.

    >>> ox.gpu.memory_summary()["used"]  # doctest: +SKIP
    1048576
    """
    _check()
    return _core._gpu_memory(device)  # type: ignore[return-value]


def empty_cache(device: str = "gpu") -> None:
    """Wait for a GPU and give the memory that is kept for reuse back to the system.

    >>> ox.gpu.empty_cache()  # doctest: +SKIP
    """
    _check()
    _core._gpu_empty_cache(device)


def set_memory_limit(limit: int | None, device: str = "gpu") -> None:
    """Let tensors and cached memory take at most `limit` bytes of a GPU together; None lifts the limit.

    What is beyond raises MemoryError when it is to be computed, with the largest holders; what is there
    already stays. A device that is opened after one was lost keeps to the limit. Raises ValueError for a
    negative limit.

    >>> ox.gpu.set_memory_limit(4 << 30)  # doctest: +SKIP
    """
    if limit is not None and limit < 0:
        raise ValueError(f"set_memory_limit: {limit} bytes are less than none")
    _check()
    _core._gpu_set_limit(device, limit)


def _check() -> None:
    if not _core.build_info()["gpu"]:
        raise _core.DeviceError("this build of oxon has no GPU support")
