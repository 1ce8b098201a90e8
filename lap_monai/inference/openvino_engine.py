"""The bundle's network in OpenVINO, on the CPU: float32, or int8 where it was exported so."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import torch

from lap_monai.checks import UserError
from lap_monai.inference.bundle import Bundle
from lap_monai.inference.conversion import require_float32, require_package, to_openvino
from lap_monai.inference.engine import register_engine
from lap_monai.inference.exported_model import exported_model

#: Shapes of which a compiled network is kept: full and last batches, of frames and of windows.
_MOST_SHAPES = 4


class OpenVinoEngine:
    """An OpenVINO model at work, with as many threads as PyTorch has.

    It is compiled anew for each shape of a batch, in a fraction of a second: kernels of a known shape are faster.

    Args:
        model: an `openvino.Model` with free axes, or the `.xml` of one.
        int8: whether it is quantised.

    Raises:
        UserError: if the package is missing.
    """

    device = torch.device("cpu")

    def __init__(self, model: Any, int8: bool = False) -> None:
        openvino = require_package("openvino", "openvino")
        self.name = "openvino-int8" if int8 else "openvino"
        self.precision = "int8" if int8 else "float32"
        self._core = openvino.Core()
        self._model = self._core.read_model(model) if isinstance(model, Path) else model
        self._options = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "INFERENCE_PRECISION_HINT": "f32",  # of what is not quantised; some CPUs would take bfloat16
        }
        self._requests: dict[tuple[int, ...], Any] = {}

    @classmethod
    def open(cls, bundle: Bundle, device: torch.device, precision: str | None, int8: bool = False) -> OpenVinoEngine:
        """Take the exported files of a bundle's network if there are any, else convert it for this process.

        Raises:
            UserError: if the package is missing, the files were changed, another precision is asked for, or an int8
                network was not exported, which takes calibration frames.
        """
        form = "openvino-int8" if int8 else "openvino"
        require_package("openvino", "openvino")
        if int8 and precision is not None:
            raise UserError("The engine 'openvino-int8' computes in int8; leave --precision out.")
        require_float32(form, precision)
        path = exported_model(bundle, form)
        if int8 and path is None:
            raise UserError(
                f"{str(bundle.weights.parent)!r} holds no int8 form of these weights; make it from training frames: "
                "python -m lap_monai export BUNDLE --to openvino-int8 --data DATA."
            )
        return cls(path or to_openvino(bundle.build_network(), bundle.stride), int8)

    def __call__(self, batch: torch.Tensor) -> torch.Tensor:
        """Return the logits of a batch."""
        request = self._request(tuple(batch.shape))
        request.infer({0: batch.cpu().contiguous().numpy()}, share_inputs=True)
        return torch.from_numpy(request.get_output_tensor().data.copy())  # the request will use its memory again

    def _request(self, shape: tuple[int, ...]) -> Any:
        if shape not in self._requests:
            if len(self._requests) == _MOST_SHAPES:
                del self._requests[next(iter(self._requests))]
            self._model.reshape(list(shape))
            self._requests[shape] = self._core.compile_model(self._model, "CPU", self._options).create_infer_request()
        return self._requests[shape]


register_engine("openvino", OpenVinoEngine.open)
register_engine("openvino-int8", partial(OpenVinoEngine.open, int8=True))
