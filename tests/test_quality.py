"""What prediction itself sees of a scan: its header, and what the network's input shows."""

from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import pytest

import quality_factory as factory
from bundle_factory import write_tiny
from ctedge import (
    KERAS_EXAMPLE,
    SEVERITY_STUDY,
    Classifier,
    CTScan,
    InvalidBundle,
    NotHounsfield,
    SliceClassifier,
    UnfitScan,
    UnsupportedGeometry,
    read_scan,
)
from ctedge.planes import PlanesInMemory
from ctedge.preprocessing import resample
from ctedge.quality import TrainedOn, judge

#: The phantoms' own geometry, which a model of synthetic chests has learnt from.
SYNTHETIC = TrainedOn.of({"run": {"data": {"synthetic": True}}})


def glance(scan, spec=KERAS_EXAMPLE):
    return judge(scan, resample(scan, spec), spec=spec, trained=SYNTHETIC)


def header(voxels, **scan):
    made = CTScan(
        **{"planes": PlanesInMemory(voxels), "affine": np.diag([-0.7, 0.7, 5.0, 1.0]), **scan}
    )
    return judge(made, resample(made, KERAS_EXAMPLE))


def codes(quality, *, red=False):
    return {flag.code for flag in (quality.red if red else quality.flags)}


def test_facts_of_a_plain_scan(chest):
    quality = header(chest)
    assert quality.flags == ()
    assert quality.slices == 20
    assert quality.spacing_mm == pytest.approx((0.7, 0.7, 5.0))
    assert quality.field_mm == pytest.approx((28.0, 25.2, 100.0))
    assert (quality.lowest_hu, quality.highest_hu) == (chest.min(), chest.max())


def test_what_the_header_says_is_flagged(chest):
    quality = header(
        chest, orientation_assumed=True, excluded=("notes.txt: not DICOM",), interpolated=2
    )
    assert codes(quality) == {"orientation-assumed", "files-excluded", "slices-interpolated"}
    said = {flag.code: flag.message for flag in quality.flags}
    assert said["files-excluded"] == "1 file left out of the volume"
    assert said["slices-interpolated"].startswith("2 slices in no file")
    assert not quality.red
    json.dumps(asdict(quality))


def test_a_bare_array_has_no_size(chest):
    scan = CTScan.from_array(chest)
    quality = judge(scan, resample(scan, KERAS_EXAMPLE), trained=SYNTHETIC)
    assert quality.field_mm is None
    assert codes(quality) == {"orientation-assumed", "size-unknown"}


def test_an_array_in_another_order_is_flagged(rng):
    quality = header(rng.integers(-1000, 900, (40, 128, 128)).astype(np.int16))
    assert codes(quality) == {"array-order"}


@pytest.mark.parametrize(("seed", "share"), [(0, 0.0), (7, 0.0), (17, 0.0), (2, 0.1), (3, 0.3)])
def test_a_normal_or_moderately_ill_chest_has_no_flag(seed, share):
    assert glance(factory.scan_of(factory.chest(seed, share))).flags == ()


def test_the_order_of_the_networks_axes_does_not_matter():
    for scan in (factory.scan_of(factory.chest(0)), factory.half("upper"), factory.half("left")):
        one, other = (glance(scan, spec) for spec in (KERAS_EXAMPLE, SEVERITY_STUDY))
        assert one.sight == other.sight


@pytest.mark.parametrize("seed", [4, 16, 22])
def test_severe_disease_is_no_reason_for_a_red_flag(seed):
    assert not glance(factory.scan_of(factory.chest(seed, 0.6))).red


@pytest.mark.parametrize(
    ("make", "code"),
    [
        pytest.param(factory.head, "no-lungs", id="head"),
        pytest.param(factory.abdomen, "no-lungs", id="abdomen"),
        pytest.param(lambda: factory.abdomen(lung_bases=True), "no-lungs", id="lung bases"),
        pytest.param(factory.water, "no-lungs", id="water"),
        pytest.param(factory.without_lungs, "no-lungs", id="lungs filled"),
        pytest.param(lambda: factory.half("upper"), "lungs-cut-bottom", id="upper half"),
        pytest.param(lambda: factory.half("lower"), "lungs-cut-top", id="lower half"),
        pytest.param(lambda: factory.half("right"), "body-cut-side", id="right half"),
        pytest.param(lambda: factory.half("left"), "body-cut-side", id="left half"),
    ],
)
def test_what_is_no_whole_chest_has_a_red_flag(make, code):
    assert codes(glance(make()), red=True) == {code}


def test_the_glance_knows_the_volume_of_aerated_lung():
    phantom = factory.chest(0)
    truth = phantom.lung_mask.sum() * np.prod(phantom.spacing_mm) / 1000
    sight = glance(factory.scan_of(phantom)).sight
    # The rims of airways and bowel gas add to it, vessels are missing.
    assert sight.aerated_ml == pytest.approx(truth, rel=0.15)
    assert sight.air_peak_hu == pytest.approx(-1000, abs=20)
    assert sight.tissue_peak_hu == pytest.approx(50, abs=30)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda hu: hu + 150, "air-off"),
        (lambda hu: hu // 2, "air-off"),
        (lambda hu: np.where(hu > -200, hu + 300, hu), "tissue-off"),
        (lambda hu: np.where(hu > -200, hu - 300, hu), "tissue-off"),
    ],
    ids=["a wrong intercept", "a wrong slope", "tissue too dense", "tissue too thin"],
)
def test_values_that_are_off_are_red(change, code):
    phantom = factory.chest(0)
    quality = glance(factory.scan_of(phantom, change(phantom.voxels).astype(np.int16)))
    assert code in codes(quality, red=True)
    flag = next(flag for flag in quality.red if flag.code == code)
    assert f"{flag.value:.0f} HU" in flag.message


