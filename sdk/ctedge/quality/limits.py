"""What measures are held against, and why. None of these was chosen by the look of a real scan."""

from __future__ import annotations

#: Slices this much longer than wide are rarely axial.
MAX_ASPECT = 1.5

#: Slices this many times as far apart as any of the training leave lesions between them.
FAR_APART = 2.0

#: Air is -1000 HU by definition; the American College of Radiology accepts -1005 to -970 in its
#: phantom. In patients scatter and partial volume add to that; 100 HU are a wrong intercept.
AIR_HU = -1000.0
AIR_NOTE_HU, AIR_RED_HU = 50.0, 100.0

#: The most frequent soft tissue of a trunk is fat (-100), muscle (50) or an enhanced liver (110),
#: each within 20 or 30 HU (Bushberg, "The Essential Physics of Medical Imaging", ch. 10).
TISSUE_HU = (-130.0, 140.0)
TISSUE_RED_HU = 100.0

#: The lungs of an adult hold over a litre even after breathing out. Gas in the bowel, and the rims
#: of airways, stay below half of that.
LEAST_LUNGS_ML = 500.0

#: Lungs and airways are 10 % and more of what a chest CT shows inside the body, in phantoms with
#: 60 % of their small lungs diseased; with the lungs filled 1 to 2 % are left.
LEAST_AERATED = 0.04

#: Lungs widen quickly below their apex and end quickly at the diaphragm: where the last plane still
#: shows half of the largest section, centimetres of them are missing.
CUT_RED = 0.5

#: By segmentation, a cut tip; by the network's input alone gas in the bowel reaches a tenth.
CUT_NOTE, CUT_NOTE_SIGHT = 0.05, 0.25

#: Of a round body, a chord of 0.7 of its depth lies 0.7 of its half width from the middle: there it
#: runs through the lung. A chord of a third cuts arms and skin.
SIDE_RED, SIDE_NOTE = 0.7, 0.35

#: Of the phantoms' slices, three in five and more show lungs; a whole trunk shows them in a third.
LEAST_HEIGHT = 0.5

#: Lying men who breathe quietly hold 2.8 L with a deviation of 0.8 L (Fleming et al., BMC Medical
#: Imaging 14:25, 2014); lungs breathed out look as if they were full of ground glass.
SMALL_LUNGS_ML = 1500.0

#: Total lung capacity by CT in emphysema is 5.3 L with a deviation of 1.2 (Brown et al., Int J COPD
#: 5, 2010): nobody holds more than this.
LARGE_LUNGS_ML = 10_000.0

#: Lung below this is emphysema (Gevenois et al., AJRCCM 154, 1996); here more than half of it is.
EMPTY_LUNGS_HU = -950.0

#: Rose's criterion (1948): what is seen stands out by five times the noise. The faintest ground
#: glass is some 250 HU denser than lung.
NOISE_HU = 50.0

#: Clinical scans have more noise than this however they are reconstructed.
NO_NOISE_HU = 2.0

#: Noise slower than what the 128 columns of a network's input can carry (half a cycle a column)
#: comes of a blur wider than such a column. Of a scan that is as coarse itself, slower than a
#: quarter of a cycle a pixel; white noise has a third.
NETWORK_COLUMNS = 128
SMOOTH_FREQUENCY = 0.25

#: Cycles a pixel: the sharpest kernel of the phantoms has 0.36.
SHARP_FREQUENCY = 0.37

#: A pacemaker has 10 mL of metal, the wires of a sternum 1, the clip of a vessel far less.
METAL_ML = 0.5

#: Blood without contrast medium stays below 70 HU (Black et al., AJNR 32, 2011); with it the great
#: vessels have 130 and more.
CONTRAST_HU = 100.0
