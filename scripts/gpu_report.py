"""Everything that a machine with an NVIDIA GPU can tell about fastmlp, in one command and a few minutes.

    python scripts/gpu_report.py [--out benchmarks/results/gpu] [--rounds 5]

Runs the GPU's tests (which fail without a GPU) and the epoch benchmark with the peers that are installed, and writes
report.json and report.md. It works from a clone; fastmlp need not be installed.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from fastmlp.doctor import report  # noqa: E402


def run(*command, limit):
    """Seconds, exit code and output of a command; one that takes too long counts as failed."""
    began = time.perf_counter()
    try:
        done = subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True, timeout=limit,
                              env={**os.environ, "PYTHONPATH": str(ROOT), "FASTMLP_REQUIRE_GPU": "1"})
        code, output = done.returncode, done.stdout + done.stderr
    except subprocess.TimeoutExpired as stopped:
        code, output = 124, f"stopped after {limit} s\n{(stopped.stdout or b'').decode(errors='replace')}"
    return {"command": " ".join(command), "seconds": time.perf_counter() - began, "code": code, "output": output}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "gpu")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    machine = report()
    parts = {
        "tests on the GPU": run("-m", "pytest", "-m", "gpu", "tests/on_gpu", "-p", "no:cacheprovider", limit=150),
        "epochs": run("benchmarks/epoch.py", "--device", "gpu", "--peers", "--rounds", str(args.rounds), "--out",
                      str(args.out / "epochs.json"), limit=300),
    }
    facts = {"date": time.strftime("%Y-%m-%d %H:%M"), "machine": machine, "parts": parts}
    (args.out / "report.json").write_text(json.dumps(facts, indent=1))
    gpu = machine["gpu"]
    lines = [f"# fastmlp on {gpu['device'] or 'no GPU'}", "",
             f"{facts['date']}, commit {machine['git_commit']}, CuPy {gpu['cupy']}, CUDA {gpu['cuda_runtime']} "
             f"(driver: {gpu['cuda_driver']}), Python {machine['python']}, {machine['platform']}", ""]
    for name, part in parts.items():
        verdict = "passed" if part["code"] == 0 else f"FAILED ({part['code']})"
        lines += [f"## {name}: {verdict} in {part['seconds']:.0f} s", "", "```", part["output"][-8000:].strip(), "```",
                  ""]
    (args.out / "report.md").write_text("\n".join(lines))
    print("\n".join(lines))
    return max(part["code"] for part in parts.values())


if __name__ == "__main__":
    sys.exit(main())
