"""Where the lungs lie in a chest CT, how large they are, and how much of them is dense.

    lungs = segment_lungs(scan)
    lungs.volume_ml                  # right, left, both
    affected_share(scan, lungs)      # ground glass and dense, of each lung
    preprocess(scan, spec, lung_mask=lungs.on(scan))

Thresholds and shapes alone, no network: needs scipy, from the extra `lungs`.
"""

from ctedge.lungs.mask import BySide, LungMask
from ctedge.lungs.segment import segment_lungs
from ctedge.lungs.shares import AffectedShare, affected_share

__all__ = [
    "AffectedShare",
    "BySide",
    "LungMask",
    "affected_share",
    "segment_lungs",
]
