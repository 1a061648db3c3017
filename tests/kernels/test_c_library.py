"""Compiling the C sources: who does it, what is kept, and what is said when it fails."""

import os
import subprocess
import sys

import pytest

from fastmlp import backend
from fastmlp.errors import DeviceError
from fastmlp.kernels import c_library

pytestmark = [pytest.mark.L0, pytest.mark.skipif(c_library.compiler() is None, reason="no C compiler")]


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache, and a source that compiles at once."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(c_library, "source", lambda: "int answer(void) { return 42; }")
    c_library.load.cache_clear()
    yield tmp_path / "fastmlp"
    c_library.load.cache_clear()


def loaded():
    c_library.load.cache_clear()
    return c_library.load("float32").answer()


def replace_all(cache, content):
    """Put other files in the place of these, which are loaded, so that their content must stay."""
    for path in list(cache.iterdir()):
        path.unlink()
        path.write_bytes(content)


def forbid_compiling(monkeypatch):
    def fail(*arguments, **details):
        raise AssertionError("compiled again")
    monkeypatch.setattr(subprocess, "run", fail)


def test_what_was_compiled_is_kept_and_not_compiled_again(cache, monkeypatch):
    assert loaded() == 42
    assert [path.suffix for path in cache.iterdir()] == [".so"]
    assert cache.stat().st_mode & 0o077 == 0
    forbid_compiling(monkeypatch)
    assert loaded() == 42


def test_another_source_or_dtype_is_compiled_for_itself(cache, monkeypatch):
    loaded()
    monkeypatch.setattr(c_library, "source", lambda: "int answer(void) { return 43; }")
    assert loaded() == 43
    c_library.load("float64")
    assert len(list(cache.iterdir())) == 3


def test_a_folder_that_others_can_write_is_not_trusted(cache, monkeypatch):
    loaded()
    cache.chmod(0o777)
    replace_all(cache, b"what somebody else put there")
    assert loaded() == 42                       # from a folder of its own
    assert all(path.read_bytes() == b"what somebody else put there" for path in cache.iterdir())


def planted(cache, answer=43):
    """A library that answers otherwise, under the name of the right one; what is loaded is loaded once and for all."""
    c_library.load.cache_clear()
    c_library.load("float32")
    [right] = cache.iterdir()
    wrong = right.with_name("wrong.so")
    subprocess.run([*c_library.compiler(), "-shared", "-fPIC", "-x", "c", "-", "-o", str(wrong)], check=True, text=True,
                   input=f"int answer(void) {{ return {answer}; }}")
    right.unlink()                      # another file: the right one stays loaded under its name
    return wrong, right


LOAD = """
import sys
from fastmlp.kernels import c_library
c_library.source = lambda: "int answer(void) { return 42; }"
print(c_library.load("float32").answer())
"""


def answer_of_a_new_process(cache):
    return int(subprocess.run([sys.executable, "-c", LOAD], env={**os.environ, "XDG_CACHE_HOME": str(cache.parent)},
                              capture_output=True, text=True, check=True).stdout)


def test_a_new_process_loads_what_lies_in_a_folder_of_its_own(cache):
    wrong, right = planted(cache)
    wrong.rename(right)
    assert answer_of_a_new_process(cache) == 43     # so that the next tests could fail


@pytest.mark.parametrize("open_to_all", ["the folder", "the one above", "the file"])
def test_a_library_that_others_could_have_planted_is_not_loaded(cache, open_to_all):
    wrong, right = planted(cache)
    wrong.rename(right)
    {"the folder": cache, "the one above": cache.parent, "the file": right}[open_to_all].chmod(0o777)
    assert answer_of_a_new_process(cache) == 42


@pytest.mark.skipif("not hasattr(os, 'getuid') or os.getuid() != 0", reason="only root can give files away")
@pytest.mark.parametrize("theirs", ["the folder", "the one above", "the file"])
def test_a_library_of_another_user_is_not_loaded(cache, theirs):
    wrong, right = planted(cache)
    wrong.rename(right)
    os.chown({"the folder": cache, "the one above": cache.parent, "the file": right}[theirs], 54321, -1)
    assert answer_of_a_new_process(cache) == 42


