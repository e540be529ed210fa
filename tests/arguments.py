"""What malformed calls are made of: objects that misbehave, tensors and numbers of all kinds, arguments that would fit,
and how to come by the objects whose methods are called. The calls themselves are `malformed.py`'s.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import oxon as ox
from oxon import nn, optim


class Evil(Exception):
    """What the objects below raise on their own account."""


class Length:
    """Lies about its length."""

    def __init__(self, length: Any, items: list[Any]) -> None:
        self.length, self.items = length, items

    def __len__(self) -> Any:
        return self.length

    def __iter__(self) -> Iterator[Any]:
        return iter(self.items)

    def __getitem__(self, i: Any) -> Any:
        return self.items[i]


class Index:
    """Gives or raises this when it is asked for an integer."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __index__(self) -> Any:
        if isinstance(self.value, Exception):
            raise self.value
        return self.value


class Attributes:
    """Has whatever attributes it is given."""

    def __init__(self, **answers: Any) -> None:
        self.__dict__.update(answers)


class Changing(list):  # type: ignore[type-arg]
    """Another list each time it is gone through."""

    count = 0

    def __iter__(self) -> Iterator[Any]:
        self.count += 1
        return iter([1] if self.count % 2 else [[True, False], [True, True]])


def generator() -> Iterator[int]:
    yield 1
    raise Evil("a generator that breaks")


def fail(*args: Any, **kwargs: Any) -> Any:
    raise Evil("a function that breaks")


