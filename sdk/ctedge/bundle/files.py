"""Where a bundle is, and its files: regular ones inside its folder, never a link.

Each is read once, and its digest compared before anything understands it.
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import stat
from pathlib import Path
from typing import NoReturn

from ctedge.bundle.manifest import (
    ENGINES_NAME,
    MANIFEST_DIGEST_NAME,
    MANIFEST_NAME,
    MAX_MANIFEST_BYTES,
    Manifest,
)
from ctedge.errors import BundleNotFound, DigestMismatch, InvalidBundle
from ctedge.onnx_file.guard import FLOAT32, ModelFacts, TensorFacts

_SHIPPED = Path(__file__).parents[1] / "models"
_SUFFIX = ".ctedge"
_DIGEST_LINE = re.compile(rb"[0-9a-f]{64}\n")
_BARE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", re.ASCII)
_MOST_ENTRIES = 1000

#: What to do where a file was named instead of a bundle, by its suffix.
_INSTEAD = {
    ".onnx": "an ONNX file alone has neither spec nor gate: export the network it came from with"
    " `ctedge export onnx RUN_FOLDER -o BUNDLE`",
    ".engine": "name the bundle that the engine belongs to; `ctedge export inspect ENGINE` shows"
    " what is in an engine",
}
_CHUNK_BYTES = 1 << 24

# Not to follow a link that replaced the file, and not to wait for a pipe's other end.
_FLAGS = os.O_RDONLY
for _name in ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC", "O_BINARY"):
    _FLAGS |= getattr(os, _name, 0)


def shipped_bundles() -> tuple[str, ...]:
    """Names of the bundles that come with ctedge, sorted."""
    return tuple(sorted(path.name.removesuffix(_SUFFIX) for path in _SHIPPED.glob(f"*{_SUFFIX}")))


def find_bundle(bundle: str | os.PathLike[str]) -> Path:
    """The folder of a bundle, from its path or the bare name of a shipped one.

    Raises:
        BundleNotFound: neither exists.
        InvalidBundle: the path leads to something that is no folder.
    """
    text = os.fspath(bundle)
    try:
        path = Path(text)
        if text and path.is_dir():
            return path
        exists = bool(text) and path.exists()
    except (OSError, ValueError):  # a name too long, or with a null byte
        exists = False
    if exists:
        raise InvalidBundle(
            f"{text} is no bundle",
            found="a file",
            expected=f"a folder NAME{_SUFFIX} with a {MANIFEST_NAME}",
            fix=_instead(path),
        )
    shipped = _SHIPPED / f"{text}{_SUFFIX}"
    if _BARE_NAME.fullmatch(text) and shipped.is_dir():
        return shipped
    raise BundleNotFound(
        f"there is no bundle {text!a}",
        expected=f"a folder NAME{_SUFFIX}, or a shipped name: {', '.join(shipped_bundles())}",
        fix="check the path, or make a bundle with `ctedge export onnx RUN_FOLDER -o BUNDLE`",
    )


def _instead(path: Path) -> str:
    if path.name.endswith((".nii", ".nii.gz")):
        return "name a bundle here; a scan is an argument of its own"
    return _INSTEAD.get(path.suffix, "unpack it first if it is an archive")


def argument_of(path: Path) -> str:
    """What names a bundle on a command line: a shipped one's name, else its path, quoted."""
    shipped = path.parent == _SHIPPED
    return path.name.removesuffix(_SUFFIX) if shipped else shlex.quote(str(path))


def checked_manifest(folder: Path) -> bytes:
    """The manifest's bytes, whose digest was compared; nothing of them is understood yet.

    Raises:
        InvalidBundle: the manifest or its digest is missing, broken or too large.
        DigestMismatch: they do not belong together.
    """
    _require_manifest(folder)
    line = read_file(folder, MANIFEST_DIGEST_NAME, most=1024)
    if not _DIGEST_LINE.fullmatch(line):
        raise InvalidBundle(
            f"{MANIFEST_DIGEST_NAME} is broken",
            found=line[:80],
            expected="64 lower-case hex digits and a newline",
            fix="copy the bundle again as plain bytes (git: `**/*.ctedge/** -text`)",
        )
    raw = read_file(folder, MANIFEST_NAME, most=MAX_MANIFEST_BYTES)
    _compare_digest(MANIFEST_NAME, raw, line[:64].decode())
    return raw


def _require_manifest(folder: Path) -> None:
    """Refuse any other folder as what it is, and not as a bundle that is damaged."""
    try:
        os.lstat(folder / MANIFEST_NAME)
    except FileNotFoundError:
        raise InvalidBundle(
            f"{ascii(folder.name)[1:-1] or '.'} is no bundle",
            found=f"it holds no {MANIFEST_NAME}",
            expected=f"a folder NAME{_SUFFIX} with {MANIFEST_NAME}, {MANIFEST_DIGEST_NAME} and the"
            " network",
            fix=f"name a bundle's own folder, or a shipped one: {', '.join(shipped_bundles())}; a"
            " bundle that lost the file has to be copied again from where it came",
        ) from None
    except OSError:  # no permission: told as of the other files
        return


