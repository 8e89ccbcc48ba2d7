"""Reading and preprocessing as the Keras example writes them; three of the peers take them so."""

import nibabel as nib
from scipy import ndimage


def read(path):
    return nib.load(path).get_fdata()


def normalize(volume):
    volume[volume < -1000] = -1000
    volume[volume > 400] = 400
    return ((volume + 1000) / 1400).astype("float32")


def resize(volume):
    volume = ndimage.rotate(volume, 90, reshape=False)
    factors = [want / have for want, have in zip((128, 128, 64), volume.shape, strict=True)]
    return ndimage.zoom(volume, factors, order=1)


def prepare(volume):
    return resize(normalize(volume))
