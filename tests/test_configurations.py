"""One small case of every operation family, and every elementwise operation, in each configuration of the GPU: subgroups
of 8 and of 4, each optional feature masked off, all of them. `make gpu-full` runs the whole table in each of them."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest
from processes import out, python

pytestmark = [pytest.mark.gpu, pytest.mark.cpu("these tests name their devices")]

ROOT = Path(__file__).parents[1]

CASES = """
import json, sys
sys.path.insert(0, {tests!r})
import numpy as np
from oxon import _core, doctor, nn, optim
from table import ROWS

rng = np.random.default_rng(0)

def normal(*shape):
    return ox.tensor(rng.standard_normal(shape).astype(np.float32))

def elementwise(name):
    low, high = ROWS[name].domain
    arrays = [rng.uniform(low, high, (3, 11)).astype(np.float32) for _ in range(_core.ELEMENTWISE[name][1])]
    return lambda device: getattr(ox, name)(*(ox.tensor(a).to(device) for a in arrays))

def trained(device):
    ox.manual_seed(0)
    model = nn.Sequential(nn.Embedding(9, 6), nn.LayerNorm(6), nn.Linear(6, 8), nn.ReLU()).to(device)
    cell = nn.LSTM(8, 7).to(device)
    optimizer = optim.AdamW([*model.parameters(), *cell.parameters()], lr=0.01)
    words = (ox.arange(12) % 9).reshape(4, 3).to(device)
    for _ in range(3):
        optimizer.zero_grad()
        nn.functional.cross_entropy(cell(model(words))[0].sum(0), words[0]).backward()
        optimizer.step()
    return ox.cat([p.detach().reshape(-1) for p in [*model.parameters(), *cell.parameters()]])

x, image, weight = normal(5, 37), normal(2, 6, 9, 9), normal(8, 6, 3, 3)
cases = {{
    "float16": lambda d: (x.to(d).half() @ x.to(d).half().mT).softmax(-1).float(),
    "bfloat16": lambda d: (x.to(d).bfloat16() * 2.5).float(),
    "int64": lambda d: (x.to(d).mul(1e6).long() * 123_456_789 // 7 % 1009).to("float32"),
    "int8": lambda d: (x.to(d) * 30).to("int8").sum(-1).to("float32"),
    "bool": lambda d: (x.to(d) > 0.3).logical_not().any(-1).to("float32"),
    "draws": lambda d: ox.rand(50, generator=ox.Generator(3), device=d),
    "order": lambda d: ox.randperm(50, generator=ox.Generator(3), device=d).to("float32"),
    "topk": lambda d: x.to(d).topk(4)[0],
    "variance": lambda d: x.to(d).var(0),
    "convolution": lambda d: ox.conv2d(image.to(d), weight.to(d), stride=2, padding=1),
    "depthwise": lambda d: ox.conv2d(image.to(d), weight[:6, :1].to(d), groups=6),
    "batch norm": lambda d: ox.batch_norm_train(image.to(d), None, None)[0],
    "training": trained,
}}
for name, row in _core.ELEMENTWISE.items():
    if row[2] in ("number", "float", "test", "compare"):
        cases[name] = elementwise(name)
cases |= {{"doctor's " + name: lambda d, call=call: call(x.to(d)) for name, (call, _) in doctor.FAMILIES.items()}}
wrong = {{}}
for name, case in cases.items():
    cpu, gpu = case("cpu").cpu().numpy(), case("gpu")
    assert gpu.device == "gpu", name
    gpu = gpu.cpu().numpy()
    near = 1e-2 if "float16" in name else 2e-4
    if not np.allclose(gpu.astype(np.float64), cpu.astype(np.float64), rtol=near, atol=near, equal_nan=True):
        wrong[name] = float(np.abs(gpu.astype(np.float64) - cpu).max())
print(json.dumps([len(cases), wrong]))
"""


def configurations() -> list[str]:
    """Those of `make gpu-full`, as NAME=VALUE."""
    text = (ROOT / "Makefile").read_text().replace("\\\n", " ")
    line = next(line for line in text.splitlines() if line.startswith("CONFIGURATIONS"))
    (masked,) = re.findall(r"addprefix OXON_GPU_WITHOUT=,([^)]*)\)", line)
    return re.findall(r"LP_NATIVE_VECTOR_WIDTH=\d+", line) + [f"OXON_GPU_WITHOUT={m}" for m in masked.split()]


def test_there_are_configurations() -> None:
    assert len(configurations()) == 8


@pytest.mark.parametrize("configuration", configurations())
def test_every_family_in_every_configuration(configuration: str) -> None:
    variables = {"OXON_GPU_ADAPTER": os.environ.get("OXON_GPU_ADAPTER", "llvmpipe")}
    name, value = configuration.split("=")
    run = python(CASES.format(tests=str(ROOT / "tests")), **{**variables, name: value})
    if "DeviceError" in run.stderr and "no GPU" in run.stderr and os.environ.get("OXON_REQUIRE_GPU") != "1":
        pytest.skip(run.stderr.splitlines()[-1])
    count, wrong = json.loads(out(run).splitlines()[-1])
    assert count > 80
    assert not wrong


def test_an_unknown_feature_is_an_error() -> None:
    run = python("ox.ones(1).to('gpu')", OXON_GPU_WITHOUT="magic", OXON_GPU_ADAPTER="llvmpipe")
    assert run.returncode != 0
    assert "no optional feature" in run.stderr or "no GPU" in run.stderr
