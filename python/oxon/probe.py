"""What is tried before devices are used: a look for adapters and a kernel on each, in a process that may
crash, and which device is faster. Good answers are remembered in the user's cache directory."""

from __future__ import annotations

import os
import sys
import threading

from . import _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# Seconds that the trial may take; 0 looks without one.
PROBE_VARIABLE = "OXON_GPU_PROBE"
_SECONDS = 30.0
# Only the extension module is loaded, by its path; the word tells that its driver is what comes next.
_TRIAL = """
import sys
from importlib.util import module_from_spec, spec_from_file_location
spec = spec_from_file_location("oxon._core", sys.argv[1])
core = module_from_spec(spec)
spec.loader.exec_module(core)
print("looking for adapters", flush=True)
for place, name in core._look():
    print("computing on", name, flush=True)
    try:
        core._try_out(place)
    except core.DeviceError:
        pass  # a clear error, which whoever uses it gets as well
"""
_REMEMBERED = 32

_lock = threading.Lock()
_verdict: str | None = None  # of the trial: "" is good
_picked: str | None = None


def _try_elsewhere() -> None:
    """Called before the first look for adapters of this process: raises DeviceError if the look, or a kernel
    on one of them, crashes or never ends in another."""
    global _verdict
    with _lock:
        if _verdict is None:
            _verdict = _trial()
        if _verdict:
            raise _core.DeviceError(_verdict)


def _trial() -> str:
    """What is wrong with the drivers, or "": also where nothing can be tried."""
    setting = os.environ.get(PROBE_VARIABLE, "")
    try:
        seconds = float(setting or _SECONDS)
    except ValueError:
        raise _core.DeviceError(f"{PROBE_VARIABLE}: {setting!r} is no number of seconds") from None
    python = _python()
    if seconds <= 0 or python is None or sys.platform == "darwin":  # Metal is no driver of others
        return ""
    state = _state()
    if _recall("adapters", state) == "ok":
        return ""

    import subprocess

    command = [python, "-I", "-S", "-c", _TRIAL, str(_core.__file__)]
    pipe, none = subprocess.PIPE, subprocess.DEVNULL
    try:
        trial = subprocess.Popen(command, stdin=none, stdout=pipe, stderr=pipe)
    except OSError:
        return ""
    how = None
    try:
        out, err = trial.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        how = f"did not end within {seconds:g} s"
        trial.kill()
        try:
            out, err = trial.communicate(timeout=5)
        except subprocess.TimeoutExpired:
            out, err = b"looking for adapters", b""  # it hangs in the kernel, where no signal reaches it
    finally:
        if trial.poll() is None:
            trial.kill()
    doing = [line for line in out.decode(errors="replace").splitlines() if line][-1:]
    if not doing:
        return ""  # this interpreter could not even load the package: it tells nothing about drivers
    if how is None:
        if trial.returncode == 0:
            _remember("adapters", state, "ok")
            return ""
        how = _death(trial.returncode)
    last = [line for line in err.decode(errors="replace").splitlines() if line.strip()][-1:]
    said = f' and said "{last[0].strip()[:200]}"' if last else ""
    return (
        f"no GPU: {doing[0]} in a trial process {how}{said}; one of the drivers in {_drivers()} "
        "is at fault: update it or take it away, name a good one in VK_DRIVER_FILES, or look without a trial "
        f"with {PROBE_VARIABLE}=0"
    )


def _death(code: int) -> str:
    if code > 0:
        return f"ended with exit code {code if code < 256 else hex(code)}"
    import signal

    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"


