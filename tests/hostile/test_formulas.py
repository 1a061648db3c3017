"""Formulas in CSV files: read, they are text; written, no spreadsheet runs them, and programs get the text back."""

import csv

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fastmlp import load_dataset
from fastmlp.cli import main
from fastmlp.files import FORMULA, write_csv

FORMULAS = ["=1+1", "+cmd", "@x", "-2+3", "=cmd|' /C calc'!A0", "-ve", "\t=1", "\r=1", " =1+1", "'=1+1", "''@x", "=\n",
            "\uff1d1+1", "@SUM(1+1)*cmd|' /C calc'!A0", "+1+1", "-1_000", "'-0.5", "--1"]
TEXTS = ["", "cat", "-", "+", "=", "@", "-0.5", "+1", "1e-5", "-.5", "-1.", "a=b", "1-2", "'quoted'", "'", "it's",
         "p_=1+1", "x\n=1+1", "x\r=1+1"]


def spreadsheet_runs(cell):
    """What OWASP lists (CSV injection), of text that is no number; a lone sign is an unfinished formula, thus text."""
    return len(cell) > 1 and cell.lstrip(" ")[:1] in tuple("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20") and not is_number(cell)


def is_number(cell):
    try:
        return float(cell) is not None and "_" not in cell and cell.strip() == cell
    except ValueError:
        return False


def original(cell):
    """What a program does that wants the label itself; the documented way back."""
    return cell[1:] if cell.startswith("'") and FORMULA.match(cell) else cell


def cells(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


@pytest.mark.parametrize("text", FORMULAS)
def test_formulas_are_written_behind_an_apostrophe_and_are_there_again_without_it(tmp_path, text):
    write_csv(tmp_path / "out.csv", {text: [text, "cat"], "p": [-0.5, 1e-9]})
    assert cells(tmp_path / "out.csv") == [["'" + text, "p"], ["'" + text, "-0.5"], ["cat", "1e-09"]]
    assert original("'" + text) == text


@pytest.mark.parametrize("text", TEXTS)
def test_other_text_is_written_as_it_is(tmp_path, text):
    write_csv(tmp_path / "out.csv", {"a": [text], "b": [np.str_(text)]})
    assert cells(tmp_path / "out.csv")[1] == [text, text]


def test_numbers_stay_numbers(tmp_path):
    numbers = [-0.5, -3, np.float32(-0.25), np.int64(-7), float("-inf"), float("nan"), None, True]
    write_csv(tmp_path / "out.csv", {"a": numbers})
    written = [row[0] if row else "" for row in cells(tmp_path / "out.csv")[1:]]
    assert written == ["-0.5", "-3", "-0.25", "-7", "-inf", "nan", "", "True"]


LABELS = st.text(st.sampled_from("=+-@'\t\r\n ,\"a1.e_\uff1d") | st.characters(codec="utf-8"), max_size=6)


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(st.lists(LABELS, min_size=1, max_size=20))
@example(["'=1", "=1", "''=1"])
def test_no_written_text_runs_and_every_one_comes_back(tmp_path_factory, texts):
    path = tmp_path_factory.getbasetemp() / "property.csv"
    write_csv(path, {"row": range(len(texts)), "label": texts})
    written = [row[1] for row in cells(path)[1:]]
    assert not any(spreadsheet_runs(cell) for cell in written)
    assert [original(cell) for cell in written] == texts


def test_formulas_in_a_csv_file_are_read_as_text(tmp_path):
    rows = [f"{row},{label}" for row, label in enumerate(["=1+1", "+cmd", "@x", "-2+3"] * 5)]
    (tmp_path / "pets.csv").write_text("\n".join(["=2+3,@kind", *rows]) + "\n")
    data = load_dataset(tmp_path / "pets.csv", target="@kind")
    assert data.feature_names == ("=2+3",)
    assert data.classes.tolist() == ["+cmd", "-2+3", "=1+1", "@x"]


def test_predictions_of_labels_that_are_formulas_are_safe_and_exact(tmp_path, capsys):
    rows = [f"{row % 4},{['=1+1', '+cmd', '@x', '-2+3'][row % 4]}" for row in range(40)]
    (tmp_path / "pets.csv").write_text("\n".join(["a,kind", *rows]) + "\n")
    command = ["train", "--data", str(tmp_path / "pets.csv"), "--target", "kind", "--hidden", "4", "--epochs", "3",
               "--schedule", "constant", "--batch-size", "5", "--out", str(tmp_path / "run")]
    assert main(command) == 0
    assert main(["predict", str(tmp_path / "run" / "model.safetensors"), str(tmp_path / "pets.csv"), "--target", "kind",
                 "--out", str(tmp_path / "out.csv")]) == 0
    assert "accuracy" in capsys.readouterr().out
    header, *written = cells(tmp_path / "out.csv")
    assert header == ["row", "prediction", "p_+cmd", "p_-2+3", "p_=1+1", "p_@x"]
    assert not any(spreadsheet_runs(cell) for row in [header, *written] for cell in row)
    for _, prediction, *p in written:
        assert header[2 + int(np.argmax([float(value) for value in p]))] == f"p_{original(prediction)}"
