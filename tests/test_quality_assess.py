"""The full look at a scan: phantoms of known lungs, noise and kernel, and real chests."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import numpy as np
import pytest

import quality_factory as factory
from bundle_factory import SPEC, write_tiny
from ctedge import (
    CTScan,
    ModelBundle,
    NotHounsfield,
    SeverityRegressor,
    SliceClassifier,
    UnfitScan,
    UnsupportedGeometry,
    assess,
    read_scan,
)
from ctedge.quality import looking_once

pytest.importorskip("scipy", exc_type=ImportError)

#: Soft tissue has a texture of its own, a few HU; blocks of 8 pixels miss the slowest noise.
NOISE_TOLERANCE = 0.25


def codes(quality, *, red=False):
    return {flag.code for flag in (quality.red if red else quality.flags)}


@pytest.fixture(scope="module")
def healthy():
    return assess(factory.scan_of(factory.chest(0)))


def test_a_normal_chest_has_no_flag(healthy):
    assert healthy.flags == ()
    assert healthy.lungs.complete
    assert healthy.sight is not None
    json.dumps(asdict(healthy))


def test_measures_are_those_of_the_phantom(healthy):
    phantom = factory.chest(0)
    truth = phantom.lung_mask.sum() * np.prod(phantom.spacing_mm) / 1000
    assert healthy.lungs.volume_ml.both == pytest.approx(truth, rel=0.05)
    assert (healthy.lungs.top_share, healthy.lungs.bottom_share) == (0, 0)
    assert healthy.image.air_peak_hu == pytest.approx(-1000, abs=10)
    assert healthy.image.lung_hu == pytest.approx(np.median(phantom.voxels[phantom.lung_mask]), 10)
    assert healthy.image.mediastinum_hu == pytest.approx(40, abs=10)  # blood, heart, some fat
    assert healthy.image.metal_ml == 0


@pytest.mark.parametrize("seed", [4, 22])
def test_severe_disease_is_no_reason_for_a_red_flag(seed):
    assert not assess(factory.scan_of(factory.chest(seed, 0.6))).red


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (factory.head, "no-lungs"),
        (factory.abdomen, "no-lungs"),
        (lambda: factory.abdomen(lung_bases=True), "no-lungs"),
        (factory.without_lungs, "no-lungs"),
        (lambda: factory.half("upper"), "lungs-cut-bottom"),
        (lambda: factory.half("lower"), "lungs-cut-top"),
        (lambda: factory.half("right"), "body-cut-side"),
    ],
    ids=["head", "abdomen", "abdomen and lung bases", "lungs filled", "upper", "lower", "right"],
)
def test_what_is_no_whole_chest_has_a_red_flag(make, code):
    assert code in codes(assess(make()), red=True)


def changed(change):
    """A chest with some voxels changed; what the change is given can be written to."""
    phantom = factory.chest(0)
    voxels = phantom.voxels.copy()
    change(voxels, phantom)
    return assess(factory.scan_of(phantom, voxels))


def test_contrast_medium_is_noted():
    def enhance(voxels, phantom):
        middle = np.zeros(voxels.shape, dtype=bool)
        middle[40:88, 50:90] = True
        voxels[middle & (voxels > 20) & (voxels < 80)] += 150

    assert codes(changed(enhance)) == {"contrast"}


def test_metal_is_measured():
    def pacemaker(voxels, phantom):
        voxels[80:86, 96:99, 50:52] = 3071  # 36 voxels

    quality = changed(pacemaker)
    (flag,) = quality.flags
    assert flag.code == "metal"
    voxel_ml = np.prod(factory.chest(0).spacing_mm) / 1000
    assert flag.value == pytest.approx(36 * voxel_ml, rel=1e-3)


def test_lungs_of_open_air_are_noted():
    def empty(voxels, phantom):
        voxels[phantom.lung_mask & (voxels < -500)] = -990

    assert "lungs-empty" in codes(changed(empty))


def test_a_shift_below_the_window_is_seen_in_full():
    phantom = factory.chest(0)
    assert codes(assess(factory.scan_of(phantom, phantom.voxels - 110)), red=True) == {"air-off"}


def flat(noise):
    """A chest's geometry and soft tissue in it, 256 x 256, with this noise."""
    voxels = np.full((256, 256, 16), -1000.0)
    voxels[32:224, 48:208] = 40.0
    affine = np.diag([-1.4, 1.4, 5.0, 1.0])
    return CTScan.from_oriented((voxels + noise).astype(np.float32), affine, source="flat")


@pytest.mark.parametrize("level", [8.0, 20.0, 60.0])
def test_noise_is_measured(rng, level):
    quality = assess(flat(rng.normal(0, level, (256, 256, 16))))
    assert quality.image.noise_hu == pytest.approx(level, rel=NOISE_TOLERANCE)
    assert quality.image.noise_frequency == pytest.approx(1 / 3, abs=0.01)  # white noise
    assert ("noise" in codes(quality)) == (level > 50)


