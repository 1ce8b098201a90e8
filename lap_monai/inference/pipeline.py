"""Decoding, network and writing at the same time: two threads beside the caller's, joined by short queues."""

from __future__ import annotations

import queue
import threading
import time
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from lap_monai.inference.predictor import Predictor
from lap_monai.inference.smoothing import Smoother
from lap_monai.inference.source import Failure, Item
from lap_monai.inference.writer import Prediction
from lap_monai.keys import IGNORE_INDEX

STAGES = ("decode", "prepare", "network", "write")
#: Batches that wait before and behind the network. Memory holds about this many, whatever the source's length.
_WAITING = 2
#: Seconds after which a thread that waits looks whether it should stop.
_POLL = 0.1

#: Takes the next frame in order: an item with its prediction, or a failure with None.
Deliver = Callable[[Item | Failure, Prediction | None], None]
#: Says why a frame is to be passed over, or None.
FrameFilter = Callable[[Item], str | None]


@dataclass
class Entry:
    """A frame on its way through the stages."""

    item: Item | Failure
    inputs: torch.Tensor | None = None
    outputs: tuple[torch.Tensor, torch.Tensor | None] | None = None
    skipped: str | None = None


@dataclass
class Pipeline:
    """Takes frames from a source through a predictor to `deliver`, in their order.

    Args:
        predictor: what segments.
        frame_filter: names frames that are passed over; the network does not see them.
        smoother: averages over time.
        drops: leave out frames for which there is no time, as a live capture must.
        most: end after so many frames, those left out not counted; None goes to the end.
    """

    predictor: Predictor
    frame_filter: FrameFilter | None = None
    smoother: Smoother | None = None
    drops: bool = False
    most: int | None = None
    dropped: int = 0
    seconds: dict[str, Any] = field(default_factory=lambda: {stage: array("f") for stage in STAGES})

    def run(self, items: Iterator[Item | Failure], deliver: Deliver) -> None:
        """Run to the end of `items`.

        On Ctrl-C the frames that are decoded are finished, then `KeyboardInterrupt` goes on its way. An error of any
        stage stops the others and is raised.
        """
        read: queue.Queue[Entry | None] = queue.Queue(max(_WAITING * self.predictor.batch_size, 2))
        done: queue.Queue[Entry | None] = queue.Queue(max(_WAITING * self.predictor.batch_size, 2))
        self._stop, self._broken = threading.Event(), threading.Event()
        self._error: BaseException | None = None
        reader = threading.Thread(target=self._guard, args=(self._read, items, read), name="decode", daemon=True)
        writer = threading.Thread(target=self._guard, args=(self._write, done, deliver), name="write", daemon=True)
        reader.start()
        writer.start()
        interrupted = False
        try:
            self._infer(read, done)
        except KeyboardInterrupt:
            interrupted = True
        except BaseException:
            self._broken.set()
            raise
        finally:
            self._stop.set()
            _put(done, None, self._broken)
            writer.join()
            reader.join(timeout=5)  # a live source may be waiting for a frame
        if self._error is not None:
            raise self._error
        if interrupted:
            raise KeyboardInterrupt

    def timings(self) -> dict[str, dict[str, float]]:
        """Return p50, p95 and p99 of the milliseconds that each stage took for a frame."""
        return {
            stage: {f"p{p}": round(1000 * float(np.percentile(values, p)), 2) for p in (50, 95, 99)}
            for stage, values in self.seconds.items()
            if values
        }

    def _guard(self, work: Callable[..., None], *args: Any) -> None:
        try:
            work(*args)
        except BaseException as error:  # raised by `run`, in the caller's thread
            self._error = self._error or error
            self._broken.set()

    def _read(self, items: Iterator[Item | Failure], read: queue.Queue[Entry | None]) -> None:
        taken = 0
        while taken != self.most and not (self._stop.is_set() or self._broken.is_set()):
            begun = time.perf_counter()
            item = next(items, None)
            if item is None:
                break
            self.seconds["decode"].append(time.perf_counter() - begun)
            if self.drops and read.full():
                self.dropped += 1
                continue
            _put(read, self._prepare(item), self._broken, self._stop)
            taken += 1
        close = getattr(items, "close", None)
        if close is not None:
            close()
        _put(read, None, self._broken, self._stop)

    def _prepare(self, item: Item | Failure) -> Entry:
        if isinstance(item, Failure):
            return Entry(item)
        begun = time.perf_counter()
        reason = self.frame_filter(item) if self.frame_filter is not None else None
        entry = Entry(item, skipped=reason) if reason else Entry(item, self.predictor.prepare(item.image))
        self.seconds["prepare"].append(time.perf_counter() - begun)
        return entry

    def _infer(self, read: queue.Queue[Entry | None], done: queue.Queue[Entry | None]) -> None:
        ended = False
        while not ended and not self._broken.is_set():
            batch: list[Entry] = []
            while len(batch) < self.predictor.batch_size:
                try:
                    entry = read.get(timeout=_POLL) if not batch else read.get_nowait()
                except queue.Empty:
                    if batch and self.drops:
                        break  # a live frame does not wait for the next
                    if self._broken.is_set():
                        break
                    if batch:
                        time.sleep(_POLL / 20)
                    continue
                if entry is None:
                    ended = True
                    break
                batch.append(entry)
            begun = time.perf_counter()
            inputs = [entry.inputs for entry in batch if entry.inputs is not None]
            if inputs:
                outputs = iter(self.predictor.infer(inputs))
                for entry in batch:
                    entry.outputs = next(outputs) if entry.inputs is not None else None
                each = (time.perf_counter() - begun) / len(inputs)
                self.seconds["network"].extend([each] * len(inputs))
            for entry in batch:
                _put(done, entry, self._broken)

    def _write(self, done: queue.Queue[Entry | None], deliver: Deliver) -> None:
        while (entry := _get(done, self._broken)) is not None:
            begun = time.perf_counter()
            deliver(entry.item, self._finish(entry))
            self.seconds["write"].append(time.perf_counter() - begun)

    def _finish(self, entry: Entry) -> Prediction | None:
        if isinstance(entry.item, Failure):
            return None
        if entry.outputs is None or entry.inputs is None:
            if self.smoother is not None:
                self.smoother.reset()
            labels = np.full(entry.item.image.shape[:2], IGNORE_INDEX, dtype=np.uint8)
            return Prediction(labels, skipped=entry.skipped)
        logits, mirrored = entry.outputs
        if self.smoother is not None:
            logits = self.smoother(entry.inputs, logits)
        return self.predictor.finish(entry.item.image, logits, mirrored)


def _put(to: queue.Queue[Entry | None], entry: Entry | None, *stops: threading.Event) -> None:
    """Put, unless one of the events says that nobody will take it."""
    while not any(stop.is_set() for stop in stops):
        try:
            return to.put(entry, timeout=_POLL)
        except queue.Full:
            continue


def _get(of: queue.Queue[Entry | None], broken: threading.Event) -> Entry | None:
    while not broken.is_set():
        try:
            return of.get(timeout=_POLL)
        except queue.Empty:
            continue
    return None
