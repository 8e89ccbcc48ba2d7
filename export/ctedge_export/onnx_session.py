"""An ONNX file on ONNX Runtime's CPU provider, for gates."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ctedge.errors import InferenceFailed
from ctedge.extras import require

_PROVIDER = "CPUExecutionProvider"


class OnnxSession:
    """A model ready to run; the batch axis comes first in every input and output."""

    def __init__(self, onnx_bytes: bytes) -> None:
        ort = require("onnxruntime", extra="cpu", purpose="checking an ONNX model")
        options = ort.SessionOptions()
        options.log_severity_level = 3
        try:
            self._session = ort.InferenceSession(onnx_bytes, options, providers=[_PROVIDER])
        except Exception as error:  # ONNX Runtime has no base class for what it raises
            raise InferenceFailed(
                "ONNX Runtime cannot load the model",
                found=f"{type(error).__name__}: {str(error)[:300]}",
                fix="export with the versions of the `export` extra",
            ) from error
        self._input = self._session.get_inputs()[0].name
        self._outputs = [output.name for output in self._session.get_outputs()]

    def run(self, batch: npt.NDArray[np.float32]) -> dict[str, npt.NDArray[np.float32]]:
        """All outputs by name, for a batch of float32 (N, C, D, H, W)."""
        try:
            answers = self._session.run(self._outputs, {self._input: batch})
        except Exception as error:
            raise InferenceFailed(
                "ONNX Runtime cannot run the model",
                found=f"{type(error).__name__}: {str(error)[:300]}",
                fix="export with the versions of the `export` extra",
            ) from error
        return dict(zip(self._outputs, answers, strict=True))
