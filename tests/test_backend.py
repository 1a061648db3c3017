"""The choice of device, its words when there is none, and the way of arrays between host and device.

No GPU is needed: a stand-in for CuPy plays each machine. Its messages are those of the real one.
"""

import functools
import importlib.metadata
import subprocess
import sys
import types

import numpy as np
import pytest

from fastmlp import backend
from fastmlp.errors import ConfigError, DeviceError


class DeviceArray:
    """A CuPy array as far as these tests go."""

    def __init__(self, content):
        self.content = np.array(content)

    def get(self):
        return self.content.copy()

    def __matmul__(self, other):
        return DeviceArray(self.content @ other.content)


CUDARuntimeError = type("CUDARuntimeError", (RuntimeError,), {})


class Machine(types.ModuleType):
    """A stand-in for CuPy on a healthy machine; tests break what they need broken."""

    def __init__(self):
        super().__init__("cupy")
        self.__version__ = "14.2.0"
        self.ndarray = DeviceArray
        self.float32 = np.float32
        self.asarray = DeviceArray
        self.ones = lambda shape, dtype: DeviceArray(np.ones(shape, dtype))
        self.asnumpy = DeviceArray.get
        self.synchronized = 0
        self.ElementwiseKernel = lambda *arguments, **details: None     # nothing is computed here
        self.cuda = types.SimpleNamespace(
            runtime=types.SimpleNamespace(
                is_hip=False, runtimeGetVersion=lambda: 13020,
                driverGetVersion=lambda: 13000,  # older, but of the same major version: that works
                getDeviceCount=lambda: 1, getDevice=lambda: 0, getDeviceProperties=self.properties,
            ),
            nvrtc=types.SimpleNamespace(getVersion=lambda: (13, 2)), cublas=object(), Device=lambda: self,
        )
        self.name, self.capability = b"NVIDIA H200", (9, 0)

    def properties(self, number):
        assert number == 0
        return {"name": self.name, "major": self.capability[0], "minor": self.capability[1], "totalGlobalMem": 2**37}

    def synchronize(self):
        self.synchronized += 1


def failing(error):
    def fail(*arguments, **options):
        raise error
    return fail


@pytest.fixture(autouse=True)
def fresh_probe():
    backend.probe_gpu.cache_clear()
    yield
    backend.probe_gpu.cache_clear()


@pytest.fixture
def packages(monkeypatch):
    """What pip has installed of CuPy; change it to play another installation."""
    installed = {"cupy-cuda13x": "14.2.0"}

    def version(name):
        if name not in installed:
            raise importlib.metadata.PackageNotFoundError(name)
        return installed[name]

    monkeypatch.setattr(importlib.metadata, "version", version)
    return installed


@pytest.fixture
def machine(monkeypatch, packages):
    machine = Machine()
    monkeypatch.setitem(sys.modules, "cupy", machine)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return machine


def refusal():
    """The sentence that `--device gpu` ends with, once `auto` is seen to take the CPU for the same reason."""
    with pytest.raises(DeviceError) as caught:
        backend.resolve("gpu")
    sentence = str(caught.value)
    auto = backend.resolve("auto")
    assert auto.name == "cpu"
    assert auto.reason
    assert f": {auto.reason}; " in sentence
    assert sentence.startswith("device 'gpu' cannot be used: ")
    assert "\n" not in sentence
    return sentence


def test_a_usable_gpu_is_taken_by_name_and_by_auto(machine):
    asked = backend.resolve("gpu")
    auto = backend.resolve()
    assert asked.name == auto.name == "gpu"
    assert asked.xp is machine
    assert asked.description == "gpu: NVIDIA H200, CuPy 14.2.0, CUDA 13.2"
    assert (asked.reason, auto.reason) == ("", "NVIDIA H200 is usable")
    assert backend.probe_gpu() == backend.GpuReport(
        usable=True, problem="", remedy="", packages=["cupy-cuda13x 14.2.0"], cupy="14.2.0", cuda_runtime="13.2",
        cuda_driver="13.0", devices=1, device="NVIDIA H200", compute_capability="9.0", memory_bytes=2**37,
    )


def test_the_cpu_is_described_and_never_asks_for_a_gpu(machine):
    machine.cuda.runtime.driverGetVersion = failing(AssertionError("asked"))
    cpu = backend.resolve("cpu")
    assert cpu.xp is np
    assert cpu.reason == ""
    assert cpu.description.startswith("cpu: ")
    assert f", NumPy {np.__version__}, " in cpu.description
    assert "kernels" in cpu.description
    assert "thread" in cpu.description
    assert backend.probe_gpu.cache_info().currsize == 0


