"""Typical CT numbers of the tissues a phantom is made of, in HU.

Values are mid-range textbook figures for unenhanced chest CT at 120 kVp (Hounsfield 1980; Bushberg,
"The Essential Physics of Medical Imaging", 3rd ed., ch. 10); patients are drawn around them.
"""

from __future__ import annotations

AIR = -1000.0
TRACHEA = -985.0
FAT = -100.0
SKIN = 10.0
MUSCLE = 52.0
BLOOD = 42.0
HEART = 40.0
LIVER = 58.0
SPLEEN = 48.0
STOMACH_FLUID = 25.0
STOMACH_GAS = -940.0
CARTILAGE = 95.0
DISC = 75.0
CORTEX = 520.0
MARROW = 190.0
CANAL = 25.0
CALCIUM = 650.0
CONSOLIDATION = 28.0
TABLE_SKIN = -120.0
TABLE_FOAM = -940.0

#: int16 CT files hold air outside the reconstruction circle as this.
PADDING = -1024.0
HU_MAX = 3071.0
