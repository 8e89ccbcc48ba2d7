"""Where no file can be written: what needs none answers, the rest says what it lacks."""

from __future__ import annotations

import json
import sys

import pytest

if sys.platform == "win32":
    pytest.skip("limits of a process are not set on Windows", allow_module_level=True)
pytest.importorskip("onnxruntime", exc_type=ImportError)

import resource

from bundle_factory import write_tiny
from command_line import run
from scan_factory import labelled, write_scan


def run_on_a_full_machine(*arguments, **options):
    """A process whose files may not grow: each write fails, in temporary folders and /dev/shm too.

    Pipes, such as its output, are none.
    """
    full = {"preexec_fn": lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))}
    return run(*arguments, **full, **options)


def test_a_scan_is_judged(tmp_path):
    bundle, scan = write_tiny(tmp_path / "tiny.ctedge"), write_scan(tmp_path / "scan.nii.gz", 1)
    answer = run_on_a_full_machine("predict", scan, "-m", bundle.path, "--json")
    assert answer.returncode == 0, answer.stderr
    assert 0 < json.loads(answer.stdout)["probability"] < 1


@pytest.mark.skipif(sys.platform != "linux", reason="locks are files in /dev/shm on Linux")
def test_work_that_cannot_be_shared_says_so_and_one_process_needs_no_locks(tmp_path):
    words = ["train", "phantoms", tmp_path / "data", "--count", 2, "--shape", "16x16x16"]
    answer = run_on_a_full_machine(*words, "--workers", 2)
    assert answer.returncode == 1
    assert answer.stderr.startswith("error: this process can share no work with others")
    assert "expected: locks and pipes" in answer.stderr
    assert "--workers 1" in answer.stderr
    answer = run_on_a_full_machine(*words, "--workers", 1)
    assert answer.stderr.startswith(f"error: cannot write {tmp_path / 'data'}")


def test_a_training_without_a_temporary_folder_names_the_variable(tmp_path):
    pytest.importorskip("keras", exc_type=ImportError)
    data = labelled(tmp_path / "data")
    answer = run_on_a_full_machine("train", "classifier", data, "-o", tmp_path / "run")
    assert answer.returncode == 1
    assert answer.stderr.startswith("error: there is no folder for temporary files")
    assert "TMPDIR" in answer.stderr
