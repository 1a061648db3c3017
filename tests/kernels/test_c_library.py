"""Compiling the C sources: who does it, what is kept, and what is said when it fails."""

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
