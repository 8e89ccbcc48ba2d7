"""What a check says, and what it knows of each file to say it of a folder."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Kind = Literal["identifying", "pixels", "slices", "reference", "names", "unreadable"]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Something that should not be.

    Attributes:
        kind: "identifying", "pixels" (they may identify, or hide something), "slices" (they do not
            fit together), "reference" (the scan's number is not its folder's), "names" (of files
            and folders, and what is no DICOM file) or "unreadable".
        where: file or folder, below the folder that was checked.
        what: attributes and rules, never values.
    """

    kind: Kind
    where: str
    what: str


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What one file tells.

    Attributes:
        path: of it.
        findings: in it alone.
        dicom: whether it is a DICOM file.
        same: digests of what tells patients, studies, series and instances apart.
        texts: digests of what the slices of a series share.
        numbers: those that the slices of a series share.
        position: where the slice lies along its normal, in mm; None where that cannot be told.
        reference_fits: whether the scan's number is its folder's name; None without a number.
    """

    path: Path
    findings: tuple[Finding, ...] = ()
    dicom: bool = True
    same: dict[str, str] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    numbers: dict[str, tuple[float, ...]] = field(default_factory=dict)
    position: float | None = None
    reference_fits: bool | None = None
