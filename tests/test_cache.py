"""Who else could put something into the cache folder."""

import os
import stat
from types import SimpleNamespace

import pytest

from fastmlp import cache

pytestmark = pytest.mark.skipif(not hasattr(os, "getuid"), reason="this system has other rights")
SOMEBODY = 54321


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "home" / "cache" / "fastmlp"
    made.mkdir(parents=True)
    return made


def test_a_folder_that_only_its_owner_can_change_is_taken_by_its_real_path(folder, tmp_path):
    assert cache.unshared(folder) == folder.resolve()
    (tmp_path / "link").symlink_to(folder.parent)
    assert cache.unshared(tmp_path / "link" / "fastmlp") == folder.resolve()


@pytest.mark.parametrize("depth", [0, 1, 2], ids=["the folder itself", "its parent", "the one above"])
def test_a_folder_on_the_way_that_everybody_can_write_is_refused_by_name(folder, depth):
    shared = [folder, *folder.parents][depth]
    shared.chmod(0o777)
    with pytest.raises(PermissionError, match=rf"^{shared} can be changed by others"):
        cache.unshared(folder)


def test_the_sticky_bit_protects_what_lies_in_a_shared_folder_but_not_the_folder_itself(folder):
    folder.parent.chmod(0o1777)
    assert cache.unshared(folder) == folder.resolve()
    folder.chmod(0o1777)                # others could put in new files
    with pytest.raises(PermissionError):
        cache.unshared(folder)


@pytest.mark.skipif("os.getuid() != 0", reason="only root can give folders away")
@pytest.mark.parametrize("depth", [0, 1])
def test_a_folder_of_somebody_else_is_refused_whatever_its_mode(folder, depth):
    os.chown([folder, *folder.parents][depth], SOMEBODY, -1)
    with pytest.raises(PermissionError):
        cache.unshared(folder)


def test_a_group_may_write_only_if_nobody_else_is_in_it(folder, monkeypatch):
    import grp
    import pwd

    status = os.stat_result((stat.S_IFDIR | 0o775, 0, 0, 1, os.getuid(), 7, 0, 0, 0, 0))
    monkeypatch.setattr(pwd, "getpwuid", lambda uid: SimpleNamespace(pw_name="ada"))
    for name, members, theirs in (("ada", [], False), ("ada", ["ada"], False), ("ada", ["bob"], True),
                                  ("users", [], True)):
        group = SimpleNamespace(gr_name=name, gr_mem=members)
        monkeypatch.setattr(grp, "getgrgid", lambda gid, group=group: group)
        assert cache.others_write(status) is theirs, (name, members)


def test_without_a_name_for_the_user_only_roots_group_may_write(monkeypatch):
    import pwd

    def unknown(uid):
        raise KeyError(uid)

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    for gid, theirs in ((0, False), (7, True)):
        status = os.stat_result((stat.S_IFDIR | 0o770, 0, 0, 1, SOMEBODY, gid, 0, 0, 0, 0))
        assert cache.others_write(status) is theirs
