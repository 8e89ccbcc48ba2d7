"""Every failure a user can meet is one of these.

    CTEdgeError
    ├── InputError                 something is wrong with the scan that was given
    │   ├── ScanNotFound           no such file or folder
    │   ├── UnreadableScan         empty, truncated, damaged, or of no format we read
    │   ├── UnsupportedGeometry    2D or 4D, oblique, absurd spacing, too few slices
    │   ├── IrregularSeries        a DICOM folder that is not one regular axial series
    │   ├── CodecUnavailable       nothing installed decodes this transfer syntax
    │   ├── NonFiniteVoxels        NaN or infinity among the voxels
    │   ├── NotHounsfield          the values are no Hounsfield units
    │   ├── NoLungs                no lung can be found in the scan
    │   └── UnfitScan              red flags, where strict=True was asked for
    ├── BundleError                something is wrong with the model bundle
    │   ├── BundleNotFound         no such bundle
    │   ├── InvalidBundle          manifest missing, broken, or of an unknown schema
    │   ├── DigestMismatch         a byte differs from what the manifest promises
    │   ├── UnsafeModel            external data or an operator off the allow-list
    │   ├── WrongTask              a severity bundle in a Classifier, and so on
    │   ├── EngineMismatch         an engine built for another machine, model or shape
    │   └── EngineUnverified       an engine whose answers nobody has checked on its device
    ├── RuntimeUnavailable         the runtime or device asked for cannot be had here
    ├── BuildFailed                TensorRT built no engine: memory, target, or an operation
    ├── InferenceFailed            ran and no answer came of it; closed, or forked
    │   └── DeviceLost             the GPU failed for good, for this process at least
    ├── MissingExtra               an optional package is needed; names the extra
    ├── DatasetError               labels or scans a training cannot start from
    ├── OutputError                a result cannot be written (disk full, no permission)
    ├── WorkerLost                 a worker process was killed, or ran out of memory
    └── GateFailed                 a conversion changed the model's answers (exit code 3)

A message says what happened, what was found against what was expected, and what to do next.
"""

from __future__ import annotations

import errno
import re

#: Of an OSError: too many open files, which leaves no scan readable; and what may pass, no memory,
#: a drive that is gone or does not answer.
_OF_ALL = {errno.EMFILE, errno.ENFILE}
_SHORTAGES = _OF_ALL | {errno.ENOMEM, errno.EIO, errno.ESTALE, errno.ETIMEDOUT}


class CTEdgeError(Exception):
    """Base of all errors of ctedge.

    Args:
        what: what happened, one sentence without a full stop.
        found: what was there.
        expected: what should have been there.
        fix: the command or change that mends it.

    Attributes:
        exit_code: of the command line.
    """

    exit_code = 1
    _of_one_scan = False
    _of_shortage = False

    def __init__(
        self,
        what: str,
        *,
        found: object = None,
        expected: object = None,
        fix: str | None = None,
    ) -> None:
        self.what = what
        self.found = found
        self.expected = expected
        self.fix = fix
        super().__init__(what)

    @property
    def of_one_scan(self) -> bool:
        """The failure of the scan at hand, whose neighbours may well be judged; else it is the
        model's or the machine's (too many open files), and they would all fail of it.
        """
        return self._of_one_scan and not _numbers(self) & _OF_ALL

    @property
    def of_shortage(self) -> bool:
        """The machine lacked memory, open files, a drive or a codec, and with it the scan may be
        judged later. It may be `of_one_scan` too: a smaller one, or one on another drive, may well
        be judged.
        """
        lacked_memory = any(isinstance(cause, MemoryError) for cause in _causes(self))
        return self._of_shortage or lacked_memory or bool(_numbers(self) & _SHORTAGES)

    def __str__(self) -> str:
        lines = [self.what.replace("\n", "\\n")]  # a file's name may hold one, and pose as advice
        named = (("found", self.found), ("expected", self.expected), ("to do", self.fix))
        for name, part in named:
            if part is not None:
                text = re.sub(r"\n {0,12}", "\n" + " " * 12, str(part).rstrip())
                lines.append(f"  {name + ':':<9} {text}")
        return "\n".join(printable(line) for line in lines)

    def in_one_line(self, *, expected: bool = False) -> str:
        """What happened, what was found in brackets, and if asked for what was expected; no fix."""
        found = "" if self.found is None else f" ({self.found})"
        wanted = f"; expected {self.expected}" if expected and self.expected is not None else ""
        return printable(" ".join(f"{self.what}{found}{wanted}".split()))

    def __reduce__(self) -> tuple[object, ...]:
        # Exceptions with keyword-only arguments do not survive a process pool otherwise.
        plain = [None if part is None else str(part) for part in (self.found, self.expected)]
        kind = {"_of_one_scan": self.of_one_scan, "_of_shortage": self.of_shortage}
        return (_rebuild, (type(self), self.what, *plain, self.fix), kind)

    def as_dict(self) -> dict[str, str | None]:
        """The error as plain JSON values: type, what, found, expected, fix."""
        kinds = (kind.__name__ for kind in type(self).__mro__)
        return {
            "type": next(name for name in kinds if not name.startswith("_")),
            "what": self.what,
            "found": None if self.found is None else str(self.found),
            "expected": None if self.expected is None else str(self.expected),
            "fix": self.fix,
        }


