"""Everything that a machine with an NVIDIA GPU can tell about fastmlp, in one command and less than eight minutes.

    python scripts/gpu_report.py [--out benchmarks/results/gpu-DATE] [--minutes 7.5]

Runs the GPU's tests (which fail without a GPU), the kernels' times, and the epoch benchmark beside the peers that are
installed, each in a process of its own with a time limit. After every part it writes report.json and report.md, with
what a part that had to be stopped had written until then, and pictures. It works from a clone; fastmlp need not be
installed.
"""

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

import kernels  # noqa: E402
import pictures  # noqa: E402
import reporting  # noqa: E402
from measuring import driver, versions  # noqa: E402

SECTIONS = ("networks", "populations", "widths")
#: How the time is shared; what a part leaves over is shared among those after it.
SHARES = {"doctor": 4, "tests": 18, "kernels": 12, "networks": 32, "populations": 16, "widths": 18}
PACKAGES = ("cupy-cuda13x", "cupy-cuda12x", "numpy", "scipy", "torch", "jax", "jaxlib", "scikit-learn", "matplotlib",
            "pytest", "hypothesis", "pandas", "pyarrow", "safetensors", "threadpoolctl", "tqdm")
DOCTOR = "import json; from fastmlp import doctor; print(json.dumps(doctor.report()))"
OUTCOME = re.compile(r"^(\S*::.*?) (PASSED|FAILED|ERROR|SKIPPED|XFAIL|XPASS)\b", re.MULTILINE)
TAIL = 6000             # characters of a part's output in report.md; report.json has more
TAIL_IN_JSON = 60_000


def commands(folder, device, trial):
    """What runs in each part, given its time limit."""
    small = ["--n", "200", "--inputs", "12", "--rounds", "1", "--few-rounds"] if trial else []
    cases = {"networks": ["50-50"], "populations": ["1"], "widths": ["50-50"]}

    def epochs(section):
        def command(limit):
            # A contender that has begun is finished: leave time for the slowest compilation, and for the beginning.
            return ["benchmarks/epoch.py", "--section", section, "--device", device, "--peers", "--out",
                    str(folder / section), "--budget", f"{limit - min(30, limit / 3):.0f}", *small,
                    *(["--only", *cases[section]] if trial else [])]
        return command

    return {
        "doctor": lambda limit: ["-c", DOCTOR],     # noqa: ARG005
        "tests": lambda limit: ["-m", "pytest", "-m", "gpu", "tests", "-vv", "--tb=short", "--color=no",    # noqa: ARG005
                                "-p", "no:cacheprovider", "--continue-on-collection-errors"],
        "kernels": lambda limit: ["benchmarks/kernels.py", "--device", device, "--out", str(folder / "kernels"),  # noqa: ARG005
                                  *(["--rounds", "1", "--calls", "2", "--only", "50-50, second layer"] * trial)],
        **{section: epochs(section) for section in SECTIONS},
    }


