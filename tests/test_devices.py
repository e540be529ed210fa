"""Devices by name, the trial before the first look, `"auto"` and the doctor. What needs an adapter
runs on Mesa's software Vulkan, as in `test_gpu.py`; what spoils or starts a process runs in one of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import oxon as ox
import pytest
from oxon import doctor, hardware, probe
from processes import PACKAGE, out, python

os.environ.setdefault("OXON_GPU_ADAPTER", "llvmpipe")
os.environ.setdefault("XDG_RUNTIME_DIR", os.environ.get("TMPDIR", "/tmp"))

needs_gpu = pytest.mark.skipif(not ox.build_info()["gpu"], reason="built without GPU support")
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="drivers are named by files on Linux alone")


@pytest.fixture
def adapter() -> str:
    """The name of a GPU; skips, with the reason, where there is none."""
    try:
        return ox.ones(1, device="gpu").device
    except ox.DeviceError as error:
        if os.environ.get("OXON_REQUIRE_GPU") == "1":
            raise
        pytest.skip(str(error))


# Names


@pytest.mark.parametrize("name", ["", "cpu:0", "cuda", "gpu:", "gpu1", "GPU", "gpux:0"])
def test_unknown_names_are_errors_that_say_what_there_is(name: str) -> None:
    for call in (
        lambda: ox.ones(2, device=name),
        lambda: ox.set_default_device(name),
        lambda: ox.device(name).__enter__(),
    ):
        with pytest.raises(ox.DeviceError, match=r'device ".*" is unknown; there are "cpu", "gpu"'):
            call()


def test_a_device_is_a_name() -> None:
    with pytest.raises(TypeError, match="a device is a name"):
        ox.ones(2, device=3)  # type: ignore[arg-type]


def test_device_blocks_nest_decorate_and_end_with_errors() -> None:
    block = ox.device("cpu")
    with block, block:
        assert ox.zeros(1).device == "cpu"

    @ox.device("cpu")
    def make(n: int) -> ox.Tensor:
        """Makes ones."""
        return ox.ones(n)

    assert make(3).device == "cpu"
    assert make.__doc__ == "Makes ones."
    with pytest.raises(ZeroDivisionError), ox.device("cpu"):
        raise ZeroDivisionError
    assert ox.get_default_device() == "cpu"


def test_the_environment_names_the_default_device() -> None:
    code = "print(ox.get_default_device(), ox.ones(1).device)"
    assert out(python(code, OXON_DEVICE=None)) == "cpu cpu"
    assert out(python(code, OXON_DEVICE="cpu")) == "cpu cpu"
    run = python("ox.ones(1)", OXON_DEVICE="tpu")
    assert run.returncode == 1
    assert 'DeviceError: device "tpu" is unknown' in run.stderr


def test_nothing_is_looked_for_at_import(tmp_path: Path) -> None:
    # A driver manifest that is no file would be opened by the loader; the cache would hold the trial's answer.
    code = "import sys; ox.ones(2).sum().item(); print('oxon.probe' in sys.modules, 'oxon.hardware' in sys.modules)"
    assert out(python(code, cache=tmp_path)) == "False False"
    assert not list(tmp_path.iterdir())


def test_load_takes_a_device(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    ox.save({"a": {"b": ox.ones(2)}}, path)
    assert ox.load(path, device="cpu")["a"]["b"].tolist() == [1.0, 1.0]
    with pytest.raises(ox.DeviceError, match="unknown"):
        ox.load(path, device="tpu")


# The list


def test_the_cpu_is_listed_first() -> None:
    cpu = hardware.cpu()
    assert (cpu.device, cpu.isa, cpu.threads) == ("cpu", ox.build_info()["isa"], ox.get_num_threads())
    assert cpu.memory is None or cpu.memory > 1 << 20
    assert repr(cpu).startswith(f"<cpu: {cpu.isa}, ")
    with pytest.raises(AttributeError):
        cpu.threads = 3  # type: ignore[misc]


def test_a_gpu_shows_itself_and_why_it_is_not_chosen() -> None:
    gpu = hardware.Gpu(
        "gpu", "Card", "Maker", "vulkan", "discrete", "7", 4 << 30, 128 << 20, True, False, True, 16, None
    )
    text = "<gpu: Card (Maker, discrete, vulkan, driver 7), buffers up to 4 GiB, bindings up to 128 MiB"
    assert repr(gpu) == f"{text}, optional: float16, subgroups, cooperative 16x16>"
    assert gpu.usable
    soft = hardware.Gpu(
        "gpu:S", "S", "M", "vulkan", "software", "1", 1, 1, False, False, False, 0, "too slow"
    )
    assert not soft.usable
    assert repr(soft).endswith("optional: none; not chosen: too slow>")


@needs_gpu
@on_linux
def test_without_a_driver_the_error_says_so_and_the_cpu_is_listed(tmp_path: Path) -> None:
    none = {"VK_DRIVER_FILES": "/dev/null", "VK_ICD_FILENAMES": "/dev/null"}
    assert out(python("print(len(ox.devices()))", tmp_path, **none)) == "1"
    run = python("ox.ones(1).to('gpu')", tmp_path, **none)
    assert 'DeviceError: device "gpu": no GPU: the system shows no adapter' in run.stderr
    assert out(python("print(ox.ones(1, device='auto').device)", tmp_path, **none)) == "cpu"


# The trial


def driver(folder: Path, body: str, rest: str = "") -> str:
    """A Vulkan driver that does `body` when it is loaded; its manifest."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler to make a broken driver with")
    source, library, manifest = folder / "driver.c", folder / "libdriver.so", folder / "driver.json"
    source.write_text(
        "#include <dlfcn.h>\n#include <stdlib.h>\n#include <string.h>\n#include <unistd.h>\n"
        + rest
        + "__attribute__((constructor)) static void start(void) {"
        + body
        + "}"
    )
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source], check=True)
    manifest.write_text(
        json.dumps(
            {"file_format_version": "1.0.0", "ICD": {"library_path": str(library), "api_version": "1.3.0"}}
        )
    )
    return str(manifest)


