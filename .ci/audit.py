"""Known vulnerabilities of what is installed: `audit.py SITE_PACKAGES`, by pip-audit, which must be installed here.

Only where its database cannot be reached at all, so that nothing was audited, is that said and taken for no failure.
"""

import json
import subprocess
import sys

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
    others = [package for package in packages if package["name"] != OURS]
    skipped = [package["name"] for package in others if "vulns" not in package]
    wrong = [f"{package['name']} {package['version']}: {flaw['id']}, mended in {flaw['fix_versions'] or 'no version'}"
             for package in others for flaw in package.get("vulns", [])]
    if not others:
        return 1, "there is nothing to audit"
    if len(skipped) == len(others):
        return 0, NOTHING_AUDITED
    if skipped:
        wrong.append(f"could not be audited: {', '.join(skipped)}")
    return (1, "\n".join(wrong)) if wrong else (0, f"{len(others)} packages without a known vulnerability")


def main() -> int:
    """Audit the folder of packages, and say what came of it."""
    done = subprocess.run([sys.executable, "-m", "pip_audit", "--path", sys.argv[1], "--format", "json",
                           "--progress-spinner", "off"], capture_output=True, text=True, check=False)
    status, words = verdict(done.stdout, done.stderr)
    print(words)
    return status


if __name__ == "__main__":
    sys.exit(main())