def _python() -> str | None:
    """An interpreter for the trial; where Python is embedded, `sys.executable` is another program."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    places = [sys.executable, getattr(sys, "_base_executable", None)]
    if sys.platform == "win32":
        places.append(os.path.join(sys.base_exec_prefix, "python.exe"))
    else:
        places.append(os.path.join(sys.base_exec_prefix, "bin", f"python{version}"))
    for place in places:
        name = os.path.basename(place or "").lower()
        if place and name.startswith(("python", "pypy")) and os.path.isfile(place):
            return place
    return None


def _manifests() -> list[str]:
    """The files that name the Vulkan drivers, of Linux and its kin."""
    for variable in ("VK_DRIVER_FILES", "VK_ICD_FILENAMES"):
        if os.environ.get(variable):
            return [name for name in os.environ[variable].split(os.pathsep) if name]
    home = os.path.expanduser("~")
    folders = [os.path.join(home, ".local", "share"), os.path.join(home, ".config")]
    folders += ["/etc", "/usr/local/etc", "/usr/share", "/usr/local/share", "/etc/xdg"]
    folders += os.environ.get("XDG_DATA_DIRS", "").split(os.pathsep)
    found = {name for name in os.environ.get("VK_ADD_DRIVER_FILES", "").split(os.pathsep) if name}
    for folder in filter(None, folders):
        for kind in ("icd.d", "implicit_layer.d"):
            place = os.path.join(folder, "vulkan", kind)
            try:
                found.update(os.path.join(place, name) for name in os.listdir(place))
            except OSError:
                continue
    return sorted(found)


def _drivers() -> str:
    found = [name for name in _manifests() if "layer" not in name]
    if sys.platform == "win32" or not found:
        return "the system"
    more = f" and {len(found) - 8} more" if len(found) > 8 else ""
    return ", ".join(found[:8]) + more


def _state() -> str:
    """What the answer of a trial holds for: this build, this start of the machine, its drivers and cards."""
    import json
    from hashlib import sha256

    adapter = os.environ.get("OXON_GPU_ADAPTER", "")
    parts: list[Any] = [_core.__version__, _stamp(str(_core.__file__)), sys.platform, adapter]
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            parts.append(file.read())
    except OSError:
        import time

        parts.append(int((time.time() - time.monotonic()) // 600))
    parts.append(sorted(item for item in os.environ.items() if item[0].startswith(("VK_", "MESA_", "DRI_"))))
    for name in _manifests():
        parts.append((name, _stamp(name)))
        try:
            with open(name, "rb") as file:
                library = json.load(file)["ICD"]["library_path"]
            parts.append(_stamp(os.path.join(os.path.dirname(name), library)))
        except (OSError, ValueError, KeyError, TypeError):
            continue
    for folder in ("/dev/dri", "/dev"):
        try:
            cards = os.listdir(folder)
        except OSError:
            continue
        parts.append(sorted(card for card in cards if folder == "/dev/dri" or card.startswith("nvidia")))
    return sha256(repr(parts).encode()).hexdigest()


def _stamp(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size


def _auto() -> str:
    """The device that `"auto"` means: measured once for each adapter, driver and version."""
    global _picked
    if _picked is None:
        _picked = _pick()
    return _picked


def _pick() -> str:
    from . import hardware

    try:
        found = [adapter for adapter in hardware.adapters() if adapter["device"] == "gpu"]
    except _core.DeviceError:
        found = []
    if not found:
        return "cpu"
    build = _core.build_info()
    of_cpu = [build[key] for key in ("version", "profile", "isa", "threads")]
    of_gpu = [found[0][key] for key in ("name", "driver", "backend")]
    key = "|".join(map(str, of_cpu + of_gpu))
    known = _recall("auto", key)
    if known in ("cpu", "gpu"):
        return str(known)
    try:
        times = measure()
    except (_core.DeviceError, MemoryError):
        return "cpu"
    picked = "gpu" if times["gpu"] < times["cpu"] else "cpu"
    _remember("auto", key, picked)
    return picked


def measure() -> dict[str, float]:
    """Seconds that the CPU and the GPU take for layers as in training: products with chains behind them."""
    total = {"cpu": 0.0, "gpu": 0.0}
    for size in (64, 256, 768):
        for device in total:
            total[device] += _layers(device, size)
        if total["gpu"] > 8 * total["cpu"]:
            break
    return total


def _layers(device: str, size: int) -> float:
    from time import perf_counter

    generator = _core.Generator(0)
    x = _core.randn(size, size, generator=generator, device=device)
    w = _core.randn(size, size, generator=generator, device=device) * size**-0.5
    best = float("inf")
    for _ in range(3):  # the first one compiles kernels
        start, y = perf_counter(), x
        for _ in range(4):
            y = (y @ w + 0.5).tanh() * 1.5 - x
        y.sum().item()
        best = min(best, perf_counter() - start)
    return best


def folder() -> str:
    """Where answers are remembered."""
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or os.path.expanduser("~")
    elif sys.platform == "darwin":
        base = os.path.expanduser("~/Library/Caches")
    else:
        base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return os.path.join(base, "oxon")


def _read(name: str) -> dict[str, Any]:
    """The answers in a file; none where there is no file, or a broken one."""
    import json

    try:
        with open(os.path.join(folder(), f"{name}.json"), encoding="utf-8") as file:
            found = json.load(file)
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _recall(name: str, key: str) -> Any:
    return _read(name).get(key)


def _remember(name: str, key: str, value: str) -> None:
    """Adds an answer to a file, under another name first, so that nobody sees half of it. The oldest go."""
    import json
    import tempfile

    known = _read(name)
    known.pop(key, None)
    known = dict([*known.items(), (key, value)][-_REMEMBERED:])
    temporary = None
    try:
        os.makedirs(folder(), exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=folder(), prefix=f"{name}-")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(known, file)
        os.replace(temporary, os.path.join(folder(), f"{name}.json"))
    except OSError:
        # Without a place to write, the next process asks again.
        if temporary is not None and os.path.exists(temporary):
            os.remove(temporary)
