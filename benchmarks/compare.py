"""Is the working tree slower than a commit? Both are measured here and now, in turns.

    python benchmarks/compare.py BASE_COMMIT -- pneumonia scan.nii.gz --runtime all --seconds 10

The commit is checked out beside the working tree, and `ctedge bench` runs in a fresh process from
either, in turns: the two of a round one after the other, every other round the other way about, so
that a machine that slows down slows down both. What follows `--` goes to both. Nothing is compared
with a time that was stored.

Exit codes: 0 no slower; 1 inference or total slower than the limits, or a runtime is lost; 2 it
cannot be compared, as where the commit has no `ctedge bench`, a report of it is no report, or this
program itself fails; 130 Ctrl-C. No copy stays behind.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import shutil
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from compare_report import JUDGED, Measured, NotComparable, Samples, gather, read_report

#: Slower than the base by more than this fails.
LIMITS = {50: 1.05, 95: 1.10}

REPLICATES = 1000

#: Of what they draw.
SEED = 0

#: In its own words, because `-m` would take a package from the current folder.
LAUNCHER = """
import sys
roots = sys.argv.pop(1).split("\\n")
sys.path[:1] = roots
import ctedge
if not ctedge.__file__.startswith(roots[0]):
    sys.exit(f"{ctedge.__file__} was imported, and not what lies in {roots[0]}")
