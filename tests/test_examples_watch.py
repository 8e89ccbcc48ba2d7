"""The watch-folder worker: real folders of DICOM, real processes, real locks."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys

import pytest

pytest.importorskip("pydicom")

from conftest import REPOSITORY
from ctedge.phantom import draw_patient, render, write_dicom
from patience import PATIENCE_S

EXAMPLES = REPOSITORY / "examples"
WORKER = [sys.executable, EXAMPLES / "watch_folder.py"]


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A small chest as a scanner exports it: 40 files."""
    phantom = render(draw_patient(7, lesion_share=0.3), shape=(64, 64, 40))
    return write_dicom(phantom, tmp_path_factory.mktemp("scanner") / "export")


class Desk:
    """An inbox, its results, and a worker that takes one look."""

    def __init__(self, folder):
        self.inbox, self.results = folder / "inbox", folder / "results"
        self.inbox.mkdir()

    def look(self, *, settle=0):
        command = [*WORKER, self.inbox, self.results, "--once", "--settle", str(settle)]
        answer = subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=PATIENCE_S
        )
        return answer.stdout.splitlines()

    def result(self, study):
        return json.loads((self.results / f"{study}.json").read_text())

    @property
    def answered(self):
        return sorted(path.stem for path in self.results.glob("*.json"))


@pytest.fixture
def desk(tmp_path):
    return Desk(tmp_path)


def deliver(source, study, *, first=0, last=None):
    """Copy some of the files, as a slow export does."""
    study.mkdir(exist_ok=True)
    for path in sorted(source.iterdir())[first:last]:
        shutil.copy2(path, study)


def test_a_study_is_judged_once_and_a_broken_one_stops_nothing(desk, exported):
    deliver(exported, desk.inbox / "b")
    (desk.inbox / "a").mkdir()
    (desk.inbox / "a" / "broken.dcm").write_bytes(b"no DICOM")
    (desk.inbox / "empty").mkdir()
    (desk.inbox / ".arriving").mkdir()
    assert desk.look() == ["'a' failed", "'b' judged"]
    assert desk.answered == ["a", "b"]
    assert desk.result("a")["error"]["fix"]
    classified, graded = desk.result("b")["results"]
    assert (classified["model"], graded["model"]) == ("pneumonia", "severity")
    before = (desk.results / "b.json").stat()
    deliver(exported, desk.inbox / "a", last=-1)  # what failed is tried again when its files change
    (desk.inbox / "b" / "late.dcm").write_bytes(b"late")
    (desk.inbox / "a" / "broken.dcm").unlink()
    changed = f"'b' changed after it was judged: see {desk.results / 'changed' / 'b.json'}"
    assert desk.look() == ["'a' judged", changed]
    assert desk.look() == []  # said once
    assert (desk.results / "b.json").stat() == before
    changed = json.loads((desk.results / "changed" / "b.json").read_text())
    assert changed["judged"] == desk.result("b")["fingerprint"] != changed["found"]


def test_a_half_written_study_waits(desk, exported):
    study = desk.inbox / "slow"
    deliver(exported, study, last=20)
    assert desk.look(settle=3600) == []
    assert desk.answered == []
    # Half a chest that stood still is refused for what it is, and judged when it is whole.
    assert desk.look() == ["'slow' failed"]
    assert desk.result("slow")["error"]["type"] == "IrregularSeries"
    deliver(exported, study, first=20)
    assert desk.look(settle=3600) == []
    assert desk.look() == ["'slow' judged"]


