"""HDF5 read with suspicion: plain links, plain numbers, and sizes known before anything is read.

Keras' own loader never sees the file. h5py parses its structure; names are followed one link at a
time, because asking h5py whether a name exists already opens what an external link points to.
"""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from ctedge.errors import CTEdgeError, InvalidBundle, counted
from ctedge.extras import require
from ctedge.strict_json import shorten
from ctedge_training.legacy.chunks import read_chunks

_SIGNATURE = b"\x89HDF\r\n\x1a\n"

#: Most names in one attribute, and most bytes of one text.
_MAX_NAMES = 1024
_MAX_TEXT_BYTES = 1 << 20


@contextlib.contextmanager
def open_hdf5(data: bytes, name: str) -> Iterator[Any]:
    """The root group of an HDF5 file; whatever h5py raises inside the block is InvalidBundle.

    Args:
        data: the whole file.
        name: what to call it in messages.

    Raises:
        InvalidBundle: no HDF5 file, a truncated or a damaged one.
        MissingExtra: h5py is not installed.
    """
    h5py = _h5py()
    if not data.startswith(_SIGNATURE):
        raise InvalidBundle(
            f"{name} is no HDF5 file",
            found=f"it begins with {data[:8]!r}",
            expected='what Keras 2 wrote with model.save("....h5") or save_weights("....h5")',
            fix="name an .h5 file; a .keras archive or a SavedModel cannot be imported",
        )
    try:
        with h5py.File(io.BytesIO(data), "r") as file:
            yield file
    except CTEdgeError:
        raise
    except Exception as error:  # h5py passes on whatever HDF5 stumbles over
        raise InvalidBundle(
            f"{name} is truncated or damaged",
            found=f"{type(error).__name__}: {shorten(str(error))}",
            fix="copy the checkpoint again from where it came",
        ) from error


def has_attribute(group: Any, name: str) -> bool:
    """Whether a group has an attribute."""
    return name in group.attrs


def text_attribute(group: Any, name: str) -> str:
    """An attribute that is one text.

    Raises:
        InvalidBundle: missing, of another kind, or too long.
    """
    (text,) = _texts(group, name, scalar=True)
    return text


def names_attribute(group: Any, name: str) -> list[str]:
    """An attribute that is a list of names.

    Raises:
        InvalidBundle: missing, of another kind, or too long.
    """
    return _texts(group, name, scalar=False)


def has_group(group: Any, name: str) -> bool:
    """Whether a group has a member of that name, whatever it is."""
    return bool(group.id.links.exists(name.encode()))


def member_names(group: Any) -> list[str]:
    """The names in a group.

    Raises:
        InvalidBundle: there are more than any network has.
    """
    if len(group) > _MAX_NAMES:
        _refuse(group.name, f"{len(group)} members", f"at most {_MAX_NAMES}")
    return list(group)


def subgroup(group: Any, path: str) -> Any:
    """A group inside a group, reached over hard links alone.

    Args:
        group: where the path starts.
        path: names with "/" between them.

    Raises:
        InvalidBundle: missing, no group, or a soft or external link on the way.
    """
    found = _follow(group, path)
    if not isinstance(found, _h5py().Group):
        _refuse(_path(group, path), f"a {type(found).__name__.lower()}", "a group")
    return found


