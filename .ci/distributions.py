"""Whether sdist and wheel hold what they should: `distributions.py FOLDER < names of the repository's files`."""

import sys
import tarfile
import zipfile
from pathlib import Path

NOT_SHIPPED = {".gitignore"}
MADE_FOR_SDIST = {"PKG-INFO", "setup.cfg", *(f"fastmlp.egg-info/{name}" for name in (
    "PKG-INFO", "SOURCES.txt", "dependency_links.txt", "entry_points.txt", "requires.txt", "top_level.txt"))}
MADE_FOR_WHEEL = {"METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE", "top_level.txt"}


def differences(found: set[str], expected: set[str], name: str) -> list[str]:
    """One line for each file too many or too few."""
    return ([f"{name} has {file}, which it should not" for file in sorted(found - expected)]
            + [f"{name} lacks {file}" for file in sorted(expected - found)])


def main() -> int:
    """Compare both, and say what is wrong."""
    folder, tracked = Path(sys.argv[1]), set(sys.stdin.read().split("\n")) - {""}
    [sdist], [wheel] = folder.glob("*.tar.gz"), folder.glob("*.whl")
    with tarfile.open(sdist) as tar:
        top = sdist.name.removesuffix(".tar.gz") + "/"
        in_sdist = {member.name.removeprefix(top) for member in tar if not member.isdir()}
    with zipfile.ZipFile(wheel) as archive:
        in_wheel = {name for name in archive.namelist() if not name.endswith("/")}
    information = "-".join(wheel.name.split("-")[:2]) + ".dist-info/"
    wrong = differences(in_sdist, (tracked - NOT_SHIPPED) | MADE_FOR_SDIST, sdist.name)
    wrong += differences(in_wheel, {name for name in tracked if name.startswith("fastmlp/")}
                         | {information + name for name in MADE_FOR_WHEEL}, wheel.name)
    print(*wrong or [f"{sdist.name}: {len(in_sdist)} files, {wheel.name}: {len(in_wheel)}: as it should be"], sep="\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
