"""The bundle's network in ONNX Runtime, on the CPU."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch

from lap_monai.inference.bundle import Bundle
from lap_monai.inference.conversion import INPUT, OUTPUT, require_float32, require_package, to_onnx
from lap_monai.inference.engine import register_engine
from lap_monai.inference.exported_model import exported_model


class OnnxRuntimeEngine:
    """An ONNX file at work, with as many threads as PyTorch has.

    Args:
        model: the file.

    Raises:
        UserError: if the package is missing.
    """

    name = "onnxruntime"
    precision = "float32"
    device = torch.device("cpu")

    def __init__(self, model: Path) -> None:
        runtime = require_package("onnxruntime", "export")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3  # errors
        self._session = runtime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    @classmethod
    def open(cls, bundle: Bundle, device: torch.device, precision: str | None) -> OnnxRuntimeEngine:
        """Take the exported file of a bundle's network if there is one, else export it for this process.

        Raises:
            UserError: if a package is missing, the exported file was changed, or another precision is asked for.
        """
        require_float32(cls.name, precision)
        path = exported_model(bundle, "onnx")
        if path is not None:
            return cls(path)
        with tempfile.TemporaryDirectory() as folder:
            to_onnx(bundle.build_network(), Path(folder, "model.onnx"), bundle.stride)
            return cls(Path(folder, "model.onnx"))

    def __call__(self, batch: torch.Tensor) -> torch.Tensor:
        """Return the logits of a batch."""
        (logits,) = self._session.run([OUTPUT], {INPUT: batch.cpu().contiguous().numpy()})
        return torch.from_numpy(logits)


register_engine(OnnxRuntimeEngine.name, OnnxRuntimeEngine.open)
