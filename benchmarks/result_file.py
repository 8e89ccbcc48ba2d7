"""The form of every result file: what made it, and on what machine; then what was measured.

    machine = BenchMachine.here()  # before the work, which is load of its own
    result_file.write(path, machine=machine, packages=("scipy",), body=found)

A file names no host and no path of a machine. README.md, beside this module, lists the files.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ctedge.bench.machine import BenchMachine
from ctedge.errors import OutputError
from ctedge.extras import version_of
from ctedge.files import write_atomic

#: Of the form. In files of version 1 each benchmark described the machine in its own way, or not.
SCHEMA_VERSION = 2

REPOSITORY = Path(__file__).resolve().parent.parent
RESULTS = Path(__file__).resolve().parent / "results"

#: What stands first in every file.
HEADER = ("schema_version", "command", "machine")

#: Variables that change what is measured, or how fast; real scans stand as DATA.
THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS")
SCANS = "CTEDGE_TEST_DATA"
NO_SCANS = f"name a folder of real scans in {SCANS}"

#: A path from the root on, with its first folder; not what follows a word, as in "and/or".
_ROOTED = re.compile(r"(?:(?<![\w./~])|(?<=file://))/([^/\s\"'`,;:()\[\]|<>]+)")


def scans() -> Path | None:
    """The folder of real scans that CTEDGE_TEST_DATA names; None where it names no folder."""
    named = os.environ.get(SCANS)
    folder = Path(named).resolve() if named else None
    return folder if folder is not None and folder.is_dir() else None


def write(
    path: str | os.PathLike[str],
    *,
    body: Mapping[str, Any],
    machine: BenchMachine,
    command: str | None = None,
    packages: Iterable[str] = (),
) -> Path:
    """Write a result file whole or not at all.

    Args:
        path: the file.
        body: what was measured, and the seeds where chance has a part.
        machine: as it was before the work.
        command: as a user types it in the repository's root; default: what `typed` says.
        packages: distributions that were measured besides those that `BenchMachine` names.

    Raises:
        OutputError: the disk is full, or a path of this machine is in it; what was measured then
            lies beside the file, under a name that no result file has.
    """
    document = formed(command=command or typed(), body=body, machine=machine, packages=packages)
    text = json.dumps(document, indent=1) + "\n"
    found = paths_in(json.loads(text))
    if found:
        refused = write_atomic(Path(path).with_name(f"{Path(path).name}.refused"), text)
        raise OutputError(
            "a result file names no path of a machine",
            found=", ".join(found),
            expected="files by their names, folders by words as WORK or DATA",
            fix=f"leave the folder out in the benchmark; what was measured is in {refused}",
        )
    return write_atomic(path, text)


def formed(
    *,
    command: str,
    body: Mapping[str, Any],
    machine: BenchMachine,
    packages: Iterable[str] = (),
) -> dict[str, Any]:
    """The document: the header, then the body.

    Raises:
        ValueError: the body has a key of the header.
    """
    taken = sorted({*HEADER} & {*body})
    if taken:
        raise ValueError(f"the body of a result file has keys of its header: {', '.join(taken)}")
    seen = machine.to_json()
    versions = {name: version_of(name) for name in packages}
    seen["versions"] |= {name: found for name, found in versions.items() if found is not None}
    return {"schema_version": SCHEMA_VERSION, "command": command, "machine": seen, **body}


def typed(
    *,
    words: Sequence[str] | None = None,
    places: Mapping[str, Path] | None = None,
    reads_scans: bool = False,
) -> str:
    """The command of this process as a user types it in the repository's root.

    A path elsewhere stands as its last part. Variables that change the figures stand first.

    Args:
        words: after `python`; default: this script and its arguments.
        places: words to say instead of folders.
        reads_scans: whether the benchmark takes real scans where `scans` finds them.
    """
    if words is None:
        words = [f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]]
    set_here = [f"{name}={os.environ[name]}" for name in THREADS if name in os.environ]
    if reads_scans and scans() is not None:
        set_here.append(f"{SCANS}=DATA")
    said = [_without_folder(word, places or {}) for word in words]
    return " ".join([*set_here, shlex.join(["python", *said])])


def _without_folder(word: str, places: Mapping[str, Path]) -> str:
    option, equals, value = word.rpartition("=")
    path = Path(value)
    for name, folder in places.items():
        if folder.parts and (path == folder or folder in path.parents):
            return option + equals + str(Path(name) / path.relative_to(folder))
    if not path.is_absolute():
        return word
    inside_repository = path.is_relative_to(REPOSITORY)
    return option + equals + str(path.relative_to(REPOSITORY) if inside_repository else path.name)


def paths_in(document: object) -> list[str]:
    """Paths of this machine that a document's texts name, without repeats."""
    found: dict[str, None] = {}
    for text in _texts(document):
        for match in _ROOTED.finditer(text):
            if Path("/", match[1]).exists():
                found[text[match.start() :].split()[0]] = None
    return list(found)


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield str(key)
            yield from _texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)


def read(name: str) -> dict[str, Any]:
    """What a committed result file holds; the name without `.json`."""
    document: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text())
    return document


def without_header(document: Mapping[str, Any]) -> dict[str, Any]:
    """The body of a document."""
    return {key: value for key, value in document.items() if key not in HEADER}


def machine_line(document: Mapping[str, Any], packages: Iterable[str] = ()) -> str:
    """A line for the page that shows the figures: processor, cores, Python, some versions."""
    machine = document["machine"]
    cores, versions = machine["cores_usable"], machine["versions"]
    said = [f"{name} {versions[name]}" for name in packages if versions.get(name)]
    return ", ".join([machine["cpu"], f"{cores} cores", f"Python {machine['python']}", *said])


def doubts(document: Mapping[str, Any]) -> Iterator[str]:
    """Lines for a page that shows times: what speaks against believing them, if anything does."""
    seen: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in document["machine"].items()
    }
    for warning in BenchMachine(**seen).warnings():
        # Behind the semicolon stands what to do before a run.
        yield f"**{warning.partition(';')[0]}**"
    if document.get("quick"):
        yield "**A trial with `--quick`: these figures say nothing.**"
