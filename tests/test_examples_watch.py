"""The watch-folder worker: real folders of DICOM, real processes, real locks."""

from __future__ import annotations

import fcntl
import json
import shutil
import signal
import subprocess
import sys

import pytest

pytest.importorskip("pydicom")

from conftest import REPOSITORY
from ctedge.phantom import draw_patient, render, write_dicom

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
        answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
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
    deliver(exported, desk.inbox / "a")  # what failed is tried again when its files change
    (desk.inbox / "b" / "late.dcm").write_bytes(b"late")
    (desk.inbox / "a" / "broken.dcm").unlink()
    assert desk.look() == ["'a' judged"]
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
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)


def test_a_study_that_ends_its_workers_is_given_up(desk, exported):
    deliver(exported, desk.inbox / "deadly")
    for _ in range(2):
        assert interrupted(desk, signal.SIGKILL).returncode == -signal.SIGKILL
    assert desk.look() == ["'deadly' failed"]
    assert desk.result("deadly")["error"]["type"] == "WorkerLost"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_worker_after_the_study_at_hand(desk, exported, number):
    deliver(exported, desk.inbox / "first")
    deliver(exported, desk.inbox / "second")
    ended = interrupted(desk, number)
    assert (ended.returncode, ended.stdout.splitlines()) == (0, ["'first' judged"])


def test_a_fault_of_the_machine_ends_it_with_a_reason(tmp_path):
    results = tmp_path / "results"
    command = [*WORKER, tmp_path / "missing", results, "--once"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert ended.returncode == 1
    assert "missing" in ended.stderr
    assert "Traceback" not in ended.stderr
