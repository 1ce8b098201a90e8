"""A network in the forms that other runtimes take: TorchScript, ONNX, OpenVINO. Batch and frame size stay free."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lap_monai.checks import UserError

#: What input and output are called in every exported form.
INPUT, OUTPUT = "image", "pred"


def require_package(name: str, extra: str) -> Any:
    """Import a package that comes with an extra of this one.

    Raises:
        UserError: saying how to install it.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        missing = error.name or name
        raise UserError(f"{missing!r} is not installed; pip install 'lap_monai[{extra}]'.") from error


def require_float32(engine: str, precision: str | None) -> None:
    """Refuse any other precision for an engine that has none.

    Raises:
        UserError: naming the engines that do.
    """
    if precision not in (None, "float32"):
        raise UserError(f"The engine {engine!r} computes in float32, not {precision}; take torch or compile.")


def to_torchscript(network: nn.Module) -> torch.jit.ScriptModule:
    """Return the network as a script module."""
    with _no_export_warnings():
        return torch.jit.script(network.eval())


def to_onnx(network: nn.Module, path: Path, stride: int) -> None:
    """Write the network as ONNX: `image` `(N, C, H, W)` → `pred` `(N, K, H, W)`, with the axes N, H and W free.

    Raises:
        UserError: if the package is missing.
    """
    require_package("onnx", "export")
    axes = {0: "N", 2: "H", 3: "W"}
    with _no_export_warnings():
        torch.onnx.export(
            network.eval(),
            (_example(stride),),
            str(path),
            dynamo=False,  # the older exporter takes a tenth of the time
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_axes={INPUT: axes, OUTPUT: axes},
        )


def to_openvino(network: nn.Module, stride: int) -> Any:
    """Return the network as `openvino.Model` with every axis but the channels free.

    Raises:
        UserError: if the package is missing.
    """
    openvino = require_package("openvino", "openvino")
    with _no_export_warnings():
        model = openvino.convert_model(network.eval(), example_input=_example(stride), input=[-1, 3, -1, -1])
    model.inputs[0].set_names({INPUT})
    model.outputs[0].set_names({OUTPUT})
    return model


def _example(stride: int) -> torch.Tensor:
    return torch.zeros(1, 3, 2 * stride, 3 * stride)


@contextmanager
def _no_export_warnings() -> Iterator[None]:
    """Spare the user what PyTorch says of its own exporters, and of branches that whole strides never take."""
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        yield
