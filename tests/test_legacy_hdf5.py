"""HDF5 files that are hostile or damaged are refused, each with its reason."""

# ruff: noqa: E402 - imports follow the check for the optional packages
from __future__ import annotations

import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

h5py = pytest.importorskip("h5py")

from ctedge.errors import BundleNotFound, InvalidBundle, WrongTask
from ctedge_training.legacy import importing
from ctedge_training.legacy.checkpoint import parse_checkpoint
from ctedge_training.legacy.importing import import_checkpoint
from ctedge_training.legacy.rehearsal import rehearse
from ctedge_training.tasks import CLASSIFIER, SEVERITY
from legacy_factory import SHAPE, arrays, refuse, replaced, without, write_model

KERNEL = "model_weights/c1/c1/kernel:0"


def test_the_factory_writes_what_is_accepted(tmp_path: Path) -> None:
    path = write_model(tmp_path / "a.h5")
    found = parse_checkpoint(path.read_bytes(), path)
    assert found.architecture.shape == SHAPE
    for layer, read in zip(found.architecture.weighted, found.weights, strict=True):
        for name, values in read.items():
            np.testing.assert_array_equal(values, arrays()[layer.source][name])


def linked(link: Any) -> Callable[[Any], object]:
    def spoil(file: Any) -> None:
        del file[KERNEL]
        file[KERNEL] = link

    return spoil


def virtual(file: Any) -> None:
    layout = h5py.VirtualLayout((3, 3, 3, 1, 3), "f4")
    layout[...] = h5py.VirtualSource("elsewhere.h5", "x", (3, 3, 3, 1, 3))
    del file[KERNEL]
    file.create_virtual_dataset(KERNEL, layout)


def never_written(file: Any) -> None:
    del file[KERNEL]
    file.create_dataset(KERNEL, (3, 3, 3, 1, 3), "f4")


def bomb(file: Any) -> None:
    """A chunk that inflates to a thousand times the array."""
    del file[KERNEL]
    new = file.create_dataset(KERNEL, (3, 3, 3, 1, 3), "f4", chunks=True, compression="gzip")
    new.id.write_direct_chunk((0,) * 5, zlib.compress(bytes(1 << 18)))


def long_chunk(file: Any) -> None:
    del file[KERNEL]
    new = file.create_dataset(KERNEL, (3, 3, 3, 1, 3), "f4", chunks=True, compression="gzip")
    new.id.write_direct_chunk((0,) * 5, bytes(5000))


def no_stream(file: Any) -> None:
    del file[KERNEL]
    new = file.create_dataset(KERNEL, (3, 3, 3, 1, 3), "f4", chunks=True, compression="gzip")
    new.id.write_direct_chunk((0,) * 5, b"no deflate stream")


def missing_chunk(file: Any) -> None:
    del file[KERNEL]
    new = file.create_dataset(KERNEL, (3, 3, 3, 1, 3), "f4", chunks=(3, 3, 3, 1, 1))
    new[..., 0] = 1


def large_chunk(file: Any) -> None:
    del file[KERNEL]
    file.create_dataset(
        KERNEL, (3, 3, 3, 1, 3), "f4", chunks=(3, 3, 3, 1, 900), maxshape=(3, 3, 3, 1, None)
    )


def a_type_of_its_own(file: Any) -> None:
    kind = h5py.h5t.IEEE_F16LE.copy()
    kind.set_fields(15, 7, 8, 0, 7)  # the bits of a bfloat16
    del file[KERNEL]
    space = h5py.h5s.create_simple((3, 3, 3, 1, 3))
    h5py.h5d.create(file["model_weights/c1/c1"].id, b"kernel:0", kind, space)


def attribute(path: str, name: str, value: Any) -> Callable[[Any], object]:
    def spoil(file: Any) -> None:
        file[path].attrs[name] = value

    return spoil


def value_at(path: str, number: float) -> Callable[[Any], object]:
    def spoil(file: Any) -> None:
        file[path][0] = number

    return spoil