def test_the_cpus_kernels_and_threads_are_chosen_by_name():
    numpy = backend.resolve("cpu", kernels="numpy", threads=1)
    assert not numpy.records
    assert "1 BLAS thread (NumPy's kernels: as asked)" in numpy.description
    assert numpy.steps_at_once(1e6) == 1
    compiled = backend.resolve("cpu", threads=3)
    if compiled.records:
        assert compiled.description.endswith("compiled kernels, 3 threads")
        assert compiled.steps_at_once(1.0) == backend.RECORDED_STEPS
        assert compiled.steps_at_once(1e12) == 1        # or nobody could interrupt them
    for wrong in ({"kernels": "fast"}, {"threads": 0}):
        with pytest.raises(ConfigError, match=r"'fast' is unknown; take 'auto', 'compiled' or 'numpy'|0 threads"):
            backend.resolve("cpu", **wrong)


def test_cupy_not_installed(monkeypatch, packages):
    packages.clear()
    monkeypatch.setitem(sys.modules, "cupy", None)  # what Python itself does for a module that must not be found
    sentence = refusal()
    assert "CuPy is not installed" in sentence
    assert 'pip install "fastmlp[cuda13]"' in sentence
    assert '"fastmlp[cuda12]"' in sentence


def test_two_cupy_packages_side_by_side(machine, packages):
    packages["cupy-cuda12x"] = "13.6.0"
    sentence = refusal()
    assert "side by side (cupy-cuda12x 13.6.0, cupy-cuda13x 14.2.0)" in sentence
    assert "pip uninstall cupy-cuda12x cupy-cuda13x" in sentence


@pytest.mark.parametrize(("module", "quoted"), [
    ("try:\n    raise ImportError('libcudart.so.12: cannot open shared object file')\n"
     "except ImportError as error:\n    raise ImportError('=====\\nFailed to import CuPy.\\n=====') from error\n",
     "(ImportError: libcudart.so.12: cannot open shared object file); "),
    ("import absent_dependency_of_cupy", "(ModuleNotFoundError: No module named 'absent_dependency_of_cupy'); "),
])
def test_a_failing_import_is_quoted_without_cupys_page_of_advice(monkeypatch, packages, tmp_path, module, quoted):
    monkeypatch.delitem(sys.modules, "cupy", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "cupy.py").write_text(module)
    assert f"CuPy cannot be imported {quoted}" in refusal()


@pytest.mark.parametrize(("place", "value", "problem", "remedy"), [
    ("__version__", "13.6.0", "CuPy 13.6.0 is too old, 14 or newer is needed", "pip install --upgrade cupy-cuda13x"),
    ("cuda.runtime.is_hip", True, "this CuPy was built for ROCm, not for CUDA", "for a CUDA 12 driver)"),
    ("cuda.runtime.driverGetVersion", lambda: 0, "no NVIDIA driver is loaded", "docker run --gpus all"),
    ("cuda.runtime.driverGetVersion", lambda: 12080,
     "the NVIDIA driver supports CUDA 12.8 at most, but CuPy was built with CUDA 13.2",
     'update the driver, or take the older CUDA with pip uninstall cupy-cuda13x, then pip install "fastmlp[cuda12]"'),
    ("cuda.runtime.driverGetVersion", lambda: 11040, "driver supports CUDA 11.4 at most", "update the driver"),
    ("cuda.runtime.getDeviceCount", lambda: 0, "no GPU is visible", "lists one"),
    ("capability", (7, 0), "NVIDIA H200 has compute capability 7.0, 7.5 or newer is needed", "CUDA_VISIBLE_DEVICES"),
    ("cuda.nvrtc.getVersion", failing(RuntimeError('Failure finding "libnvrtc.so.13":\nNo such file\n')),
     """CUDA's libraries (RuntimeError: Failure finding "libnvrtc.so.13": No such file)""",
     'install them with pip install "fastmlp[cuda13]"'),
    ("ones", failing(MemoryError("no memory")), "product on NVIDIA H200 failed (MemoryError: no memory)", "says"),
])
def test_each_obstacle_has_its_sentence_and_its_way_out(machine, place, value, problem, remedy):
    *parents, last = place.split(".")
    setattr(functools.reduce(getattr, parents, machine), last, value)
    found, way_out = refusal().split("; ")
    assert problem in found
    assert way_out.endswith(remedy)


@pytest.mark.parametrize(("value", "problem"), [
    (None, "there is an NVIDIA driver but no GPU is visible"), ("-1", "CUDA_VISIBLE_DEVICES='-1' hides every GPU"),
])
def test_a_hidden_gpu_names_the_variable_that_hides_it(machine, monkeypatch, value, problem):
    machine.cuda.runtime.getDeviceCount = failing(CUDARuntimeError("cudaErrorNoDevice: no CUDA-capable device"))
    if value is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)
    assert problem in refusal()


