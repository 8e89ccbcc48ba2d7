"""The job on a folder: parallel, resumable, apart from its input, and silent about what it saw."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pydicom
import pytest
import typer
from typer.testing import CliRunner

from ctedge import InputError, OutputError, ScanNotFound, read_scan
from ctedge.cli.dicom_anonymize import anonymize
from ctedge.deidentify import Options, check_folder, deidentify_folder
from deidentify_factory import KEY, ct
from dicom_factory import save
from folders import contents
from patience import PATIENCE_S

SLICES = 5

app = typer.Typer(pretty_exceptions_enable=False)
app.command()(anonymize)


@pytest.fixture
def series(tmp_path: Path) -> Path:
    """Slices in a folder of the patient's name."""
    for number in range(1, SLICES + 1):
        save(tmp_path / "in" / "Whitfield" / f"Eleanor{number:02d}.dcm", ct(number))
    return tmp_path / "in"


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "key"
    path.write_bytes(KEY)
    return path


def test_a_series_becomes_one_folder_that_reads_as_a_scan(tmp_path, series):
    summary = deidentify_folder(series, tmp_path / "out")
    (folder,) = (tmp_path / "out").iterdir()
    before, after = read_scan(series / "Whitfield"), read_scan(folder)
    assert (before.voxels == after.voxels).all()
    assert (before.affine == after.affine).all()
    assert len(summary.of("written")) == SLICES
    assert check_folder(tmp_path / "out") == ()


def test_neither_output_nor_record_names_a_source(tmp_path, series):
    save(series / "Whitfield" / "screen.dcm", ct(99, BurnedInAnnotation="YES"))
    (series / "Whitfield letter.txt").write_text("Dear Mrs Whitfield")
    summary = deidentify_folder(series, tmp_path / "out")
    for name, data in contents(tmp_path / "out").items():
        assert b"Whitfield" not in data
        assert "Whitfield" not in name
    record = summary.record.read_text()
    assert "Whitfield" not in record
    assert "Eleanor" not in record
    document = json.loads(record)
    assert document["files"] == {"written": SLICES, "refused": 1, "passed over": 1, "damaged": 0}
    reasons = {entry["state"]: entry["reasons"] for entry in document["not_written"]}
    assert reasons == {
        "refused": ["BurnedInAnnotation is YES"],
        "passed over": ["no DICOM file"],
    }


def test_parallel_and_alone_write_the_same(tmp_path, series, key_file):
    alone, together = tmp_path / "alone", tmp_path / "together"
    deidentify_folder(series, alone, key_file=key_file, workers=1)
    deidentify_folder(series, together, key_file=key_file, workers=2)
    assert contents(alone) == contents(together)
    records = [path.with_name(f"{path.name}.record.json") for path in (alone, together)]
    assert records[0].read_bytes() == records[1].read_bytes()


def test_the_key_is_kept_apart_and_used_again(tmp_path, series):
    summary = deidentify_folder(series, tmp_path / "out")
    key = summary.private / "key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert stat.S_IMODE(summary.private.stat().st_mode) == 0o700
    first = contents(tmp_path / "out")
    assert key.read_bytes().strip() not in b"".join(first.values())
    deidentify_folder(series, tmp_path / "again", key_file=key)
    assert contents(tmp_path / "again") == first
    assert not (tmp_path / "again.private" / "key").exists()


def test_only_what_is_new_or_changed_is_done_again(tmp_path, series):
    totals = []

    def begin(total):
        totals.append(total)
        return lambda: None

    deidentify_folder(series, tmp_path / "out", begin=begin)
    save(series / "Whitfield" / "more.dcm", ct(SLICES + 1))
    moved = save(series / "Whitfield" / "Eleanor01.dcm", ct(1, SeriesInstanceUID="1.2.3.4"))
    os.utime(moved, ns=(1, 1))
    (tmp_path / "out" / ".partial-0123.dcm").write_bytes(b"left by a kill")
    summary = deidentify_folder(series, tmp_path / "out", begin=begin)
    assert totals == [SLICES, 2]
    assert set(contents(tmp_path / "out")) == {one.output for one in summary.of("written")}
    assert len(summary.of("written")) == SLICES + 1


def test_a_torn_journal_costs_only_its_last_line(tmp_path, series):
    summary = deidentify_folder(series, tmp_path / "out")
    before, record = contents(tmp_path / "out"), summary.record.read_bytes()
    journal = summary.private / "journal.jsonl"
    journal.write_bytes(journal.read_bytes()[:-40])
    summary = deidentify_folder(series, tmp_path / "out")
    assert contents(tmp_path / "out") == before
    assert summary.record.read_bytes() == record


def test_a_kill_leaves_no_half_file_and_the_same_command_goes_on(tmp_path, series, key_file):
    for number in range(SLICES + 1, 60):
        save(series / f"{number}.dcm", ct(number))
    code = (
        "import sys; from pathlib import Path; from ctedge.deidentify import deidentify_folder;"
        "a, b, k = map(Path, sys.argv[1:]); deidentify_folder(a, b, key_file=k)"
    )
    arguments = [series, tmp_path / "out", key_file]
    process = subprocess.Popen([sys.executable, "-c", code, *map(str, arguments)])
    deadline = time.monotonic() + PATIENCE_S
    while process.poll() is None and time.monotonic() < deadline:
        if len(list((tmp_path / "out").rglob("*.dcm"))) > 3:
            break
    process.send_signal(signal.SIGKILL)
    process.wait(PATIENCE_S)
    for path in (tmp_path / "out").rglob("[!.]*.dcm"):
        assert pydicom.dcmread(path).PatientIdentityRemoved == "YES"
    deidentify_folder(series, tmp_path / "out", key_file=key_file)
    deidentify_folder(series, tmp_path / "whole", key_file=key_file)
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_another_job_does_not_go_into_the_same_folder(tmp_path, series, key_file):
    deidentify_folder(series, tmp_path / "out")
    with pytest.raises(OutputError, match="other settings") as caught:
        deidentify_folder(series, tmp_path / "out", options=Options(dates=False))
    assert "methods" in caught.value.found
    with pytest.raises(OutputError, match="other settings"):
        deidentify_folder(series, tmp_path / "out", key_file=key_file)


