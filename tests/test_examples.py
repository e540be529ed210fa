"""The examples, each run as a user runs it, with tiny settings."""

import os
import pathlib
import re
import subprocess
import sys

import oxon as ox
import pytest

EXAMPLES = pathlib.Path(__file__).parent.parent / "examples"


def run(name, *arguments, folder):
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", str(EXAMPLES / name), *arguments],
        capture_output=True, text=True, cwd=folder, timeout=600,
        env={**os.environ, "MPLBACKEND": "agg"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_digits(tmp_path):
    out = run("digits.py", "--seeds", "1", "--epochs", "3", folder=tmp_path)
    accuracies = [float(found) for found in re.findall(r"test accuracy ([\d.]+)%, mean of 1 seeds", out)]
    assert len(accuracies) == 2
    assert min(accuracies) > 85
    assert out.count("the predictions are equal") == 2
    files = sorted(os.listdir(tmp_path / "outputs"))
    assert [name for name in files if name.endswith("safetensors")] == [
        "digits-cnn.safetensors",
        "digits-mlp.safetensors",
    ]
    if "no plot" not in out:
        assert {"digits-cnn.png", "digits-mlp.png"} < set(files)


@pytest.mark.slow
def test_digits_reach_what_we_promise(tmp_path):
    out = run("digits.py", folder=tmp_path)
    mlp, cnn = (float(found) for found in re.findall(r"test accuracy ([\d.]+)%, mean of 5 seeds", out))
    assert mlp >= 97.0
    assert cnn >= 98.0


@pytest.mark.gpu
def test_digits_on_the_gpu(tmp_path):
    gpu_or_skip()
    out = run("digits.py", "--seeds", "1", "--epochs", "3", "--device", "gpu", folder=tmp_path)
    accuracies = [float(found) for found in re.findall(r"test accuracy ([\d.]+)%, mean of 1 seeds", out)]
    assert len(accuracies) == 2
    assert min(accuracies) > 85


@pytest.mark.gpu
@pytest.mark.slow
def test_mnist_on_the_gpu(tmp_path):
    gpu_or_skip()
    if not os.path.isdir(os.path.join(os.environ.get("OXON_DATA", ""), "mnist")):
        pytest.skip("OXON_DATA does not hold mnist")
    out = run("mnist.py", "--limit", "1280", "--epochs", "2", "--device", "gpu", folder=tmp_path)
    assert float(re.findall(r"test accuracy ([\d.]+)%", out)[0]) > 80


def gpu_or_skip():
    os.environ.setdefault("OXON_GPU_ADAPTER", "llvmpipe")
    os.environ.setdefault("XDG_RUNTIME_DIR", os.environ.get("TMPDIR", "/tmp"))
    try:
        ox.ones(1, device="gpu").item()
    except ox.DeviceError as error:
        if os.environ.get("OXON_REQUIRE_GPU") == "1":
            raise
        pytest.skip(str(error))


def test_by_hand(tmp_path):
    out = run("by_hand.py", folder=tmp_path)
    perceptron, network = (float(found) for found in re.findall(r"accuracy ([\d.]+)%", out))
    assert 75 < perceptron < 95 < network


def test_mnist(tmp_path):
    if not os.path.isdir(os.path.join(os.environ.get("OXON_DATA", ""), "mnist")):
        pytest.skip("OXON_DATA does not hold mnist")
    out = run("mnist.py", "--limit", "1280", "--epochs", "2", folder=tmp_path)
    assert "34,826 parameters" in out
    assert "Keras" in out
    assert float(re.findall(r"test accuracy ([\d.]+)%", out)[0]) > 80
