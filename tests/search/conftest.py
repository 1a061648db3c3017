"""A PostgreSQL server of the tests' own, and searches in processes of their own."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
#: `fastmlp`, but that pictures are made and not painted, which would take most of a small search's time.
WORKER = """import sys
from pathlib import Path
from fastmlp import plots
plots.save_figure = lambda _, path: Path(path).touch()
from fastmlp.cli import main
sys.exit(main())"""


def postgresql_programs():
    """The folder of `initdb` and `postgres`, or None."""
    if found := shutil.which("initdb"):
        return Path(found).resolve().parent
    return max(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name), default=None)


@pytest.fixture(scope="session")
def postgresql():
    """The address of an empty database on a server that lives as long as the tests."""
    programs = postgresql_programs()
    if programs is None:
        if os.environ.get("FASTMLP_REQUIRE_POSTGRESQL") == "1":
            pytest.fail("PostgreSQL is required and not installed")
        pytest.skip("PostgreSQL is not installed")
    user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []     # it refuses to run as root
    place = Path(tempfile.mkdtemp(prefix="fastmlp-pg-", dir="/tmp"))
    if user:
        shutil.chown(place, "postgres")
    subprocess.run([*user, programs / "initdb", "-D", place / "data", "-U", "fastmlp", "-A", "trust", "--no-sync", "-E",
                    "UTF8", "--locale=C"], check=True, capture_output=True, cwd="/")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen([*user, programs / "postgres", "-D", place / "data", "-p", str(port), "-k", place, "-c",
                               "fsync=off"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/")
    try:
        import psycopg

        for _ in range(100):
            try:
                psycopg.connect(f"postgresql://fastmlp@127.0.0.1:{port}/postgres").close()
                break
            except psycopg.OperationalError:
                assert server.poll() is None, "the server ended"
                time.sleep(0.1)
        else:
            pytest.fail("the server answers nobody")
        yield f"postgresql://fastmlp:secret@127.0.0.1:{port}/postgres"
    finally:
        subprocess.run([*user, programs / "pg_ctl", "-D", place / "data", "-m", "immediate", "stop"], check=False,
                       capture_output=True, cwd="/")
        server.wait(timeout=30)
        shutil.rmtree(place, ignore_errors=True)


@pytest.fixture(autouse=True)
def pictures_without_pixels(monkeypatch):
    """Likewise within this process."""
    for module in ("fastmlp.plots", "fastmlp.search.plots"):
        monkeypatch.setattr(f"{module}.save_figure", lambda _, path: Path(path).touch())


@pytest.fixture
def start_search(tmp_path):
    """Searches as processes; what is still alive in the end is killed."""
    processes = []

    def start(*words):
        processes.append(subprocess.Popen(
            [sys.executable, "-c", WORKER, "search", *map(str, words)], cwd=tmp_path, text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"}, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT))
        return processes[-1]
    yield start
    for process in processes:
        process.kill()
        process.communicate()
