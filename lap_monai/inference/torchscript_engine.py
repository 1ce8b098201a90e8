"""The bundle's network as TorchScript."""

from __future__ import annotations

import torch

from lap_monai.inference.bundle import Bundle
from lap_monai.inference.conversion import to_torchscript
from lap_monai.inference.engine import TorchEngine, register_engine
from lap_monai.inference.exported_model import exported_model


class TorchScriptEngine(TorchEngine):
    """PyTorch's interpreter of script modules, with the weights frozen into the graph."""

    name = "torchscript"

    @classmethod
    def open(cls, bundle: Bundle, device: torch.device, precision: str | None) -> TorchScriptEngine:
        """Take the exported file of a bundle's network if there is one, else script the network now.

        Raises:
            UserError: if the exported file was changed.
        """
        path = exported_model(bundle, "torchscript")
        script = to_torchscript(bundle.build_network()) if path is None else torch.jit.load(path)
        return cls(torch.jit.freeze(script.to(device).eval()), device, precision)


register_engine("torchscript", TorchScriptEngine.open)
