"""The user's cache folder, and whether anyone else could have put something into it."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path


def cache_folder() -> Path:
    r"""Where fastmlp keeps what can be had again: downloaded data, compiled kernels. It need not exist.

    It is `$XDG_CACHE_HOME/fastmlp` or `~/.cache/fastmlp`, on macOS `~/Library/Caches/fastmlp`, on Windows
    `%LOCALAPPDATA%\fastmlp\Cache`.

    Raises
    ------
    RuntimeError
        There is no home folder.

    Examples
    --------
    >>> "fastmlp" in cache_folder().parts
    True
    """
    if sys.platform == "win32":
        local = os.environ.get("LOCALAPPDATA")
        return (Path(local) if local else Path.home() / "AppData" / "Local") / "fastmlp" / "Cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "fastmlp"
    xdg = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(xdg) if Path(xdg).is_absolute() else Path.home() / ".cache") / "fastmlp"


def unshared(folder: Path) -> Path:
    """The real path of a folder in which nobody but this user and root can put or replace anything.

    All folders above it count too: who may write to one may put another in the place of what lies in it, unless its
    sticky bit (as that of /tmp) leaves this to the owners. Windows has other rights, which are not looked at.

    Parameters
    ----------
    folder : Path
        It must exist.

    Raises
    ------
    PermissionError
        Others could; the sentence names the folder that lets them.
    """
    real = folder.resolve(strict=True)      # without links, which somebody might turn elsewhere after the check
    for place in (real, *real.parents):
        status = place.stat()
        sticky = place != real and status.st_mode & stat.S_ISVTX
        if not of_trusted_owner(status) or (others_write(status) and not sticky):
            raise PermissionError(f"{place} can be changed by others, who could put programs there")
    return real


def of_trusted_owner(status: os.stat_result) -> bool:
    """Whether something is this user's, or of the owner of /, who can change everything anyway."""
    return not hasattr(os, "getuid") or status.st_uid in (os.getuid(), Path("/").stat().st_uid)


def others_write(status: os.stat_result) -> bool:
    """Whether users other than the owner and root may write to something."""
    if not hasattr(os, "getuid"):
        return False
    return bool(status.st_mode & stat.S_IWOTH or (status.st_mode & stat.S_IWGRP and not _is_private(status.st_gid)))


def _is_private(gid: int) -> bool:
    """Whether a group is root's, or this user's own: many systems give each user one, of the same name."""
    import grp
    import pwd

    try:
        user, group = pwd.getpwuid(os.getuid()), grp.getgrgid(gid)
    except KeyError:
        return gid == 0
    return gid == 0 or (group.gr_name == user.pw_name and set(group.gr_mem) <= {user.pw_name})
