"""Where downloaded data lies, and how it comes there."""

from __future__ import annotations

import os
from pathlib import Path

from fastmlp.cache import cache_folder
from fastmlp.errors import DataError, MissingExtraError

DATA_VARIABLE = "FASTMLP_DATA"
TIMEOUT_SECONDS = 10  # to connect, and between two pieces of the answer


def data_folder(data_dir: str | os.PathLike[str] | None = None) -> Path:
    """The folder for data sets: `data_dir`, else $FASTMLP_DATA, else the user's cache folder. It need not exist.

    Examples
    --------
    >>> data_folder("somewhere").name
    'somewhere'
    """
    if data_dir is not None:
        return Path(data_dir).expanduser()
    if chosen := os.environ.get(DATA_VARIABLE):
        return Path(chosen).expanduser()
    return cache_folder()


def download(url: str, sha256: str, folder: Path) -> Path:
    """Download a file into a folder under its own name, in whole and as expected or not at all.

    Parameters
    ----------
    url : str
    sha256 : str
        The checksum that the file must have, in hexadecimal.
    folder : Path
        Made where it does not exist.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    MissingExtraError
        Without pooch.
    DataError
        When the file cannot be had or kept; the sentence says how to put it there by hand.
    """
    file_name = url.rsplit("/", 1)[-1]
    by_hand = f"download {url} yourself and put {file_name} into {folder}"
    try:
        import pooch
    except ImportError as error:
        raise MissingExtraError(
            f'{file_name} is not in {folder}; {by_hand}, or let fastmlp fetch it: pip install "fastmlp[data]"'
        ) from error
    downloader = pooch.HTTPDownloader(timeout=TIMEOUT_SECONDS, chunk_size=1 << 16)
    try:
        # pooch writes to a temporary file, compares the checksum, and moves the file only then.
        return Path(pooch.retrieve(url, f"sha256:{sha256}", file_name, folder, downloader=downloader))
    except (OSError, ValueError) as error:  # unreachable, cut short or not writable; another checksum
        raise DataError(f"{file_name} could not be downloaded into {folder} ({_shorten(error)}); {by_hand}") from error


def _shorten(error: Exception, length: int = 200) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= length else text[: length - 3] + "..."
