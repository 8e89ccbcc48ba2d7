"""What the machine lacks while the watch-folder worker is at a study is no study's fault."""

from __future__ import annotations

import errno
import os
import pickle

import pytest

pytest.importorskip("pydicom")

from bundle_factory import write_tiny
from ctedge import Classifier, CodecUnavailable, InferenceFailed, InputError, UnreadableScan
from watch_played import Desk

MACHINES = {
    "memory": "def play(): raise MemoryError",
    "scan": """def play():
    try:
        raise MemoryError
    except MemoryError as error:
        raise ctedge.InputError("short: not enough memory") from error""",
    "codec": """def play():
    raise ctedge.CodecUnavailable("short", fix='pip install "ctedge[dicom]"')""",
    **{
        name: f"""def play():
    try:
        raise OSError(errno.{name}, "short")
    except OSError as error:
        raise ctedge.UnreadableScan("short: cannot be read") from error"""
        for name in ("EMFILE", "ESTALE", "EIO", "ETIMEDOUT")
    },
    "file": """def sha256_of(path, of=watch_folder.sha256_of):
    if path.parent.name == "short":
        raise OSError(errno.EMFILE, "short")
    return of(path)
watch_folder.sha256_of = sha256_of""",
    "folder": """def scandir(path, of=os.scandir):
    if os.path.basename(path) == "short":
        raise OSError(errno.EIO, "short")
    return of(path)
os.scandir = scandir""",
}

# The results' folder may not be written, but `.state` in it.
UNWRITABLE = """
def write_atomic(path, text, of=watch_folder.write_atomic):
    if path.name == "short.json" and path.parent.name == "results":
        raise ctedge.OutputError("cannot write short.json")
    return of(path, text)
watch_folder.write_atomic = write_atomic
"""

UNLISTED = """
def scandir(path, of=os.scandir):
    if os.path.basename(path) == "short":
        raise PermissionError(errno.EACCES, "Permission denied", str(path))
    return of(path)
os.scandir = scandir
"""

KILLED = "def play(): os.kill(os.getpid(), 9)"


@pytest.fixture
def desk(tmp_path):
    return Desk(tmp_path)


@pytest.mark.parametrize("kind", MACHINES)
def test_a_study_that_lacked_something_is_judged_when_it_is_there(desk, kind):
    for _ in range(3):
        ended = desk.look(MACHINES[kind])
        assert ended.returncode == 1
        assert "short" in ended.stderr
        assert "Traceback" not in ended.stderr
        assert desk.answered == ["a", "z"]  # the others had their turn
    ended = desk.look()
    assert (ended.returncode, ended.stdout) == (0, "'short' judged\n")


def test_what_no_package_decodes_is_the_studys_fault(desk):
    ended = desk.look("def play(): raise ctedge.CodecUnavailable('short', fix='export it')")
    assert ended.returncode == 0
    assert desk.error["type"] == "CodecUnavailable"


def test_results_that_cannot_be_written_give_no_study_up(desk):
    for _ in range(2):
        ended = desk.look(UNWRITABLE)
        assert ended.returncode == 1
        assert ended.stderr.endswith("cannot write short.json\n")
    ended = desk.look()
    assert (ended.returncode, ended.stdout) == (0, "'short' judged\n'z' judged\n")


def test_a_disk_too_full_to_remember_it_gives_no_study_up(desk):
    full = """
def play():
    def write_atomic(path, text): raise ctedge.OutputError("disk full")
    watch_folder.write_atomic = write_atomic
"""
    for _ in range(3):
        ended = desk.look(full)
        assert ended.returncode == 1
        assert ended.stderr.endswith("disk full\n")
    assert "'short' judged" in desk.look().stdout


def test_a_study_that_kills_workers_stays_given_up(desk):
    for _ in range(2):
        assert desk.look(KILLED).returncode == -9
    for _ in range(2):  # nor is it tried again while that cannot be written
        assert desk.look(KILLED + UNWRITABLE).returncode == 1
    assert desk.look(KILLED).returncode == 0
    assert desk.error["type"] == "WorkerLost"


def test_a_study_that_may_not_be_listed_is_said_to_be_so(desk):
    ended = desk.look(UNLISTED)
    assert (ended.returncode, ended.stdout) == (0, "'a' judged\n'short' failed\n'z' judged\n")
    assert desk.error["type"] == "UnreadableScan"
    assert desk.error["what"].endswith("short: Permission denied")
    assert desk.look(UNLISTED).stdout == ""
    assert desk.look().stdout == "'short' judged\n"


def test_another_patient_under_the_same_name_is_said(desk):
    desk.look()
    (desk.inbox / "short" / "one.dcm").write_text("somebody else")
    changed = desk.results / "changed" / "short.json"
    assert desk.look().stdout == f"'short' changed after it was judged: see {changed}\n"
    assert changed.exists()
    assert desk.look().stdout == ""


def sent(error):
    return pickle.loads(pickle.dumps(error))  # noqa: S301


def caused(error, cause):
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "of_one_scan", "of_shortage"),
    [
        (UnreadableScan("damaged"), True, False),
        (caused(UnreadableScan("gone"), OSError(errno.ENOENT, "gone")), True, False),
        (caused(UnreadableScan("files"), OSError(errno.EMFILE, "files")), False, True),
        (caused(InputError("far"), caused(ValueError(), OSError(errno.EIO, ""))), True, True),
        (caused(InputError("memory"), MemoryError()), True, True),  # smaller ones may be judged
        (CodecUnavailable("codec", fix='pip install "ctedge[dicom]"'), True, True),
        (CodecUnavailable("film", fix="export the series uncompressed"), True, False),
        (InferenceFailed("no number"), True, False),
    ],
)
def test_an_error_knows_whose_it_is(error, of_one_scan, of_shortage):
    for one in (error, sent(error)):
        assert (one.of_one_scan, one.of_shortage) == (of_one_scan, of_shortage)


def test_a_model_that_answers_nobody_blames_no_scan(tmp_path, monkeypatch):
    bundle = write_tiny(tmp_path / "tiny.ctedge")
    with Classifier.load(bundle.path, device="cpu", runtime="onnxruntime") as model:
        other = os.getpid() + 1
        with monkeypatch.context() as patched:
            patched.setattr(os, "getpid", lambda: other)
            with pytest.raises(InferenceFailed, match="forked") as forked:
                model.predict("gone.nii.gz")
        with monkeypatch.context() as patched:
            patched.setattr("threading.Thread.start", no_thread)
            with pytest.raises(InferenceFailed, match="no thread") as threadless:
                model.predict_batch(["gone.nii.gz"])
    with pytest.raises(InferenceFailed, match="closed") as closed:
        model.predict("gone.nii.gz")
    for met in (forked, threadless, closed):
        assert not met.value.of_one_scan
        assert not sent(met.value).of_one_scan


def no_thread(_thread):
    raise RuntimeError("can't start new thread")
