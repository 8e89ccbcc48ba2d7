"""`ctedge batch` on a real Ray cluster of two workers: killed half-way, resumed, interrupted."""

# ruff: noqa: E402 - imports follow the check for the optional packages
from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

import pytest

if find_spec("ray") is None or sys.platform != "linux":
    pytest.skip("needs Ray, and Linux, where processes can be watched", allow_module_level=True)
parquet = pytest.importorskip("pyarrow.parquet")

from batch_factory import driver, finished, listening, local_cluster, marked
from bundle_factory import write_tiny
from ctedge import Classifier
from ctedge.batch.journal import folder_of
from patience import PATIENCE_S, wait_for
from scan_factory import write_scan

FP32 = {"device": "cpu", "runtime": "onnxruntime", "precision": "fp32"}
OPTIONS = [word for name, value in FP32.items() for word in (f"--{name}", value)]

#: Each of two workers stops at one of the two gates, after the scans before them.
BEFORE = ["s0.nii.gz", "gone.nii.gz", "s1.nii.gz", "damaged.nii.gz"]
GATES = ["gate-1.nii.gz", "gate-2.nii.gz"]
AFTER = ["deadly.nii.gz", "s1.nii.gz", "deadly-once.nii.gz", "lost-once.nii.gz", "s0.nii.gz"]
LACKING = "lacking.nii.gz"


@pytest.fixture
def job(tmp_path):
    """A table of twelve scans, a model, and where the results go."""
    scans = [*BEFORE, *GATES, *AFTER, LACKING]
    for seed, name in enumerate(sorted(set(scans) - {"gone.nii.gz", "damaged.nii.gz"})):
        write_scan(tmp_path / name, seed)
    (tmp_path / "damaged.nii.gz").write_bytes(b"no scan")
    lines = [f"n{number},{scan},site {number}," for number, scan in enumerate(scans)]
    lines[scans.index(AFTER[-1], len(BEFORE))] += "7"  # an acquisition, which no NIfTI file has
    (tmp_path / "scans.csv").write_text("\n".join(["id,scan,site,acquisition", *lines]) + "\n")
    write_tiny(tmp_path / "tiny.ctedge")
    return tmp_path


@pytest.fixture
def begun(job, room):
    """Begins the command with further options; what still runs at the end is killed."""
    processes = []

    def begin(*options):
        output = job / "results.parquet"
        words = [job / "scans.csv", "-o", output, "--model", job / "tiny.ctedge", "--workers", 2]
        processes.append(driver(job, *words, *OPTIONS, *options))
        return processes[-1]

    yield begin
    for process in processes:
        process.kill()
        process.communicate(timeout=PATIENCE_S)


