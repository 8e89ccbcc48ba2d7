"""Enhanced multi-frame CT: one object, per-frame functional groups."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from pydicom.encaps import encapsulate_extended, generate_frames
from pydicom.uid import JPEG2000Lossless

from ctedge import IrregularSeries, UnreadableScan, read_scan
from dicom_factory import change, enhanced, hu_of, item, las, save, slices

FRAMES = 6


hu = hu_of(FRAMES, 8, 10)


def test_it_equals_its_plain_twin(tmp_path, hu):
    path = save(tmp_path / "one.dcm", enhanced(hu))
    scan, twin = read_scan(path), read_scan(slices(hu))
    np.testing.assert_array_equal(scan.voxels, las(hu))
    np.testing.assert_array_equal(scan.affine, twin.affine)
    np.testing.assert_array_equal(read_scan(tmp_path).voxels, las(hu))


def test_frames_in_any_order(hu):
    scan = read_scan(enhanced(hu, order=[3, 0, 5, 1, 4, 2]))
    np.testing.assert_array_equal(scan.voxels, las(hu))


def test_each_frame_has_its_own_map_to_hu(hu):
    even = hu // 4 * 4  # exact for every slope
    even[4] = np.maximum(even[4], 0)
    intercepts = [-1024, -1000, -2000, -1024, 0, -1100]
    made = enhanced(even, slope=[1, 2, 1, 4, 1, 1], intercept=intercepts)
    np.testing.assert_array_equal(read_scan(made).voxels, las(even))


def test_a_map_that_all_frames_share(hu):
    made = enhanced(hu, shared_rescale=True, intercept=-1000)
    np.testing.assert_array_equal(read_scan(made).voxels, las(hu.clip(-1000)))


def test_acquisitions_of_frames(hu):
    doubled = np.concatenate([hu, hu + 1])
    made = enhanced(doubled, acquisition=[1] * FRAMES + [2] * FRAMES)
    for number, group in enumerate(made.PerFrameFunctionalGroupsSequence):
        place = [-100.0, -120.0, -300.0 + 5.0 * (number % FRAMES)]
        group.PlanePositionSequence[0].ImagePositionPatient = place
    with pytest.raises(IrregularSeries, match=r"(?s)several acquisitions.*acquisition 2: 6 slices"):
        read_scan(made)
    np.testing.assert_array_equal(read_scan(made, acquisition=2).voxels, las(hu + 1))


def test_a_repeated_frame_is_named(hu):
    made = enhanced(hu)
    made.PerFrameFunctionalGroupsSequence[3].PlanePositionSequence = [
        item(ImagePositionPatient=[-100.0, -120.0, -290.0])
    ]
    with pytest.raises(IrregularSeries, match=r"(?s)same position.*frame 3 and .*frame 4"):
        read_scan(made)


def test_a_perfusion_map_is_left_out(hu):
    made = enhanced(hu)
    made.ImageType = ["DERIVED", "PRIMARY", "PERFUSION", "RCBF"]
    with pytest.raises(IrregularSeries, match=r"(?s)no CT slice.*a perfusion map"):
        read_scan(made)


@pytest.mark.parametrize(
    ("elements", "why"),
    [
        ({"FrameType": ["DERIVED", "PRIMARY", "VOLUME", "MAXIMUM"]}, "a projection"),
        ({"VolumeBasedCalculationTechnique": "MIN_IP"}, "a projection"),
        ({"VolumeBasedCalculationTechnique": "VOLUME_RENDER"}, "a rendering"),
        ({"FrameType": ["DERIVED", "PRIMARY", "VOLUME", "SUBTRACTION"]}, "a map calculated"),
    ],
)
def test_what_was_calculated_of_many_slices_is_left_out(hu, elements, why):
    made = enhanced(hu)
    made.SharedFunctionalGroupsSequence[0].CTImageFrameTypeSequence = [item(**elements)]
    with pytest.raises(IrregularSeries, match=f"(?s)no CT slice.*{why}"):
        read_scan(made)


def test_a_projection_beside_its_slices_is_left_out(tmp_path, hu):
    for number, one in enumerate(slices(hu)):
        save(tmp_path / f"{number}.dcm", one)
    save(tmp_path / "m.dcm", slices(hu[:1], ImageType=("DERIVED", "SECONDARY", "AXIAL", "MIP"))[0])
    assert read_scan(tmp_path).excluded == ("m.dcm: a projection of many slices (ImageType MIP)",)


def test_values_that_are_no_hu_are_left_out(hu):
    made = enhanced(hu)
    for group in made.PerFrameFunctionalGroupsSequence:
        group.PixelValueTransformationSequence[0].RescaleType = "MGML"
    with pytest.raises(IrregularSeries, match=r"(?s)no CT slice.*its values are MGML"):
        read_scan(made)


@pytest.mark.parametrize("place", [0, 1, 5])
@pytest.mark.parametrize(
    ("sequence", "elements", "reason"),
    [
        ("PixelValueTransformationSequence", {"RescaleType": "ED"}, "its values are ED, not HU"),
        ("CTImageFrameTypeSequence", {"FrameType": ["ORIGINAL", "LOCALIZER"]}, "a scout"),
    ],
)
def test_a_frame_among_others_that_is_no_slice_is_named(hu, place, sequence, elements, reason):
    made = enhanced(hu)
    group = made.PerFrameFunctionalGroupsSequence[place]
    macro = (group.get(sequence) or [item(RescaleSlope=1, RescaleIntercept=-1024)])[0]
    change(macro, elements)
    setattr(group, sequence, [macro])
    with pytest.raises(IrregularSeries, match=f"frame {place + 1}: no CT slice") as caught:
        read_scan(made)
    assert reason in caught.value.found


def test_frames_of_a_scout_are_left_out(hu):
    made = enhanced(hu)
    kind = [item(FrameType=["ORIGINAL", "PRIMARY", "LOCALIZER", "NONE"])]
    made.SharedFunctionalGroupsSequence[0].CTImageFrameTypeSequence = kind
    with pytest.raises(IrregularSeries, match=r"(?s)no CT slice.*a scout \(FrameType LOCALIZER"):
        read_scan(made)


def without(made, keyword: str, place: int = 2):
    delattr(made.PerFrameFunctionalGroupsSequence[place], keyword)
    return made


def fewer_groups(made):
    made.PerFrameFunctionalGroupsSequence = made.PerFrameFunctionalGroupsSequence[:-1]
    return made


def set_frames(made, count):
    made.NumberOfFrames = count
    return made


def no_groups(made):
    del made.PerFrameFunctionalGroupsSequence
    return made


def no_shared(made):
    del made.SharedFunctionalGroupsSequence
    return made


DAMAGE = {
    "no position": (lambda one: without(one, "PlanePositionSequence"), "ImagePositionPatient"),
    "no map": (lambda one: without(one, "PixelValueTransformationSequence"), "RescaleSlope"),
    "fewer groups": (fewer_groups, "6 frames, 5 functional groups"),
    "more frames": (lambda one: set_frames(one, 7), "7 frames, 6 functional groups"),
    "far more frames": (lambda one: set_frames(one, 2_000_000_000), "2000000000 frames"),
    "no frames": (lambda one: set_frames(one, 0), "0 frames"),
    "no groups": (no_groups, "without a position for each"),
    "nothing shared": (no_shared, "PixelSpacing"),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_functional_groups_that_lack_something(tmp_path, hu, case):
    damage, message = DAMAGE[case]
    path = save(tmp_path / "one.dcm", damage(enhanced(hu)))
    with pytest.raises((IrregularSeries, UnreadableScan), match=message):
        read_scan(path)


def test_fewer_pixels_than_frames(tmp_path, hu):
    made = enhanced(hu)
    made.PixelData = made.PixelData[:-100]
    with pytest.raises(UnreadableScan, match="960 are promised"):
        read_scan(save(tmp_path / "one.dcm", made))


def test_the_kernel_that_all_frames_name(hu):
    made = enhanced(hu)
    assert read_scan(made).kernel is None
    made.SharedFunctionalGroupsSequence[0].CTReconstructionSequence = [
        item(ConvolutionKernel=["Br40d", "3"])
    ]
    assert read_scan(made).kernel == "Br40d\\3"
    own = made.PerFrameFunctionalGroupsSequence[-1]
    own.CTReconstructionSequence = [item(ConvolutionKernel="Br64d")]
    assert read_scan(made).kernel is None


def test_the_kernel_that_all_slices_name(hu):
    assert read_scan(slices(hu, ConvolutionKernel="B60f")).kernel == "B60f"
    assert read_scan(slices(hu, ConvolutionKernel=["B60f"] * 5 + ["B30f"])).kernel is None
    assert len(read_scan(slices(hu, ConvolutionKernel=("SHARP" * 3,) * 50)).kernel) == 64


def test_frames_of_another_acquisition_are_named(tmp_path, hu):
    doubled = np.concatenate([hu, hu + 1])
    made = enhanced(doubled, acquisition=[1] * FRAMES + [2] * FRAMES)
    save(tmp_path / "one.dcm", made)
    scan = read_scan(tmp_path, acquisition=2)
    np.testing.assert_array_equal(scan.voxels, las(hu + 1))
    assert scan.excluded == ("one.dcm: 6 frames of another acquisition",)


@pytest.mark.parametrize("wrong", ["turned round", "outside the file", "too short"])
def test_an_extended_offset_table_of_other_frames_is_refused(tmp_path, hu, wrong):
    made = enhanced(hu, syntax=JPEG2000Lossless)
    frames = [*generate_frames(made.PixelData, number_of_frames=FRAMES)]
    made.PixelData, *tables = encapsulate_extended(frames)
    made["PixelData"].is_undefined_length = True
    made.ExtendedOffsetTable, made.ExtendedOffsetTableLengths = tables
    np.testing.assert_array_equal(read_scan(save(tmp_path / "1.dcm", made)).voxels, las(hu))
    numbers = [list(struct.unpack(f"<{FRAMES}Q", table)) for table in tables]
    changed = {
        "turned round": [column[::-1] for column in numbers],
        "outside the file": [[1 << 40] * FRAMES, [1 << 62] * FRAMES],
        "too short": [column[:2] for column in numbers],
    }[wrong]
    tables = [struct.pack(f"<{len(column)}Q", *column) for column in changed]
    made.ExtendedOffsetTable, made.ExtendedOffsetTableLengths = tables
    scan = read_scan(save(tmp_path / "1.dcm", made))
    with pytest.raises(UnreadableScan, match="damaged") as caught:
        _ = scan.voxels
    assert "MemoryError" not in str(caught.value)