def checked_members(folder: Path, manifest: Manifest) -> dict[str, bytes]:
    """The bytes of all members, by name, whose sizes and digests were compared.

    Raises:
        InvalidBundle: a file too many or too few, or larger than it should be.
        DigestMismatch: a member differs from what the manifest promises.
    """
    found = files_of(folder)
    named = {MANIFEST_NAME, MANIFEST_DIGEST_NAME, *manifest.members}
    if found != named:
        extra = sorted(ascii(name)[1:-1] for name in found - named)[:5]
        raise InvalidBundle(
            f"{folder.name} holds other files than its manifest names",
            found=f"missing {sorted(named - found)[:5]}, not named {extra}",
            fix="remove the files that do not belong, or copy the bundle again",
        )
    members = {}
    for name, member in sorted(manifest.members.items()):
        data = read_file(folder, name, most=member.bytes)
        _compare_digest(name, data, member.sha256)
        members[name] = data
    return members


def _compare_digest(name: str, data: bytes, expected: str) -> None:
    found = hashlib.sha256(data).hexdigest()
    if found != expected:
        raise DigestMismatch(
            f"{name} differs from what the bundle was made with",
            found=f"sha256 {found}",
            expected=f"sha256 {expected}",
            fix="copy the bundle again from where it came; do not edit files inside it",
        )


def files_of(folder: Path) -> set[str]:
    """Relative names, with "/", of all files below a folder, `engines/` left out.

    Raises:
        InvalidBundle: a symbolic link or a special file, too many entries, or no permission.
    """
    files: set[str] = set()
    folders = [""]
    entries = 0
    while folders:
        inside = folders.pop()
        try:
            listing = list(os.scandir(folder / inside))
        except OSError as error:
            _refuse(folder, inside, error.strerror or str(error))
        for entry in listing:
            entries += 1
            name = f"{inside}/{entry.name}" if inside else entry.name
            if entries > _MOST_ENTRIES:
                _refuse(folder, name, f"more than {_MOST_ENTRIES} files and folders")
            if entry.is_symlink():
                _refuse(folder, name, "a symbolic link")
            if entry.is_dir(follow_symlinks=False):
                if name != ENGINES_NAME:
                    folders.append(name)
            elif entry.is_file(follow_symlinks=False):
                files.add(name)
            else:
                _refuse(folder, name, "neither a file nor a folder")
    return files


def read_file(folder: Path, name: str, *, most: int) -> bytes:
    """The bytes of one file of a bundle, read once.

    Args:
        folder: the bundle's folder.
        name: relative name, with "/".
        most: the largest size, in bytes, that is accepted.

    Raises:
        InvalidBundle: missing, a link, no regular file, larger than `most`, or unreadable.
    """
    try:
        descriptor = os.open(folder / name, _FLAGS)
    except FileNotFoundError:
        _refuse(folder, name, "no such file")
    except OSError as error:
        linked = (folder / name).is_symlink()
        _refuse(folder, name, "a symbolic link" if linked else error.strerror or str(error))
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            _refuse(folder, name, "no regular file")
        if status.st_size > most:
            _refuse(folder, name, f"{status.st_size} bytes", f"at most {most} bytes")
        return _read(descriptor, status.st_size)
    except OSError as error:
        _refuse(folder, name, error.strerror or str(error))
    finally:
        os.close(descriptor)


def _read(descriptor: int, size: int) -> bytes:
    chunks = []
    while size > 0 and (chunk := os.read(descriptor, min(size, _CHUNK_BYTES))):
        chunks.append(chunk)
        size -= len(chunk)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def _refuse(folder: Path, name: str, found: str, expected: str = "a regular file") -> NoReturn:
    raise InvalidBundle(
        f"{ascii(name)[1:-1] or '.'} of {folder.name} cannot be read as part of a bundle",
        found=found,
        expected=expected,
        fix="export the bundle again, or copy it again from where it came",
    )


def check_model(facts: ModelFacts, manifest: Manifest, opset: int, *, whole: bool) -> None:
    """Hold an ONNX file against what the manifest says about it; not `whole` may lack maps.

    Raises:
        InvalidBundle: another opset, other inputs or outputs.
    """
    found = (
        facts.opset,
        [_signature(t) for t in facts.inputs],
        [_signature(t) for t in facts.outputs],
    )
    has = {tensor.name for tensor in facts.outputs}
    promised = [(tensor.name, tensor.shape) for tensor in manifest.outputs]
    promised += [(one.name, one.shape) for one in manifest.maps if whole or one.name in has]
    expected = (
        opset,
        [(manifest.input.name, FLOAT32, True, manifest.input.shape)],
        [(name, FLOAT32, True, shape) for name, shape in promised],
    )
    if found != expected:
        raise InvalidBundle(
            "the model is not what its manifest says: opset, inputs, outputs, each as"
            " (name, type, dynamic batch, shape)",
            found=found,
            expected=expected,
            fix="export the bundle again",
        )


def _signature(tensor: TensorFacts) -> tuple[str, int, bool, tuple[object, ...]]:
    dynamic = bool(tensor.shape) and isinstance(tensor.shape[0], str)
    return (tensor.name, tensor.element_type, dynamic, tensor.shape[1:])
