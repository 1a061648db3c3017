"""Every test of the kernels belongs to a rung of the ladder, so that a failure names its cause."""

import re
import tomllib
from pathlib import Path

import pytest

HERE = Path(__file__).parent
OF_KERNELS = [HERE / "test_gradcheck.py",
              *sorted(path for folder in ("gpu", "kernels", "on_gpu") for path in (HERE / folder).glob("test_*.py"))]
RUNG = re.compile(r"^pytestmark = \[?\s*(?:pytest\.mark\.gpu, )?pytest\.mark\.(L\d)\b", re.MULTILINE)
RUNGS = [f"L{number}" for number in range(7)]


@pytest.mark.parametrize("path", OF_KERNELS, ids=lambda path: path.name)
def test_a_file_of_kernel_tests_belongs_to_a_rung(path):
    found = RUNG.findall(path.read_text(encoding="utf-8"))
    assert len(found) == 1
    assert found[0] in RUNGS


def test_every_rung_has_tests_and_is_explained():
    used = {rung for path in OF_KERNELS for rung in RUNG.findall(path.read_text(encoding="utf-8"))}
    assert sorted(used) == RUNGS
    options = tomllib.loads((HERE.parent / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["pytest"]
    registered = [marker.split(":")[0] for marker in options["ini_options"]["markers"]]
    assert [name for name in registered if name.startswith("L")] == RUNGS
    explained = re.findall(r"^\| (L\d) \|", (HERE.parent / "docs" / "gpu.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert explained == RUNGS