def test_a_kernel_too_smooth_or_too_sharp_is_noted(rng):
    from scipy import ndimage

    white = rng.normal(0, 30, (256, 256, 16))
    blurred = ndimage.gaussian_filter(white, (3, 3, 0)) * 10
    soft = assess(flat(blurred))
    assert "smooth" in codes(soft)
    sharp = assess(flat(white - 0.8 * ndimage.uniform_filter(white, (3, 3, 1))))
    assert soft.image.noise_frequency < 0.15 < 0.33 < sharp.image.noise_frequency
    edged = np.diff(np.diff(rng.normal(0, 15, (258, 256, 16)), axis=0), axis=0)
    assert "sharp" in codes(assess(flat(edged)))
    assert "smooth" in codes(assess(flat(0)))


def test_a_flag_of_the_kernel_names_what_the_header_names():
    def said(**header):
        (flag,) = [one for one in assess(replace(flat(0), **header)).flags if one.code == "smooth"]
        return flag.message

    assert said(kernel="B10s") == f"{said()}; reconstructed with B10s"


def test_a_bare_array_is_measured_as_far_as_that_goes():
    quality = assess(factory.chest(0).voxels)
    assert codes(quality) == {"orientation-assumed", "size-unknown"}
    assert quality.lungs.volume_ml is None
    assert quality.image.metal_ml is None


def test_geometry_is_held_against_the_bundles_training(tmp_path):
    provenance = {
        "run": {
            "data": {
                "geometry": {"slices": [30, 50], "spacing_mm": [8, 8], "field_mm": [300, 400]},
            }
        }
    }
    bundle = write_tiny(tmp_path / "tiny.ctedge", provenance=provenance)
    scan = factory.scan_of(factory.chest(0))
    found = codes(assess(scan, bundle=ModelBundle.load(bundle.path)))
    assert found == {"slices-untrained", "spacing-untrained"}


def test_a_severity_comes_with_volumes_and_shares():
    phantom = factory.chest(3, 0.3)
    scan = factory.scan_of(phantom)
    with SeverityRegressor.load("severity") as regressor:
        plain, full = regressor.predict(scan), regressor.predict(scan, assess=True)
        assert regressor.predict(factory.head(), assess=True).lungs is None
        with pytest.raises(UnfitScan, match="no lungs can be found"):
            regressor.predict(factory.head(), assess=True, strict=True)
    assert plain.lungs is None
    assert plain.quality.image is None
    assert full.score == plain.score
    assert full.lungs.volume_ml == full.quality.lungs.volume_ml
    affected = full.lungs.ground_glass.both + full.lungs.dense.both
    assert 0.3 < affected < 0.6  # 0.3 are diseased; vessels and rims of voxels are dense too
    assert "assess" in full.timings_ms
    assert json.loads(json.dumps(full.to_json()))["lungs"]["volume_ml"]["right"] > 500


def test_a_scan_that_changed_is_looked_at_again():
    scan = factory.scan_of(factory.chest(0), factory.chest(0).voxels.copy())
    with looking_once():
        assert assess(scan).lungs.complete
    scan.voxels[:] += 110
    again = assess(scan)
    with looking_once():
        assert assess(scan) == again
    assert "air-off" in codes(again, red=True)


def test_a_network_for_lungs_only_says_what_it_saw(tmp_path):
    spec = {**SPEC.to_json(), "lungs_only": True}
    bundle = write_tiny(tmp_path / "lungs.ctedge", task="severity", spec=spec, labels=list("abcde"))
    with SeverityRegressor.load(bundle.path) as regressor:
        seen = regressor.predict(factory.scan_of(factory.chest(0)))
        cut = regressor.predict(factory.half("upper"))
    assert seen.lungs.volume_ml == seen.quality.lungs.volume_ml
    assert (seen.quality.sight, seen.quality.image) == (None, None)
    assert codes(cut.quality, red=True) == {"lungs-cut-bottom"}


def test_slices_of_a_scan_can_be_assessed_and_a_picture_cannot(tmp_path, rng):
    bundle = write_tiny(tmp_path / "slices.ctedge", task="slices")
    with SliceClassifier.load(bundle.path) as classifier:
        seen = classifier.predict(factory.head(), slices=[30], assess=True)
        assert "no-lungs" in codes(seen.quality, red=True)
        with pytest.raises(UnsupportedGeometry, match="a picture is one slice"):
            classifier.predict(rng.integers(0, 256, (48, 40), dtype=np.uint8), assess=True)


def test_what_is_no_ct_is_no_quality(rng):
    with pytest.raises(NotHounsfield):
        assess(rng.uniform(0, 1, (64, 64, 20)))


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("dicom/covid_chest", {}),
        ("dicom/noncovid_chest_two_acquisitions", {"acquisition": 2}),
        ("nifti/covid_chest_raw_hu.nii.gz", {}),
    ],
)
def test_real_chests_are_fit_and_their_halves_are_not(real_data, name, options):
    needed = "imagecodecs" if name.startswith("dicom") else "nibabel"
    pytest.importorskip(needed, exc_type=ImportError)
    scan = read_scan(real_data / name, **options)
    assert not assess(scan).red
    middle = scan.shape[2] // 2
    for part, code in (
        (np.s_[:, :, middle:], "lungs-cut-bottom"),
        (np.s_[:, :, :middle], "lungs-cut-top"),
        (np.s_[: scan.shape[0] // 2], "body-cut-side"),
    ):
        half = CTScan.from_oriented(scan.voxels[part], scan.affine, source="half")
        assert code in codes(assess(half), red=True)
