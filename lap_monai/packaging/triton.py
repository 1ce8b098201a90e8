"""The model configuration of NVIDIA's Triton inference server."""

from __future__ import annotations

_TEMPLATE = """\
name: "{name}"
platform: "onnxruntime_onnx"
max_batch_size: {batch}
input [ {{ name: "image" data_type: TYPE_FP32 dims: [ 3, -1, -1 ] }} ]
output [ {{ name: "pred" data_type: TYPE_FP32 dims: [ {classes}, -1, -1 ] }} ]
dynamic_batching {{ }}
"""


def triton_config(name: str, classes: int, batch: int = 8) -> str:
    """Return the `config.pbtxt` of an ONNX network with free batch and frame size.

    Args:
        name: of the model; its folder in the model repository is called so.
        classes: channels of the logits.
        batch: the most frames that the server may put together.
    """
    return _TEMPLATE.format(name=name, batch=batch, classes=classes)
