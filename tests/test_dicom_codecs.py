"""Transfer syntaxes: what is installed decodes them exactly, or the syntax is named."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.pixels import get_decoder, get_encoder
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from ctedge import CodecUnavailable, UnreadableScan, read_scan
from dicom_factory import enhanced, las, save, slices, write_series

SHAPE = (4, 70, 66)

#: Lossless for CT at 16 bits; the lossy files of the corpus stay within so many HU.
LOSSY_HU = 40

#: The 8-bit file keeps 32 HU for each of its levels.
EIGHT_BIT_HU = 200


@pytest.fixture
def hu() -> np.ndarray:
    """(slices, rows, columns), smooth: codecs are made for that."""
    z, y, x = np.meshgrid(*[np.linspace(0, 3, n) for n in SHAPE], indexing="ij")
    return (900 * np.sin(x + z) * np.cos(y)).astype(np.int16)


def encodes(syntax: str) -> bool:
    try:
        return bool(get_encoder(syntax).is_available)
    except NotImplementedError:
        return False


@pytest.mark.parametrize(
    "syntax",
    [
        ImplicitVRLittleEndian,
        ExplicitVRLittleEndian,
        ExplicitVRBigEndian,
        DeflatedExplicitVRLittleEndian,
        RLELossless,
        JPEGLSLossless,
        JPEG2000Lossless,
    ],
    ids=lambda syntax: syntax.name,
)
@pytest.mark.parametrize(
    "layout",
    [
        {},
        {"signed": True, "intercept": 0},
        {"bits": (16, 12, 11)},
        {"bits": (16, 12, 11), "signed": True, "intercept": 0},
    ],
    ids=str,
)
def test_lossless_syntaxes_give_the_same_hu(tmp_path, hu, syntax, layout):
    if syntax.is_compressed and syntax.is_encapsulated and not encodes(syntax):
        pytest.skip(f"nothing installed encodes {syntax.name}")
    write_series(tmp_path, hu, syntax=syntax, **layout)
    np.testing.assert_array_equal(read_scan(tmp_path).voxels, las(hu))


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless], ids=lambda syntax: syntax.name)
def test_data_sets_in_memory_and_frames_of_one_object(hu, syntax):
    if not encodes(syntax):
        pytest.skip(f"nothing installed encodes {syntax.name}")
    np.testing.assert_array_equal(read_scan(slices(hu, syntax=syntax)).voxels, las(hu))
    np.testing.assert_array_equal(read_scan(enhanced(hu, syntax=syntax)).voxels, las(hu))


@pytest.mark.parametrize("uid", ["4.103", "4.92", "4.53", "8.1", "4.999"])
def test_a_syntax_that_nothing_decodes_is_named(tmp_path, hu, uid):
    """MPEG-4, JPEG 2000 part 2, a retired JPEG, deflated frames, and one that does not exist."""
    known, wanted = "1.2.840.10008.1.2.4.103", f"1.2.840.10008.1.2.{uid}"
    for number, one in enumerate(slices(hu)):
        one.file_meta.TransferSyntaxUID = known
        one.PixelData = pydicom.encaps.encapsulate([bytes(64)])
        one["PixelData"].is_undefined_length = True
        path = save(tmp_path / f"{number}.dcm", one)
        named = wanted.encode().ljust(len(known), b"\0")
        path.write_bytes(path.read_bytes().replace(known.encode(), named))
    with pytest.raises(CodecUnavailable, match=wanted.replace(".", r"\.")):
        read_scan(tmp_path)


# Files of the corpus, each written as a series of 16: only position and identity differ.


def series_of(path: Path, folder: Path, *, count: int = 16) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what old files get wrong
        one = pydicom.dcmread(path)
        x, y, z = one.ImagePositionPatient
        for number in range(count):
            one.ImagePositionPatient = [x, y, float(z) + 2 * number]
            one.InstanceNumber = number + 1
            one.SOPInstanceUID = f"1.2.826.0.1.3680043.8.498.{number + 1}"
            one.file_meta.MediaStorageSOPInstanceUID = one.SOPInstanceUID
            stream = io.BytesIO()
            big = one.file_meta.TransferSyntaxUID == ExplicitVRBigEndian
            if big:  # pydicom writes what it read in the order of bytes that it read
                pydicom.dcmwrite(stream, one, implicit_vr=False, little_endian=False)
            else:
                pydicom.dcmwrite(stream, one)
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{number:03d}.dcm").write_bytes(stream.getvalue())
    return folder


LOSSLESS = [
    "LittleEndianImplicit",
    "LittleEndianExplicit",
    "BigEndianExplicit",
    "DeflatedExplicit",
    "RLELossless",
    "JPEGProcess14SV1",
    "JPEGProcess14Tr",
    "JPEGLSLossless",
    "JPEG2000Lossless",
]
LOSSY = {
    "JPEG2000Tr": LOSSY_HU,
    "JPEGLSLossy": LOSSY_HU,
    "JPEGProcess1Tr": EIGHT_BIT_HU,
}
#: JPEG Extended of 12 bits, and two retired processes.
UNDECODED = {"JPEGProcess2_4": "4.51", "JPEGProcess6_8": "4.53", "JPEGProcess10_12": "4.55"}


def plane_of(folder: Path) -> np.ndarray:
    return next(read_scan(folder).planes.each([5]))


@pytest.mark.realdata
class TestCorpus:
    @pytest.fixture
    def corpus(self, real_data) -> Path:
        return real_data / "dicom" / "transfer_syntaxes"

    def named(self, corpus: Path, name: str) -> Path:
        (path,) = corpus.glob(f"CTImage.dcm_{name}*")
        return path

    @pytest.fixture
    def original(self, corpus, tmp_path) -> np.ndarray:
        return plane_of(series_of(corpus / "CTImage.dcm", tmp_path / "original"))

    @pytest.mark.parametrize("name", LOSSLESS)
    def test_lossless(self, corpus, tmp_path, original, name):
        found = plane_of(series_of(self.named(corpus, name), tmp_path / name))
        np.testing.assert_array_equal(found, original)

    @pytest.mark.parametrize("name", LOSSY)
    def test_lossy(self, corpus, tmp_path, original, name):
        found = plane_of(series_of(self.named(corpus, name), tmp_path / name))
        assert np.abs(found.astype(float) - original).mean() < LOSSY[name]

    @pytest.mark.parametrize("name", UNDECODED)
    def test_what_nothing_decodes(self, corpus, tmp_path, name):
        uid = f"1.2.840.10008.1.2.{UNDECODED[name]}"
        try:
            plugins = set(get_decoder(uid).available_plugins)
        except NotImplementedError:
            plugins = set()
        if "pylibjpeg" in plugins:
            pytest.skip("a codec of JPEG with 12 bits is installed")
        folder = series_of(self.named(corpus, name), tmp_path / name)
        with pytest.raises(CodecUnavailable, match=uid.replace(".", r"\.")):
            read_scan(folder)

    @pytest.mark.parametrize(
        "name",
        [
            "693_J2KR.dcm",
            "693_UNCI.dcm",
            "SignedShortLosslessBug.dcm",
            "bad_sequence.dcm",
            "explicit_VR-UN.dcm",
            "lungct_diagnosis_R004_1-01.dcm",
            "philips_liver_j2k_lossy.dcm",
        ],
    )
    def test_oddities(self, real_data, tmp_path, name):
        plane = plane_of(series_of(real_data / "dicom" / "oddities" / name, tmp_path))
        assert plane.shape == (512, 512)
        assert -1024 <= plane.min() < -500  # air in the corners, or around a patient
        assert plane.max() > 500


# HTJ2K: no wheel encodes it, and one decodes it.


@pytest.mark.parametrize("syntax", [HTJ2KLossless, HTJ2KLosslessRPCL], ids=lambda one: one.name)
def test_high_throughput_jpeg_2000_is_named_where_it_is_not_decoded(tmp_path, hu, syntax):
    if get_decoder(syntax).is_available:
        pytest.skip("a codec of HTJ2K is installed")
    write_series(tmp_path, hu)
    for path in tmp_path.iterdir():
        one = pydicom.dcmread(path)
        one.file_meta.TransferSyntaxUID = syntax
        one.PixelData = pydicom.encaps.encapsulate([bytes(64)])
        one["PixelData"].is_undefined_length = True
        save(path, one)
    with pytest.raises(CodecUnavailable, match="High-Throughput"):
        read_scan(tmp_path)


@pytest.mark.parametrize("syntax", [JPEG2000Lossless, HTJ2KLossless], ids=lambda one: one.name)
def test_a_frame_of_another_codec_is_damage(tmp_path, hu, syntax):
    if not get_decoder(syntax).is_available:
        pytest.skip(f"nothing installed decodes {syntax.name}")
    for number, one in enumerate(slices(hu)):
        one.file_meta.TransferSyntaxUID = syntax
        one.PixelData = pydicom.encaps.encapsulate([bytes(64)])
        one["PixelData"].is_undefined_length = True
        save(tmp_path / f"{number}.dcm", one)
    with pytest.raises(UnreadableScan, match="no known codec"):
        _ = read_scan(tmp_path).voxels