def _causes(error: BaseException) -> list[BaseException]:
    cause = error.__cause__
    return [] if cause is None else [cause, *_causes(cause)]


def _numbers(error: BaseException) -> set[int | None]:
    return {cause.errno for cause in _causes(error) if isinstance(cause, OSError)}


def printable(text: str) -> str:
    """Without what would steer a terminal: names come from outside. Lines stay lines."""
    return "".join(
        mark if mark.isprintable() or mark == "\n" else mark.encode("unicode_escape").decode()
        for mark in text
    )


def counted(count: int, thing: str) -> str:
    """A number and what it counts, as in "1 file", "2 files"."""
    return f"{count} {thing}" if count == 1 else f"{count} {thing}s"


def misnamed_output(
    what: str, *, found: object = None, expected: object = None, fix: str
) -> OutputError:
    """The error of an output's name as it was typed: with the exit code of wrong usage."""
    error = OutputError(what, found=found, expected=expected, fix=fix)
    error.exit_code = 2
    return error


def unusable_model(
    what: str, *, found: object = None, expected: object = None, fix: str
) -> InferenceFailed:
    """The error of a model that answers nobody here, whatever the scan: `of_one_scan` is False."""
    error = InferenceFailed(what, found=found, expected=expected, fix=fix)
    error._of_one_scan = False
    return error


def _rebuild(
    kind: type[CTEdgeError], what: str, found: object, expected: object, fix: str | None
) -> CTEdgeError:
    return kind(what, found=found, expected=expected, fix=fix)


class InputError(CTEdgeError):
    """Something is wrong with the scan that was given."""

    _of_one_scan = True


class ScanNotFound(InputError):
    """No such file or folder."""


class UnreadableScan(InputError):
    """Empty, truncated, damaged, or of no format that ctedge reads."""


class UnsupportedGeometry(InputError):
    """2D or 4D data, oblique slices, absurd spacing, or too few slices."""


class IrregularSeries(InputError):
    """A DICOM folder that is not one regular axial CT series."""


class CodecUnavailable(InputError):
    """Nothing that is installed decodes this DICOM transfer syntax."""

    @property
    def of_shortage(self) -> bool:
        """A package that decodes it is missing; of what none decodes, the scan is to blame."""
        return self._of_shortage or "pip install" in (self.fix or "")


class NonFiniteVoxels(InputError):
    """NaN or infinity among the voxels."""


class NotHounsfield(InputError):
    """The values cannot be Hounsfield units."""


class NoLungs(InputError):
    """No lung can be found in the scan."""


class UnfitScan(InputError):
    """What was seen of the scan makes any answer meaningless, and `strict=True` was asked for."""


class BundleError(CTEdgeError):
    """Something is wrong with the model bundle."""


class BundleNotFound(BundleError):
    """No bundle of that path or name, or no finished training in that folder."""


class InvalidBundle(BundleError):
    """A manifest, spec, engine record or run folder is broken, incomplete or of another schema."""


class DigestMismatch(BundleError):
    """A byte of the bundle differs from what its manifest promises."""


class UnsafeModel(BundleError):
    """The ONNX file uses external data or an operator outside the allow-list."""


class WrongTask(BundleError):
    """The bundle was made for another door (classifier, severity, slices, lungs)."""


class EngineMismatch(BundleError):
    """The engine was built for another TensorRT, GPU, driver, model, precision or shape."""


class EngineUnverified(BundleError):
    """The engine's own answers have not passed their gate on the device."""


class RuntimeUnavailable(CTEdgeError):
    """The runtime or device that was asked for cannot be had on this machine."""


class BuildFailed(CTEdgeError):
    """TensorRT built no engine: too little memory, a target, or an operation that it lacks."""


class InferenceFailed(CTEdgeError):
    """No answer came: the network failed, gave none, was closed, forked or copied; no thread."""

    _of_one_scan = True


class DeviceLost(InferenceFailed):
    """The device failed for good: no scan's own failure, and all others in this process fail too.

    A new process may find it well again.
    """

    _of_one_scan = False


class MissingExtra(CTEdgeError):
    """An optional package is needed; the message names the extra that adds it."""


class DatasetError(CTEdgeError):
    """Labels or scans that a training cannot start from."""


class OutputError(CTEdgeError):
    """A result cannot be written: disk full, no permission, or already there."""


class WorkerLost(CTEdgeError):
    """A worker process ended before its work was done: killed, or out of memory."""

    _of_one_scan = True


class GateFailed(CTEdgeError):
    """A conversion changed the model's answers by more than its gate allows."""

    exit_code = 3
