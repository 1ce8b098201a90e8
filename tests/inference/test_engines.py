"""Every engine against eager PyTorch: on the same batch, at sizes nobody exported for, and in a prediction."""

from __future__ import annotations

import builtins
import shutil
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch

from lap_monai.checks import UserError
from lap_monai.inference import (
    ENGINES,
    Bundle,
    Engine,
    OnnxRuntimeEngine,
    Predictor,
    exported_model,
    open_engine,
    to_onnx,
    write_export_record,
)

CPU_ENGINES = ["torchscript", "onnxruntime", "openvino"]


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def engines(tiny_run: Path) -> dict[str, Engine]:
    """The engines of a trained network of a few thousand weights, by name."""
    bundle = Bundle.open(tiny_run)
    return {name: open_engine(name, bundle, "cpu") for name in ("torch", *CPU_ENGINES)}


@pytest.fixture
def bundle(tiny_run: Path, tmp_path: Path) -> Bundle:
    """The same network, in a folder that a test may fill."""
    return Bundle.open(shutil.copytree(tiny_run, tmp_path / "run"))


def frame(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (70, 101, 3), dtype=np.uint8)


@pytest.mark.parametrize("name", CPU_ENGINES)
def test_equals_eager_at_any_batch_and_size(engines, name):
    for shape in [(1, 3, 64, 96), (3, 3, 32, 32), (1, 3, 64, 96), (2, 3, 96, 128), (1, 3, 32, 64), (1, 3, 64, 64)]:
        batch = torch.rand(shape)
        logits = engines[name](batch)
        torch.testing.assert_close(logits, engines["torch"](batch), atol=1e-4, rtol=1e-3)
        assert logits.dtype is torch.float32


@pytest.mark.slow
def test_the_compiled_network_equals_eager_at_any_batch_and_size(bundle, monkeypatch):
    """Of a few layers: a whole U-Net takes minutes to compile on a CPU."""
    layers = torch.nn.Conv2d(3, 4, 3, padding=1), torch.nn.InstanceNorm2d(4), torch.nn.Conv2d(4, 8, 1)
    monkeypatch.setattr(Bundle, "build_network", lambda _: deepcopy(torch.nn.Sequential(*layers)))
    eager, engine = open_engine("torch", bundle, "cpu"), open_engine("compile", bundle, "cpu")
    for shape in [(1, 3, 64, 96), (3, 3, 32, 32)]:
        batch = torch.rand(shape)
        torch.testing.assert_close(engine(batch), eager(batch), atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("name", CPU_ENGINES)
def test_what_an_engine_returned_stays_when_it_is_called_again(engines, name):
    first = engines[name](torch.zeros(1, 3, 32, 32))
    kept = first.clone()
    engines[name](torch.ones(1, 3, 32, 32))
    assert torch.equal(first, kept)


@pytest.mark.parametrize("name", CPU_ENGINES)
@pytest.mark.parametrize("mode", ["window", "frame"])
def test_predicts_what_eager_predicts(engines, tiny_run, name, mode):
    bundle = Bundle.open(tiny_run)
    (expected,) = Predictor(bundle, mode, engines["torch"])([frame()])
    (found,) = Predictor(bundle, mode, engines[name])([frame()])
    assert found.labels.shape == (70, 101)
    assert np.mean(found.labels == expected.labels) > 0.999


@pytest.mark.parametrize("name", CPU_ENGINES)
def test_takes_any_memory_layout_and_leaves_it_as_it_was(engines, name):
    batch = torch.rand(1, 3, 64, 32)
    before = batch.clone()
    turned = batch.permute(0, 1, 3, 2)
    torch.testing.assert_close(engines[name](turned), engines["torch"](turned), atol=1e-4, rtol=1e-3)
    assert torch.equal(batch, before)


def test_says_what_it_is(engines):
    for name in CPU_ENGINES:
        engine = engines[name]
        assert (engine.name, engine.precision, engine.device.type) == (name, "float32", "cpu")
    assert set(ENGINES) == {"torch", "compile", "openvino-int8", *CPU_ENGINES}


@pytest.mark.parametrize(
    ("name", "package", "extra"), [("onnxruntime", "onnxruntime", "export"), ("openvino", "openvino", "openvino")]
)
def test_a_missing_package_is_named_with_its_extra(bundle, monkeypatch, name, package, extra):
    import_ = builtins.__import__

    def without(module, *args, **kwargs):
        if module.partition(".")[0] == package:
            raise ModuleNotFoundError(f"No module named {module!r}", name=module)
        return import_(module, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    monkeypatch.setitem(__import__("sys").modules, package, None)
    with pytest.raises(UserError, match=rf"'{package}' is not installed; pip install 'lap_monai\[{extra}\]'"):
        open_engine(name, bundle, "cpu")


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_another_precision_is_refused(bundle, name):
    with pytest.raises(UserError, match="computes in float32, not float16; take torch"):
        open_engine(name, bundle, "cpu", "float16")


def test_int8_wants_an_export(bundle):
    with pytest.raises(UserError, match="export BUNDLE --to openvino-int8 --data DATA"):
        open_engine("openvino-int8", bundle, "cpu")
    with pytest.raises(UserError, match="leave --precision out"):
        open_engine("openvino-int8", bundle, "cpu", "float32")


class TestExportedFile:
    """An ONNX file beside the weights."""

    @pytest.fixture
    def path(self, bundle: Bundle) -> Path:
        path = bundle.weights.with_name("model.onnx")
        to_onnx(bundle.build_network(), path, bundle.stride)
        write_export_record(bundle, "onnx", {"parity": None})
        return path

    def test_is_used(self, bundle, path, monkeypatch):
        given = []
        monkeypatch.setattr(OnnxRuntimeEngine, "__init__", lambda self, model: given.append(model))
        open_engine("onnxruntime", bundle, "cpu")
        assert given == [path]

    def test_is_passed_over_when_the_weights_are_others(self, bundle, path, tmp_path):
        content = torch.load(bundle.weights, weights_only=True)
        content["model"]["final_conv.bias"] += 5
        torch.save(content, bundle.weights)
        newer = Bundle.open(tmp_path / "run")
        assert exported_model(newer, "onnx") is None
        batch = torch.rand(1, 3, 32, 32)
        expected = open_engine("torch", newer, "cpu")(batch)
        torch.testing.assert_close(open_engine("onnxruntime", newer, "cpu")(batch), expected, atol=1e-4, rtol=1e-3)

    def test_is_refused_when_it_was_changed(self, bundle, path):
        path.write_bytes(path.read_bytes()[:-1])
        with pytest.raises(UserError, match=r"model\.onnx' is not the file that was exported; run export --to onnx"):
            open_engine("onnxruntime", bundle, "cpu")
        path.unlink()
        with pytest.raises(UserError, match="is not the file that was exported"):
            open_engine("onnxruntime", bundle, "cpu")
