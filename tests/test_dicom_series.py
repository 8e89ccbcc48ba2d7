"""Several series in one folder: named, or chosen by documented rules."""

from __future__ import annotations

import numpy as np
import pytest

from ctedge import CodecUnavailable, IrregularSeries, UnreadableScan, read_scan
from dicom_factory import CHEST, hu_of, las, slices, uid_of, unknown, write_series

hu = hu_of(20, 16, 16)


def test_several_series_are_listed_and_one_is_named(tmp_path, hu):
    write_series(tmp_path / "a", hu)
    write_series(tmp_path / "b", hu[:7] // 2)
    with pytest.raises(IrregularSeries, match="several series") as caught:
        read_scan(tmp_path)
    assert f"{uid_of(tmp_path / 'a')} (20 files)" in caught.value.found
    assert f"{uid_of(tmp_path / 'b')} (7 files)" in caught.value.found
    assert "read_scan(..., series='UID'), `--series UID` of `ctedge predict`" in caught.value.fix
    scan = read_scan(tmp_path, series=f" {uid_of(tmp_path / 'b')}\n")  # as it was copied
    np.testing.assert_array_equal(scan.voxels, las(hu[:7] // 2))
    assert scan.excluded == tuple(f"a/{n:03d}.dcm: of another series" for n in range(20))
    with pytest.raises(IrregularSeries, match="no such series"):
        read_scan(tmp_path, series="1.2.3")


def test_a_series_that_was_left_out_says_why(tmp_path, hu):
    write_series(tmp_path / "a", hu)
    write_series(tmp_path / "scout", hu[:1], ImageType=("ORIGINAL", "PRIMARY", "LOCALIZER"))
    write_series(tmp_path / "mr", hu[:2], Modality="MR")
    for name, why in (("scout", "a scout"), ("mr", "Modality MR")):
        with pytest.raises(IrregularSeries, match=f"(?s)holds no CT slice.*{why}") as caught:
            read_scan(tmp_path, series=uid_of(tmp_path / name))
        assert f"{uid_of(tmp_path / 'a')} (20 files)" in caught.value.expected
    with pytest.raises(IrregularSeries, match="not an empty text"):
        read_scan(tmp_path, series="")


def test_a_damaged_series_does_not_stop_another_one(tmp_path, hu):
    write_series(tmp_path / "a", hu)
    write_series(tmp_path / "b", hu, ImagePositionPatient=None)
    assert read_scan(tmp_path, series=uid_of(tmp_path / "a")).shape == (16, 16, 20)


def test_a_damaged_file_is_named(tmp_path, hu):
    path = write_series(tmp_path, hu)[3]
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(UnreadableScan, match=r"003\.dcm: the DICOM file is damaged"):
        read_scan(tmp_path)


# select="chest"


def choose(folder) -> tuple[int, ...]:
    return read_scan(folder, select="chest").shape


def test_a_series_alone_has_to_be_a_chest_too(tmp_path, hu):
    write_series(tmp_path / "short", hu[:5], **CHEST)
    with pytest.raises(IrregularSeries, match=r"(?s)no series of a whole chest.*5 slices"):
        choose(tmp_path)
    write_series(tmp_path / "whole", hu, **CHEST)
    assert choose(tmp_path / "whole") == (16, 16, 20)
    with pytest.raises(IrregularSeries, match="no series of a whole chest"):
        read_scan(tmp_path, series=uid_of(tmp_path / "short"), select="chest")


OTHERS = {
    "too short": {"step": 5.0, "spacing": (16.0, 16.0)},
    "too narrow": {"step": 10.0, "spacing": (10.0, 10.0)},
    "another part": CHEST | {"BodyPartExamined": "ABDOMEN"},
    "derived": CHEST | {"ImageType": ("DERIVED", "SECONDARY", "AXIAL")},
    "uneven": CHEST | {"ImagePositionPatient": None},
}


@pytest.mark.parametrize("case", OTHERS)
def test_the_chest_is_chosen(tmp_path, hu, case):
    write_series(tmp_path / "other", hu, **OTHERS[case])
    write_series(tmp_path / "chest", hu[:, :15], **CHEST)
    assert choose(tmp_path) == (16, 15, 20)


def test_an_earlier_examination_is_not_chosen_for_its_thinner_slices(tmp_path, hu):
    write_series(tmp_path / "today", hu, **CHEST)
    before = CHEST | {"study": "1.2.826.0.1.3680043.10.2"}
    write_series(tmp_path / "before", hu.repeat(2, axis=0), **(before | {"step": 5.0}))
    with pytest.raises(IrregularSeries, match="several examinations") as caught:
        read_scan(tmp_path, select="chest")
    for folder in ("today", "before"):
        assert uid_of(tmp_path / folder) in str(caught.value.found)
    assert "series=" in caught.value.fix
    named = read_scan(tmp_path, series=uid_of(tmp_path / "today"), select="chest")
    assert named.shape == (16, 16, 20)
    write_series(tmp_path / "today" / "scout", hu[:1], **before)  # no chest to choose between
    assert read_scan(tmp_path / "today", select="chest").shape == (16, 16, 20)


def test_a_series_that_says_chest_comes_first(tmp_path, hu):
    write_series(tmp_path / "a", hu, **CHEST)
    write_series(tmp_path / "b", hu[:, :15], BodyPartExamined="LUNG", **CHEST)
    assert choose(tmp_path) == (16, 15, 20)


def test_of_thick_and_thin_slices_the_thin_ones_are_chosen(rng):
    def series(count: int, rows: int) -> list:
        pixels = rng.integers(-1000, 1000, (count, rows, 12)).astype(np.int16)
        chest = CHEST | {"step": 200.0 / count, "spacing": (20.0, 20.0)}
        return slices(pixels, **chest)

    thick, thin, noisy = series(20, 13), series(133, 12), series(250, 11)  # 10, 1.5 and 0.8 mm
    assert choose([*thick, *noisy]) == (12, 11, 250)
    assert choose([*thick, *thin, *noisy]) == (12, 12, 133)


def test_an_oblique_series_is_no_candidate(tmp_path, hu):
    tilted = (1, 0, 0, 0, round(float(np.cos(0.5)), 9), round(float(np.sin(0.5)), 9))
    write_series(tmp_path / "oblique", hu, BodyPartExamined="CHEST", orientation=tilted, **CHEST)
    write_series(tmp_path / "chest", hu[:, :15], **CHEST)
    assert choose(tmp_path) == (16, 15, 20)


def test_two_alike_are_not_chosen_between(tmp_path, hu):
    write_series(tmp_path / "a", hu, **CHEST)
    write_series(tmp_path / "b", hu, **CHEST)
    with pytest.raises(IrregularSeries, match="equally well"):
        choose(tmp_path)


def test_no_chest_at_all(tmp_path, hu):
    write_series(tmp_path / "a", hu)
    write_series(tmp_path / "b", hu)
    with pytest.raises(IrregularSeries, match="no series of a whole chest") as caught:
        choose(tmp_path)
    assert "95 mm from end to end" in caught.value.found


def test_a_chest_that_cannot_be_decoded_is_left_out_where_another_remains(tmp_path, hu):
    unknown(write_series(tmp_path / "a", hu, BodyPartExamined="CHEST", **CHEST))
    write_series(tmp_path / "b", hu[:, :15], **CHEST)
    scan = read_scan(tmp_path, select="chest")
    assert scan.shape == (16, 15, 20)
    assert all("of another series (nothing installed decodes" in why for why in scan.excluded)
    assert len(scan.excluded) == 20


def test_where_no_chest_can_be_decoded_the_syntax_is_named(tmp_path, hu):
    unknown(write_series(tmp_path / "a", hu, **CHEST))
    write_series(tmp_path / "b", hu, **OTHERS["another part"])
    with pytest.raises(CodecUnavailable, match="MPEG2"):
        choose(tmp_path)
