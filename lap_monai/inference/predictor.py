"""Frames in, predictions out, in one of two modes, at batch sizes that memory holds."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch.nn import functional

from lap_monai.checks import UserError, require_choice
from lap_monai.inference.bundle import Bundle
from lap_monai.inference.engine import Engine, TorchEngine, open_engine
from lap_monai.inference.source import Pixels
from lap_monai.inference.writer import Prediction

Mode = Literal["window", "frame"]
MODES = ("window", "frame")

#: What PyTorch's allocator on the CPU, ONNX Runtime, OpenVINO and C++ say when memory does not hold a batch.
_OUT_OF_MEMORY = (
    "not enough memory",
    "can't allocate memory",
    "failed to allocate",
    "out of memory",
    "bad_alloc",
    "bad allocation",
)


class Predictor:
    """A bundle's network on frames held in memory; `predict` of this package adds sources and writers.

    Mode `window` runs the sliding window that the bundle declares: the labels are those of its own
    `inference.json` under `python -m monai.bundle run`, to the bit, on the same device with a batch size of 1. Mode
    `frame` gives the network the whole frame at once, padded to its stride by reflection; faster, and different in the
    pixels where the windows' borders, or a normalisation over the picture, matter. `agreement` measures how many.

    >>> predictor = Predictor(Bundle.open("runs/demo"))        # doctest: +SKIP
    >>> predictor([frame])[0].labels                           # doctest: +SKIP

    Args:
        bundle: an open bundle, or the path of one.
        mode: `"window"` or `"frame"`.
        engine: an engine, or the name of one.
        device: for an engine given by name; None takes the first GPU if there is one.
        precision: for an engine given by name; None is float16 on a GPU, float32 elsewhere.
        batch_size: frames that go through the network at once; None is 16 on a GPU in mode `frame`, 1 elsewhere. It is
            halved whenever memory does not hold it, and stays so.
        uncertainty: run every frame mirrored too, and give the entropy of the mean of both.

    Raises:
        UserError: for an unknown mode or engine, or whatever the bundle or the engine lacks.
    """

    def __init__(
        self,
        bundle: Bundle | str | Path,
        mode: Mode = "frame",
        engine: Engine | str = "torch",
        device: str | torch.device | None = None,
        precision: str | None = None,
        batch_size: int | None = None,
        uncertainty: bool = False,
    ) -> None:
        self.bundle = bundle if isinstance(bundle, Bundle) else Bundle.open(bundle)
        self.mode = require_choice(mode, MODES, "mode")
        self.engine = open_engine(engine, self.bundle, device, precision) if isinstance(engine, str) else engine
        if batch_size is not None and batch_size < 1:
            raise UserError(f"A batch of {batch_size} frames is none; give at least 1.")
        on_gpu = self.engine.device.type == "cuda" and mode == "frame"
        self.batch_size = batch_size or (16 if on_gpu else 1)
        self.uncertainty = uncertainty
        self._inferer = self.bundle.build_inferer() if mode == "window" else None

    def __call__(self, images: Sequence[Pixels | torch.Tensor]) -> list[Prediction]:
        """Segment frames of any sizes.

        Args:
            images: arrays `(H, W, 3)` uint8 RGB, or tensors `(3, H, W)` uint8.

        Raises:
            ValueError: for anything else.
        """
        frames = [as_frame(image) for image in images]
        inputs = [self.prepare(frame) for frame in frames]
        logits = self.infer(inputs)
        return [self.finish(frame, *pair) for frame, pair in zip(frames, logits, strict=True)]

    @property
    def needs_comparison(self) -> bool:
        """Whether labels may differ from those of the bundle's own inference on this device."""
        return self.mode != "window" or self.engine.name != "torch"

    def prepare(self, image: Pixels) -> torch.Tensor:
        """Return what the network takes of a frame `(H, W, 3)`: float32 `(3, h, w)`."""
        return self.bundle.preprocessing(image)

    def infer(self, inputs: Sequence[torch.Tensor]) -> list[tuple[torch.Tensor, torch.Tensor | None]]:
        """Run the network, batch by batch; a batch ends where the next frame has another size.

        Args:
            inputs: prepared frames `(3, h, w)`, of any sizes where the bundle does not resize them.

        Returns:
            Of each, the logits `(C, h, w)`, and the mirrored frame's logits, mirrored back, if uncertainty is wanted;
            on the CPU.

        Raises:
            UserError: if memory does not hold a single frame.
        """
        done: list[tuple[torch.Tensor, torch.Tensor | None]] = []
        while len(done) < len(inputs):
            waiting = inputs[len(done) : len(done) + self.batch_size]
            _, batch = next(groupby(waiting, attrgetter("shape")))
            try:
                done += self._infer_batch(torch.stack(list(batch)))
            except Exception as error:  # those of other engines than PyTorch are no RuntimeErrors
                if not _is_out_of_memory(error):
                    raise
                self._shrink(error)
        return done

    def finish(self, image: Pixels, logits: torch.Tensor, mirrored: torch.Tensor | None = None) -> Prediction:
        """Return the prediction of a frame from its logits: class ids at the frame's size."""
        values, classes = logits.max(0)  # the classes of argmax, in a fifth of its time on a CPU
        labels = self.bundle.preprocessing.restore(classes.to(torch.uint8), image.shape[:2])
        doubt = None if mirrored is None else _entropy(logits, mirrored)
        return Prediction(labels, logits, doubt, strongest=(values, classes))

    def agreement(self, images: Sequence[Pixels]) -> float:
        """Return the share of pixels whose class is that of the bundle's own inference, over some frames."""
        reference = Predictor(self.bundle, "window", TorchEngine(self.bundle.build_network(), self.engine.device))
        pairs = zip(self(images), reference(images), strict=True)
        return float(np.mean([np.mean(mine.labels == theirs.labels) for mine, theirs in pairs]))

    def _infer_batch(self, batch: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor | None]]:
        batch = batch.to(self.engine.device)
        logits = self._logits(batch).cpu()
        if not self.uncertainty:
            return [(entry, None) for entry in logits]
        mirrored = self._logits(batch.flip(-1)).flip(-1).cpu()
        return list(zip(logits, mirrored, strict=True))

    def _logits(self, batch: torch.Tensor) -> torch.Tensor:
        if self._inferer is not None:
            return self._inferer(batch, self.engine)
        height, width = batch.shape[-2:]
        stride = self.bundle.stride
        below, right = -height % stride, -width % stride
        # MONAI's sliding window pads a small frame on both sides; here one side is enough, and saves a copy.
        mode = "reflect" if below < height and right < width else "replicate"
        padded = functional.pad(batch, (0, right, 0, below), mode) if below or right else batch
        return self.engine(padded)[..., :height, :width]

    def _shrink(self, error: Exception) -> None:
        if self.engine.device.type == "cuda":
            torch.cuda.empty_cache()
        if self.batch_size == 1:
            raise UserError(
                f"Memory of {self.engine.device} does not hold one frame; give --device cpu, or close other programs."
            ) from error
        self.batch_size //= 2


def as_frame(image: Pixels | torch.Tensor) -> Pixels:
    """Return a frame as `(H, W, 3)` uint8 RGB from that, or from a tensor `(3, H, W)` uint8.

    Raises:
        ValueError: if it is neither.
    """
    pixels = image.detach().cpu().permute(1, 2, 0).numpy() if isinstance(image, torch.Tensor) else np.asarray(image)
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8 or 0 in pixels.shape:
        raise ValueError(
            "Expected a frame as array (H, W, 3) or tensor (3, H, W), uint8 RGB, "
            f"got {type(image).__name__} {tuple(image.shape)} {image.dtype}."
        )
    return np.ascontiguousarray(pixels)


def _entropy(logits: torch.Tensor, mirrored: torch.Tensor) -> np.ndarray:
    """Entropy of the mean of both probabilities, `(h, w)`, as a share of the most there can be."""
    mean = (logits.float().softmax(0) + mirrored.float().softmax(0)) / 2
    return (torch.special.entr(mean).sum(0) / np.log(len(mean))).numpy()


def _is_out_of_memory(error: Exception) -> bool:
    """Whether an engine's error says that memory does not hold what was asked for, by its kind or its words."""
    text = str(error).lower()
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(words in text for words in _OUT_OF_MEMORY)
