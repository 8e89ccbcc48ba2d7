"""The results as one Parquet file: a row a scan, in the order of the table."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ctedge.batch.table import ID, SCAN, Table
from ctedge.errors import OutputError, WrongTask
from ctedge.extras import require
from ctedge.files import atomic_file

#: What came of one scan: {"answer": …} as a result's `to_json`, or {"error": {type, message}}.
Outcome = dict[str, Any]

#: What a model of each task answers, with the Arrow types; the names are those of the results.
ANSWERS: Mapping[str, Mapping[str, str]] = {
    "classifier": {
        "probability": "float64",
        "label": "string",
        "threshold": "float64",
        "logit": "float64",
    },
    "severity": {
        "score": "float64",
        "category": "string",
        "ctsi": "int64",
        "raw_score": "float64",
        "clipped": "bool",
    },
}

#: What each result says of its making, and what a scan without one says instead.
_MAKING = {"model": "string", "model_digest": "string", "runtime": "string"}
_STAGES = ("read", "preprocess", "assess", "lungs", "inference", "total")
_ERROR = {"error": "string", "error_message": "string"}

#: The key of the file's metadata under which stands what was asked for.
_METADATA = b"ctedge.batch"


def columns_of(task: str) -> dict[str, str]:
    """Names and Arrow types of the results of a task, without the table's own columns.

    Raises:
        WrongTask: the task has no answer of one row a scan.
    """
    if task not in ANSWERS:
        raise WrongTask(
            f"a model of the task {task!r} gives no one answer a scan",
            expected=" or ".join(ANSWERS),
            fix="use `ctedge predict --json`, which answers slice by slice",
        )
    timings = {f"{stage}_ms": "float64" for stage in _STAGES}
    seen = {"flags": "flags", "quality": "string"}
    return {**_MAKING, **ANSWERS[task], **seen, **timings, **_ERROR}


def row_of(outcome: Outcome, task: str) -> dict[str, Any]:
    """One scan's values by column; None where there is none."""
    row: dict[str, Any] = dict.fromkeys(columns_of(task))
    if "error" in outcome:
        error = outcome["error"]
        return {**row, "error": error["type"], "error_message": error["message"]}
    answer = outcome["answer"]
    if "timings_ms" not in answer:  # from a finished file
        return {**row, **answer}
    row |= {name: answer[name] for name in (*_MAKING, *ANSWERS[task])}
    row |= {f"{stage}_ms": answer["timings_ms"].get(stage) for stage in _STAGES}
    keys = ("code", "severity", "message")
    row["flags"] = [{key: flag[key] for key in keys} for flag in answer["quality"]["flags"]]
    # Of severity: the share of each lung that is dense, where it was measured.
    share = {"affected": answer["lungs"]} if answer.get("lungs") else {}
    row["quality"] = json.dumps({**answer["quality"], **share})
    return row


def fits(outcome: Outcome, task: str) -> bool:
    """Whether what a journal says came of a scan can stand in the results, whole and unchanged.

    Raises:
        MissingExtra: pyarrow is absent.
    """
    arrow = require("pyarrow", extra="ray", purpose="writing results as Parquet")
    if set(outcome) not in ({"answer"}, {"error"}):
        return False
    try:
        row = row_of(outcome, task)
        stored = arrow.Table.from_pylist([row], schema=_schema(arrow, columns_of(task)))
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, RecursionError):
        return False  # Arrow's own are TypeErrors and ValueErrors
    needed = _ERROR if "error" in outcome else {*_MAKING, *ANSWERS[task], "flags", "quality"}
    return stored.to_pylist() == [row] and all(row[name] not in (None, "") for name in needed)


def write_results(
    output: Path,
    table: Table,
    outcomes: Sequence[Outcome],
    *,
    task: str,
    asked: Mapping[str, Any],
) -> None:
    """Write the file, whole or not at all.

    Args:
        output: the file.
        table: what was asked.
        outcomes: one a row of the table.
        task: of the model.
        asked: kept in the file's metadata.

    Raises:
        MissingExtra: pyarrow is absent.
        OutputError: it cannot be written.
    """
    arrow = require("pyarrow", extra="ray", purpose="writing results as Parquet")
    parquet = require("pyarrow.parquet", extra="ray", purpose="writing results as Parquet")
    fields = {ID: "string", SCAN: "string", **dict.fromkeys(table.columns, "string")}
    fields |= columns_of(task)
    rows = [
        {
            ID: row.id,
            SCAN: row.scan,
            **dict(zip(table.columns, row.others, strict=True)),
            **row_of(outcome, task),
        }
        for row, outcome in zip(table.rows, outcomes, strict=True)
    ]
    schema = _schema(arrow, fields).with_metadata({_METADATA: json.dumps(dict(asked)).encode()})
    with atomic_file(output) as temporary:
        parquet.write_table(arrow.Table.from_pylist(rows, schema=schema), temporary)


def read_asked(output: Path) -> dict[str, Any]:
    """What the file at `output` says it was made of.

    Raises:
        MissingExtra: pyarrow is absent.
        OutputError: it is damaged, or not one of ours.
    """
    arrow = require("pyarrow", extra="ray", purpose="reading results as Parquet")
    parquet = require("pyarrow.parquet", extra="ray", purpose="reading results as Parquet")
    try:
        kept = (parquet.read_schema(output).metadata or {}).get(_METADATA, b"null")
        asked, found = json.loads(kept), "a Parquet file of something else"
    except (OSError, ValueError, RecursionError, arrow.ArrowException) as error:
        asked, found = None, getattr(error, "strerror", None) or str(error)
    if not isinstance(asked, dict):
        raise OutputError(
            f"{output} is not, or no more, what a batch wrote",
            found=found,
            expected="the results of this very batch",
            fix="remove or rename it, or choose another output",
        )
    return asked


def read_outcomes(output: Path, task: str) -> list[Outcome]:
    """What stands in a finished file: errors, and answers as `row_of` takes them."""
    parquet = require("pyarrow.parquet", extra="ray", purpose="reading results as Parquet")
    try:
        rows = parquet.read_table(output, columns=list(columns_of(task))).to_pylist()
    except (OSError, ValueError) as error:  # Arrow's own are ValueErrors
        raise OutputError(f"{output} cannot be read", found=error, fix="remove it") from error
    return [
        {"answer": row}
        if row["error"] is None
        else {"error": {"type": row["error"], "message": row["error_message"]}}
        for row in rows
    ]


def _schema(arrow: Any, fields: Mapping[str, str]) -> Any:
    return arrow.schema([(name, _type(arrow, kind)) for name, kind in fields.items()])


def _type(arrow: Any, kind: str) -> Any:
    if kind != "flags":
        return getattr(arrow, "bool_" if kind == "bool" else kind)()
    parts = [(name, arrow.string()) for name in ("code", "severity", "message")]
    return arrow.list_(arrow.struct(parts))
