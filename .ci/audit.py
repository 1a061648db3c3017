"""Known vulnerabilities of what an environment holds beside pip: `audit.py ITS_PYTHON`, by pip-audit, installed here.

Only where its database cannot be reached at all, so that nothing was audited, is that said and taken for no failure.
"""

import json
import subprocess
import sys
import tempfile

OURS = "fastmlp"            # built here, so no database knows it
UNREACHABLE = ("ConnectionError", "NameResolutionError", "ConnectTimeout", "ReadTimeout")
NOTHING_AUDITED = "the database of known vulnerabilities cannot be reached from here: NOTHING WAS AUDITED"


def verdict(output: str, error: str) -> tuple[int, str]:
    """Exit status and words for what pip-audit wrote."""
    try:
        packages = json.loads(output)["dependencies"]
    except (ValueError, KeyError):
        if any(name in error for name in UNREACHABLE):
            return 0, NOTHING_AUDITED
        return 1, f"pip-audit failed:\n{error[-2000:]}"
    skipped = [package["name"] for package in packages if "vulns" not in package]
    wrong = [f"{package['name']} {package['version']}: {flaw['id']}, mended in {flaw['fix_versions'] or 'no version'}"
             for package in packages for flaw in package.get("vulns", [])]
    if not packages:
        return 1, "there is nothing to audit"
    if len(skipped) == len(packages):
        return 0, NOTHING_AUDITED
    if skipped:
        wrong.append(f"could not be audited: {', '.join(skipped)}")
    return (1, "\n".join(wrong)) if wrong else (0, f"{len(packages)} packages without a known vulnerability")


def main() -> int:
    """Audit the environment, and say what came of it."""
    frozen = subprocess.run([sys.argv[1], "-m", "pip", "freeze", "--exclude", OURS], capture_output=True, check=True)
    with tempfile.NamedTemporaryFile(suffix=".txt") as file:
        file.write(frozen.stdout)
        file.flush()
        done = subprocess.run([sys.executable, "-m", "pip_audit", "--requirement", file.name, "--no-deps",
                               "--disable-pip", "--format", "json", "--progress-spinner", "off"],
                              capture_output=True, text=True, check=False)
    status, words = verdict(done.stdout, done.stderr)
    print(words)
    return status


if __name__ == "__main__":
    sys.exit(main())
