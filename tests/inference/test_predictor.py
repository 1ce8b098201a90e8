"""Against the bundle's own inference, and at the limits of memory."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from PIL import Image
from tiny_data import picture

from lap_monai.checks import UserError
from lap_monai.data import read_mask
from lap_monai.inference import Bundle, Predictor, TorchEngine, open_source


class Cramped(TorchEngine):
    """An engine whose memory holds `most` frames."""

    def __init__(self, network, most, error=None):
        super().__init__(network)
        self.most, self.sizes = most, []
        self.error = error or RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory")

    def __call__(self, batch):
        self.sizes.append(len(batch))
        if len(batch) > self.most:
            raise self.error
        return super().__call__(batch)


def assert_labels_of_bundle_run(predictor, data, written):
    """Compare the labels of every frame with the files that `monai.bundle run` wrote."""
    seen = set()
    for item in open_source(data).items():
        labels = predictor([item.image])[0].labels
        folder, _, name = item.name.rpartition("/")
        (theirs,) = written.rglob(f"{folder.rpartition('/')[2]}/{name}_seg.png")
        np.testing.assert_array_equal(labels, np.asarray(read_mask(theirs)))
        seen |= set(np.unique(labels))
    assert len(seen) > 1


@pytest.mark.slow
def test_window_mode_gives_the_labels_of_monais_bundle_run(tiny_run, tiny_bundle, cli, tiny_phantom):
    assert cli.infer(tiny_phantom, tiny_run / "models", "overlap=0").status == 0
    assert_labels_of_bundle_run(Predictor(tiny_bundle, "window", device="cpu"), tiny_phantom, cli.folder / "labels")


@pytest.fixture
def overlapping_run(tiny_run, tmp_path):
    """The tiny run with frames larger than the window along both axes, and windows that overlap."""
    copy = shutil.copytree(tiny_run, tmp_path / "overlapping")
    for path in copy.glob("config_*.json"):
        config = json.loads(path.read_text())
        path.write_text(json.dumps(config | {"frame_size": [56, 88], "overlap": 0.25}))
    return copy


@pytest.mark.slow
def test_overlapping_windows_give_the_labels_of_monais_bundle_run(overlapping_run, cli, tiny_phantom):
    sizes = ("frame_size=[56,88]", "overlap=0.25")
    assert cli.infer(tiny_phantom, overlapping_run / "models", *sizes).status == 0
    predictor = Predictor(Bundle.open(overlapping_run), "window", device="cpu")
    assert_labels_of_bundle_run(predictor, tiny_phantom, cli.folder / "labels")


def test_overlapping_windows_give_the_logits_of_the_bundles_own_objects(overlapping_run, tiny_phantom):
    """Labels could agree where sums of windows do not."""
    bundle = Bundle.open(overlapping_run)
    parser = ConfigParser(bundle.inference_config)
    preprocessing, inferer = (parser.get_parsed_content(name) for name in ("preprocessing", "inferer"))
    network = bundle.build_network()
    predictor = Predictor(bundle, "window", device="cpu")
    windows = []
    network.register_forward_hook(lambda _module, inputs, _output: windows.append(inputs[0].shape))
    for path in sorted(tiny_phantom.rglob("*_endo.png"))[:3]:
        with torch.no_grad():
            theirs = inferer(preprocessing({"image": str(path)})["image"][None].as_tensor(), network)[0]
        ((logits, _),) = predictor.infer([predictor.prepare(np.asarray(Image.open(path).convert("RGB")))])
        assert logits.shape[1:] == (56, 88)
        assert torch.equal(logits, theirs)
    assert sum(shape[0] for shape in windows[: len(windows) // 3]) == 8, "two rows of four windows, which overlap"
    assert {tuple(shape[2:]) for shape in windows} == {(32, 32)}


def test_a_frame_that_is_one_window_is_the_same_in_both_modes(tiny_bundle):
    """The frame of 32 x 48 is padded to 32 x 64 in one mode and cut into windows of 32 x 32 in the other."""
    window, frame = (Predictor(tiny_bundle, mode, device="cpu") for mode in ("window", "frame"))
    images = [picture(seed, (64, 96)) for seed in range(3)]
    agreement = frame.agreement(images)
    same = [np.mean(a.labels == b.labels) for a, b in zip(frame(images), window(images), strict=True)]
    assert agreement == pytest.approx(np.mean(same))
    assert window.agreement(images) == 1
    assert frame.needs_comparison
    assert not window.needs_comparison


def test_frames_of_any_size_kind_and_batch_give_labels_of_their_own_size(tiny_bundle):
    images = [picture(1, (64, 96)), picture(2, (37, 53)), picture(3, (5, 7)), picture(4, (64, 96))]
    alone = [Predictor(tiny_bundle, device="cpu", batch_size=1)([image])[0] for image in images]
    tensors = [torch.from_numpy(image).permute(2, 0, 1) for image in images]
    together = Predictor(tiny_bundle, device="cpu", batch_size=3)(tensors)
    for image, one, other in zip(images, alone, together, strict=True):
        assert one.labels.shape == image.shape[:2]
        assert one.labels.dtype == np.uint8
        assert np.mean(one.labels == other.labels) > 0.99
        np.testing.assert_allclose(one.probabilities.sum(0), 1, atol=1e-5)


@pytest.mark.parametrize("mode", ["frame", "window"])
def test_frames_that_the_bundle_does_not_resize_go_in_batches_of_one_size(tiny_bundle, mode):
    bundle = replace(tiny_bundle, preprocessing=replace(tiny_bundle.preprocessing, size=None))
    sizes = [(64, 96), (64, 96), (48, 64), (64, 96), (64, 96), (64, 96), (64, 96)]
    images = [picture(seed, size) for seed, size in enumerate(sizes)]
    engine = Cramped(bundle.build_network(), 100)
    together = Predictor(bundle, mode, engine=engine, batch_size=3)(images)
    alone = Predictor(bundle, mode, device="cpu", batch_size=1)(images)
    for size, one, other in zip(sizes, alone, together, strict=True):
        assert other.labels.shape == size
        assert np.mean(one.labels == other.labels) > 0.99
    if mode == "frame":
        assert engine.sizes == [2, 1, 3, 1]


@pytest.mark.parametrize(
    "wrong", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), torch.zeros(4, 4, 3), np.zeros((0, 4, 3), np.uint8)]
)
def test_what_is_no_frame_is_refused(predictor, wrong):
    with pytest.raises(ValueError, match="Expected a frame"):
        predictor([wrong])


def test_a_batch_that_memory_does_not_hold_is_halved_for_good(tiny_bundle):
    engine = Cramped(tiny_bundle.build_network(), 2)
    predictor = Predictor(tiny_bundle, engine=engine, batch_size=8)
    images = [picture(seed, (64, 96)) for seed in range(9)]
    expected = [Predictor(tiny_bundle, device="cpu")([image])[0].labels for image in images]
    for prediction, labels in zip(predictor(images), expected, strict=True):
        assert np.mean(prediction.labels == labels) > 0.99
    assert engine.sizes == [8, 4, 2, 2, 2, 2, 1]
    assert predictor.batch_size == 2


class Fail(Exception):
    """Stands for ONNX Runtime's errors, which are no RuntimeErrors."""