def run(command, limit):
    """Seconds, exit code and output of a command; one that takes too long is stopped with all that it has started."""
    began = time.perf_counter()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "FASTMLP_REQUIRE_GPU": "1", "PYTHONUNBUFFERED": "1"}
    with tempfile.TemporaryFile() as output:
        child = subprocess.Popen([sys.executable, *command], cwd=ROOT, env=environment, stdin=subprocess.DEVNULL,
                                 stdout=output, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            code, stopped = child.wait(limit), False
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            code, stopped = child.wait(), True
        output.seek(0)
        text = output.read().decode(errors="replace")
    return {"command": " ".join(command), "seconds": time.perf_counter() - began, "limit": limit, "code": code,
            "stopped": stopped, "output": text[-TAIL_IN_JSON:]}


def gather(facts, folder):
    """Add to the facts what the parts have written: the machine, the tests' outcomes, the benchmarks' results."""
    parts = facts["parts"]
    if "doctor" in parts:
        lines = [line for line in parts["doctor"]["output"].splitlines() if line.startswith("{")]
        facts["machine"] = json.loads(lines[-1]) if lines else None
        facts["commit"] = (facts["machine"] or {}).get("git_commit") or commit_by_hand(ROOT)
    if "tests" in parts:
        outcomes = OUTCOME.findall(parts["tests"]["output"])
        facts["tests"] = {"counts": Counter(outcome.lower() for _, outcome in outcomes),
                          "failed": [test for test, outcome in outcomes if outcome in ("FAILED", "ERROR")]}
    for part, file in (("kernels", "kernels.json"), *((section, "epoch.json") for section in SECTIONS)):
        path = folder / part / file
        facts[part] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
    return facts


def commit_by_hand(root):
    """The commit of a clone where git itself is missing, or "unknown"."""
    try:
        git = root / ".git"
        if git.is_file():                                           # a worktree: "gitdir: ..."
            git = root / git.read_text().partition(":")[2].strip()
        head = (git / "HEAD").read_text().strip()
        if not head.startswith("ref:"):
            return head
        name = head.partition(":")[2].strip()
        common = git / (git / "commondir").read_text().strip() if (git / "commondir").exists() else git
        if (common / name).exists():
            return (common / name).read_text().strip()
        packed = (common / "packed-refs").read_text().splitlines()
        return next(line.split()[0] for line in packed if line.endswith(f" {name}"))
    except (OSError, StopIteration):
        return "unknown"


def markdown(facts):
    """The readable report."""
    gpu = (facts.get("machine") or {}).get("gpu") or {}
    lines = [f"# fastmlp on {gpu.get('device') or 'no GPU'}", "",
             f"{facts['date']}, commit {facts.get('commit', 'unknown')}", "",
             f"- GPU: {gpu.get('device') or gpu.get('problem') or 'unknown'}",
             f"- driver {facts['driver']}, CUDA {gpu.get('cuda_runtime')} (the driver's: {gpu.get('cuda_driver')}), "
             f"CuPy {gpu.get('cupy')}"]
    if facts.get("machine"):
        machine = facts["machine"]
        lines.append(f"- {machine['cpu']}, {machine['cores']} cores, Python {machine['python']}, {machine['platform']}")
    lines += ["- " + ", ".join(f"{name} {version}" for name, version in facts["versions"].items()), ""]
    for name, part in facts["parts"].items():
        lines += [f"## {name.capitalize()}: {verdict(part)} in {part['seconds']:.0f} s", ""]
        if name == "tests":
            lines += tests(facts["tests"], part)
        elif name == "kernels" and facts["kernels"]:
            lines += [*kernels.table(facts["kernels"]["rows"]), ""]
            lines += [f"- failed: {one['shapes']}, {one['operation']} ({one['variant']}): {one['error']}"
                      for one in facts["kernels"]["failed"]] + [""]
        elif name in SECTIONS and facts[name]:
            lines += [*reporting.about(facts[name]), "", *demoted(reporting.sections(facts[name])), ""]
            lines += [f"Picture: `{name}.png`", ""] if facts[name]["rows"] else []
        if part["code"] != 0:
            lines += ["```", part["output"][-TAIL:].strip(), "```", ""]
    return "\n".join(lines)


def verdict(part):
    if part["stopped"]:
        return f"STOPPED at its limit of {part['limit']:.0f} s"
    return "done" if part["code"] == 0 else f"FAILED (exit code {part['code']})"


def tests(outcome, part):
    """How many tests had which outcome, and which failed."""
    counts = ", ".join(f"{number} {name}" for name, number in sorted(outcome["counts"].items()))
    last = (part["output"].strip().splitlines() or [""])[-1].strip("= ")
    return [f"{counts or 'no test ran'} ({last})", "", *(f"- FAILED {test}" for test in outcome["failed"]), ""]


def demoted(lines):
    """Headings one level down."""
    return [f"#{line}" if line.startswith("#") else line for line in lines]


def write(facts, out):
    """report.json, report.md, and a picture a section."""
    for section in SECTIONS:
        if section in facts["parts"] and facts[section] and facts[section]["rows"]:
            try:
                pictures.draw(facts[section]["rows"], out / f"{section}.png")
            except Exception as error:      # noqa: BLE001  a report without pictures is better than none
                print(f"no picture of {section}: {error}")
    (out / "report.json").write_text(json.dumps(facts, indent=1), encoding="utf-8")
    (out / "report.md").write_text(markdown(facts), encoding="utf-8")


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path,
                        default=ROOT / "benchmarks" / "results" / f"gpu-{time.strftime('%Y-%m-%d')}")
    parser.add_argument("--minutes", type=float, default=7.5, help="for everything together")
    parser.add_argument("--device", choices=("gpu", "cpu"), default="gpu", help="of the benchmarks")
    parser.add_argument("--parts", nargs="+", choices=SHARES, default=list(SHARES))
    parser.add_argument("--trial", action="store_true", help="tiny sizes: to see whether the report itself works")
    args = parser.parse_args(arguments)
    args.parts = ["doctor", *(name for name in args.parts if name != "doctor")]      # which names the machine
    args.out.mkdir(parents=True, exist_ok=True)
    end = time.perf_counter() + 60 * args.minutes
    facts = {"date": time.strftime("%Y-%m-%d %H:%M"), "driver": driver(), "versions": versions(PACKAGES), "parts": {}}
    with tempfile.TemporaryDirectory() as folder:
        known = commands(Path(folder), args.device, args.trial)
        for k, name in enumerate(args.parts):
            left = sum(SHARES[later] for later in args.parts[k:])
            limit = max(5.0, (end - time.perf_counter()) * SHARES[name] / left)
            part = facts["parts"][name] = run(known[name](limit), limit)
            print(f"{name}: {verdict(part)} in {part['seconds']:.0f} s", flush=True)
            write(gather(facts, Path(folder)), args.out)
    print((args.out / "report.md").read_text(encoding="utf-8"))
    return int(any(part["code"] != 0 for part in facts["parts"].values()))


if __name__ == "__main__":
    sys.exit(main())
