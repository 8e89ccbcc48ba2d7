"""Is this scan fit to be judged? Measures of the input, and flags with their numbers.

    quality = classifier.predict(scan).quality      # the header and the network's input: 3 ms
    quality = assess(scan)                          # the scan itself: lungs, noise, metal, ...
    [flag.message for flag in quality.red]          # what makes an answer meaningless

`limits` says what each measure is held against, and why.
"""

from ctedge.quality.assess import assess, look_closer, looking_once
from ctedge.quality.flag import Flag
from ctedge.quality.judge import insist, judge
from ctedge.quality.picture import judge_picture
from ctedge.quality.quality import (
    ImageMeasures,
    LungsSeen,
    PictureQuality,
    Quality,
    Sight,
)
from ctedge.quality.rules import with_flags
from ctedge.quality.trained import TrainedOn

__all__ = [
    "Flag",
    "ImageMeasures",
    "LungsSeen",
    "PictureQuality",
    "Quality",
    "Sight",
    "TrainedOn",
    "assess",
    "insist",
    "judge",
    "judge_picture",
    "look_closer",
    "looking_once",
    "with_flags",
]
