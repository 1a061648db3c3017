"""Small files that become large: none takes memory beyond a few times its size and what a small read takes anyway.

One process reads them all, with a limit on its memory; it says for each what came of it and how far it grew.
"""

import io
import json
import struct
import subprocess
import sys
import zipfile
import zlib
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet

from fuzz.corpus import READERS, labels, npy
from fuzz.verdict import READ, REFUSED

ROOT = Path(__file__).parents[2]
MB = 1 << 20
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="measures by /proc")

READING = """
import json, resource, sys, time
from pathlib import Path
from fuzz.corpus import READERS
from fuzz.verdict import judge, prepare

def status(key):
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(key)).split()[1])

readers = {reader.name: reader for reader in READERS}
root, results = Path(sys.argv[1]), {}
for name in sorted({folder.name.split("--")[0] for folder in root.iterdir()}):
    prepare(readers[name], root.parent / "warm")
resource.setrlimit(resource.RLIMIT_AS, (status("VmSize") + 3 * 2**30,) * 2)
for folder in root.iterdir():
    reader = readers[folder.name.split("--")[0]]
    Path("/proc/self/clear_refs").write_text("5")       # the peak counts from here
    before, began = status("VmRSS"), time.process_time()
    # The bomb lies there already, so that only reading it is measured.
    bare = type(reader)(reader.name, reader.file, reader.samples, reader.read)
    type(reader).place = lambda self, where, content: where / self.file
    verdict = judge(bare, b"", folder)
    results[folder.name] = verdict.outcome, verdict.words, status("VmHWM") - before, time.process_time() - began
print(json.dumps(results))
"""


