"""`benchmarks/compare.py`: a slower working tree is found, and nothing is left behind."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from conftest import LAS_AFFINE, REPOSITORY
from patience import PATIENCE_S

COMPARE = REPOSITORY / "benchmarks" / "compare.py"
ROUNDS, ANSWERS = 4, 50

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")

#: A command that "measures" what SPEED says: the statistics are real, the answers are none.
PLAYED = """
import json, random, signal, sys
from pathlib import Path

def main():
    if "--help" in sys.argv:
        return
    if "--hang" in sys.argv:
        Path(sys.argv[sys.argv.index("--hang") + 1]).touch()
        signal.pause()
    scale = float((Path(__file__).parent / "SPEED").read_text())
    samples = [round(scale * random.Random(n).gauss(100, 1) * 1e6) for n in range(50)]
    stages = {name: {"samples_ns": samples} for name in ("inference", "total")}
    runs = [{"candidate": "played-cpu-fp32", "stages": stages}]
    document = {"schema_version": 1, "bundle": {"digest": "0"}, "runs": runs if scale else []}
    Path(sys.argv[sys.argv.index("--json") + 1]).write_text(json.dumps(document))
"""

#: The same, in another way: stages of the working tree alone, a crash.
WITHOUT_INFERENCE = PLAYED.replace('"inference", "total"', '"total",')
NOT_A_NUMBER = PLAYED.replace('"samples_ns": samples', '"samples_ns": [float("nan")] * 9')
NOTHING_TO_COMPARE = PLAYED.replace("runs if scale else []", "[]")


@pytest.fixture
def compare(monkeypatch):
    monkeypatch.syspath_prepend(COMPARE.parent)
    import compare

    return compare


def git(folder: Path, *words: str) -> str:
    named = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
    answer = subprocess.run(
        ["git", "-C", str(folder), *named, *words],
        capture_output=True,
        text=True,
        check=True,
        timeout=PATIENCE_S,
    )
    return answer.stdout.strip()


def commit(folder: Path) -> str:
    if not (folder / ".git").exists():
        git(folder, "init", "--quiet")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--no-gpg-sign", "--message", "state")
    return git(folder, "rev-parse", "HEAD")


@pytest.fixture
def played(tmp_path: Path) -> Path:
    package = tmp_path / "repository" / "sdk" / "ctedge"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "cli.py").write_text(PLAYED)
    (package / "SPEED").write_text("1.0")
    return tmp_path / "repository"


def command(repository: Path, base: str, *words: object) -> list[str]:
    own = [sys.executable, str(COMPARE), base, "--repository", str(repository)]
    return [*own, *map(str, words)]


def run(repository: Path, base: str, *words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(repository, base, *words),
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )


def nothing_is_left(repository: Path) -> bool:
    return len(git(repository, "worktree", "list").splitlines()) == 1


def measured(*scales: float, stage: str = "total", tail: float = 1.0) -> dict:
    """Rounds of answers of about 100 ms, each round with its own factor; a tenth takes longer."""
    rounds = []
    for number, scale in enumerate(scales):
        ms = np.random.default_rng(number).normal(100, 1, ANSWERS) * scale
        ms[-ANSWERS // 10 :] *= tail
        rounds.append(ms)
    return {"played-cpu-fp32": {stage: rounds}}


class TestStatistics:
    @pytest.mark.parametrize("stage", ["inference", "total"])
    @pytest.mark.parametrize(("scale", "fails"), [(1.0, False), (1.04, False), (1.06, True)])
    def test_a_median_more_than_5_percent_slower_fails(self, compare, scale, fails, stage):
        base = measured(*[1.0] * ROUNDS, stage=stage)
        found = compare.ratios(base, measured(*[scale] * ROUNDS, stage=stage))
        median = next(ratio for ratio in found if ratio.quantile == 50)
        assert median.value == pytest.approx(scale)
        assert median.low <= scale <= median.high
        assert median.failed is fails

    @pytest.mark.parametrize("stage", ["inference", "total"])
    @pytest.mark.parametrize(("longer", "fails"), [(1.09, False), (1.11, True)])
    def test_slow_ones_alone_fail_by_the_95th_percentile(self, compare, longer, fails, stage):
        """By more than 10 percent; the percentile lies within the slow tenth on both sides."""
        base = measured(*[1.0] * ROUNDS, tail=1.5, stage=stage)
        head = measured(*[1.0] * ROUNDS, tail=1.5 * longer, stage=stage)
        median, slow = compare.ratios(base, head)
        assert not median.failed
        assert slow.value == pytest.approx(longer)
        assert slow.failed is fails
        assert ("SLOWER" in str(slow)) is fails

    def test_other_stages_are_shown_and_not_judged(self, compare):
        base = measured(*[1.0] * ROUNDS, stage="read")
        head = measured(*[2.0] * ROUNDS, stage="read")
        assert not any(ratio.failed for ratio in compare.ratios(base, head))

    def test_a_mood_of_the_machine_that_both_share_does_not_widen_the_interval(self, compare):
        moods = [1.0, 1.5, 0.8, 1.2]
        found = compare.ratios(measured(*moods), measured(*[1.02 * mood for mood in moods]))
        apart = compare.ratios(measured(*moods), measured(*reversed(moods)))
        assert found[0].high - found[0].low < (apart[0].high - apart[0].low) / 2

    @pytest.mark.parametrize("head", [{}, {"total": [[1.0]]}, {"total": [[float("nan")]] * 2}])
    def test_a_judged_stage_that_cannot_be_compared_is_an_error(self, compare, head):
        rounds = {stage: [np.array(one) for one in found] for stage, found in head.items()}
        with pytest.raises(compare.NotComparable):
            compare.ratios(measured(1.0, 1.0), {"played-cpu-fp32": rounds})


def test_a_slower_working_tree_fails_and_the_commit_itself_does_not(played):
    base = commit(played)
    answer = run(played, base, "--rounds", 2)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert answer.stdout.splitlines()[-1] == "no slower"
    (played / "sdk" / "ctedge" / "SPEED").write_text("1.2")
    answer = run(played, base, "--rounds", 2)
    assert answer.returncode == 1, answer.stdout + answer.stderr
    assert "1.200" in answer.stdout
    assert "SLOWER than 5%" in answer.stdout
    sides = [line.rpartition(" ")[2] for line in answer.stderr.splitlines()]
    assert sides == ["base", "head", "head", "base"]
    assert nothing_is_left(played)


def test_a_runtime_that_is_lost_fails(played):
    base = commit(played)
    (played / "sdk" / "ctedge" / "SPEED").write_text("0")
    answer = run(played, base, "--rounds", 2)
    assert answer.returncode == 1, answer.stdout + answer.stderr
    assert "LOST" in answer.stdout


def test_what_cannot_be_compared_exits_with_2(played):
    cli = played / "sdk" / "ctedge" / "cli.py"
    cli.write_text("import sys\ndef main():\n    sys.exit('no such command: bench')\n")
    base = commit(played)
    cli.write_text(PLAYED)
    answer = run(played, base)
    assert answer.returncode == 2
    assert "has no `ctedge bench` that starts here (no such command: bench)" in answer.stderr
    assert nothing_is_left(played)
    assert run(played, "nonsense").returncode == 2
    assert run(played, base, "--rounds", 1).returncode == 2


@pytest.mark.parametrize(
    ("base", "head", "said"),
    [
        (PLAYED, WITHOUT_INFERENCE, "lacks the stage inference"),
        (NOT_A_NUMBER, PLAYED, "no time in nanoseconds"),
        (NOTHING_TO_COMPARE, NOTHING_TO_COMPARE, "nothing to compare"),
    ],
)
def test_what_says_nothing_is_neither_slower_nor_no_slower(played, base, head, said):
    cli = played / "sdk" / "ctedge" / "cli.py"
    cli.write_text(base)
    before = commit(played)
    cli.write_text(head)
    answer = run(played, before, "--rounds", 2)
    assert answer.returncode == 2, answer.stdout + answer.stderr
    assert answer.stderr.splitlines()[-1].startswith("cannot compare: ")
    assert said in answer.stderr
    assert "Traceback" not in answer.stderr
    assert nothing_is_left(played)


def test_options_that_measure_nothing_are_no_verdict(played):
    answer = run(played, commit(played), "--", "--help")
    assert answer.returncode == 2, answer.stdout + answer.stderr
    assert "none was written" in answer.stderr


def test_a_crash_of_the_comparison_itself_is_no_verdict(compare, monkeypatch, capsys):
    def breaks(*_: object) -> bool:
        raise ZeroDivisionError("of its own")

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(compare, "compare", breaks)
    monkeypatch.setattr(sys, "argv", ["compare.py", "HEAD"])
    try:
        assert compare.main() == 2
    finally:
        signal.signal(signal.SIGTERM, before)
    assert "ZeroDivisionError: of its own" in capsys.readouterr().err


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_stopped_it_leaves_nothing(played, tmp_path, kind):
    base, reached = commit(played), tmp_path / "reached"
    with subprocess.Popen(
        command(played, base, "--", "--hang", reached),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
    ) as process:
        deadline = time.monotonic() + PATIENCE_S
        while not reached.exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        if kind == signal.SIGINT:
            os.killpg(process.pid, kind)
        else:
            process.send_signal(kind)
        _, errors = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 128 + kind, errors
    assert b"Traceback" not in errors.partition(b"round 1")[0]
    assert nothing_is_left(played)


def test_the_real_command_is_measured_from_both_trees(tmp_path):
    pytest.importorskip("onnx", exc_type=ImportError)
    pytest.importorskip("onnxruntime", exc_type=ImportError)
    from bundle_factory import write_tiny

    repository = tmp_path / "repository"
    leave = shutil.ignore_patterns("__pycache__", "*.ctedge")
    shutil.copytree(REPOSITORY / "sdk" / "ctedge", repository / "sdk" / "ctedge", ignore=leave)
    base = commit(repository)
    bundle = write_tiny(tmp_path / "tiny.ctedge").path
    voxels = np.random.default_rng(4).integers(-1024, 1500, (40, 36, 20)).astype(np.int16)
    nib.save(nib.Nifti1Image(voxels, LAS_AFFINE), tmp_path / "scan.nii")
    asked = ("--runtime", "onnxruntime", "--precision", "fp32", "--repeats", 3, "--warm-up", 1)
    answer = run(repository, base, "--rounds", 2, "--", bundle, tmp_path / "scan.nii", *asked)
    assert answer.returncode in (0, 1), answer.stderr  # how fast it was is the machine's affair
    for stage in ("read", "preprocess", "inference", "total"):
        assert f"onnxruntime-cpu-fp32    {stage:<12}p50" in answer.stdout
    assert nothing_is_left(repository)
