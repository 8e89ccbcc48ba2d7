"""What a job did: a journal to go on from, and a record to hand on with the data."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import ctedge
from ctedge.deidentify.actions import EDITION, Options
from ctedge.extras import version_of
from ctedge.files import write_atomic

SCHEMA_VERSION = 1
LIBRARY = "dicom-anonymizer"

State = Literal["written", "refused", "passed over", "damaged"]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of one file of the input.

    Attributes:
        source: its path in the input folder; for the journal only, a record does not hold it.
        name: what stands for it in the record, and is its name in the output.
        size_bytes: of the input file, by which a later run knows it again, with `changed_ns`; 0
            where the machine failed at it, and a later run tries again.
        changed_ns: when the input file was last changed, in nanoseconds since 1970.
        state: "written", "refused", "passed over" (no DICOM file) or "damaged".
        reasons: why it was not written; attributes and rules, never values.
        output: path in the output folder, if written.
        output_bytes: its size.
        sha256: its digest.
        counts: what was done to which attribute: {keyword: {action: times}}.
    """

    source: str
    name: str
    size_bytes: int
    changed_ns: int
    state: State
    reasons: list[str] = field(default_factory=list)
    output: str | None = None
    output_bytes: int = 0
    sha256: str | None = None
    counts: dict[str, dict[str, int]] = field(default_factory=dict)


def nested(counts: Mapping[tuple[str, str], int]) -> dict[str, dict[str, int]]:
    """{(keyword, action): times} as {keyword: {action: times}}, in the order of the keywords."""
    out: dict[str, dict[str, int]] = {}
    for (keyword, action), times in sorted(counts.items()):
        out.setdefault(keyword, {})[action] = times
    return out


def read_journal(path: Path) -> dict[str, Outcome]:
    """The outcomes in a journal, by source; a last line that was torn off is passed over."""
    outcomes: dict[str, Outcome] = {}
    if not path.exists():
        return outcomes
    for line in path.read_bytes().splitlines():
        try:
            outcome = Outcome(**json.loads(line))
        except (ValueError, TypeError):
            continue
        outcomes[outcome.source] = outcome
    return outcomes


def journal_line(outcome: Outcome) -> str:
    """One outcome as a line of the journal."""
    return json.dumps(asdict(outcome)) + "\n"


def write_record(
    path: Path, *, options: Options, key_fingerprint: str, outcomes: Iterable[Outcome]
) -> None:
    """Write the record: no source path, no value that was removed."""
    known = sorted(outcomes, key=lambda outcome: outcome.name)
    actions: Counter[tuple[str, str]] = Counter()
    for outcome in known:
        for keyword, times in outcome.counts.items():
            for action, count in times.items():
                actions[keyword, action] += count
    states = Counter(outcome.state for outcome in known)
    document: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "software": f"ctedge {ctedge.__version__}",
        "profile": {
            "standard": f"DICOM PS3.15 {EDITION} Annex E",
            "table": f"{LIBRARY} {version_of(LIBRARY)}",
            "methods": [{"code": code, "meaning": text} for code, text in options.codes()],
        },
        "key_fingerprint": key_fingerprint,
        "files": {state: states[state] for state in State.__args__},  # type: ignore[attr-defined]
        "actions": nested(actions),
        "written": [
            {"output": one.output, "bytes": one.output_bytes, "sha256": one.sha256}
            for one in known
            if one.state == "written"
        ],
        "not_written": [
            {"file": one.name, "state": one.state, "reasons": one.reasons}
            for one in known
            if one.state != "written"
        ],
    }
    write_atomic(path, json.dumps(document, indent=2) + "\n")
