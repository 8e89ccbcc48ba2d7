"""The MosMedData release in small, on a server of this machine, and the command that brings it."""

from __future__ import annotations

import contextlib
import csv
import io
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from typer.testing import CliRunner

from ctedge_training.cli.data import data_app
from loopback_site import Site, serve

STUDIES = {"CT-0": range(1, 11), "CT-23": range(1060, 1070)}


def scan(number: int) -> bytes:
    voxels = np.full((4, 4, 3), number, np.int16)
    return nibabel.Nifti1Image(voxels, np.eye(4)).to_bytes()


def packed(folder: str, numbers: Iterable[int]) -> bytes:
    """An archive as they are published: with a folder, and with what macOS adds."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr(f"{folder}/", b"")
        for number in numbers:
            made.writestr(zipfile.ZipInfo(f"{folder}/study_{number:04d}.nii"), scan(number))
        made.writestr(zipfile.ZipInfo("__MACOSX/._x.nii"), b"x")
    return stream.getvalue()


#: By their path on the server.
ARCHIVES = {f"/{folder}.zip": packed(folder, numbers) for folder, numbers in STUDIES.items()}


@contextlib.contextmanager
def serve_archives() -> Iterator[Site]:
    with serve() as site:
        site.files.update(ARCHIVES)
        yield site


def run(data: Path, *options: str) -> Any:
    """The command; what it raises is raised here too."""
    return CliRunner().invoke(data_app, ["mosmed", str(data), *options], catch_exceptions=False)


def fetch(site: Site, data: Path, *options: str) -> str:
    """What the command says that takes the archives from the site."""
    answer = run(data, "--base-url", site.url, *options)
    assert answer.exit_code == 0, answer.output
    return answer.stdout


def table(data: Path) -> list[dict[str, str]]:
    """The rows of the label file."""
    with (data / "labels.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))