def test_a_study_that_another_worker_has_is_left_to_it(desk, exported):
    deliver(exported, desk.inbox / "one")
    state = desk.results / ".state"
    state.mkdir(parents=True)
    with (state / "one.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert desk.look() == []
    assert desk.look() == ["'one' judged"]


def dig(folder):
    """Folders in folders, until a path is longer than the system takes."""
    folder.mkdir()
    inner = os.open(folder, os.O_RDONLY)
    for _ in range(20):
        os.mkdir("d" * 250, dir_fd=inner)
        outer, inner = inner, os.open("d" * 250, os.O_RDONLY, dir_fd=inner)
        os.close(outer)
    os.close(inner)


def test_no_name_and_no_broken_file_stops_the_others(desk, exported):
    for name in ("x" * 255, "y." + "z" * 253, "é" * 127, "broken", "state"):
        deliver(exported, desk.inbox / name, last=1)
    odd = desk.inbox / "odd"
    (odd / "folder.dcm").mkdir(parents=True)
    (odd / "loop.dcm").symlink_to("loop.dcm")
    (odd / "gone.dcm").symlink_to("nowhere")
    os.mkfifo(odd / "pipe.dcm")
    dig(desk.inbox / "deep")
    state = desk.results / ".state"
    state.mkdir(parents=True)
    (desk.results / "broken.json").write_text('{"half')
    for number, text in enumerate(('{"half', "[]", "[" * 100_000, '{"fingerprint": null}')):
        (state / "state.json").write_text(text)
        shutil.rmtree(desk.inbox / "state")
        deliver(exported, desk.inbox / "state", first=number, last=number + 1)
        failed = desk.look()
        assert "'state' failed" in failed
        if number == 0:
            assert len(failed) == 6
    assert desk.result("broken")["error"]["type"] == "IrregularSeries"
    assert "too long" in desk.result("deep")["error"]["what"]
    names = {json.loads(path.read_text())["study"] for path in desk.results.glob("*.json")}
    assert names == {"x" * 255, "y." + "z" * 253, "é" * 127, "broken", "state", "deep"}
    assert desk.look() == []
    shutil.rmtree(desk.inbox / "deep")


def test_the_same_files_under_another_name_are_not_judged_again(desk, exported):
    deliver(exported, desk.inbox / "first")
    assert desk.look() == ["'first' judged"]
    (desk.inbox / "second" / "deeper").mkdir(parents=True)
    for number, path in enumerate(sorted(exported.iterdir())):
        shutil.copy(path, desk.inbox / "second" / "deeper" / f"{number}.dcm")  # at another time
    assert desk.look() == ["'second' known by another name"]
    assert desk.result("second")["copy_of"] == "first"
    assert "results" not in desk.result("second")
    assert desk.look() == []
    (desk.inbox / "second" / "late.dcm").write_bytes(b"late")
    (said,) = desk.look()
    assert said.startswith("'second' changed after it was judged")
    assert (desk.results / "changed" / "second.json").exists()
    (desk.results / "first.json").unlink()  # removed, it is judged again, and is nobody's copy
    assert desk.look() == ["'first' judged"]


# A worker whose process gets a signal amid its first study.
INTERRUPTED = """
import os, sys
number = int(sys.argv.pop(1))
sys.path.insert(0, sys.argv.pop(1))
import watch_folder
watch_folder.judge = lambda study, models: os.kill(os.getpid(), number)
watch_folder.main()
"""


def interrupted(desk, number):
    command = [sys.executable, "-c", INTERRUPTED, str(int(number)), EXAMPLES]
    command += [desk.inbox, desk.results, "--settle", "0"]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE_S)


def test_a_study_that_ends_its_workers_is_given_up(desk, exported):
    deliver(exported, desk.inbox / "deadly")
    for _ in range(2):
        assert interrupted(desk, signal.SIGKILL).returncode == -signal.SIGKILL
    assert desk.look() == ["'deadly' failed"]
    assert desk.result("deadly")["error"]["type"] == "WorkerLost"


# A worker with models whose GPU is lost at the study `deadly`, or that lack a package.
FAULTY = """
import sys
kind = sys.argv.pop(1)
sys.path.insert(0, sys.argv.pop(1))
import ctedge, watch_folder
def judge(study, models):
    if study.name == "deadly":
        raise getattr(ctedge, kind)("played")
    return [model.predict(ctedge.read_scan(study)).to_json() for model in models]
watch_folder.judge = judge
watch_folder.main()
"""


@pytest.mark.parametrize("kind", ["DeviceLost", "MissingExtra"])
def test_what_the_machine_lacks_is_no_studys_result(desk, exported, kind):
    for number, name in enumerate(("a", "deadly", "later")):
        deliver(exported, desk.inbox / name, first=number)  # no copies
    command = [sys.executable, "-c", FAULTY, kind, EXAMPLES, desk.inbox, desk.results]
    command += ["--once", "--settle", "0"]
    for _ in range(3):
        ended = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=PATIENCE_S
        )
        if desk.answered != ["a"]:
            break
        assert ended.returncode == 1
        assert ended.stderr.splitlines()[-1].endswith(f"{kind}: played")
    if kind == "MissingExtra":  # until somebody installs it; nothing is booked
        assert desk.answered == ["a"]
    else:  # a study at which two GPUs were lost is given up, and the others have their turn
        assert desk.result("deadly")["error"]["type"] == "WorkerLost"
        assert desk.answered == ["a", "deadly", "later"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_worker_after_the_study_at_hand(desk, exported, number):
    deliver(exported, desk.inbox / "first")
    deliver(exported, desk.inbox / "second")
    ended = interrupted(desk, number)
    assert (ended.returncode, ended.stdout.splitlines()) == (0, ["'first' judged"])


def test_a_fault_of_the_machine_ends_it_with_a_reason(tmp_path):
    results = tmp_path / "results"
    command = [*WORKER, tmp_path / "missing", results, "--once"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE_S)
    assert ended.returncode == 1
    assert "missing is no folder; make it, or mount it" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not results.exists()  # no model was loaded before