from ctedge.cli import main
main()
"""


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """How a quantile moved: head over base, with its 95 % interval.

    Attributes:
        quantile: 50 or 95.
        base_ms, head_ms: of all samples.
        value, low, high: of head over base.
        judged: whether it may fail.
    """

    candidate: str
    stage: str
    quantile: int
    base_ms: float
    head_ms: float
    value: float
    low: float
    high: float
    judged: bool

    @property
    def failed(self) -> bool:
        return self.judged and self.value > LIMITS[self.quantile]

    def __str__(self) -> str:
        verdict = "" if self.judged else "not judged"
        if self.failed:
            verdict = f"SLOWER than {LIMITS[self.quantile] - 1:.0%}"
            if self.low <= 1.0:
                verdict += ", but 1 is in the interval: more --rounds, a quiet machine"
        return (
            f"{self.candidate:<24}{self.stage:<12}p{self.quantile:<4}"
            f"{self.base_ms:>10.3f}{self.head_ms:>10.3f}{self.value:>8.3f}"
            f"  [{self.low:.3f}, {self.high:.3f}]  {verdict}".rstrip()
        )


def ratios(base: Measured, head: Measured) -> list[Ratio]:
    """Compare what both measured.

    The interval is a bootstrap in two steps, rounds and then answers within each: answers of one
    process resemble each other, and the two processes of a round shared the machine's mood.

    Raises:
        NotComparable: a judged stage that one side lacks in a round, or whose ratio is no number.
    """
    rng = np.random.default_rng(SEED)
    found = []
    for candidate in (name for name in base if name in head):
        stages, others = base[candidate], head[candidate]
        for stage in JUDGED:
            if len(stages.get(stage, ())) != len(others.get(stage, ())):
                raise NotComparable(f"{stage} of {candidate} was not measured alike on both sides")
        for stage, before in stages.items():
            after = others.get(stage)
            if after is None or len(after) != len(before):
                continue  # shown where both have it in every round
            draws = np.array([_drawn(before, after, rng) for _ in range(REPLICATES)])
            for place, quantile in enumerate(LIMITS):
                base_ms = float(np.percentile(np.concatenate(before), quantile))
                head_ms = float(np.percentile(np.concatenate(after), quantile))
                low, high = np.percentile(draws[:, place], (2.5, 97.5))
                value, judged = _over(head_ms, base_ms), stage in JUDGED
                if judged and not all(map(math.isfinite, (value, low, high))):
                    raise NotComparable(f"{stage} of {candidate}: {head_ms} ms over {base_ms} ms")
                found.append(
                    Ratio(
                        candidate=candidate,
                        stage=stage,
                        quantile=quantile,
                        base_ms=base_ms,
                        head_ms=head_ms,
                        value=value,
                        low=float(low),
                        high=float(high),
                        judged=judged,
                    )
                )
    return found


def _drawn(base: list[Samples], head: list[Samples], rng: np.random.Generator) -> list[float]:
    """The ratio of each quantile in one replicate."""
    rounds = rng.integers(0, len(base), len(base))
    before, after = (
        np.percentile(np.concatenate([rng.choice(one[n], one[n].size) for n in rounds]), [*LIMITS])
        for one in (base, head)
    )
    return [_over(float(b), float(a)) for a, b in zip(before, after, strict=True)]


def _over(head: float, base: float) -> float:
    return head / base if base > 0 else (1.0 if head == base else float("inf"))


@contextlib.contextmanager
def checked_out(repository: Path, commit: str) -> Iterator[Path]:
    """A commit in a temporary folder; it goes again, also on Ctrl-C and on being terminated."""
    with tempfile.TemporaryDirectory(prefix="compare-") as scratch:
        folder = Path(scratch) / "base"
        try:
            _git(repository, "worktree", "add", "--quiet", "--detach", str(folder), commit)
            yield folder
        finally:
            before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C waits
            with contextlib.suppress(NotComparable):  # where it was stopped before it was there
                # Twice: git locks what it is still checking out.
                _git(repository, "worktree", "remove", "--force", "--force", str(folder))
            signal.signal(signal.SIGINT, before)


def _git(repository: Path, *words: str) -> str:
    git = shutil.which("git")
    if git is None:
        raise NotComparable("git is not installed")
    answer = subprocess.run(
        [git, "-C", str(repository), *words], capture_output=True, text=True, check=False
    )
    if answer.returncode:
        said = answer.stderr.strip() or "failed"
        raise NotComparable(f"git {' '.join(words[:1])}: {said}")
    return answer.stdout.strip()


def require_bench(tree: Path, what: str) -> None:
    answer = _start(tree, ["bench", "--help"])
    if answer.returncode:
        last = (answer.stderr.strip() or "nothing was said").splitlines()[-1]
        raise NotComparable(f"{what} has no `ctedge bench` that starts here ({last})")


def measure(tree: Path, options: Sequence[str]) -> dict[str, Any]:
    """One fresh process of `ctedge bench`; its report."""
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "bench.json"
        answer = _start(tree, ["bench", *options, "--json", str(path)])
        if answer.returncode:
            raise NotComparable(f"`ctedge bench` failed in {tree}:\n{answer.stderr.strip()}")
        return read_report(path, tree)


def _start(tree: Path, words: Sequence[str]) -> subprocess.CompletedProcess[str]:
    roots = "\n".join(str(tree / root) for root in ("sdk", "export", "training"))
    return subprocess.run(
        [sys.executable, "-c", LAUNCHER, roots, *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        check=False,
    )


def compare(repository: Path, commit: str, rounds: int, options: Sequence[str]) -> bool:
    """Measure both, print what came out; whether the working tree holds the limits."""
    full = _git(repository, "rev-parse", "--verify", f"{commit}^{{commit}}")
    measured: dict[str, Measured] = {"base": {}, "head": {}}
    digests = {}
    with checked_out(repository, full) as folder:
        trees = {"base": folder, "head": repository}
        require_bench(folder, f"the commit {full[:12]}")
        require_bench(repository, "the working tree")
        for number in range(rounds):
            for side in sorted(trees, reverse=bool(number % 2)):
                print(f"round {number + 1} of {rounds}: {side}", file=sys.stderr, flush=True)
                report = measure(trees[side], options)
                gather(measured[side], report)
                digests[side] = report["bundle"]["digest"]
    return _judge(full, measured, rounds, same_model=digests["base"] == digests["head"])


def _judge(full: str, measured: dict[str, Measured], rounds: int, *, same_model: bool) -> bool:
    base, head = measured["base"], measured["head"]
    lost = [name for name in base if name not in head]
    for side in (base, head):  # what did not open in every round is no pair
        for name in [name for name, stages in side.items() if len(stages["total"]) < rounds]:
            raise NotComparable(f"{name} did not run in every round")
    if not base:
        raise NotComparable("no runtime ran: there is nothing to compare")
    print(f"the working tree against {full[:12]}, {rounds} rounds in turns")
    if not same_model:
        print("the bundles differ: their networks are compared, too")
    print(f"{'':<36}{'':<5}{'base ms':>10}{'head ms':>10}{'ratio':>8}  95 % interval")
    found = ratios(base, head)
    for ratio in found:
        print(ratio)
    for name in head:
        if name not in base:
            print(f"{name:<24}only the working tree runs it")
    for name in lost:
        print(f"{name:<24}LOST: only the base runs it")
    held = not lost and not any(ratio.failed for ratio in found)
    print("no slower" if held else "SLOWER")
    return held


def _terminated(*_: object) -> NoReturn:
    sys.exit(128 + signal.SIGTERM)  # through every `finally`


def main() -> int:
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").partition("\n")[0],
        usage="%(prog)s BASE_COMMIT [--rounds N] [--repository FOLDER] [-- OPTIONS OF BENCH]",
    )
    parser.add_argument("base", metavar="BASE_COMMIT")
    parser.add_argument("--rounds", type=int, default=5, help="processes of each (default: 5)")
    parser.add_argument("--repository", type=Path, default=Path(__file__).resolve().parent.parent)
    words = [*sys.argv[1:], "--"]
    own, options = words[: words.index("--")], words[words.index("--") + 1 : -1]
    given = parser.parse_args(own)
    if given.rounds < 2:
        parser.error("--rounds from 2: one pair says nothing of the machine's mood")
    signal.signal(signal.SIGTERM, _terminated)
    try:
        held = compare(given.repository.resolve(), given.base, given.rounds, options)
    except NotComparable as error:
        print(f"cannot compare: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except Exception:  # noqa: BLE001 - else Python ends with 1, which says "slower"
        traceback.print_exc()
        return 2
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
