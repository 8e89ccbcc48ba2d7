"""The whole batch: table, workers, journal, results."""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ctedge import errors
from ctedge.batch.cluster import crew_of, outcomes_of
from ctedge.batch.journal import (
    Journal,
    answers_of,
    folder_of,
    open_journal,
    refuse_others,
)
from ctedge.batch.results import (
    Outcome,
    columns_of,
    read_asked,
    read_outcomes,
    write_results,
)
from ctedge.batch.table import Row, read_table
from ctedge.batch.workers import Plan
from ctedge.bundle.model_bundle import ModelBundle
from ctedge.errors import CTEdgeError, OutputError, RuntimeUnavailable, misnamed_output
from ctedge.progress import Begin, unseen
from ctedge.runtimes import Device, RuntimeName

#: What the output's name ends in.
SUFFIX = ".parquet"


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A scan without an answer.

    Attributes:
        id, scan: of its row in the table.
        kind: the class of the error.
        message: what the error says, `found` to `fix`.
    """

    id: str
    scan: str
    kind: str
    message: str

    def __str__(self) -> str:
        """The row, and what happened to it, in one line."""
        row = self.scan if self.id == self.scan else f"{self.id} ({self.scan})"
        return f"{row}: {self.kind}: {self.message.splitlines()[0]}"


@dataclass(frozen=True, kw_only=True)
class BatchSummary:
    """How a batch ended.

    Attributes:
        output: the results.
        failures: the scans without an answer, in the table's order.
        runtimes: how many answers came from which runtime; one, unless machines differ.
    """

    output: Path
    failures: tuple[Failure, ...]
    runtimes: Mapping[str, int]

    @property
    def answered(self) -> int:
        """How many scans have an answer."""
        return sum(self.runtimes.values())

    @property
    def errors(self) -> dict[str, int]:
        """How many scans failed with which class of error."""
        return dict(Counter(failure.kind for failure in self.failures))


def run_batch(  # noqa: PLR0913 - one keyword an independent choice
    source: Path,
    output: Path,
    *,
    model: str = "pneumonia",
    device: Device = "auto",
    runtime: RuntimeName | None = None,
    precision: str | None = None,
    assess: bool = False,
    strict: bool = False,
    workers: int | None = None,
    threads: int = 1,
    address: str | None = None,
    resume: bool = False,
    retry_failed: bool = False,
    begin: Begin = unseen,
) -> BatchSummary:
    """Judge every scan of a table, and write the results as Parquet, in the table's order.

    A scan that fails is recorded. What is finished is on disk at once, in `OUTPUT.unfinished/`,
    which goes when the results are written.

    Args:
        source: a CSV with a column `scan`, as `read_table` wants it.
        output: a file that is not there, FILE.parquet.
        model: a bundle's folder, at the same path on every machine, or the name of a shipped one.
        device, runtime, precision, assess, strict: as of `Classifier.load` and its `predict`.
        workers: processes; None means as many as cores or GPUs allow.
        threads: cores of each worker.
        address: HOST:PORT of a Ray cluster; None means this machine alone.
        resume: go on with a batch that was stopped; of one that is finished, say how it ended.
        retry_failed: the same, and judge again every scan whose outcome is an error.
        begin: told how many scans there are to do; what it returns is called once for each.

    Raises:
        InputError: the table cannot be used.
        OutputError: the output is there, is no FILE.parquet, or was begun with something else.
        BundleError: the model, here or on a machine of the cluster.
        RuntimeUnavailable: device, runtime or cluster cannot be had; also half-way.
        MissingExtra: Ray or pyarrow is absent.
    """
    if output.suffix != SUFFIX:
        raise misnamed_output(
            f"{output} is no name of a Parquet file",
            expected=f"a name that ends in {SUFFIX}",
            fix="name it so",
        )
    bundle = ModelBundle.load(model)
    table = read_table(source, reserved=columns_of(bundle.task))
    plan = Plan(
        bundle=str(bundle.path.resolve()) if Path(model).is_dir() else model,
        model=bundle.name,
        model_digest=bundle.digest,
        device=device,
        runtime=runtime,
        precision=precision,
        assess=assess,
        strict=strict,
    )
    asked = {"table": table.digest, "folder": str(table.folder), **plan.record()}
    resume = resume or retry_failed
    free = not output.exists()
    written = _written(output, asked, bundle.task, resume=resume)
    if retry_failed:
        written = answers_of(written)
    if len(written) == len(table.rows) and not folder_of(output).exists():
        return _summary(output, table.rows, list(written.values()))
    with open_journal(
        output, asked, count=len(table.rows), task=bundle.task, resume=resume
    ) as journal:
        if retry_failed:
            journal.forget_failures()
        done = written | journal.done
        todo = [(index, row) for index, row in enumerate(table.rows) if index not in done]
        if todo:
            with crew_of(address, workers=workers, threads=threads, device=device) as crew:
                _judge(todo, outcomes_of(crew, plan, todo), journal, begin)
        done = written | journal.done
        if len(done) < len(table.rows):
            raise RuntimeUnavailable(
                "Ray lost scans on its way",
                found=f"{len(table.rows) - len(done)} without an outcome",
                fix="go on with the same command and --resume",
            )
        outcomes = [done[index] for index in range(len(table.rows))]
        if free and output.exists():
            raise OutputError(
                f"{output} was written by another program meanwhile",
                fix="move it away, then go on with the same command and --resume",
            )
        write_results(output, table, outcomes, task=bundle.task, asked=asked)
        journal.remove()
    return _summary(output, table.rows, outcomes)


def _written(output: Path, asked: dict[str, Any], task: str, *, resume: bool) -> dict[int, Outcome]:
    """What stands in these very results, by place in the table; nothing where they are not there.

    Raises:
        OutputError: something else is there, or `resume` is false.
    """
    if not output.exists():
        return {}
    if not resume:
        raise OutputError(
            f"{output} already exists",
            fix="name another output; or judge again what failed in it, with --retry-failed",
        )
    refuse_others(output, read_asked(output), asked)
    return dict(enumerate(read_outcomes(output, task)))


def _judge(
    todo: list[tuple[int, Row]],
    judged: Generator[dict[str, Any], None, None],
    journal: Journal,
    begin: Begin,
) -> None:
    advance = begin(len(todo))
    with contextlib.closing(judged):
        for block in judged:
            outcome = json.loads(block["outcome"])
            if "fatal" in outcome:
                raise _error_of(outcome["fatal"])
            journal.add(int(block["index"]), outcome)
            advance()


def _error_of(document: dict[str, Any]) -> CTEdgeError:
    """The error of a worker that makes every scan fail, as `as_dict` gave it."""
    kind = getattr(errors, document.pop("type"), CTEdgeError)
    error: CTEdgeError = kind(document.pop("what"), **document)
    return error


def _summary(output: Path, rows: Sequence[Row], outcomes: Sequence[Outcome]) -> BatchSummary:
    answers = [outcome["answer"] for outcome in outcomes if "answer" in outcome]
    return BatchSummary(
        output=output,
        failures=tuple(
            Failure(
                id=row.id,
                scan=row.scan,
                kind=outcome["error"]["type"],
                message=outcome["error"]["message"],
            )
            for row, outcome in zip(rows, outcomes, strict=True)
            if "error" in outcome
        ),
        runtimes=Counter(answer["runtime"] for answer in answers),
    )