def test_a_folder_with_other_things_is_left_alone(tmp_path, series):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("mine")
    with pytest.raises(OutputError, match="not empty"):
        deidentify_folder(series, tmp_path / "out")
    assert not (tmp_path / "out.private").exists()


@pytest.mark.parametrize(("source", "output"), [("in", "in"), ("in", "in/out"), ("a/in", "a")])
def test_folders_in_each_other_are_refused(tmp_path, source, output):
    save(tmp_path / source / "a.dcm", ct())
    with pytest.raises((InputError, OutputError)):
        deidentify_folder(tmp_path / source, tmp_path / output)


def test_a_key_among_the_data_or_too_short_is_refused(tmp_path, series, key_file):
    inside = series / "key"
    inside.write_bytes(KEY)
    with pytest.raises(InputError, match="among the data"):
        deidentify_folder(series, tmp_path / "out", key_file=inside)
    key_file.write_bytes(b"short")
    with pytest.raises(InputError, match="holds no key"):
        deidentify_folder(series, tmp_path / "out2", key_file=key_file)


@pytest.mark.parametrize("key", ["nowhere", "short"])
def test_a_job_that_cannot_begin_leaves_nothing(tmp_path, series, key):
    (tmp_path / "short").write_bytes(b"abc")
    with pytest.raises(InputError):
        deidentify_folder(series, tmp_path / "out", key_file=tmp_path / key)
    (tmp_path / "empty").mkdir()
    for note in (False, True):
        if note:
            (tmp_path / "empty" / "a.txt").write_text("no DICOM file")
        with pytest.raises(ScanNotFound, match="no DICOM file"):
            deidentify_folder(tmp_path / "empty", tmp_path / "out")
    assert list(tmp_path.glob("out*")) == []


def test_a_folder_that_cannot_be_written_says_what_to_do(series):
    with pytest.raises(OutputError, match="cannot write") as caught:
        deidentify_folder(series, Path("/proc/out"))
    assert "choose" in caught.value.fix


def test_a_lost_worker_does_not_end_the_job(tmp_path, series):
    """The first answer is an end of one worker; whatever it worked on is done again alone."""
    lost = []

    def begin(_total):
        def advance():
            if not lost:
                lost.append(multiprocessing.active_children()[0])
                lost[0].kill()

        return advance

    summary = deidentify_folder(series, tmp_path / "out", workers=2, begin=begin)
    assert lost
    assert len(summary.of("written")) == SLICES
    assert check_folder(tmp_path / "out") == ()


def test_links_are_not_followed(tmp_path, series):
    outside = save(tmp_path / "elsewhere" / "a.dcm", ct(77))
    (series / "link.dcm").symlink_to(outside)
    (series / "folder").symlink_to(outside.parent)
    os.mkfifo(series / "pipe")
    summary = deidentify_folder(series, tmp_path / "out")
    assert len(summary.of("written")) == SLICES
    assert {one.source for one in summary.of("passed over")} == {"link.dcm", "folder", "pipe"}


@pytest.mark.parametrize("name", ["out", "out.private"])
def test_an_output_that_is_a_link_is_refused(tmp_path, series, name):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OutputError, match="is a link"):
        deidentify_folder(series, tmp_path / "out")
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_links_in_the_output_are_refused(tmp_path, series):
    deidentify_folder(series, tmp_path / "out")
    (tmp_path / "out" / "EVIL").symlink_to(tmp_path)
    with pytest.raises(OutputError, match="links"):
        deidentify_folder(series, tmp_path / "out")


def test_the_command_ends_with_1_unless_suspicious_images_may_be_skipped(tmp_path, series):
    save(series / "screen.dcm", ct(99, BurnedInAnnotation="YES"))
    arguments = [str(series), str(tmp_path / "out"), "--workers", "1"]
    answer = CliRunner().invoke(app, arguments)
    assert answer.exit_code == 1
    assert "refused: screen.dcm: BurnedInAnnotation is YES" in answer.output
    assert f"{SLICES} written, 1 refused" in answer.output
    answer = CliRunner().invoke(app, [*arguments, "--skip-suspicious", "--json"])
    assert answer.exit_code == 0
    counts = json.loads(answer.stdout)
    assert (counts["written"], counts["refused"]) == (SLICES, 1)


def test_a_damaged_file_fails_the_command_and_stops_nothing(tmp_path, series):
    (series / "cut.dcm").write_bytes((series / "Whitfield/Eleanor01.dcm").read_bytes()[:700])
    answer = CliRunner().invoke(
        app, [str(series), str(tmp_path / "out"), "--workers", "1", "--skip-suspicious"]
    )
    assert answer.exit_code == 1
    assert f"{SLICES} written, 0 refused, 1 damaged" in answer.output


def test_a_missing_input_is_said(tmp_path):
    with pytest.raises(ScanNotFound, match="no such folder"):
        deidentify_folder(tmp_path / "nowhere", tmp_path / "out")
