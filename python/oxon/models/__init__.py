"""Whole models: `from oxon import models`.

They are written with `oxon.nn` alone, so each is also an example of how to write one.
"""

from .gpt import GPT, GPTConfig, KVCache
from .resnet import ResNet, resnet18

__all__ = ["GPT", "GPTConfig", "KVCache", "ResNet", "resnet18"]
