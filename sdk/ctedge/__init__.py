"""ctedge: 3D lung-CT models beside the scanner. Research software, not a medical device.

>>> from ctedge import Classifier
>>> with Classifier.load("pneumonia") as classifier:
...     prediction = classifier.predict("scan.nii.gz")
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ctedge.bundle.model_bundle import ModelBundle as ModelBundle
    from ctedge.classifier import Classifier as Classifier
    from ctedge.errors import BuildFailed as BuildFailed
    from ctedge.errors import BundleError as BundleError
    from ctedge.errors import BundleNotFound as BundleNotFound
    from ctedge.errors import CodecUnavailable as CodecUnavailable
    from ctedge.errors import CTEdgeError as CTEdgeError
    from ctedge.errors import DatasetError as DatasetError
    from ctedge.errors import DeviceLost as DeviceLost
    from ctedge.errors import DigestMismatch as DigestMismatch
    from ctedge.errors import EngineMismatch as EngineMismatch
    from ctedge.errors import EngineUnverified as EngineUnverified
    from ctedge.errors import GateFailed as GateFailed
    from ctedge.errors import InferenceFailed as InferenceFailed
    from ctedge.errors import InputError as InputError
    from ctedge.errors import InvalidBundle as InvalidBundle
    from ctedge.errors import IrregularSeries as IrregularSeries
    from ctedge.errors import MissingExtra as MissingExtra
    from ctedge.errors import NoLungs as NoLungs
    from ctedge.errors import NonFiniteVoxels as NonFiniteVoxels
    from ctedge.errors import NotHounsfield as NotHounsfield
    from ctedge.errors import OutputError as OutputError
    from ctedge.errors import RuntimeUnavailable as RuntimeUnavailable
    from ctedge.errors import ScanNotFound as ScanNotFound
    from ctedge.errors import UnfitScan as UnfitScan
    from ctedge.errors import UnreadableScan as UnreadableScan
    from ctedge.errors import UnsafeModel as UnsafeModel
    from ctedge.errors import UnsupportedGeometry as UnsupportedGeometry
    from ctedge.errors import WorkerLost as WorkerLost
    from ctedge.errors import WrongTask as WrongTask
    from ctedge.lung_spec import LUNGMASK as LUNGMASK
    from ctedge.lung_spec import LungMaskSpec as LungMaskSpec
    from ctedge.lungs import AffectedShare as AffectedShare
    from ctedge.lungs import BySide as BySide
    from ctedge.lungs import LungMask as LungMask
    from ctedge.lungs import LungSegmenter as LungSegmenter
    from ctedge.lungs import affected_share as affected_share
    from ctedge.lungs import segment_lungs as segment_lungs
    from ctedge.lungs import segment_with_lungmask as segment_with_lungmask
    from ctedge.prediction import Prediction as Prediction
    from ctedge.prediction import SeverityPrediction as SeverityPrediction
    from ctedge.prediction import SliceAnswer as SliceAnswer
    from ctedge.prediction import SlicesPrediction as SlicesPrediction
    from ctedge.preprocessing import preprocess as preprocess
    from ctedge.quality import Flag as Flag
    from ctedge.quality import PictureQuality as PictureQuality
    from ctedge.quality import Quality as Quality
    from ctedge.quality import assess as assess
    from ctedge.readers import read_scan as read_scan
    from ctedge.scan import CTScan as CTScan
    from ctedge.severity import SeverityRegressor as SeverityRegressor
    from ctedge.slices import SliceClassifier as SliceClassifier
    from ctedge.spec import KERAS_EXAMPLE as KERAS_EXAMPLE
    from ctedge.spec import SEVERITY_STUDY as SEVERITY_STUDY
    from ctedge.spec import SLICE_STUDY as SLICE_STUDY
    from ctedge.spec import PreprocessSpec as PreprocessSpec
    from ctedge.spec import SliceSpec as SliceSpec

__version__ = "0.1.0"

_HOME_OF = {
    "AffectedShare": "lungs",
    "BySide": "lungs",
    "CTScan": "scan",
    "Classifier": "classifier",
    "Flag": "quality",
    "KERAS_EXAMPLE": "spec",
    "LUNGMASK": "lung_spec",
    "LungMask": "lungs",
    "LungMaskSpec": "lung_spec",
    "LungSegmenter": "lungs",
    "ModelBundle": "bundle.model_bundle",
    "PictureQuality": "quality",
    "Prediction": "prediction",
    "PreprocessSpec": "spec",
    "Quality": "quality",
    "SEVERITY_STUDY": "spec",
    "SLICE_STUDY": "spec",
    "SeverityPrediction": "prediction",
    "SeverityRegressor": "severity",
    "SliceAnswer": "prediction",
    "SliceClassifier": "slices",
    "SliceSpec": "spec",
    "SlicesPrediction": "prediction",
    "affected_share": "lungs",
    "assess": "quality",
    "preprocess": "preprocessing",
    "read_scan": "readers",
    "segment_lungs": "lungs",
    "segment_with_lungmask": "lungs",
} | dict.fromkeys(
    (
        "BuildFailed",
        "BundleError",
        "BundleNotFound",
        "CTEdgeError",
        "CodecUnavailable",
        "DatasetError",
        "DeviceLost",
        "DigestMismatch",
        "EngineMismatch",
        "EngineUnverified",
        "GateFailed",
        "InferenceFailed",
        "InputError",
        "InvalidBundle",
        "IrregularSeries",
        "MissingExtra",
        "NoLungs",
        "NonFiniteVoxels",
        "NotHounsfield",
        "OutputError",
        "RuntimeUnavailable",
        "ScanNotFound",
        "UnfitScan",
        "UnreadableScan",
        "UnsafeModel",
        "UnsupportedGeometry",
        "WorkerLost",
        "WrongTask",
    ),
    "errors",
)

__all__ = sorted([*_HOME_OF, "__version__"])  # noqa: PLE0605


def __getattr__(name: str) -> Any:
    """Import a public name where it is first used, so that `ctedge --help` loads no numpy."""
    if name not in _HOME_OF:
        raise AttributeError(f"module 'ctedge' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"ctedge.{_HOME_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