@pytest.fixture
def room(monkeypatch):
    """Where Ray writes: nothing of it is left. The names of its sockets have to be short."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        monkeypatch.setenv("RAY_TMPDIR", folder)
        yield Path(folder)


def journal_of(job):
    """What is finished so far; a line that is being written is none."""
    path = folder_of(job / "results.parquet") / "journal.jsonl"
    text = path.read_text() if path.exists() else ""
    lines = [
        line for line in text.splitlines(keepends=True) if line.endswith("\n") and line != "\n"
    ]
    return {json.loads(line)["index"]: json.loads(line) for line in lines}


def at_the_gates(job):
    """All is finished that comes before them, and each is waited at."""
    return len(journal_of(job)) >= len(BEFORE) and set(GATES) <= {gate for _, gate in waiting(job)}


def waiting(job):
    """Who came to which gate, by process."""
    return [mark.name.split("-at-") for mark in job.glob("*-at-gate-*")]


def test_killed_half_way_and_resumed_it_answers_as_predict_does(job, begun, room):
    with local_cluster(job) as address:
        process = begun("--address", address)
        wait_for(lambda: at_the_gates(job), of=process)
        process.send_signal(signal.SIGKILL)
        assert finished(process)[0] == -signal.SIGKILL
        kept = journal_of(job)
        assert set(kept) == set(range(len(BEFORE)))
        assert len({process for process, _ in waiting(job)}) == 2  # workers, each at one
        assert not (job / "results.parquet").exists()

        code, _, err = finished(begun("--address", address))
        assert code == 1
        assert "--resume" in err
        code, _, err = finished(begun("--address", address, "--resume", "--workers", 3))
        assert code == 1
        assert "the cluster has no room for 3 workers" in err

        (job / "open").touch()
        code, _, err = finished(begun("--address", address, "--resume"))
        assert code == 1
        assert "a package is missing" in err
        assert len(BEFORE) <= len(journal_of(job)) < len(BEFORE + GATES + AFTER + [LACKING])
        assert not (job / "results.parquet").exists()

        (job / "installed").touch()
        code, out, err = finished(begun("--address", address, "--resume", "--json"))
    assert code == 1, err  # as of `ctedge predict`: some failed
    ours = {"UnreadableScan": 1, "WorkerLost": 1, "InputError": 1}
    assert json.loads(out)["errors"] == ours | {"ScanNotFound": 1}
    assert json.loads(out)["runtimes"] == {"onnxruntime-cpu-fp32": 8}
    assert not folder_of(job / "results.parquet").exists()

    rows = parquet.read_table(job / "results.parquet").to_pylist()
    assert [row["scan"] for row in rows] == [*BEFORE, *GATES, *AFTER, LACKING]
    assert [row["id"] for row in rows] == [f"n{number}" for number in range(len(rows))]
    assert [row["site"] for row in rows] == [f"site {number}" for number in range(len(rows))]
    with Classifier.load(job / "tiny.ctedge", **FP32) as classifier:
        for number, row in enumerate(rows):
            if row["error"]:
                continue
            expected = classifier.predict(job / row["scan"])
            for name in ("probability", "logit", "label", "threshold", "model_digest", "runtime"):
                assert row[name] == getattr(expected, name), name
            if number in kept:  # judged once, before the kill
                assert row["total_ms"] == kept[number]["answer"]["timings_ms"]["total"]
    failed = {row["scan"]: (row["error"], row["error_message"]) for row in rows if row["error"]}
    assert {scan: kind for scan, (kind, _) in failed.items()} == {
        "gone.nii.gz": "ScanNotFound",
        "damaged.nii.gz": "UnreadableScan",
        "deadly.nii.gz": "WorkerLost",
        AFTER[-1]: "InputError",
    }
    assert "acquisition=7" in failed[AFTER[-1]][1]
    assert "ctedge predict" in failed["deadly.nii.gz"][1]
    assert (job / "died").exists()  # and the scan of which one worker died has its answer,
    assert (job / "lost").exists()  # and that at which one lost its GPU

    before = (job / "results.parquet").stat().st_mtime_ns
    assert finished(begun("--resume"))[0] == 1
    assert (job / "results.parquet").stat().st_mtime_ns == before

    write_scan(job / "gone.nii.gz", 1)
    code, out, err = finished(begun("--retry-failed", "--json"))
    assert code == 1, err
    assert json.loads(out)["errors"] == ours
    again = parquet.read_table(job / "results.parquet").to_pylist()
    assert [n for n, row in enumerate(again) if row != rows[n]] == [BEFORE.index("gone.nii.gz")]
    assert again[BEFORE.index("gone.nii.gz")]["label"]
    assert not folder_of(job / "results.parquet").exists()
    assert list(room.iterdir()) == []


@pytest.mark.parametrize(
    ("send", "number", "exit_code"),
    [(os.killpg, signal.SIGINT, 130), (os.kill, signal.SIGTERM, 143)],
    ids=["Ctrl-C", "SIGTERM"],  # of a terminal, of a service manager
)
def test_interrupted_on_one_machine_it_ends_cleanly_and_keeps_what_is_finished(
    job, begun, room, send, number, exit_code
):
    process = begun()
    wait_for(lambda: at_the_gates(job), of=process)
    assert listening(marked(job)) <= {"127.0.0.1", "::1"}
    assert list(room.iterdir())
    send(process.pid, number)
    code, out, err = finished(process)
    assert code == exit_code, err
    assert out == ""
    assert err.splitlines() == [
        "stopped; finished scans are kept: go on with the same command and --resume"
    ]
    assert len(journal_of(job)) == len(BEFORE)
    wait_for(lambda: not marked(job))
    assert list(room.iterdir()) == []