@pytest.mark.parametrize("capability", [(7, 5), (8, 0), (12, 0)])
def test_a_gpu_of_the_oldest_generation_or_newer_is_taken(machine, capability):
    machine.capability = capability
    assert backend.resolve("gpu").name == "gpu"


def test_a_missing_cublas_is_seen_before_it_is_needed(machine):
    del machine.cuda.cublas
    assert "CuPy cannot load CUDA's libraries" in refusal()


@pytest.mark.parametrize("function", [
    "runtimeGetVersion", "driverGetVersion", "getDeviceCount", "getDevice", "getDeviceProperties",
])
def test_whatever_the_runtime_raises_is_a_finding(machine, function):
    setattr(machine.cuda.runtime, function, failing(CUDARuntimeError("cudaErrorUnknown: unknown error " + "x" * 999)))
    sentence = refusal()
    assert "CUDA does not start (CUDARuntimeError: cudaErrorUnknown: unknown error" in sentence
    assert len(sentence) < 400


def test_an_unknown_device_is_refused():
    with pytest.raises(ConfigError, match=r"device 'cuda' is unknown; take 'auto', 'cpu' or 'gpu'"):
        backend.resolve("cuda")


def test_tf32_is_taken_only_where_it_is_asked_for_and_only_by_a_gpu(machine):
    assert backend.resolve("gpu", "tf32").description.endswith(", CUDA 13.2, tf32")
    with pytest.raises(ConfigError, match="precision 'tf32' needs a GPU: leave it out, the CPU computes in float32"):
        backend.resolve("cpu", "tf32")
    with pytest.raises(ConfigError, match="precision 'half' is unknown; take 'float32' or 'tf32'"):
        backend.resolve("cpu", "half")
    machine.cuda.runtime.driverGetVersion = lambda: 0
    backend.probe_gpu.cache_clear()
    with pytest.raises(ConfigError, match="precision 'tf32' needs a GPU, and no NVIDIA driver is loaded: leave it out"):
        backend.resolve("auto", "tf32")


def test_the_kernels_of_a_gpu_are_made_once_for_each_precision(machine):
    assert backend.resolve("gpu").kernels is backend.resolve("gpu").kernels
    assert backend.resolve("gpu", "tf32").kernels is not backend.resolve("gpu").kernels


def test_arrays_go_to_the_device_and_come_back(machine):
    gpu = backend.resolve("gpu")
    x = gpu.asarray([[1.0, 2.0]])
    assert isinstance(x, DeviceArray)
    host = gpu.to_host(x)
    assert isinstance(host, np.ndarray)
    assert host.tolist() == [[1.0, 2.0]]
    cpu = backend.resolve("cpu")
    assert cpu.to_host(host) is cpu.asarray(host) is host  # there is nowhere to go


def test_synchronize_waits_for_the_gpu_only(machine):
    backend.resolve("gpu").synchronize()
    assert machine.synchronized == 1
    backend.resolve("cpu").synchronize()
    assert machine.synchronized == 1


def test_mixed_arrays_are_refused_with_both_kinds_named(machine):
    gpu, cpu = backend.resolve("gpu"), backend.resolve("cpu")
    host, device = np.zeros(2), DeviceArray([0])
    assert gpu.check(device, device) is cpu.check(host, host) is None
    with pytest.raises(TypeError, match=r"gpu backend computes on cupy arrays, but array 2 of 2 is a numpy\.ndarray"):
        gpu.check(device, host)
    with pytest.raises(TypeError, match=r"cpu backend computes on numpy arrays, but array 1 of 2 is a .*DeviceArray"):
        cpu.check(device, host)


def test_users_cupy_arrays_are_recognised_and_everything_else_is_left_alone(machine):
    device, a_list, settings = DeviceArray([1, 2]), [1, 2], {"get": 1}
    assert backend.is_device_array(device)
    assert backend.host_array(device).tolist() == [1, 2]
    for other in (np.zeros(2), a_list, settings):
        assert not backend.is_device_array(other)
        assert backend.host_array(other) is other


@pytest.mark.parametrize("loaded", [None, types.ModuleType("cupy")])  # none, and one whose import is under way
def test_without_a_loaded_cupy_nothing_is_a_device_array(monkeypatch, loaded):
    monkeypatch.setitem(sys.modules, "cupy", loaded)
    assert not backend.is_device_array(DeviceArray([1]))


def test_the_import_brings_in_nothing_heavy():
    code = ("import sys, fastmlp.backend, fastmlp.doctor, fastmlp.plots, fastmlp.progress;"
            "heavy = {'cupy', 'matplotlib', 'tqdm', 'threadpoolctl', 'scipy', 'sklearn'} & set(sys.modules);"
            "assert not heavy, heavy")
    subprocess.run([sys.executable, "-c", code], check=True)
