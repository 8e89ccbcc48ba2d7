"""A want of memory while DICOM is read is no damage; a door says it of that scan alone."""

from __future__ import annotations

import importlib

import pytest
from pydicom.sequence import Sequence
from pydicom.uid import DeflatedExplicitVRLittleEndian, RLELossless

from bundle_factory import write_tiny
from ctedge import Classifier, InputError
from dicom_factory import hu_of, item, write_series

SCARCE = "Unable to allocate 512. KiB for an array"

hu = hu_of(16, 20, 20)


def nothing_left(*_args, **_named):
    raise MemoryError(SCARCE)


@pytest.fixture
def door(tmp_path):
    bundle = write_tiny(tmp_path / "tiny.ctedge")
    with Classifier.load(bundle.path, device="cpu", runtime="onnxruntime") as opened:
        yield opened


#: Where each kind of work on a series asks for memory: module and function.
PLACES = {
    "header": ("pydicom", "dcmread"),
    "series": ("ctedge.readers.dicom.series", "image_of"),
    "elements": ("ctedge.readers.dicom.images", "_check_pixels"),
    "table": ("numpy", "frombuffer"),
    "pixels": ("pydicom.pixels", "pixel_array"),
    "pixels in their place": ("ctedge.readers.dicom.pixels", "_plain"),
    "frames": ("pydicom.encaps", "get_frame"),
}


@pytest.mark.parametrize("where", PLACES)
def test_it_is_said_of_the_scan(door, tmp_path, hu, monkeypatch, where):
    how = {}
    if where == "table":
        table = item(LUTDescriptor=[4, 0, 16], ModalityLUTType="HU")
        table.add_new("LUTData", "OW", bytes(8))
        how = {
            "ModalityLUTSequence": Sequence([table]),
            "RescaleSlope": None,
            "RescaleIntercept": None,
        }
    elif where == "pixels":
        how = {"syntax": DeflatedExplicitVRLittleEndian}
    elif where == "frames":
        how = {"syntax": RLELossless}
    write_series(tmp_path / "series", hu, **how)
    module, name = PLACES[where]
    monkeypatch.setattr(importlib.import_module(module), name, nothing_left)
    (error,) = door.predict_batch([tmp_path / "series"], errors="return")
    assert type(error) is InputError, error  # not UnreadableScan, which calls it damaged
    assert "not enough memory" in str(error)
    assert error.found == SCARCE
