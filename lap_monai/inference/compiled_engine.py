"""The bundle's network through `torch.compile`."""

from __future__ import annotations

import torch

from lap_monai.checks import UserError
from lap_monai.inference.bundle import Bundle
from lap_monai.inference.engine import TorchEngine, register_engine


class CompiledEngine(TorchEngine):
    """Eager PyTorch's kernels, fused; compiled once for all batch and frame sizes, which takes minutes on a CPU."""

    name = "compile"

    @classmethod
    def open(cls, bundle: Bundle, device: torch.device, precision: str | None) -> CompiledEngine:
        """Compile the network of a bundle.

        Raises:
            UserError: where PyTorch cannot compile, for want of a C++ compiler (CPU) or of Triton (GPU).
        """
        network = bundle.build_network()
        network.compile(dynamic=True)
        engine = cls(network, device, precision)
        side = 2 * bundle.stride
        try:
            engine(torch.zeros(2, 3, side, 2 * side))
        except torch._dynamo.exc.TorchDynamoException as error:
            reason = str(error).strip().splitlines()[0]
            raise UserError(
                f"torch.compile does not work here ({reason}); install a C++ compiler such as g++, or take another "
                "engine."
            ) from error
        return engine


register_engine("compile", CompiledEngine.open)
