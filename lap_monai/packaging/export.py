"""A bundle's network in the forms of other runtimes, beside its weights, with a report of how it compares."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import save_net_with_metadata
from torch.nn import functional

from lap_monai.checks import UserError, require_choice
from lap_monai.files import read_json
from lap_monai.inference import (
    EXPORT_FILES,
    Bundle,
    Engine,
    OnnxRuntimeEngine,
    OpenVinoEngine,
    Predictor,
    TorchScriptEngine,
    export_record,
    require_package,
    to_onnx,
    to_openvino,
    to_torchscript,
    write_export_record,
)
from lap_monai.keys import IMAGE
from lap_monai.packaging.parity import Samples, parity_report
from lap_monai.packaging.triton import triton_config
from lap_monai.provenance import versions

#: Points of mean IoU on validation frames that a quantised network may lose.
MOST_LOSS = 0.5
#: Share of pixels whose class a form that rounds no weights must keep; less means that it is not the same network.
LEAST_AGREEMENT = 0.99
_RUNTIMES = ("onnx", "onnxruntime", "openvino", "nncf")


@dataclass(frozen=True)
class ExportFrames:
    """Frames that an export is calibrated and judged with, at the network's size.

    Args:
        calibration: of training patients; `image` float32 `(3, h, w)`. Empty if there are none.
        validation: of others, with `label` `(1, h, w)` where it is known.
        origin: what they are, for the record.
    """

    calibration: Samples
    validation: Samples
    origin: str


def export_bundle(bundle: Bundle, form: str, frames: ExportFrames, allow_loss: bool = False) -> dict[str, Any]:
    """Write a bundle's network in another form beside its weights.

    Files and record appear only when the form has been compared with the eager network. The record,
    `export_<form>.json`, holds their hashes, the hash of the weights, the comparison and the versions.

    Args:
        bundle: an opened folder.
        form: a key of `EXPORT_FILES`.
        frames: `"openvino-int8"` needs calibration frames; the others look at the validation frames only.
        allow_loss: keep a quantised network that loses more than `MOST_LOSS` points of mean IoU.

    Returns:
        The record.

    Raises:
        UserError: if a package or the frames are missing, the folder cannot be written, or the form is too far from
            the eager network. What was exported before is then still there.
    """
    require_choice(form, EXPORT_FILES, "form")
    folder = bundle.weights.parent
    try:
        with tempfile.TemporaryDirectory(prefix=".export_", dir=folder) as temporary:
            engine = _write_form(bundle, form, Path(temporary), frames)
            parity = parity_report(
                Predictor(bundle, "frame", engine), Predictor(bundle, "frame", "torch", "cpu"), frames.validation
            )
            _judge(form, parity, allow_loss)
            export_record(bundle, form).unlink(missing_ok=True)  # files without a record count for nothing
            for name in EXPORT_FILES[form]:
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                os.replace(Path(temporary, name), folder / name)
    except OSError as error:
        raise UserError(
            f"Cannot write the export into {str(folder)!r}: {error.strerror or error}; free space, or copy the bundle."
        ) from error
    more = {
        "frames": {
            "origin": frames.origin,
            "calibration": len(frames.calibration) if form == "openvino-int8" else 0,
            "validation": len(frames.validation),
        },
        "parity": parity,
        "versions": versions() | {name: metadata.version(name) for name in _RUNTIMES if find_spec(name)},
    }
    return read_json(write_export_record(bundle, form, more))


def _write_form(bundle: Bundle, form: str, folder: Path, frames: ExportFrames) -> Engine:
    """Write the files of a form and return the engine that runs them."""
    paths = [folder / name for name in EXPORT_FILES[form]]
    network, stride = bundle.build_network(), bundle.stride
    if form == "torchscript":
        script = to_torchscript(network)
        save_net_with_metadata(
            script,
            str(paths[0]),
            include_config_vals=False,  # versions and time, which the record has
            meta_values=read_json(bundle.root / "configs" / "metadata.json"),
            more_extra_files={"inference.json": json.dumps(bundle.inference_config, indent=4).encode()},
        )
        return TorchScriptEngine(torch.jit.load(paths[0]).eval())
    if form in ("onnx", "triton"):
        paths[-1].parent.mkdir(parents=True, exist_ok=True)
        to_onnx(network, paths[-1], stride)
        if form == "triton":
            paths[0].write_text(triton_config("model", bundle.label_space.num_classes), encoding="utf-8")
        return OnnxRuntimeEngine(paths[-1])
    model = to_openvino(network, stride)
    if form == "openvino-int8":
        model = _quantised(model, frames.calibration, stride)
    require_package("openvino", "openvino").save_model(model, paths[0], compress_to_fp16=False)
    return OpenVinoEngine(paths[0], int8=form == "openvino-int8")


def _quantised(model: Any, calibration: Samples, stride: int) -> Any:
    """Return the model with 8-bit weights and activations, their ranges from the calibration frames."""
    if not len(calibration):
        raise UserError("An int8 form is calibrated on training frames: give --data with the data set.")
    nncf = require_package("nncf", "openvino")
    return nncf.quantize(
        model,
        nncf.Dataset([_whole_strides(calibration[index][IMAGE], stride) for index in range(len(calibration))]),
        subset_size=len(calibration),
        preset=nncf.QuantizationPreset.MIXED,  # activations may be negative: the networks use leaky ReLU
        advanced_parameters=nncf.AdvancedQuantizationParameters(
            # 7 of 8 bits for weights: processors without VNNI add products in 16 bits, which would overflow.
            overflow_fix=nncf.OverflowFix.ENABLE
        ),
    )


def _whole_strides(image: torch.Tensor, stride: int) -> np.ndarray:
    height, width = image.shape[-2:]
    return functional.pad(image[None], (0, -width % stride, 0, -height % stride), "replicate").numpy()


def _judge(form: str, parity: Mapping[str, Any], allow_loss: bool) -> None:
    if form != "openvino-int8":
        if parity["label_agreement"] < LEAST_AGREEMENT:
            raise UserError(
                f"The {form} form gives {1 - parity['label_agreement']:.1%} of the pixels another class than eager "
                "PyTorch; nothing was written. Update the packages of the extra 'export'."
            )
        return
    loss = float("nan") if parity["mean_iou"] is None else -100 * parity["mean_iou"]["change"]
    # Not `loss > …`: a loss that cannot be known, for want of labels, is refused as well.
    if not (loss <= MOST_LOSS or allow_loss):
        raise UserError(
            f"The int8 form loses {loss:.2f} points of mean IoU on {parity['frames']} validation frames, more than "
            f"{MOST_LOSS}; nothing was written. Calibrate on more --frames, or keep it with --allow-loss."
        )