CATCH = """
for call in (lambda: ox.ones(1).to("gpu"), ox.devices):
    try:
        call()
    except ox.DeviceError as error:
        print(error)
print(ox.ones(2, device="auto").device, ox.ones(2).sum().item())
"""


@needs_gpu
@on_linux
def test_a_driver_that_crashes_is_an_error(tmp_path: Path) -> None:
    manifest = driver(tmp_path, "abort();")
    text = out(python(CATCH, tmp_path, VK_DRIVER_FILES=manifest, VK_ICD_FILENAMES=manifest)).splitlines()
    assert len(text) == 3
    assert text[0] == text[1]
    for part in ("trial process was killed by SIGABRT", manifest, "VK_DRIVER_FILES", "OXON_GPU_PROBE=0"):
        assert part in text[0]
    assert text[2] == "cpu 2.0"
    # Bad answers are not remembered, and without the trial it is this process that dies.
    assert not (tmp_path / "oxon").exists()
    died = python(CATCH, tmp_path, VK_DRIVER_FILES=manifest, VK_ICD_FILENAMES=manifest, OXON_GPU_PROBE="0")
    assert died.returncode < 0


# Lavapipe, but for one of its functions.
BESIDE = """
typedef void (*Function)(void);
static void *real;
static void crash(void) { abort(); }
Function vk_icdGetInstanceProcAddr(void *instance, const char *name) {
    if (!strcmp(name, "WRONG")) return crash;
    return ((Function (*)(void *, const char *))dlsym(real, "vk_icdGetInstanceProcAddr"))(instance, name);
}
unsigned vk_icdNegotiateLoaderICDInterfaceVersion(unsigned *version) {
    return ((unsigned (*)(unsigned *))dlsym(real, "vk_icdNegotiateLoaderICDInterfaceVersion"))(version);
}
"""


