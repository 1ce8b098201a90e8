"""The exported TorchScript in an application of MONAI Deploy: its own operator, configured by the file alone."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lap_monai.__main__ import main
from lap_monai.inference import Bundle, Predictor

#: Reads a picture as MONAI Deploy hands pictures on, (W, H, C), and keeps what the operator makes of it.
APPLICATION = """
import sys
import numpy as np
from monai.deploy.conditions import CountCondition
from monai.deploy.core import AppContext, Application, Image, IOType, Operator
from monai.deploy.operators.monai_bundle_inference_operator import IOMapping, MonaiBundleInferenceOperator
from PIL import Image as Picture

model, frame, result = sys.argv[1:]

class Give(Operator):
    def setup(self, spec):
        spec.output("image")

    def compute(self, op_input, op_output, context):
        pixels = np.array(Picture.open(frame).convert("RGB"))
        op_output.emit(np.ascontiguousarray(pixels.transpose(1, 0, 2)), "image")

class Keep(Operator):
    def setup(self, spec):
        spec.input("pred")

    def compute(self, op_input, op_output, context):
        np.save(result, op_input.receive("pred").asnumpy())

class Segmentation(Application):
    def compose(self):
        def once():
            return CountCondition(self, 1)

        operator = MonaiBundleInferenceOperator(
            self,
            once(),
            app_context=AppContext({}),
            input_mapping=[IOMapping("image", np.ndarray, IOType.IN_MEMORY)],
            output_mapping=[IOMapping("pred", Image, IOType.IN_MEMORY)],
            bundle_path=model,
            name="segment",
        )
        self.add_flow(Give(self, once(), name="give"), operator, {("image", "image")})
        self.add_flow(operator, Keep(self, once(), name="keep"), {("pred", "pred")})

Segmentation(sys.argv[:1]).run()
"""


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("monai.deploy") is None, reason="no MONAI Deploy SDK: pip install 'lap_monai[deploy]'"
)
def test_its_operator_gives_the_labels_of_the_bundles_own_inference(tiny_run: Path, tmp_path: Path) -> None:
    run = shutil.copytree(tiny_run, tmp_path / "run")
    assert main(["export", str(run), "--to", "torchscript"]) == 0
    pixels = np.random.default_rng(0).integers(0, 255, (70, 101, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "frame.png")
    places = [run / "models" / "model.ts", tmp_path / "frame.png", tmp_path / "labels.npy"]
    subprocess.run([sys.executable, "-c", APPLICATION, *map(str, places)], check=True, timeout=300, cwd=tmp_path)
    (expected,) = Predictor(Bundle.open(run), "window", "torchscript", "cpu")([pixels])
    np.testing.assert_array_equal(np.load(tmp_path / "labels.npy").T, expected.labels)