def test_a_scan_longer_than_the_chest_is_noted():
    voxels = factory.chest(0).voxels
    belly = np.repeat(voxels[:, :, :1], 120, axis=2)
    scan = factory.scan_of(factory.chest(0), np.concatenate([belly, voxels], axis=2))
    assert "lungs-short" in codes(glance(scan))


@pytest.mark.parametrize(
    ("spacing", "slices", "code", "severity"),
    [
        (5.0, 40, None, None),
        (1.0, 200, "spacing-untrained", "note"),
        (10.0, 20, "spacing-untrained", "note"),
        (17.0, 20, "slices-far-apart", "red"),
        (2.0, 300, "slices-untrained", "note"),
    ],
)
def test_geometry_is_held_against_that_of_the_training(rng, spacing, slices, code, severity):
    scan = CTScan(
        planes=PlanesInMemory(rng.integers(-1000, 900, (64, 64, slices)).astype(np.int16)),
        affine=np.diag([-5.5, 5.5, spacing, 1.0]),
    )
    quality = judge(scan, resample(scan, KERAS_EXAMPLE), trained=SYNTHETIC)
    found = {flag.code: flag.severity for flag in quality.flags}
    assert found.get(code) == severity
    assert code is not None or not found


def test_a_training_of_one_geometry_is_said_as_one_number(chest):
    scan = CTScan(planes=PlanesInMemory(chest), affine=np.diag([-0.7, 0.7, 5.0, 1.0]))
    alike = TrainedOn(slices=(64, 64), spacing_mm=(5, 5), field_mm=(28, 30), source="the others")
    (flag,) = judge(scan, resample(scan, KERAS_EXAMPLE), trained=alike).flags
    assert flag.message == "20 slices; the others had 64"


def test_a_bundle_states_what_it_has_learnt_from():
    stated = {"slices": [30, 50], "spacing_mm": [8.0, 8.0], "field_mm": [300, 400]}
    trained = TrainedOn.of({"run": {"data": {"geometry": stated, "synthetic": True}}})
    assert (trained.slices, trained.spacing_mm, trained.field_mm) == (
        (30, 50),
        (8, 8),
        (300, 400),
    )
    assert TrainedOn.of({}).source == TrainedOn.of({"run": None}).source == "usual chest CT"


@pytest.mark.parametrize(
    "geometry", [None, {}, {"slices": [1]}, {"slices": [5, 2]}, {"slices": ["1", 2]}, [1, 2]]
)
def test_a_geometry_that_is_none_is_refused(geometry):
    with pytest.raises(InvalidBundle, match="slices is no range"):
        TrainedOn.of({"run": {"data": {"geometry": geometry}}})


def test_strict_makes_red_flags_an_error():
    with Classifier.load("pneumonia") as classifier:
        assert codes(classifier.predict(factory.head()).quality, red=True) == {"no-lungs"}
        with pytest.raises(UnfitScan, match=r"no lungs: \d+ mL") as caught:
            classifier.predict(factory.head(), strict=True)
        assert "without strict" in caught.value.fix
        with pytest.raises(UnfitScan):
            classifier.predict_batch([factory.head()], strict=True)
        assert not classifier.predict(factory.scan_of(factory.chest(0)), strict=True).quality.flags


def test_single_slices_show_no_chest_and_are_not_asked_for_one(tmp_path):
    bundle = write_tiny(tmp_path / "slices.ctedge", task="slices")
    with SliceClassifier.load(bundle.path) as classifier:
        scan = factory.scan_of(factory.chest(0))
        assert classifier.predict(scan, slices=[30], strict=True).quality.flags == ()


def test_too_small_slices(chest):
    with pytest.raises(UnsupportedGeometry, match="15 x 36 pixels"):
        header(chest[:15])


@pytest.mark.parametrize("slices", [1, 15])
def test_too_few_slices(chest, slices):
    with pytest.raises(UnsupportedGeometry, match=f"found: +{slices} slice"):
        header(chest[:, :, :slices])


@pytest.mark.parametrize(
    ("low", "high", "reason"),
    [
        (0, 1, "already normalised"),
        (0, 255, "8-bit picture"),
        (0, 4095, "without their intercept"),
        (-100, 400, "without air"),
        (-1000, -900, "without tissue"),
        (-30000, 60000, "beyond any CT scanner"),
    ],
)
def test_values_that_are_no_hounsfield_units(rng, low, high, reason):
    voxels = rng.uniform(low, high, (24, 24, 20)).astype(np.float32)
    with pytest.raises(NotHounsfield, match=reason):
        header(voxels)


@pytest.mark.realdata
def test_a_volume_the_example_normalised_is_refused(real_data):
    scan = read_scan(real_data / "nifti" / "mosmed_preprocessed_128x128x64.nii.gz")
    with pytest.raises(NotHounsfield, match="already normalised"):
        judge(scan, resample(scan, KERAS_EXAMPLE))