def zeros_in_npz(n_bytes):
    """An .npz whose X is so many bytes of zeros, honestly compressed 200-fold, without ever holding them."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": (n_bytes // 4, 4)})
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        with archive.open("X.npy", "w") as member:
            member.write(header.getvalue())
            for _ in range(n_bytes // MB):
                member.write(bytes(MB))
        archive.writestr("y.npy", labels()[0])
    return buffer.getvalue()


def lying_npz(claimed):
    """An .npz whose header, member and directory agree on a size that is not there."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": (claimed // 32, 4)})
    packed = zlib.compress(header.getvalue(), wbits=-15)
    size, name = len(header.getvalue()) + claimed // 32 * 32, b"X.npy"
    entry = struct.pack("<5H3I2H", 20, 0, 8, 0, 33, 0, len(packed), size, len(name), 0)
    local = b"PK\x03\x04" + entry + name + packed
    central = b"PK\x01\x02\x14\x00" + entry + struct.pack("<3H2I", 0, 0, 0, 0, 0) + name
    return local + central + b"PK\x05\x06" + struct.pack("<4H2IH", 0, 0, 1, 1, len(central), len(local), 0)


def lzma_npz(dictionary):
    """An .npz whose method wants a dictionary of so many bytes before the first byte comes out."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("X.npy", npy(np.eye(12, 4)))
        archive.writestr("y.npy", labels()[0])
    content = buffer.getvalue()
    properties = content.index(b"\x5d\x00", 30) + 1      # lc, lp and pb, then the dictionary's size
    return content[:properties] + struct.pack("<I", dictionary) + content[properties + 4:]


def parquet_of(chunk, times, **options):
    buffer = io.BytesIO()
    with parquet.ParquetWriter(buffer, chunk.schema, **options) as writer:
        for _ in range(times):
            writer.write_table(chunk)
    return buffer.getvalue()


@cache
def constant_parquet(n_rows):
    """One number so many times: a few bytes each million rows."""
    chunk = pyarrow.table({"a": np.zeros(MB), "b": np.zeros(MB), "kind": np.zeros(MB, np.int64)})
    return parquet_of(chunk, n_rows // MB, compression="zstd")


@cache
def long_word_parquet(length, n_rows):
    """A long word so many times: the dictionary holds it once."""
    chunk = pyarrow.table({"a": np.arange(n_rows) / 8,
                           "kind": pyarrow.DictionaryArray.from_arrays(np.arange(n_rows, dtype=np.int8) % 2,
                                                                       ["w" * length, "b"])})
    return parquet_of(chunk.replace_schema_metadata(None), 1, store_schema=False, data_page_size=1 << 20)


def long_words_parquet(length, n_words, n_groups):
    """Other long words in each group of rows: few rows, and much text that shrinks."""
    words = [f"{number:0{length}}" for number in range(n_words)]
    return parquet_of(pyarrow.table({"a": np.arange(n_words) / 8, "kind": words}), n_groups, compression="zstd")


def nested_parquet(n_rows):
    """A list in one row that repeats a number so many times."""
    column = pyarrow.ListArray.from_arrays(pyarrow.array([0, n_rows], pyarrow.int32()), pyarrow.array(np.zeros(n_rows)))
    return parquet_of(pyarrow.table({"a": column, "kind": ["x"]}), 1, compression="zstd")


def lines_of_a_wide_table(n_columns, n_lines):
    """A wide header and short lines: each becomes a whole row of missing values."""
    return ",".join([*(f"c{i}" for i in range(n_columns)), "kind"]).encode() + b"\n" + b"1\n" * n_lines


def one_long_label(length, n_rows):
    """A label that is long once: as an array of text all would be."""
    return b"a,kind\n" + b"1,x\n2,y\n" * (n_rows // 2) + b"3," + b"z" * length + b"\n4," + b"z" * length + b"\n"


BOMBS = {
    ".npz--zeros": (lambda: zeros_in_npz(270 * MB), REFUSED, "further than data", 40 * MB),
    ".npz--small zeros": (lambda: zeros_in_npz(100 * MB), REFUSED, "shape", 110 * MB),
    ".npz--lies": (lambda: lying_npz((1 << 32) - 4096), REFUSED, "further than data", 20 * MB),
    ".npz--small lies": (lambda: lying_npz(200 * MB), REFUSED, "cannot be read", 20 * MB),
    ".npz--lzma": (lambda: lzma_npz((1 << 32) - 1), REFUSED, "in another way", 20 * MB),
    "Parquet--constants": (lambda: constant_parquet(12 * MB), REFUSED, "further than data", 40 * MB),
    "Parquet, on disk--constants": (lambda: constant_parquet(12 * MB), REFUSED, "further than data", 40 * MB),
    "Parquet--long word": (lambda: long_word_parquet(MB, 10_000), READ, "", 60 * MB),
    "Parquet, on disk--long word": (lambda: long_word_parquet(MB, 10_000), READ, "", 60 * MB),
    "Parquet--long words": (lambda: long_words_parquet(MB, 10, 28), REFUSED, "further than data", 20 * MB),
    "Parquet--nested": (lambda: nested_parquet(8 * MB), REFUSED, "type list", 20 * MB),
    "CSV--short lines": (lambda: lines_of_a_wide_table(5000, 100_000), REFUSED, "further than data", 60 * MB),
    "CSV--long label": (lambda: one_long_label(100_000, 20_000), READ, "", 60 * MB),
    ".npy--claims": (lambda: npy(np.eye(12, 4)).replace(b"(12, 4)", b"(9999999999, 4)"), REFUSED, "claims", 20 * MB),
    "model--claims": (lambda: struct.pack("<Q", 1 << 60) + b"{}", REFUSED, "not a whole", 20 * MB),
    "TOML--dots": (lambda: b"a." * 100_000 + b"a = 1", REFUSED, "no configuration needs", 20 * MB),
    "TOML--nesting": (lambda: b"a = " + b"[" * 16_000, REFUSED, "not valid TOML", 20 * MB),
}


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    root = tmp_path_factory.mktemp("bombs")
    readers = {reader.name: reader for reader in READERS}
    for name, (make, *_) in BOMBS.items():
        readers[name.split("--")[0]].place(root / "all" / name, b"")
        (root / "all" / name / readers[name.split("--")[0]].file).write_bytes(make())
    done = subprocess.run([sys.executable, "-c", READING, str(root / "all")], capture_output=True, text=True, cwd=ROOT,
                          timeout=120, check=True)
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", BOMBS)
def test_a_small_file_that_becomes_large_takes_little(name, results):
    outcome, words, grown, seconds = results[name]
    _, expected, expected_words, most = BOMBS[name]
    assert (outcome, expected_words in words) == (expected, True), words
    assert grown < most
    assert seconds < 5