@pytest.mark.gpu
@on_linux
def test_a_driver_that_crashes_when_it_computes_is_an_error(adapter: str, tmp_path: Path) -> None:
    manifests = sorted(Path("/usr/share/vulkan/icd.d").glob("lvp_icd*.json"))
    if not manifests:
        pytest.skip("no manifest of lavapipe")
    library = Path(json.loads(manifests[0].read_text())["ICD"]["library_path"])
    found = [library] if library.is_absolute() else sorted(Path("/usr/lib").rglob(library.name))
    load = f'real = dlopen("{found[0]}", RTLD_NOW);'
    for wrong, message in (("vkNothing", None), ("vkCreateDevice", "no GPU: computing on llvmpipe")):
        folder = tmp_path / wrong
        folder.mkdir()
        manifest = driver(folder, load, BESIDE.replace("WRONG", wrong))
        run = python(CATCH, folder, VK_DRIVER_FILES=manifest, VK_ICD_FILENAMES=manifest)
        lines = out(run).splitlines()
        if message is None:  # the driver is good but for what is taken away
            assert lines[0] in ("cpu 2.0", "gpu 2.0")
        else:
            assert message in lines[0]
            assert "trial process was killed by SIGABRT" in lines[0]
            assert lines[-1] == "cpu 2.0"


@needs_gpu
@on_linux
def test_a_driver_that_hangs_is_an_error(tmp_path: Path) -> None:
    manifest = driver(tmp_path, "sleep(1000);")
    run = python(CATCH, tmp_path, VK_DRIVER_FILES=manifest, VK_ICD_FILENAMES=manifest, OXON_GPU_PROBE="3")
    assert "did not end within 3 s" in out(run).splitlines()[0]


@needs_gpu
@on_linux
def test_a_good_answer_is_remembered_for_these_drivers(tmp_path: Path) -> None:
    code = """
import subprocess
from oxon import probe
calls = []
popen = subprocess.Popen
subprocess.Popen = lambda *a, **k: calls.append(a) or popen(*a, **k)
for _ in range(3):
    ox.devices()
print(len(calls))
"""
    none = {"VK_DRIVER_FILES": "/dev/null", "VK_ICD_FILENAMES": "/dev/null"}
    assert out(python(code, tmp_path, **none)) == "1"
    assert out(python(code, tmp_path, **none)) == "0"
    other = tmp_path / "other.json"
    other.write_text("{}")
    assert out(python(code, tmp_path, VK_DRIVER_FILES=str(other), VK_ICD_FILENAMES=str(other))) == "1"
    for broken in ("", "[1]", "{", '{"adapters": 3}'):
        (tmp_path / "oxon" / "adapters.json").write_text(broken)
        assert out(python(code, tmp_path, **none)) == "1"
    run = python("ox.devices()", tmp_path, OXON_GPU_PROBE="soon")
    assert "OXON_GPU_PROBE: 'soon' is no number of seconds" in run.stderr


