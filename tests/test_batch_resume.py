"""What a batch goes on from, and what it does not take for its own: without a cluster."""

# ruff: noqa: E402 - imports follow the check for the optional package
from __future__ import annotations

import json

import pytest

parquet = pytest.importorskip("pyarrow.parquet")

from bundle_factory import write_tiny
from ctedge.batch import run_batch
from ctedge.batch.cluster import crew_of
from ctedge.batch.journal import folder_of, open_journal
from ctedge.batch.table import read_table
from ctedge.batch.workers import Plan
from ctedge.cpus import usable_cpus
from ctedge.errors import OutputError, RuntimeUnavailable
from ctedge.runtimes.cuda_driver import find_device

FAILED = {"error": {"type": "ScanNotFound", "message": "a.nii.gz: no such file"}}
MAKING = {"model": "tiny", "model_digest": "0" * 64, "runtime": "onnxruntime-cpu-fp32"}
ANSWER = MAKING | {
    "probability": 0.25,
    "label": "normal",
    "threshold": 0.5,
    "logit": -1.1,
    "quality": {"flags": [{"code": "c", "severity": "yellow", "message": "m", "more": 1}]},
    "timings_ms": {"read": 1.0, "total": 2.0},
}
SEVERITY = MAKING | {
    "score": 8.0,
    "category": "Low",
    "ctsi": 2,
    "raw_score": 8.0,
    "clipped": False,
    "quality": {"flags": []},
    "timings_ms": {"total": 2.0},
}


def without(name):
    return {key: value for key, value in ANSWER.items() if key != name}


@pytest.fixture
def output(tmp_path):
    return tmp_path / "results.parquet"


def journal_of(output, *, resume=False, task="classifier"):
    return open_journal(output, {"table": "abc"}, count=3, task=task, resume=resume)


def append(output, line):
    with (folder_of(output) / "journal.jsonl").open("ab") as stream:
        stream.write(line)


@pytest.mark.parametrize(
    "torn",
    [
        b'{"index": 1, "answ',
        b'{"index": 7, "error": {"type": "A", "message": "b"}}',
        b'{"index": true, "error": {"type": "A", "message": "b"}}',
        b'{"index": 1, "error": "A"}',
        b'{"index": 1}',
        b"[" * 100_000,
        b"\xff\x00",
    ],
)
def test_a_damaged_line_is_passed_over_and_spoils_no_other(output, torn):
    with journal_of(output) as journal:
        journal.add(0, FAILED)
    append(output, torn)
    with journal_of(output, resume=True) as journal:
        assert journal.done == {0: FAILED}
        journal.add(2, FAILED)
    with journal_of(output, resume=True) as journal:
        assert set(journal.done) == {0, 2}


#: Lines of JSON that say nothing which the results could hold.
WRONG = [
    {"answer": None},
    {"answer": {}},
    {"answer": {"timings_ms": {}}},
    {"answer": {"timings_ms": {}, "runtime": []}},
    {"answer": without("runtime")},
    {"answer": without("timings_ms")},
    {"answer": ANSWER | {"runtime": None}},
    {"answer": ANSWER | {"label": 5}},
    {"answer": ANSWER | {"label": "\ud800"}},
    {"answer": ANSWER | {"probability": "0.25"}},
    {"answer": ANSWER | {"logit": 10**400}},
    {"answer": ANSWER | {"timings_ms": []}},
    {"answer": ANSWER | {"timings_ms": {"total": "2"}}},
    {"answer": ANSWER | {"quality": {"flags": [{"code": "c"}]}}},
    {"answer": SEVERITY},
    {"answer": ANSWER, "error": {"type": "A", "message": "b"}},
    {"error": {"type": 5, "message": None}},
    {"error": {"type": "A", "message": ""}},
    {"error": {"type": "A"}},
    {"error": ["type", "message"]},
]