def test_where_even_temporary_files_can_be_changed_by_others_nothing_is_loaded(cache, tmp_path, monkeypatch):
    cache.parent.chmod(0o777)
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    monkeypatch.setattr(c_library.tempfile, "tempdir", str(shared))
    with pytest.raises(DeviceError, match=r"loaded neither from .*can be changed by others"):
        loaded()


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_what_is_compiled_can_be_written_by_its_owner_alone_whatever_the_umask(cache, umask):
    before = os.umask(umask)
    try:
        loaded()
    finally:
        os.umask(before)
    assert [path.stat().st_mode & 0o777 for path in (cache, *cache.iterdir())] == [0o700, 0o700]


def test_a_ziglang_in_the_current_folder_is_not_run(cache, tmp_path, monkeypatch):
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    monkeypatch.setattr(c_library.shutil, "which", lambda name: None)
    monkeypatch.setattr(c_library.importlib.util, "find_spec", lambda name: True)
    (tmp_path / "ziglang").mkdir()
    (tmp_path / "ziglang" / "__init__.py").write_text("open('it was run', 'w')")
    monkeypatch.chdir(tmp_path)
    subprocess.run(c_library.compiler(), capture_output=True, check=False)
    assert not (tmp_path / "it was run").exists()


def test_a_cache_that_cannot_be_made_or_holds_rubbish_is_done_without(cache):
    cache.parent.joinpath("fastmlp").write_text("a file where the folder should be")
    assert loaded() == 42
    cache.unlink()
    loaded()
    replace_all(cache, b"no library")
    assert loaded() == 42


@pytest.mark.parametrize(("cc", "words"), [
    (f"{sys.executable} -c raise(KeyError('error'))", "could not compile the kernels: KeyError: 'error'"),
    ("false", "could not compile the kernels: it ended with status 1"),
    ("/no/such/compiler -v", "/no/such/compiler cannot be used"),
])
def test_a_compiler_that_fails_is_named_with_its_words_and_auto_takes_numpy(cache, monkeypatch, cc, words):
    monkeypatch.setenv("CC", cc)
    with pytest.raises(DeviceError, match=words):
        loaded()
    assert not list(cache.iterdir())            # nothing half-written
    backend._cpu_kernels.cache_clear()
    try:
        with pytest.raises(DeviceError, match=r"kernels 'compiled' cannot be used: .*leave it out"):
            backend.resolve("cpu", kernels="compiled")
        assert words in backend.resolve("cpu").description
        assert not backend.resolve("cpu").records
    finally:
        backend._cpu_kernels.cache_clear()


def test_without_a_compiler_the_way_out_is_said(monkeypatch, cache):
    monkeypatch.setattr(c_library, "compiler", lambda: None)
    with pytest.raises(DeviceError, match=r"no C compiler was found .*fastmlp\[fast\]"):
        loaded()


def test_the_sources_compile_without_a_warning(tmp_path):
    command = [*c_library.compiler(), *c_library.FLAGS, "-Wall", "-Wextra", "-Werror"]
    done = subprocess.run([*command, "-", "-o", str(tmp_path / "out.so"), "-lm"],
                          input=c_library.source(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_without_a_home_the_folder_for_temporary_files_does(cache, monkeypatch):
    def no_home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(c_library.Path, "home", no_home)
    assert loaded() == 42


def test_another_processor_or_compiler_has_a_library_of_its_own(cache, monkeypatch):
    loaded()
    monkeypatch.setattr(c_library, "cpu_flags", lambda: "other abilities")
    loaded()
    monkeypatch.setattr(c_library, "_identity", lambda program: "an update")
    loaded()
    assert len(list(cache.iterdir())) == 3


def test_an_empty_cc_is_none(monkeypatch):
    expected = c_library.compiler()
    monkeypatch.setenv("CC", "  ")
    assert c_library.compiler() == expected