def test_an_embedded_interpreter_looks_for_a_python(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert probe._python()
    host = tmp_path / "blender"
    host.write_text("")
    for program in (str(host), "", None):
        monkeypatch.setattr(sys, "executable", program)
        monkeypatch.setattr(sys, "_base_executable", program, raising=False)
        found = probe._python()
        assert found is None or os.path.basename(found).startswith("python")
    monkeypatch.setattr(sys, "base_exec_prefix", str(tmp_path))
    assert probe._python() is None
    assert probe._trial() == ""


def test_a_cache_that_cannot_be_written_is_no_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(probe, "folder", lambda: str(tmp_path / "file" / "x"))
    (tmp_path / "file").write_text("")
    probe._remember("auto", "key", "cpu")
    assert probe._recall("auto", "key") is None
    monkeypatch.setattr(probe, "folder", lambda: str(tmp_path / "y"))
    for i in range(100):
        probe._remember("auto", str(i), "cpu")
    assert probe._recall("auto", "99") == "cpu"
    assert len(probe._read("auto")) <= 32
    assert [p.name for p in (tmp_path / "y").iterdir()] == ["auto.json"]


# The faster one


@needs_gpu
def test_auto_measures_once_and_remembers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    card = {"device": "gpu", "name": "Card", "driver": "1", "backend": "vulkan"}
    monkeypatch.setattr(probe, "folder", lambda: str(tmp_path))
    monkeypatch.setattr(ox._core, "_adapters", lambda: [card])
    measured: list[dict[str, float]] = []

    def measure(gpu: float) -> dict[str, float]:
        measured.append({"cpu": 1.0, "gpu": gpu})
        return measured[-1]

    monkeypatch.setattr(probe, "measure", lambda: measure(0.5))
    assert [probe._pick(), probe._pick()] == ["gpu", "gpu"]
    assert len(measured) == 1
    card["driver"] = "2"
    monkeypatch.setattr(probe, "measure", lambda: measure(2.0))
    assert [probe._pick(), probe._pick()] == ["cpu", "cpu"]
    assert len(measured) == 2

    def fails() -> dict[str, float]:
        raise ox.DeviceError("lost")

    card["driver"] = "3"
    monkeypatch.setattr(probe, "measure", fails)
    assert probe._pick() == "cpu"
    monkeypatch.setattr(probe, "measure", lambda: measure(0.5))
    assert probe._pick() == "gpu", "a failure is not remembered"
    monkeypatch.setattr(ox._core, "_adapters", list)
    assert probe._pick() == "cpu"


# The doctor


def test_the_doctor_passes_the_cpu(capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor.examine("cpu") == 0
    text = capsys.readouterr().out
    for part in (ox.__version__, hardware.cpu().isa, "GFLOP/s", "GB/s"):
        assert part in text
    for family in doctor.FAMILIES:
        assert f"  {family:12} ok\n" in text


def test_the_doctor_finds_what_is_wrong(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, truth = doctor.FAMILIES["sort"]
    for call in (
        lambda x: x.sort(-1, descending=True)[0],
        lambda x: x * float("nan"),
        lambda x: x.no_such_thing,
    ):
        monkeypatch.setitem(doctor.FAMILIES, "sort", (call, truth))
        assert doctor.examine("cpu") == 1
        text = capsys.readouterr().out
        assert "sort         WRONG" in text or "sort         AttributeError" in text
        assert "GFLOP/s" not in text


def test_the_doctor_as_a_command(tmp_path: Path) -> None:
    env = {**os.environ, "PYTHONPATH": PACKAGE, "XDG_CACHE_HOME": str(tmp_path)}
    command = [sys.executable, "-m", "oxon", "doctor", "--device"]
    run = subprocess.run([*command, "cpu"], env=env, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    run = subprocess.run([*command, "tpu"], env=env, capture_output=True, text=True, timeout=120)
    assert run.returncode == 1
    assert 'device "tpu" is unknown' in run.stdout


# With an adapter


@pytest.mark.gpu
def test_names_lead_to_the_adapter(adapter: str) -> None:
    assert adapter == "gpu"
    gpus = [d for d in ox.devices() if isinstance(d, hardware.Gpu)]
    chosen = next(d for d in gpus if d.device == "gpu")
    assert chosen.usable
    assert chosen.backend == "vulkan" or sys.platform != "linux"
    assert chosen.max_buffer >= chosen.max_binding >= 1 << 20
    for name in ("gpu", "gpu:0", f"gpu:{chosen.name}", f"gpu:{chosen.name[1:6].upper()}"):
        x = ox.arange(3, device=name)
        assert (x.device, x.cpu().tolist()) == ("gpu", [0, 1, 2])
        assert ox.tensor([1.0]).to(name).device == "gpu"
        assert ox.nn.Linear(2, 2).to(name).weight.device == "gpu"
    with pytest.raises(ox.DeviceError, match=r'device "gpu:30": of usable GPUs there are \d, counted from 0'):
        ox.ones(2, device="gpu:30")
    with pytest.raises(ox.DeviceError, match='does not contain "no such card"'):
        ox.ones(2, device="gpu:no such card")


@pytest.mark.gpu
def test_a_block_makes_tensors_there_in_its_thread_alone(adapter: str, tmp_path: Path) -> None:
    elsewhere: list[str] = []
    ox.save({"w": ox.ones(2)}, tmp_path / "w.safetensors")
    with ox.device("gpu"):
        assert ox.get_default_device() == "gpu"
        assert ox.ones(2).device == ox.nn.Linear(2, 2).weight.device == "gpu"
        thread = threading.Thread(target=lambda: elsewhere.append(ox.ones(2).device))
        thread.start()
        thread.join()
        with ox.device("cpu"):
            assert ox.ones(2).device == "cpu"
        assert ox.ones(2).device == "gpu"
    assert elsewhere == ["cpu"]
    assert ox.ones(2).device == "cpu"
    loaded = ox.load(tmp_path / "w.safetensors", device="gpu")["w"]
    assert (loaded.device, loaded.cpu().tolist()) == ("gpu", [1.0, 1.0])


@pytest.mark.gpu
def test_the_environment_names_a_gpu(adapter: str) -> None:
    code = """
import threading
found = []
thread = threading.Thread(target=lambda: found.append(ox.ones(1).device))
thread.start()
thread.join()
print(ox.get_default_device(), ox.ones(2).sum().item(), *found)
"""
    assert out(python(code, OXON_DEVICE="gpu")) == "gpu 2.0 gpu"


@pytest.mark.gpu
@on_linux
def test_software_is_used_only_when_it_is_named(adapter: str) -> None:
    soft = [d for d in ox.devices() if isinstance(d, hardware.Gpu) and d.type == "software"]
    if not soft:
        pytest.skip("no software adapter")
    code = f"""
soft = next(d for d in ox.devices()[1:] if d.name == {soft[0].name!r})
assert not soft.usable and soft.device != "gpu" and "OXON_GPU_ADAPTER" in soft.rejection, soft
x = ox.ones(2).to("gpu:{soft[0].name[:5]}")
assert x.device == soft.device and (x + ox.ones(2, device=x.device)).cpu().tolist() == [2.0, 2.0]
"""
    out(python(code, OXON_GPU_ADAPTER=None))


@pytest.mark.gpu
@on_linux
def test_two_adapters_do_not_mix(adapter: str, tmp_path: Path) -> None:
    """The software driver under two names is two adapters."""
    manifests = sorted(Path("/usr/share/vulkan/icd.d").glob("lvp_icd*.json"))
    if not manifests:
        pytest.skip("no manifest of lavapipe")
    text = json.loads(manifests[0].read_text())
    library = Path(text["ICD"]["library_path"])
    found = [library] if library.is_absolute() else sorted(Path("/usr/lib").rglob(library.name))
    copy = tmp_path / f"other-{found[0].name}"
    shutil.copy(found[0], copy)
    text["ICD"]["library_path"] = str(copy)
    second = tmp_path / "second.json"
    second.write_text(json.dumps(text))
    code = """
a, b = ox.ones(2, device="gpu"), ox.ones(2, device="gpu:1")
assert (a.device, b.device) == ("gpu", "gpu:1")
try:
    a + b
except ox.DeviceError as error:
    print(error)
b.requires_grad_()
c = (b * 3).to(a.device) + a
assert c.device == "gpu" and c.tolist() == [4.0, 4.0]
c.sum().backward()
assert b.grad.device == "gpu:1" and b.grad.tolist() == [3.0, 3.0]
ox.gpu.set_memory_limit(1 << 20, "gpu:1")
assert ox.gpu.memory_summary("gpu:1")["limit"] == 1 << 20 and ox.gpu.memory_summary("gpu")["limit"] is None
"""
    run = python(
        code,
        tmp_path,
        VK_DRIVER_FILES=f"{manifests[0]}:{second}",
        VK_ICD_FILENAMES=f"{manifests[0]}:{second}",
    )
    assert "add: tensors are on gpu and on gpu:1" in out(run)


@pytest.mark.gpu
def test_the_faster_device_is_measured(adapter: str, tmp_path: Path) -> None:
    code = "print(ox.ones(1, device='auto').device, ox.ones(1).to('auto').device)"
    first = out(python(code, tmp_path))
    assert first in ("cpu cpu", "gpu gpu")
    answers = json.loads((tmp_path / "oxon" / "auto.json").read_text())
    assert list(answers.values()) == [first.split()[0]]


@pytest.mark.gpu
def test_the_doctor_passes_the_gpu(adapter: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor.examine("gpu") == 0
    text = capsys.readouterr().out
    assert "<gpu: " in text
    assert "<cpu: " not in text
    assert text.count(" ok\n") == len(doctor.FAMILIES)
