"""What `ctedge bench` writes, where it refuses to, and what its picture says of itself."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx", exc_type=ImportError)
pytest.importorskip("onnxruntime", exc_type=ImportError)

from bench_factory import EMPTY, run_of, write_patient
from bundle_factory import write_tiny
from command_here import call
from ctedge.bench import Report, Settings, bench
from ctedge.bench.plot import plot_png
from ctedge.errors import OutputError
from ctedge.montage import GLYPHS

#: Its error says that the outputs were found good: they are looked at first.
NOWHERE = "nowhere.ctedge"

#: Of the caption: its colour, and pixels from a line and a letter to the next.
INK, LINE, LETTER = (40, 40, 40), 22, 12


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("bundles") / "tiny.ctedge").path


@pytest.fixture(scope="module")
def scan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_patient(tmp_path_factory.mktemp("scans"))


@pytest.fixture(scope="module")
def report(bundle: Path, scan: Path) -> Report:
    settings = Settings(repeats=2, warm_up=0)
    return bench(bundle, scan, runtime="onnxruntime", device="cpu", settings=settings)


@pytest.mark.parametrize("option", ["--json", "--plot"])
def test_what_cannot_be_written_is_said_before_anything_is_measured(tmp_path, option):
    taken = tmp_path / "a file.png"
    taken.write_text("kept")
    for place in (tmp_path, taken / "bench.png", tmp_path / f"{'n' * 300}.png"):
        answer = call("bench", NOWHERE, option, place)
        assert answer.returncode == 1
        assert answer.stderr.startswith("error: cannot write "), answer.stderr
        assert "Traceback" not in answer.stderr
    answer = call("bench", NOWHERE, option, taken)
    assert "there is no bundle" in answer.stderr
    assert taken.read_text() == "kept"
    assert list(tmp_path.iterdir()) == [taken]


@pytest.mark.parametrize("way", ["same", "spelling", "folder link", "link", "hard link"])
def test_two_outputs_in_one_place_are_refused(tmp_path, monkeypatch, way):
    monkeypatch.chdir(tmp_path)
    one = Path("bench.png")
    if way == "hard link":
        one.write_text("kept")
        os.link(one, "other.png")
    elif way == "link":
        Path("other.png").symlink_to(one)  # to what does not stand there yet
    elif way == "folder link":
        Path("link").symlink_to(tmp_path, target_is_directory=True)
    other = {
        "same": one,
        "spelling": tmp_path / "." / one,
        "folder link": Path("link") / one,
    }.get(way, Path("other.png"))
    before = sorted(tmp_path.iterdir())
    answer = call("bench", NOWHERE, "--json", one, "--plot", other)
    assert answer.returncode == 2
    assert answer.stderr.startswith("error: --json and --plot name one file"), answer.stderr
    assert "nothing was done yet" in answer.stderr
    assert sorted(tmp_path.iterdir()) == before
    assert (
        "there is no bundle"
        in call("bench", NOWHERE, "--json", one, "--plot", "a third.png").stderr
    )


def test_the_scan_is_not_written_over(tmp_path):
    scan = tmp_path / "scan.nii.gz"
    scan.write_bytes(b"kept")
    answer = call("bench", NOWHERE, scan, "--json", scan)
    assert answer.returncode == 2
    assert answer.stderr.startswith("error: --json and SCAN name one file"), answer.stderr
    assert scan.read_bytes() == b"kept"
    missing = tmp_path / "missing.nii.gz"
    missing.symlink_to(missing)  # links in a circle are the reader's to refuse
    answer = call("bench", NOWHERE, missing, "--json", tmp_path / "bench.json")
    assert "name one file" not in answer.stderr
    assert "Traceback" not in answer.stderr


@pytest.mark.parametrize("name", ["bench.jpg", "bench", "png", "bench.png.svg"])
def test_a_plot_of_another_suffix_is_refused(report, tmp_path, name):
    answer = call("bench", NOWHERE, "--plot", tmp_path / name)
    assert answer.returncode == 2
    assert "is no name of a PNG" in answer.stderr
    assert ".png" in answer.stderr
    with pytest.raises(OutputError, match="is no name of a PNG"):
        plot_png(report, tmp_path / name)
    assert list(tmp_path.iterdir()) == []
    assert plot_png(report, tmp_path / "BENCH.PNG").is_file()


def test_the_command_names_the_bundle_as_it_was_typed(bundle, scan, monkeypatch):
    monkeypatch.chdir(bundle.parent)
    asked = ("--runtime", "onnxruntime", "--device", "cpu", "--repeats", 2, "--warm-up", 0)
    answer = call("bench", "./tiny.ctedge", scan, *asked, "--json", "-")
    document = json.loads(answer.stdout)
    assert document["command"][:4] == ["ctedge", "bench", "./tiny.ctedge", "SCAN"]
    assert str(scan.parent) not in answer.stdout
    assert document["bundle"]["name"] == "tiny"


def test_a_plot_says_of_what_on_what_and_when_it_is(report, tmp_path):
    machine = replace(
        report.machine,
        cpu="Intel(R) Xeon(R) CPU @ 2.20GHz",
        cores_usable=4,
        cores=16,
        gpu={"gpu": "NVIDIA RTX PRO 6000 Blackwell Max-Q Workstation Edition", "driver": None},
    )
    drawn = replace(report, machine=machine, started="2026-11-22T10:34:42+00:00")
    path = plot_png(drawn, tmp_path / "plot.png")
    pixels = pixels_of(path)
    assert "NVIDIA RTX PRO 6000" in description_of(path)
    assert read_text(pixels, lines=5) == [
        "TINY ON A FILE - 40 X 36 X 20",
        "INTEL XEON CPU 2.20GHZ - 4 OF 16 CORES - NVIDIA RTX PRO 6000 BLACKWELL MAX-Q WORKSTATION",
        "EDITION",
        "2026-11-22 10:34 UTC",
        "",
    ]


def test_a_long_caption_goes_on_in_the_next_line(report, tmp_path):
    short = pixels_of(plot_png(replace(report, bundle="lung"), tmp_path / "short.png"))
    named = replace(report, bundle="long_" * 40, in_memory=True, shape=None)
    pixels = pixels_of(plot_png(named, tmp_path / "long.png"))
    assert pixels.shape == (len(short) + 2 * LINE, short.shape[1], 3)
    words = " ".join(read_text(pixels, lines=3))
    assert words.split() == [*["LONG"] * 40, "ON", "A", "SYNTHETIC", "SCAN", "IN", "MEMORY"]


@pytest.mark.parametrize("ms", [[1.0] * 5, [1.0, 2.0], [*np.linspace(10, 11, 99), 500.0]])
def test_any_distribution_can_be_drawn(ms, tmp_path):
    drawn = replace(EMPTY, runs=(run_of(inference=ms, total=ms),))
    pixels = pixels_of(plot_png(drawn, tmp_path / "plot.png"))
    assert (pixels != 255).any(axis=2).mean() > 0.02


def pixels_of(path):
    pillow = pytest.importorskip("PIL.Image", exc_type=ImportError)
    with pillow.open(path) as picture:
        return np.asarray(picture)


def description_of(path):
    pillow = pytest.importorskip("PIL.Image", exc_type=ImportError)
    with pillow.open(path) as picture:
        return picture.text["Description"]


def read_text(pixels, *, lines):
    """The first lines of a picture, as one reads them who knows the glyphs."""
    known = {tuple(bytes.fromhex(rows)): letter for letter, rows in GLYPHS.items()}
    dark = (pixels == INK).all(axis=2)
    rows, columns = np.nonzero(dark)
    top, left = rows.min(), columns[rows < rows.min() + LINE].min()
    read = []
    for line in range(lines):
        begin = top + LINE * line
        cells = dark[begin : begin + 14 : 2, left::2]
        letters = []
        for column in range(0, cells.shape[1] - 4, LETTER // 2):
            bits = cells[:, column : column + 5] @ (1 << np.arange(4, -1, -1))
            letters.append(known[tuple(bits.tolist())])
        read.append("".join(letters).rstrip())
    return read