def read_weight(
    group: Any, path: str, shape: tuple[int, ...]
) -> tuple[npt.NDArray[np.float32], str]:
    """An array of floating-point numbers that has the shape it must have.

    Args:
        group: where the path starts.
        path: names with "/" between them.
        shape: what the layer needs.

    Returns:
        The numbers as float32, and the type they are stored in.

    Raises:
        InvalidBundle: missing, of another shape or type, stored elsewhere or not at all, or
            filtered by anything but gzip and shuffle; a number that is not finite.
    """
    dataset, where = _follow(group, path), _path(group, path)
    if not isinstance(dataset, _h5py().Dataset):
        _refuse(where, f"a {type(dataset).__name__.lower()}", "an array")
    h5d = _h5py().h5d
    # Before the shape: asking a virtual dataset for it opens its source files.
    layout = dataset.id.get_create_plist()
    if layout.get_layout() == h5d.VIRTUAL or layout.get_external_count():
        _refuse(where, "data in another file", "data inside the checkpoint")
    if dataset.shape != shape:
        _refuse(where, f"shape {dataset.shape}", f"shape {shape}")
    dtype = _float_type(dataset, where)
    if layout.get_layout() == h5d.CHUNKED:
        values = read_chunks(dataset, shape, dtype, where)
    elif dataset.id.get_storage_size() != math.prod(shape) * dtype.itemsize:
        _refuse(where, counted(dataset.id.get_storage_size(), "byte"), "all of its numbers")
    else:
        values = dataset[()]
    with np.errstate(over="ignore"):  # float64 beyond float32 becomes infinite, and is refused
        numbers = np.asarray(values, dtype=np.float32)
    if not np.isfinite(numbers).all():
        _refuse(where, "NaN or infinity", "finite numbers, in float32 too")
    return numbers, dtype.name


def _h5py() -> Any:
    return require("h5py", extra="training", purpose="importing a checkpoint")


def _float_type(dataset: Any, where: str) -> np.dtype[Any]:
    """The NumPy type, when HDF5's is bit for bit one of IEEE 754's (a bfloat16 is not)."""
    h5t, stored = _h5py().h5t, dataset.id.get_type()
    known = {
        "<f2": h5t.IEEE_F16LE,
        ">f2": h5t.IEEE_F16BE,
        "<f4": h5t.IEEE_F32LE,
        ">f4": h5t.IEEE_F32BE,
        "<f8": h5t.IEEE_F64LE,
        ">f8": h5t.IEEE_F64BE,
    }
    found = [np.dtype(code) for code, kind in known.items() if stored.equal(kind)]
    if not found:
        _refuse(where, f"numbers of type {dataset.dtype}", "float32, float16 or float64")
    return found[0]


def _follow(group: Any, path: str) -> Any:
    found = group
    for part in path.split("/"):
        name = part.encode()
        if part in ("", ".") or not isinstance(found, _h5py().Group):
            _refuse(_path(group, path), "a broken name", "a plain path inside its group")
        links = found.id.links
        if not links.exists(name):
            _refuse(_path(group, path), "nothing", "a group or an array")
        if links.get_info(name).type != _h5py().h5l.TYPE_HARD:
            _refuse(_path(group, path), "a soft or external link", "data inside the checkpoint")
        found = found[part]
    return found


def _texts(group: Any, name: str, *, scalar: bool) -> list[str]:
    where = f"{group.name}@{name}"
    if name not in group.attrs:
        _refuse(where, "nothing", "text")
    attribute = group.attrs.get_id(name)
    shape = attribute.shape
    if (shape != ()) if scalar else (len(shape) != 1 or shape[0] > _MAX_NAMES):
        _refuse(where, f"shape {shape}", "one text" if scalar else "a short list of names")
    # Keras writes the empty list as an array of no float64.
    if not scalar and shape == (0,):
        return []
    kind = _h5py().check_string_dtype(attribute.dtype)
    if kind is None or (kind.length or 0) > _MAX_TEXT_BYTES:
        _refuse(where, f"type {attribute.dtype}", "text")
    value = group.attrs[name]
    texts: Sequence[Any] = [value] if scalar else list(value)
    decoded = [t.decode("utf-8") if isinstance(t, bytes) else str(t) for t in texts]
    if sum(map(len, decoded)) > _MAX_TEXT_BYTES:
        _refuse(where, "too much text", f"at most {_MAX_TEXT_BYTES} bytes")
    return decoded


def _path(group: Any, path: str) -> str:
    return f"{group.name}/{path}".replace("//", "/")


def _refuse(where: str, found: object, expected: object) -> NoReturn:
    raise InvalidBundle(
        f"the checkpoint is wrong at {shorten(where)}",
        found=shorten(found),
        expected=expected,
        fix="import a file that Keras wrote by itself, or copy it again from where it came",
    )