def nest(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


EVIL: list[Callable[[], Any]] = [
    lambda: None,
    lambda: True,
    lambda: 0,
    lambda: -1,
    lambda: 2**40,
    lambda: -(2**40),
    lambda: 2**62,
    lambda: 2**63 - 1,
    lambda: -(2**63),
    lambda: 2**63,
    lambda: 2**64,
    lambda: 10**400,
    lambda: float("nan"),
    lambda: float("inf"),
    lambda: -float("inf"),
    lambda: 1e300,
    lambda: -0.5,
    lambda: 1j,
    lambda: "",
    lambda: "mean",
    lambda: "\0",
    lambda: "é" * 100,
    lambda: "\ud800",
    lambda: b"bytes",
    list,
    lambda: [None],
    lambda: [[1], [2, 3]],
    lambda: [2**40, 2**40],
    lambda: (2**62, 4),
    lambda: (-1, -1),
    lambda: (0, 2**62),
    lambda: (1,) * 40,
    lambda: nest(40),
    lambda: nest(5000),
    dict,
    lambda: {"a": 1},
    lambda: {1, 2},
    object,
    lambda: int,
    lambda: ...,
    lambda: slice(None, None, 0),
    lambda: slice(2**70, -(2**70), -(2**63)),
    lambda: slice("a", Index(Evil()), None),
    lambda: range(3),
    lambda: range(2**40),
    generator,
    lambda: lambda: 1,
    lambda: fail,
    lambda: Length(5, [1, 2]),
    lambda: Length(-1, [1]),
    lambda: Length(2**62, [1, 2]),
    lambda: Length("x", [1, 2]),
    lambda: Index(2),
    lambda: Index(2**70),
    lambda: Index("no"),
    lambda: Index(Evil("an index that breaks")),
    Changing,
    lambda: [Changing()],
    lambda: Attributes(__array_interface__=3),
    lambda: Attributes(__array_interface__={}),
    lambda: Attributes(__array_interface__=None, item=lambda: "x"),
    lambda: Attributes(__array__=fail),
    lambda: Attributes(__array__=lambda *a, **k: 3),
    lambda: Attributes(__dlpack__=fail, __dlpack_device__=fail),
    lambda: Attributes(__dlpack__=lambda **k: None, __dlpack_device__=lambda: (1, 0)),
    lambda: Attributes(__dlpack__=lambda **k: ox.ones(2).__dlpack__(), __dlpack_device__=lambda: 3),
    lambda: Attributes(keys=fail),
    lambda: Attributes(name="float32"),
    lambda: Attributes(shape=(2, 3), dtype="float32"),
    lambda: np.array([1, None], dtype=object),
    lambda: np.ones(2, "c16"),
    lambda: np.zeros(2, [("a", "i4"), ("b", "f8")]),
    lambda: np.array(["a"]),
    lambda: np.longdouble(1),
    lambda: np.zeros((0, 3)),
    lambda: np.broadcast_to(np.float32(1), (2, 3)),
    lambda: np.datetime64("2020"),
    lambda: "float32",
    lambda: "complex64",
    lambda: "gpu:99",
    lambda: ox.float16,
    lambda: ox.int8,
    lambda: ox.Generator(1),
    lambda: nn.Linear(3, 2),
    lambda: ox.tensor([float("nan")] * 3),
]

TENSORS: list[Callable[[], Any]] = [
    lambda: ox.tensor(1.5),
    lambda: ox.tensor(2),
    lambda: ox.tensor(True),
    lambda: ox.zeros(0),
    lambda: ox.zeros(0, 3),
    lambda: ox.zeros(2, 0, 3),
    lambda: ox.ones(3),
    lambda: ox.arange(6.0).reshape(2, 3),
    lambda: ox.arange(6.0).reshape(2, 3).T,
    lambda: ox.arange(6).reshape(3, 2),
    lambda: ox.tensor([0, 1, 2]),
    lambda: ox.tensor([-1, 2**40, 7]),
    lambda: ox.tensor([True, False, True]),
    lambda: ox.tensor([float("nan"), float("inf"), -1.0]),
    lambda: ox.ones(2, 3, dtype="bfloat16"),
    lambda: ox.ones(3, dtype="float16"),
    lambda: ox.ones(3, dtype="uint8"),
    lambda: ox.ones(2, 3, 4, dtype="float64").flip(1),
    lambda: ox.ones(2, 3, 5, 5),
    lambda: ox.ones(4, 3, 2, 2, requires_grad=True),
    lambda: ox.ones(2, 3, requires_grad=True) * 2,
    lambda: ox.ones(*[1] * 32),
    lambda: ox.ones(1).expand(2, 3),
    lambda: ox.ones(2, 2, 2, 2, 2, 2, 2, 2),
    lambda: ox.tensor([2**63], dtype="uint64"),
    lambda: nn.Parameter(ox.ones(3)),
]

SIZES = [(2, 3), (3,), (), (2, -1), 2, [1, 1], (0,), (3, 2), 1]
TEXTS = [
    "mean",
    "sum",
    "none",
    "constant",
    "reflect",
    "ij",
    "xy",
    "ij,jk->ik",
    "i->",
    "...",
    "left",
    "right",
    "cpu",
    "same",
    "fan_in",
    "relu",
    "micro",
    "tanh",
    "auto",
    "min",
]
NUMBERS = [-2, -1, 0, 1, 2, 3, (1, 1), (0, 1), (2,), 0.5]


def parameter() -> Any:
    return nn.Parameter(ox.ones(3))


def sgd() -> Any:
    return optim.SGD([parameter()], lr=0.1)


def trainer() -> Any:
    model = nn.Linear(3, 2)
    return ox.Trainer(model, optim.SGD(model.parameters(), lr=0.1), nn.functional.mse_loss)


def pairs() -> Any:
    return ox.data.TensorDataset(ox.ones(4, 3), ox.ones(4, 2))


def sequential_schedule() -> Any:
    optimizer = sgd()
    return optim.SequentialLR(optimizer, [optim.StepLR(optimizer, 1), optim.StepLR(optimizer, 2)], [1])


# Arguments that fit, by name: a call is wrong in some of them and right in the rest.
PLAUSIBLE: dict[str, Callable[[random.Random], Any]] = {}
for _names, _draw in (
    ("dim dim0 dim1 dim2 start_dim end_dim diagonal offset k n m q step start stop num repeats shifts groups "
     "num_samples chunks split_size padding_idx ignore_index low high minlength correction end r stride padding "
     "dilation output_padding dims source destination reps index i epoch last_epoch batch number",
     lambda r: r.choice(NUMBERS)),
    ("size shape sizes pad input_shape", lambda r: r.choice(SIZES)),
    ("device_type", lambda r: "cpu"),
    ("keepdim requires_grad retain_graph create_graph descending largest right replacement copy training ceil_mode "
     "count_include_pad return_indices inplace full log_target endpoint shuffle drop_last affine bias maximize "
     "nesterov amsgrad centered download normalize strict set_to_none recurse append mode_ verbose",
     lambda r: r.random() < 0.5),
    ("reduction mode equation side indexing device nonlinearity average task monitor anneal_strategy approximate",
     lambda r: r.choice(TEXTS)),
    ("eps p delta beta alpha slope negative_slope value label_smoothing std mean a b margin momentum temperature "
     "fill_value lower upper threshold lr weight_decay gamma factor min_delta gain val scale",
     lambda r: r.choice([0.0, 0.1, 0.5, 1.0, 2.0, -1.0])),
    ("dtype", lambda r: r.choice(["float32", "int64", "bool", "bfloat16", "uint8", ox.float64])),
    ("tensors operands given arrays samples",
     lambda r: [r.choice(TENSORS)() for _ in range(r.randrange(4))]),
    ("generator", lambda r: ox.Generator(r.randrange(9))),
    ("path root", lambda r: r.choice(["file", ".", "", "no/such/place"])),
    ("hook function backward closure collate_fn transform loss lr_lambda",
     lambda r: r.choice([lambda *a: None, lambda *a: a[0], fail, lambda *a: 1.0])),
    ("in_features in1_features in2_features num_features in_channels embedding_dim normalized_shape input_size",
     lambda r: 3),
    ("out_features out_channels num_channels num_embeddings num_classes hidden_size",
     lambda r: r.choice([2, 4])),
    ("num_layers", lambda r: r.choice([1, 2])),
    ("d_model", lambda r: r.choice([3, 6])),
    ("embed_dim", lambda r: 3),
    ("width", lambda r: r.choice([3, 6])),
    ("vocab_size block_size", lambda r: r.choice([2, 5])),
    ("config", lambda r: ox.models.GPTConfig(4, 3, 1, 1, 2)),
    ("tokens", lambda r: ox.ones(1, 2, dtype="int64")),
    ("max_new_tokens top_k layer", lambda r: r.choice([0, 1, 3])),
    ("cache", lambda r: r.choice([None, ox.models.KVCache(1)])),
    ("nhead num_heads", lambda r: r.choice([1, 3])),
    ("query key value src tgt memory", lambda r: ox.randn(r.choice([2, 3]), 3)),
    ("attn_mask src_mask tgt_mask memory_mask",
     lambda r: r.choice([None, ox.zeros(2, 2), ox.ones(2, 2, dtype="bool")])),
    ("encoder_layer", lambda r: nn.TransformerEncoderLayer(3, 1, 4)),
    ("decoder_layer", lambda r: nn.TransformerDecoderLayer(3, 1, 4)),
    ("kernel_size output_size num_groups T_max T_0 T_mult step_size total_iters total_steps epochs batch_size "
     "patience steps_per_epoch num_workers prefetch", lambda r: r.choice([1, 2])),
    ("unflattened_size", lambda r: (1, 3)),
    ("params parameters", lambda r: [parameter()]),
    ("defaults", lambda r: {"lr": 0.1}),
    ("group", lambda r: {"params": [parameter()], "lr": 0.1}),
    ("optimizer", lambda r: sgd()),
    ("schedulers", lambda r: [optim.StepLR(sgd(), 1)]),
    ("milestones", lambda r: [1, 2]),
    ("max_lr", lambda r: 0.1),
    ("dataset data train validation", lambda r: r.choice([pairs, lambda: [1, 2, 3], lambda: ox.ones(4, 3)])()),
    ("datasets", lambda r: [[1], [2, 3]]),
    ("indices lengths", lambda r: [0, 1]),
    ("module model", lambda r: nn.Linear(3, 2)),
    ("modules", lambda r: [nn.Linear(3, 3)]),
    ("trainer", lambda r: trainer()),
    ("callbacks metrics rows parts", lambda r: []),
    ("state_dict", lambda r: r.choice([lambda: nn.Linear(3, 2).state_dict(), lambda: sgd().state_dict()])()),
    ("logs", lambda r: {"loss": 1.0, "val_loss": r.choice([1.0, float("nan")])}),
    ("name target prefix", lambda r: r.choice(["weight", "a.b", "0", ""])),
):  # fmt: skip
    for _name in _names.split():
        PLAUSIBLE[_name] = _draw

# Numbers that a correct call takes its time for.
PATIENT = {"epochs", "num_layers", "layers", "max_new_tokens"}

# How to come by an object whose methods are to be called, where `PLAUSIBLE` does not tell.
MAKE: dict[str, Callable[[random.Random], Any]] = {
    "Tensor": lambda r: r.choice(TENSORS)(),
    "Parameter": lambda r: parameter(),
    "dtype": lambda r: ox.float32,
    "finfo": lambda r: ox.finfo(ox.float16),
    "iinfo": lambda r: ox.iinfo(ox.uint8),
    "ValuesIndices": lambda r: ox.ones(2, 3).max(1),
    "HookHandle": lambda r: parameter().register_hook(fail),
    "RemovableHandle": lambda r: nn.Linear(3, 2).register_forward_hook(fail),
    "Module": lambda r: nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.ReLU()),
    "Sequential": lambda r: nn.Sequential(nn.Linear(3, 3), nn.ReLU()),
    "ModuleDict": lambda r: nn.ModuleDict({"a": nn.Linear(3, 2)}),
    "ModuleList": lambda r: nn.ModuleList([nn.Linear(3, 2)]),
    "ParameterList": lambda r: nn.ParameterList([parameter()]),
    "GroupNorm": lambda r: nn.GroupNorm(1, 3),
    "SequentialLR": lambda r: sequential_schedule(),
    "OneCycleLR": lambda r: optim.OneCycleLR(sgd(), 0.1, total_steps=10),
    "Trainer": lambda r: trainer(),
    "TensorDataset": lambda r: pairs(),
    "Subset": lambda r: ox.data.Subset([1, 2, 3], [0, 2]),
    "RandomCrop": lambda r: ox.data.transforms.RandomCrop(2, 1),
    "Compose": lambda r: ox.data.transforms.Compose(ox.data.transforms.ToFloat()),
    "Normalize": lambda r: ox.data.transforms.Normalize(0.5, 0.5),
    "Mean": lambda r: ox.metrics.Mean(nn.functional.mse_loss),
    "Summary": lambda r: ox.summary(nn.Linear(3, 2), (3,)),
    "CSVLogger": lambda r: ox.callbacks.CSVLogger("log.csv"),
    "ModelCheckpoint": lambda r: ox.callbacks.ModelCheckpoint("weights"),
    "EarlyStopping": lambda r: ox.callbacks.EarlyStopping(),
    "MultiStepLR": lambda r: optim.MultiStepLR(sgd(), [1, 2]),
    "LRScheduler": lambda r: optim.StepLR(sgd(), 1),
    "Metric": lambda r: ox.metrics.MSE(),
    "LambdaLR": lambda r: optim.LambdaLR(sgd(), lambda epoch: 1.0),
    "MultiplicativeLR": lambda r: optim.MultiplicativeLR(sgd(), lambda epoch: 1.0),
}
