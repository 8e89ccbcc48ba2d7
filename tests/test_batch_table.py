"""The table of scans that `ctedge batch` reads: strict, and in its own words where it refuses."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from ctedge.batch import table as tables
from ctedge.batch.table import read_table
from ctedge.errors import InputError


def written(folder: Path, text: str | bytes) -> Path:
    path = folder / "scans.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_rows_come_in_order_with_their_further_columns(tmp_path):
    text = "site,scan, id ,age\nnorth, a.nii.gz ,one,\n\nsouth,/far/b,two,61\n"
    table = read_table(written(tmp_path, text))
    assert table.columns == ("site", "age")
    first, second = table.rows
    assert (first.id, first.scan, first.others) == ("one", "a.nii.gz", ("north", ""))
    assert (second.id, second.scan, second.others) == ("two", "/far/b", ("south", "61"))


@pytest.mark.parametrize("marks", [0, 1, 2])
def test_byte_order_marks_belong_to_no_name(tmp_path, marks):
    text = "\ufeff" * marks + "id,scan\none,a.nii.gz\n"
    table = read_table(written(tmp_path, text))
    assert (table.columns, table.rows[0].id) == ((), "one")


def test_paths_are_relative_to_the_table(tmp_path, monkeypatch):
    (tmp_path / "in").mkdir()
    monkeypatch.chdir(tmp_path)
    written(tmp_path / "in", "scan\na.nii.gz\n../b\n/far/c\n")
    paths = [row.path for row in read_table(Path("in/scans.csv")).rows]
    assert paths == [f"{tmp_path}/in/a.nii.gz", f"{tmp_path}/in/../b", "/far/c"]


def test_without_ids_the_scan_is_the_id(tmp_path):
    (row,) = read_table(written(tmp_path, "scan\na.nii.gz\n")).rows
    assert row.id == row.scan == "a.nii.gz"


def test_the_same_scan_may_stand_twice_under_two_ids(tmp_path):
    rows = read_table(written(tmp_path, "scan,id\na,1\na,2\n")).rows
    assert [row.id for row in rows] == ["1", "2"]


def test_a_row_may_say_how_its_scan_is_read(tmp_path):
    text = "id,scan,series,acquisition,select,on_gap\n1,a,1.2.3, 2 ,chest,resample\n2,a,,,,\n"
    table = read_table(written(tmp_path, text))
    said, not_said = table.rows
    assert said.reading == {
        "series": "1.2.3",
        "acquisition": 2,
        "select": "chest",
        "on_gap": "resample",
    }
    assert not_said.reading == {}
    assert table.columns == ("series", "acquisition", "select", "on_gap")
    assert said.others == ("1.2.3", "2", "chest", "resample")


def test_a_byte_order_mark_and_other_line_ends_do_not_count(tmp_path):
    table = read_table(written(tmp_path, b'\xef\xbb\xbfscan,id\r\n"a,b.nii.gz",\xc3\xa4\r\n'))
    assert [(row.scan, row.id) for row in table.rows] == [("a,b.nii.gz", "ä")]


def test_its_digest_is_that_of_its_bytes(tmp_path):
    one = read_table(written(tmp_path, "scan\na\n")).digest
    other = read_table(written(tmp_path, "scan\nb\n")).digest
    assert one != other
    assert one == read_table(written(tmp_path, "scan\na\n")).digest


#: Python 3.10's own reader of tables refuses it already.
NUL = "control character" if sys.version_info >= (3, 11) else "cannot be read as a table"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"", "an empty file"),
        (b"\n\n", "an empty file"),
        (b"scan\n", "names no scan"),
        (b"path,id\na,1\n", "has no column `scan`"),
        (b"scan;id\na;1\n", "has no column `scan`"),
        (b"scan,scan\na,b\n", "a name of its own"),
        (b"scan,\na,b\n", "a name of its own"),
        (b"scan,si\x07te\na,b\n", "line 1: a control character"),
        (b"scan,id\na,1\nb,1\n", "line 3: the id '1' stands twice"),
        (b"scan\na\na\n", "line 3: the scan 'a' stands twice"),
        (b"scan,id\na\n", "line 2: wrong number of values"),
        (b"scan,id\na,1,2\n", "line 2: wrong number of values"),
        (b"scan,id\n ,1\n", "line 2: empty `scan`"),
        (b"scan,id\na, \n", "line 2: empty `id`"),
        (b"scan,acquisition\na,one\n", "line 2: `acquisition` has no such value"),
        (b"scan,acquisition\na,2.0\n", "line 2: `acquisition` has no such value"),
        (b"scan,acquisition\na," + b"9" * 5000 + b"\n", "`acquisition` has no such value"),
        ("scan,acquisition\na,\u0662\n".encode(), "`acquisition` has no such value"),
        (b"scan,select\na,chest\nb,lung\n", "line 3: `select` has no such value"),
        (b"scan,on_gap\na,fill\n", "line 2: `on_gap` has no such value"),
        (b"scan\na\x00b\n", NUL),
        (b"scan\na\x1b[2Jb\n", "line 2: a control character"),
        (b'scan\n"a\nb"\n', "control character"),
        ("scan\na\u2028b\n".encode(), "control character"),
        ("scan\na\n".encode("utf-16"), "cannot be read as a table"),
        (b"scan\n\xff\xfe\n", "cannot be read as a table"),
        (b'scan\n"a\n', "cannot be read as a table"),
        (b"scan\n" + b"a" * 200_000 + b"\n", "cannot be read as a table"),
    ],
)
def test_what_is_doubtful_is_refused(tmp_path, text, said):
    with pytest.raises(InputError) as caught:
        read_table(written(tmp_path, text))
    assert said in str(caught.value)
    assert caught.value.fix
    assert "\x1b" not in str(caught.value)


def test_names_of_the_results_are_taken(tmp_path):
    path = written(tmp_path, "scan,id,label\na,1,abnormal\n")
    assert read_table(path).columns == ("label",)
    with pytest.raises(InputError, match="columns of the same name") as caught:
        read_table(path, reserved={"label", "scan", "id"})
    assert "given_label" in str(caught.value)


@pytest.mark.parametrize("name", ["missing.csv", "folder", "pipe", "nul\0l", "x" * 300])
def test_what_is_no_file_is_refused(tmp_path, name):
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="cannot be read as a table of scans"):
        read_table(tmp_path / name)


def test_a_file_beyond_all_measure_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "MAX_BYTES", 10)
    with pytest.raises(InputError, match="cannot be read") as caught:
        read_table(written(tmp_path, "scan\n" + "a\n" * 10))
    assert "10 at most" in str(caught.value)
