"""What this machine and this installation are: `fastmlp doctor`, and the environment.json beside a run's results."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import fastmlp
from fastmlp.cpu import blas_pools, cpu_model, usable_cores
from fastmlp.gpu import probe_gpu
from fastmlp.kernels.c_library import compiler

_PACKAGES = ("numpy", "scipy", "scikit-learn", "matplotlib", "safetensors", "threadpoolctl", "tqdm",
             "pandas", "pyarrow", "pooch")
_VARIABLES = (
    "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "GOTO_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS", "NUMEXPR_NUM_THREADS", "OMP_PROC_BIND", "OMP_PLACES", "OMP_WAIT_POLICY", "OMP_DYNAMIC",
    "KMP_AFFINITY", "KMP_BLOCKTIME", "GOMP_CPU_AFFINITY", "OPENBLAS_CORETYPE", "CUDA_VISIBLE_DEVICES",
)


def report(*, gpu: bool = True, folder: Path | None = None) -> dict[str, Any]:
    """Describe the machine and the installation.

    Parameters
    ----------
    gpu : bool, default True
        Whether to look for a GPU. A run on the CPU leaves it alone: looking starts CUDA, which takes time and memory.
    folder : Path, optional
        Whose commit to tell; the current one by default.

    Returns
    -------
    dict
        JSON types only: `python`, `platform`, `cpu`, `cores` (those this process may use), `c_compiler` (the command,
        or None), `packages` (versions, or "not installed"), `blas` (a list of those loaded: library, version, threads,
        and the file with its folder, which tells NumPy's from SciPy's), `variables` (those that are set and steer
        threads or choose GPUs), `git_commit` (of the folder, "-dirty" appended where files were changed, or None) and
        `gpu` (the fields of `fastmlp.backend.GpuReport`, or None where it was not asked for).

    Examples
    --------
    >>> report(gpu=False)["cores"] >= 1
    True
    """
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": cpu_model(),
        "cores": usable_cores(),
        "c_compiler": " ".join(compiler() or ()) or None,
        "packages": {"fastmlp": fastmlp.__version__, **{name: _version(name) for name in _PACKAGES}},
        "blas": [
            {"library": pool["internal_api"], "version": pool["version"], "threads": pool["num_threads"],
             "file": "/".join(Path(pool["filepath"]).parts[-2:])}
            for pool in blas_pools()
        ],
        "variables": {name: os.environ[name] for name in _VARIABLES if name in os.environ},
        "git_commit": _git_commit(folder),
        "gpu": dataclasses.asdict(probe_gpu()) if gpu else None,
    }


def text(report: dict[str, Any]) -> str:
    """The readable form of a report.

    Parameters
    ----------
    report : dict
        What `report` returned.

    Returns
    -------
    str
        Lines of at most one fact each; the last says which device "auto" takes and why.

    Examples
    --------
    >>> text(report(gpu=False)).splitlines()[-1]
    '--device auto: not asked'
    """
    facts = [
        ("Python", report["python"]),
        ("platform", report["platform"]),
        ("processor", f"{report['cpu']}, {report['cores']} cores usable"),
        ("C compiler", report["c_compiler"] or "none, so NumPy's kernels compute; pip install 'fastmlp[fast]' helps"),
        *report["packages"].items(),
        *(("BLAS", f"{pool['library']} {pool['version']}, {pool['threads']} threads, {pool['file']}")
          for pool in report["blas"]),
        *report["variables"].items(),
        ("git commit", report["git_commit"] or "none"),
    ]
    gpu = report["gpu"]
    if gpu is None:
        verdict = "not asked"
    else:
        facts += [("CuPy", ", ".join(gpu["packages"]) or "not installed"), *_gpu_facts(gpu)]
        verdict = (f"gpu, because {gpu['device']} is usable" if gpu["usable"]
                   else f"cpu, because {gpu['problem']}; {gpu['remedy']}")
    width = max(len(name) for name, _ in facts)
    return "\n".join([*(f"{name:{width}}  {value}" for name, value in facts), "", f"--device auto: {verdict}"])


def _gpu_facts(gpu: dict[str, Any]) -> list[tuple[str, str]]:
    """What was found of the GPU, as far as the search came."""
    facts = []
    if gpu["cuda_runtime"]:
        facts.append(("CUDA", f"CuPy's {gpu['cuda_runtime']}, the driver's {gpu['cuda_driver'] or 'missing'}"))
    if gpu["device"]:
        facts.append(("GPU", f"{gpu['device']}, {gpu['memory_bytes'] / 2**30:.0f} GiB, compute capability "
                             f"{gpu['compute_capability']}, {gpu['devices']} visible"))
    return facts


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _git_commit(folder: Path | None = None) -> str | None:
    """The commit of a folder, the current one by default; "-dirty" appended where tracked files differ from it."""
    # Without the helper program that a repository's own settings may name.
    command = ["git", "-c", "core.fsmonitor=false", "--no-optional-locks",
               "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True, cwd=folder)
    except (OSError, subprocess.SubprocessError):
        return None  # no git, not a repository, one without a commit, or one that git does not trust
    return answer.stdout.strip()
