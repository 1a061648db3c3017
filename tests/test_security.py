"""What SECURITY.md promises of the library as a whole; the tests of the readers and of the cache hold the rest."""

import ast
import inspect
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import matplotlib
import numpy as np
import pytest

import fastmlp
from fastmlp.data import cifar10
from fastmlp.search.samplers import CLASSES

PACKAGE = Path(fastmlp.__file__).parent
TREES = {path.relative_to(PACKAGE).as_posix(): ast.parse(path.read_text(encoding="utf-8"))
         for path in sorted(PACKAGE.rglob("*.py"))}



def imported(tree):
    """The first parts of the names of all modules that are imported."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add((node.module or "").partition(".")[0])
    return names


IMPORTED = {name: imported(tree) for name, tree in TREES.items()}

#: What could run code from a file; `pickletools` only takes a pickle apart.
RUNS_CODE = {"pickle", "_pickle", "cPickle", "marshal", "shelve", "dill", "cloudpickle", "joblib", "runpy", "code"}
CALLS_THAT_RUN_CODE = {"eval", "exec", "compile", "__import__", "os.system", "os.popen", "pandas.read_pickle"}
#: What reaches a network, starts a program or loads a library, and who may have it.
REACHES_OUT = {
    "pooch": {"data/download.py"},
    "psycopg": {"search/storage.py"},           # --storage postgresql://
    "sqlalchemy": {"search/storage.py"},
    "socket": {"search/ledger.py"},             # for the name of this machine
    "subprocess": {"doctor.py", "kernels/c_library.py"},        # git; the C compiler
    "urllib": set(), "http": set(), "requests": set(), "ftplib": set(), "smtplib": set(), "asyncio": set(),
    "ssl": set(), "multiprocessing": set(), "webbrowser": set(),
}


def calls(tree):
    """What each call calls, in words, and its node: `np.load` for `np.load(...)`."""
    return [(ast.unparse(node.func), node) for node in ast.walk(tree) if isinstance(node, ast.Call)]


def test_nothing_in_the_library_can_unpickle_or_evaluate():
    for name, tree in TREES.items():
        assert not RUNS_CODE & IMPORTED[name], name
        assert not [node.lineno for called, node in calls(tree) if called in CALLS_THAT_RUN_CODE], name


def test_numpy_reads_no_pickled_objects():
    found = 0
    for name, tree in TREES.items():
        for called, node in calls(tree):
            if called in ("np.load", "np.save", "np.lib.format.read_array"):
                words = {word.arg: ast.unparse(word.value) for word in node.keywords}
                assert words.get("allow_pickle") == "False", f"{name}:{node.lineno}"
                found += called != "np.save"
    assert found >= 2


def test_no_sampler_keeps_pickles_in_the_database_of_a_search():
    optuna = pytest.importorskip("optuna")
    kept = {name: "pickle" in Path(inspect.getfile(getattr(optuna.samplers, name))).read_text(encoding="utf-8")
            for name in (*CLASSES.values(), "CmaEsSampler")}
    assert [name for name, has_pickles in kept.items() if has_pickles] == ["CmaEsSampler"]     # which is not offered


def test_only_known_modules_reach_a_network_or_start_programs():
    users = {what: {name for name, names in IMPORTED.items() if what in names} for what in REACHES_OUT}
    assert users == REACHES_OUT


def test_the_only_address_is_that_of_cifar10_over_https_with_pinned_checksums():
    addresses = {(name, found) for name in TREES
                 for found in re.findall(r"https?://[^\s\"')]+", (PACKAGE / name).read_text(encoding="utf-8"))}
    fetched = {found for name, found in addresses if name.startswith("data/")}
    assert fetched == {cifar10.BASE_URL}
    assert cifar10.BASE_URL.startswith("https://")
    assert [layout.sha256 for layout in cifar10.LAYOUTS] == [
        "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
        "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce"]


#: Python tells of every connection, program and file that its own code asks for.
WATCHED = """
import json, os, sys

seen = {"network": [], "programs": [], "written": []}
def watch(event, details):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto"):
        seen["network"].append(repr(details))
    elif event in ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn"):
        seen["programs"].append(os.path.basename(str(details[0])))
    elif event == "open" and isinstance(details[0], str) and (details[2] or 0) & (os.O_WRONLY | os.O_RDWR):
        seen["written"].append(os.path.abspath(details[0]))

sys.addaudithook(watch)
from fastmlp.cli import main
codes = [main(["train", "--cycles", "1", "--step-size", "20", "--hidden", "5", "--out", "run"]),
         main(["predict", "run/model.safetensors", "new.npy", "--out", "predictions.csv"])]
print(json.dumps({**seen, "codes": codes}), file=sys.stderr)
"""


def test_training_and_predicting_stay_off_the_network_and_write_where_they_said(tmp_path):
    np.save(tmp_path / "new.npy", np.zeros((3, 64)))
    home, cache, temporary = (tmp_path / name for name in ("home", "cache", "tmp"))
    for folder in (home, temporary):
        folder.mkdir()
    path = os.pathsep.join(os.path.abspath(place) for place in sys.path if place)       # noqa: PTH100 - "." is one
    environment = {**os.environ, "HOME": str(home), "XDG_CACHE_HOME": str(cache), "XDG_CONFIG_HOME": str(home),
                   "TMPDIR": str(temporary), "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1",
                   "MPLCONFIGDIR": matplotlib.get_cachedir(), "CC": "false"}    # fonts and kernels take seconds
    done = subprocess.run([sys.executable, "-c", WATCHED], cwd=tmp_path, env=environment, capture_output=True,
                          text=True, check=True, timeout=100)
    seen = json.loads(done.stderr.splitlines()[-1])
    assert seen["codes"] == [0, 0], done.stderr
    assert seen["network"] == []
    assert set(seen["programs"]) <= {"git", "false", "uname", "fc-list"}        # the last two by Python and matplotlib
    assert seen["written"]                                              # the watch sees files that are written
    ours = (tmp_path / "run", tmp_path / "predictions.csv", cache / "fastmlp")
    left = [file for file in tmp_path.rglob("*") if file.is_file() and file != tmp_path / "new.npy"]
    assert not [str(file) for file in left if not any(file.is_relative_to(place) for place in ours)]
    places = (*ours, temporary, Path(matplotlib.get_cachedir()), Path(os.devnull))
    assert not [file for file in map(Path, seen["written"]) if file.parent != tmp_path      # before it is renamed
                and not any(file.is_relative_to(place) for place in places)]
