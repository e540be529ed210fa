"""oxon: deep learning on any CPU and any vendor's GPU.

The whole public surface is on this page. `oxon.nn`, `oxon.optim`, `oxon.data`, `oxon.models` and the trainer
are imported when they are first used; NumPy only when an array is asked for.
"""

from __future__ import annotations

from . import _core as _core
from ._core import *  # noqa: F403
from ._core import Tensor as Tensor
from ._core import __version__ as __version__
from .autograd import Function as Function
from .autograd import checkpoint as checkpoint
from .autograd import detect_anomaly as detect_anomaly
from .autograd import enable_grad as enable_grad
from .autograd import grad as grad
from .autograd import gradcheck as gradcheck
from .autograd import no_grad as no_grad
from .autograd import set_grad_enabled as set_grad_enabled

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from . import amp as amp
    from . import data as data
    from . import gpu as gpu
    from . import models as models
    from . import nn as nn
    from . import optim as optim
    from .amp import autocast as autocast
    from .hardware import device as device
    from .hardware import devices as devices
    from .io import load as load
    from .io import save as save
    from .profiler import profile as profile
    from .train import History as History
    from .train import Trainer as Trainer
    from .train import callbacks as callbacks
    from .train import metrics as metrics
    from .train.summary import summary as summary

_MODULES = ("amp", "nn", "optim", "data", "models", "train", "io", "autograd", "profiler", "gpu", "hardware")
_LATER = {
    "autocast": "amp",
    "device": "hardware",
    "devices": "hardware",
    "load": "io",
    "save": "io",
    "profile": "profiler",
    "History": "train",
    "Trainer": "train",
    "callbacks": "train",
    "metrics": "train",
    "summary": "train",
}


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name in _MODULES:
        return import_module(f"oxon.{name}")
    if name in _LATER:
        return getattr(import_module(f"oxon.{_LATER[name]}"), name)
    raise AttributeError(f"module 'oxon' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES, *_LATER})
