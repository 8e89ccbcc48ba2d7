"""ctedge against the package lungmask itself, with random weights of the true architecture."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from ctedge import (
    LUNGMASK,
    BundleNotFound,
    CTScan,
    InvalidBundle,
    LungSegmenter,
    MissingExtra,
    segment_with_lungmask,
)
from ctedge_export.lungmask import network
from ctedge_export.lungmask.export import export_lungmask
from lungmask_factory import Exploit, numpy_answer, random_weights, save_weights, two_sided

ndimage = pytest.importorskip("scipy.ndimage", exc_type=ImportError)

try:
    with warnings.catch_warnings():  # it turns the process's user warnings off
        warnings.simplefilter("ignore")
        import lungmask
        import lungmask.utils
        import torch
        from lungmask.resunet import UNet
except ImportError:
    lungmask = None

needs_lungmask = pytest.mark.skipif(lungmask is None, reason="lungmask is not installed")

#: The requirement, relative for log-probabilities beyond 1.
PARITY = 1e-4


@pytest.mark.skipif(lungmask is not None, reason="lungmask is installed")
def test_without_lungmask_the_extra_is_named():
    with pytest.raises(MissingExtra, match="lungmask") as caught:
        segment_with_lungmask(two_sided()[0])
    assert "ctedge[lungmask]" in caught.value.fix


@needs_lungmask
def test_lungmasks_own_network_gives_what_the_reference_gives():
    from ctedge_export.lungmask.weights import torch_reference

    unet = UNet(
        n_classes=3, padding=True, depth=5, up_mode="upsample", batch_norm=True, residual=False
    )
    counters = {name: torch.tensor(0) for name in network.counters()}
    weights = {name: values.copy() for name, values in random_weights().items()}
    tensors = {name: torch.from_numpy(values) for name, values in weights.items()}
    unet.load_state_dict(tensors | counters)
    unet.eval()
    batch = np.random.default_rng(5).random((2, 1, 64, 64), np.float32)
    with torch.inference_mode():
        own = unet(torch.from_numpy(batch)).numpy()
    reference = torch_reference(weights, torch)(batch)
    np.testing.assert_allclose(reference, own, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(numpy_answer(batch, weights), own, rtol=PARITY, atol=PARITY)


@needs_lungmask
def test_the_whole_way_gives_the_labels_of_lungmask(tmp_path):
    scan, _ = two_sided(160)
    weights_file = save_weights(tmp_path / "random.pth", random_weights())
    exported = export_lungmask(weights_file, tmp_path / "lungs.ctedge")
    with LungSegmenter.load(exported.path) as segmenter:
        found = segmenter.segment(scan).labels
    theirs = segment_with_lungmask(scan, weights=weights_file).labels
    assert {0, 1, 2} == set(np.unique(theirs))
    np.testing.assert_array_equal(found, theirs)


@needs_lungmask
@pytest.mark.parametrize("seed", range(6))
def test_patches_go_where_lungmask_puts_them(seed):
    from ctedge.lungs.patches import two_lungs

    rng = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(rng.standard_normal((3, 10, 40, 40)), (0, 1, 1.5, 1.5))
    labels = smooth.argmax(0).astype(np.uint8)
    theirs = lungmask.utils.postprocessing(labels.copy(), disable_tqdm=True)
    np.testing.assert_array_equal(two_lungs(labels, ndimage), theirs)


@needs_lungmask
@pytest.mark.parametrize("shape", [(512, 512), (400, 333), (97, 120)], ids=str)
def test_slices_are_made_as_lungmask_makes_them(shape):
    from ctedge.lungs.slices import network_slice, scan_labels

    rng = np.random.default_rng(8)
    body = ndimage.gaussian_filter(rng.standard_normal(shape), shape[0] / 12)
    hu = (np.where(body > body.mean(), 30, -950) + rng.integers(-80, 80, shape)).astype(np.int16)
    hu[:20] = -1000
    values, box = network_slice(hu, LUNGMASK, ndimage)
    (theirs,), (their_box,) = lungmask.utils.preprocess(hu[np.newaxis], resolution=[256, 256])
    assert tuple(their_box) == (box[0].start, box[1].start, box[0].stop, box[1].stop)
    np.testing.assert_allclose(values, (theirs + 1024) / 1624, atol=1e-7)
    labels = rng.integers(0, 3, (256, 256)).astype(np.uint8)
    np.testing.assert_array_equal(
        scan_labels(labels, box, shape, ndimage),
        lungmask.utils.reshape_mask(labels, their_box, shape),
    )


@needs_lungmask
def test_the_package_downloads_nothing_and_says_where_weights_belong(tmp_path, monkeypatch):
    scan = CTScan.from_array(np.zeros((32, 32, 3), np.int16))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(BundleNotFound, match="checkpoints") as caught:
        segment_with_lungmask(scan)
    assert "https://github.com/JoHof/lungmask/releases" in caught.value.fix
    torch.save({"weights": Exploit()}, tmp_path / "bad.pth")
    with pytest.raises(InvalidBundle, match=r"bad\.pth"):
        segment_with_lungmask(scan, weights=tmp_path / "bad.pth")