def test_a_line_that_the_results_cannot_hold_is_passed_over(output):
    with journal_of(output) as journal:
        journal.add(0, {"answer": ANSWER})
    for wrong in WRONG:
        append(output, json.dumps({"index": 1, **wrong}).encode() + b"\n")
    with journal_of(output, resume=True) as journal:
        assert journal.done == {0: {"answer": ANSWER}}
    with journal_of(output, resume=True, task="severity") as journal:
        assert journal.done == {1: {"answer": SEVERITY}}


def test_failures_are_forgotten_and_answers_are_not(output):
    with journal_of(output) as journal:
        journal.add(0, FAILED)
        journal.add(2, {"answer": ANSWER})
        journal.forget_failures()
        assert set(journal.done) == {2}
    with journal_of(output, resume=True) as journal:  # until they are judged, they stand
        assert set(journal.done) == {0, 2}


@pytest.fixture
def begun(tmp_path, output):
    """The arguments of a batch of one scan, of which the journal has a wrong line last."""
    bundle = write_tiny(tmp_path / "tiny.ctedge")
    source = tmp_path / "scans.csv"
    source.write_text("scan\na.nii.gz\n")
    plan = Plan(bundle="", model=bundle.name, model_digest=bundle.digest)
    asked = {"table": read_table(source).digest, "folder": str(tmp_path), **plan.record()}
    with open_journal(output, asked, count=1, task=bundle.task, resume=False) as journal:
        journal.add(0, {"answer": ANSWER})
    append(output, b'{"index": 0, "answer": {}}\n')
    return {"source": source, "output": output, "model": str(bundle.path), "resume": True}


def test_a_batch_goes_on_after_a_wrong_line(begun, output):
    assert run_batch(**begun).runtimes == {ANSWER["runtime"]: 1}
    (row,) = parquet.read_table(output).to_pylist()
    assert (row["label"], row["total_ms"], row["error"]) == ("normal", 2.0, None)


def test_what_no_batch_wrote_is_not_taken_for_another_batch(begun, output, tmp_path):
    import pyarrow

    run_batch(**begun)
    whole = output.read_bytes()
    parquet.write_table(pyarrow.table({"a": [1]}), tmp_path / "foreign.parquet")
    foreign = (tmp_path / "foreign.parquet").read_bytes()
    for content in (b"", b"mine", whole[:-20], whole[:4] + b"\xff" * len(whole), foreign):
        output.write_bytes(content)
        with pytest.raises(OutputError, match="not, or no more, what a batch wrote") as caught:
            run_batch(**begun)
        assert caught.value.found
        assert "remove or rename it" in caught.value.fix
        assert output.read_bytes() == content
    output.unlink()
    output.mkdir()
    with pytest.raises(OutputError, match="not, or no more, what a batch wrote"):
        run_batch(**begun)


@pytest.mark.parametrize("content", ["{", "[1]", "[" * 100_000])
def test_a_batch_that_does_not_say_what_it_is_is_not_gone_on_with(begun, output, content):
    (folder_of(output) / "job.json").write_text(content)
    with pytest.raises(OutputError, match=r"job\.json is damaged") as caught:
        run_batch(**begun)
    assert str(folder_of(output)) in caught.value.fix


def test_more_cores_than_there_are_are_refused_before_ray_starts():
    cores = usable_cpus()
    with (
        pytest.raises(RuntimeUnavailable, match="too few cores") as caught,
        crew_of(None, workers=None, threads=cores + 1, device="cpu"),
    ):
        pass
    assert f"--threads-per-worker {cores} " in caught.value.fix


@pytest.mark.skipif(find_device() is not None, reason="this machine has a GPU")
def test_without_a_gpu_none_is_promised():
    with (
        pytest.raises(RuntimeUnavailable, match="no NVIDIA GPU is found on this machine") as caught,
        crew_of(None, workers=None, threads=1, device="cuda"),
    ):
        pass
    assert "NVIDIA driver" in str(caught.value.found)
    assert "--device cpu" in caught.value.fix
