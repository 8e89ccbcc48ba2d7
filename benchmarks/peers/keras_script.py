"""The published job as a plain script: read, preprocess with scipy, predict with Keras."""

import sys

import keras
import nibabel as nib
import numpy as np
from scipy import ndimage


def normalize(volume):
    volume[volume < -1000] = -1000
    volume[volume > 400] = 400
    return ((volume + 1000) / 1400).astype("float32")


def resize(volume):
    volume = ndimage.rotate(volume, 90, reshape=False)
    factors = [want / have for want, have in zip((128, 128, 64), volume.shape, strict=True)]
    return ndimage.zoom(volume, factors, order=1)


model = keras.models.load_model(sys.argv[1])
scan = resize(normalize(nib.load(sys.argv[2]).get_fdata()))
probability = model.predict(np.expand_dims(scan, axis=(0, -1)), verbose=0)[0][0]
print(f"abnormal {probability:.4f}")