@pytest.mark.parametrize(
    "error",
    [
        Fail("[ONNXRuntimeError] : 1 : FAIL : bfc_arena.cc Failed to allocate memory for requested buffer of size 9"),
        Fail("[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Exception during initialization: std::bad_alloc"),
        RuntimeError("Exception from infer_request.cpp:224:\ncpu_memory.cpp:\nFailed to allocate 9 bytes of memory"),
        RuntimeError("Exception from src/inference/src/cpp/core.cpp:109:\nstd::bad_alloc"),
        torch.OutOfMemoryError("CUDA out of memory."),
        MemoryError(),
    ],
)
def test_the_words_of_every_engine_for_too_little_memory_are_known(tiny_bundle, error):
    """As ONNX Runtime 1.31 and OpenVINO 2026.4 said under a limit on the process."""
    engine = Cramped(tiny_bundle.build_network(), 1, error)
    predictor = Predictor(tiny_bundle, engine=engine, batch_size=4)
    assert len(predictor([picture(seed, (64, 96)) for seed in range(3)])) == 3
    assert engine.sizes == [3, 2, 1, 1, 1]


def test_other_errors_of_an_engine_are_raised(tiny_bundle):
    engine = Cramped(tiny_bundle.build_network(), 0, Fail("no such node"))
    predictor = Predictor(tiny_bundle, engine=engine, batch_size=4)
    with pytest.raises(Fail, match="no such node"):
        predictor([picture(1)])


def test_memory_that_holds_no_frame_is_said(tiny_bundle):
    predictor = Predictor(tiny_bundle, engine=Cramped(tiny_bundle.build_network(), 0), batch_size=2)
    with pytest.raises(UserError, match="does not hold one frame"):
        predictor([picture(1)])


def test_uncertainty_is_the_entropy_of_both_views(tiny_bundle):
    predictor = Predictor(tiny_bundle, device="cpu", uncertainty=True)
    image = picture(5, (32, 64))
    prediction = predictor([image])[0]
    mirrored = predictor([np.ascontiguousarray(image[:, ::-1])])[0]
    mean = (prediction.probabilities + mirrored.probabilities[..., ::-1]) / 2
    entropy = -(mean * np.log(mean)).sum(0) / np.log(len(mean))
    np.testing.assert_allclose(prediction.uncertainty, entropy, atol=0.02)
    assert 0 <= prediction.uncertainty.min() <= prediction.uncertainty.max() <= 1
    np.testing.assert_array_equal(prediction.labels, Predictor(tiny_bundle, device="cpu")([image])[0].labels)


def test_options_that_make_no_sense_are_refused(tiny_bundle):
    with pytest.raises(UserError, match="mode 'windwo'"):
        Predictor(tiny_bundle, "windwo")
    with pytest.raises(UserError, match="at least 1"):
        Predictor(tiny_bundle, batch_size=0)


def test_frames_are_padded_no_further_than_the_network_needs(tiny_bundle):
    """To 16, its four poolings; the 32 of the metadata would hold for every overlay's network."""

    class Noting(TorchEngine):
        def __call__(self, batch):
            shapes.append(tuple(batch.shape))
            return super().__call__(batch)

    shapes = []
    predictor = Predictor(tiny_bundle, "frame", Noting(tiny_bundle.build_network()))
    logits, _ = predictor.infer([torch.rand(3, 32, 48)])[0]
    assert shapes == [(1, 3, 32, 48)]
    assert logits.shape[1:] == (32, 48)
    predictor.infer([torch.rand(3, 33, 40)])
    assert shapes[1:] == [(1, 3, 48, 48)]