BIAS = "model_weights/d2/d2/bias:0"
VARIANCE = "model_weights/n1/n1/moving_variance:0"


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (linked(h5py.SoftLink("/model_weights/c2/c2/kernel:0")), "soft or external link"),
        (linked(h5py.ExternalLink("elsewhere.h5", "/x")), "soft or external link"),
        (virtual, "data in another file"),
        (replaced(KERNEL, external="elsewhere.raw"), "data in another file"),
        (never_written, "0 bytes"),
        (bomb, "another size than it says"),
        (long_chunk, "a chunk of 5000 bytes"),
        (no_stream, "truncated or damaged"),
        (missing_chunk, r"1 chunk\b"),
        (large_chunk, "chunks of"),
        (replaced(KERNEL, chunks=True, fletcher32=True), "filters"),
        (replaced(KERNEL, compression="lzf"), "filters"),
        (replaced(KERNEL, chunks=True, scaleoffset=4), "filters"),
        (replaced(KERNEL, data=np.zeros((3, 3, 3, 1, 4), "f4")), r"shape \(3, 3, 3, 1, 4\)"),
        (replaced(KERNEL, data=h5py.Empty("f4")), "shape None"),
        (replaced(KERNEL, data=np.zeros((3, 3, 3, 1, 3), "i4")), "type int32"),
        (replaced(KERNEL, data=np.zeros((3, 3, 3, 1, 3), "c8")), "type complex64"),
        (replaced(KERNEL, data=np.zeros((3, 3, 3, 1, 3), "g")), "type"),
        (replaced(KERNEL, data=np.full((3, 3, 3, 1, 3), b"x")), "type"),
        (a_type_of_its_own, "type"),
        (value_at(BIAS, np.nan), "NaN or infinity"),
        (value_at(BIAS, -np.inf), "NaN or infinity"),
        (replaced(BIAS, data=np.array([1e300])), "NaN or infinity"),
        (value_at(VARIANCE, -0.01), "variance of -0.01"),
        (without(KERNEL), "nothing"),
        (without("model_weights/c1"), "nothing"),
        (without("model_weights"), "nothing"),
        (without("model_weights/c1", "weight_names"), "nothing"),
        (attribute("model_weights/c1", "weight_names", [b"c1/kernel:0"]), "weights c1/kernel:0"),
        (attribute("model_weights/c1", "weight_names", [b"c1/kernel:0"] * 3), "weights"),
        (attribute("model_weights/c1", "weight_names", [b"/x/kernel:0", b"bias:0"]), "broken name"),
        (attribute("model_weights/c1", "weight_names", [b"./kernel:0", b"bias:0"]), "broken name"),
        (attribute("model_weights/c1", "weight_names", [b"kernel:0/kernel", b"bias:0"]), "nothing"),
        (attribute("model_weights/c1", "weight_names", [b"x"] * 1100), "short list"),
        (attribute("model_weights/c1", "weight_names", [1, 2]), "type"),
        (attribute("model_weights/c1", "weight_names", np.array([b"\xff", b"x"])), "damaged"),
        (attribute("/", "model_config", "{"), "no JSON"),
        (attribute("/", "model_config", 3), "type"),
        (attribute("/", "model_config", ["{}"]), "one text"),
        (attribute("/", "model_config", "x" * (1 << 21)), "too much text"),
        (attribute("/", "keras_version", "2.5\x1b[31m"), "no version"),
        (without("/", "model_config"), "no checkpoint of Keras"),
    ],
)
def test_a_file_that_is_not_plain(
    spoil: Callable[[Any], object], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What a link or an external array could reach is there, so that only a refusal protects.
    monkeypatch.chdir(tmp_path)
    with h5py.File("elsewhere.h5", "w") as other:
        other["x"] = np.ones((3, 3, 3, 1, 3), np.float32)
    refuse(write_model(tmp_path / "a.h5", spoil=spoil), said)


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    whole = write_model(tmp_path / "a.h5").read_bytes()
    path = tmp_path / "b.h5"
    for length in (0, 4, 8, 100, *range(1000, len(whole), 1700), len(whole) - 1):
        path.write_bytes(whole[:length])
        refuse(path, "no HDF5 file" if length < 8 else "truncated or damaged")


def test_what_is_no_file_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, out = tmp_path / "a.h5", tmp_path / "run"
    for missing in (path, tmp_path):
        with pytest.raises(BundleNotFound, match="no file"):
            import_checkpoint(missing, out)
    for data in (b"PK\x03\x04 a keras archive", b"\x80\x04 a pickle"):
        path.write_bytes(data)
        with pytest.raises(InvalidBundle, match="no HDF5 file"):
            import_checkpoint(path, out)
    monkeypatch.setattr(importing, "MAX_FILE_BYTES", 1000)
    with pytest.raises(InvalidBundle, match="larger than"):
        import_checkpoint(write_model(path), out)
    assert not out.exists()


def test_what_makes_hdf5_hang_does_not_hang_us(tmp_path: Path) -> None:
    file = write_model(tmp_path / "a.h5")
    rehearse(file.read_bytes(), file, task=CLASSIFIER)
    with pytest.raises(InvalidBundle, match="no end after"):
        rehearse(file.read_bytes(), file, seconds=0.001)
    with pytest.raises(WrongTask, match="severity") as caught:
        rehearse(file.read_bytes(), file, task=SEVERITY)
    assert caught.value.expected == "activation linear"
    # A global heap that says it is larger than it is: HDF5 1.14.6 never comes back from it.
    hostile = bytearray(file.read_bytes())
    hostile[hostile.index(b"GCOL") + 9] = 32
    with pytest.raises(InvalidBundle, match=r"a\.h5"):
        rehearse(bytes(hostile), file, seconds=3)
