"""A whole prediction run: source to files, with its journal, its record and its report."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from lap_monai.checks import UserError
from lap_monai.files import read_json, remove_all_leftovers, remove_leftovers, write_json
from lap_monai.inference.frame_table import FrameTable
from lap_monai.inference.painter import Painter
from lap_monai.inference.pipeline import FrameFilter, Pipeline
from lap_monai.inference.predictor import Predictor
from lap_monai.inference.smoothing import Smoother
from lap_monai.inference.source import Failure, Item, Pixels, Source
from lap_monai.inference.writer import Output, Prediction, open_writers, without_refused
from lap_monai.provenance import command_line, device_name, git_revision, versions
from lap_monai.reports.prediction_report import write_prediction_report

#: Seconds of work that a killed run loses at most.
CHECKPOINT_SECONDS = 10.0
#: Failures that `run.json` lists; `frames.csv` has all.
_MOST_FAILURES = 100
#: Frames that the report shows, and that the agreement with the bundle's own inference is measured on.
_SHOWN, _COMPARED = 6, 4


@dataclass(frozen=True)
class Options:
    """How a run is done, beside what its `Predictor` decides.

    Args:
        write: names of writers; `"report"` is the page, `frames.csv` and `run.json` are always written.
        resume: go on with an earlier run in the same folder; not for live captures, which do not come again.
        side_by_side: overlays show the plain frame beside the painted one.
        legend: overlays name the classes.
        smooth: weight of the frames before in the moving average, in [0, 1); None does no averaging.
        frame_filter: names frames that are passed over.
        most_frames: end after so many frames, those that a live capture drops not counted; None goes to the end.
        compare: measure the agreement with the bundle's own inference on a few frames.
        keep_identifiers: note path, command and time of day in `run.json`, and let writers carry headers over.
        progress: show a bar.
    """

    write: Sequence[str] = ("labels", "overlay", "report")
    resume: bool = False
    side_by_side: bool = False
    legend: bool = True
    smooth: float | None = None
    frame_filter: FrameFilter | None = None
    most_frames: int | None = None
    compare: bool = True
    keep_identifiers: bool = False
    progress: bool = False


def predict(
    source: Source, predictor: Predictor, folder: str | Path, options: Options | None = None, where: str = ""
) -> dict[str, Any]:
    """Segment all of a source, write what was asked for, and return what `run.json` holds.

    Frames that fail are noted, skipped and counted. A run that is broken off, by Ctrl-C, an error or a kill, loses at
    most the last `CHECKPOINT_SECONDS`, and is gone on with by `resume`; so is one that finished, which changes nothing.

    Args:
        source: where the frames come from.
        predictor: what segments them.
        folder: where the results go; made if need be.
        options: see `Options`.
        where: the source's path, for `keep_identifiers`.

    Raises:
        UserError: if the folder holds another run, cannot be written, or a live capture is to be resumed; and, however
            often such a run is resumed, if every frame failed.
    """
    options = options or Options()
    run = _Run(source, predictor, Path(folder), options, where)
    record = run.finished or run.execute()
    if record["frames"].get("failed") == sum(record["frames"].values()) > 0:
        raise UserError(f"No frame could be read; the first: {record['failures'][0]['error']}.")
    return record


class _Run:
    """The state of one run."""

    def __init__(self, source: Source, predictor: Predictor, folder: Path, options: Options, where: str) -> None:
        self.source, self.predictor, self.folder, self.options = source, predictor, folder, options
        self.space = predictor.bundle.label_space
        self.identity = self._identity()
        self.path = folder / "run.json"
        if options.resume and source.kind == "live":
            raise UserError(
                "A live capture cannot be gone on with, since its frames do not come again; leave --resume out, and "
                "name another --out if this one holds a run."
            )
        _make_folder(folder)
        earlier = self._earlier()
        self.finished = earlier if earlier is not None and earlier["status"] == "completed" else None
        if self.finished is not None:
            return
        remove_leftovers(self.path)
        if earlier is not None:  # then the folder is ours, and so is what looks like a temporary file
            remove_all_leftovers(folder)
        output = Output(
            folder=folder,
            source=source,
            label_space=self.space,
            side_by_side=options.side_by_side,
            legend=options.legend,
            keep_identifiers=options.keep_identifiers,
        )
        names = [name for name in dict.fromkeys(options.write) if name not in ("report", "frames")]
        self.table = FrameTable(folder, self.space, resume=earlier is not None)
        self.writers = open_writers(names, replace(output, start=self.table.done))
        if self.table.done and not all(writer.resumable for writer in self.writers):
            self.table = FrameTable(folder, self.space)
            self.writers = open_writers(names, output)
        self.start = self.table.done
        self.smoother = None if options.smooth is None else Smoother(options.smooth)
        self.pipeline = Pipeline(
            predictor,
            options.frame_filter,
            self.smoother,
            drops=source.kind == "live",
            most=None if options.most_frames is None else max(0, options.most_frames - self.start),
        )
        self.torn = False  # whether some writers took a frame and others not
        self.counts: Counter[str] = Counter()  # by status, of earlier parts of the run too, as are the failures
        self.failures: list[dict[str, str]] = []
        for row in self.table.rows():
            self._count(row["status"], row)
        self.samples: list[tuple[str, Pixels, Pixels]] = []
        self.record = self._new_record(where)
        if earlier is not None and self.start:
            self.record["agreement"] = earlier.get("agreement")  # should no frame be left to measure it on

    def execute(self) -> dict[str, Any]:
        """Do the run and keep the record."""
        write_json(self.path, self.record)
        clock = self.saved = time.monotonic()
        total = self._expected()
        live = self.source.kind == "live"
        error: BaseException | None = None
        with tqdm(
            total=total, initial=self.start, unit="frame", desc="predict", disable=not self.options.progress
        ) as self.bar:
            items = without_refused(self.source.items(self.start), self.writers)
            try:
                self.pipeline.run(items, self._deliver)
            except KeyboardInterrupt as stopped:
                error = None if live else stopped  # the usual way to end a live capture
            except BaseException as stopped:
                error = stopped
        self.record["seconds"] = round(time.monotonic() - clock, 2)
        try:
            if error is None:
                self._close()
            else:
                self._break_off(error)
        except BaseException as stopped:
            self._note(_status(stopped), stopped)
            raise
        if error is not None:
            raise error
        return self.record

    def _deliver(self, item: Item | Failure, prediction: Prediction | None) -> None:
        if isinstance(item, Failure) or prediction is None:
            self._count("failed", {"name": item.name, "error": getattr(item, "error", "")})
        else:
            self.torn = True
            for writer in self.writers:
                writer.write(item, prediction)
            self.torn = False
            self.counts[prediction.skipped or "ok"] += 1
            self._sample(item, prediction)
        self.table.add(item, prediction)
        self.bar.update()
        if time.monotonic() - self.saved > CHECKPOINT_SECONDS:
            self._checkpoint()

    def _count(self, status: str, frame: Mapping[str, str]) -> None:
        self.counts[status] += 1
        if status == "failed" and len(self.failures) < _MOST_FAILURES:
            self.failures.append({"name": frame["name"], "error": frame["error"]})

    def _checkpoint(self) -> None:
        for writer in self.writers:
            writer.checkpoint(sum(self.counts.values()))
        self.table.checkpoint()  # last: what the journal names is on the disk
        self.saved = time.monotonic()

    def _sample(self, item: Item, prediction: Prediction) -> None:
        """Keep a few frames, evenly spread where the length is known."""
        if prediction.skipped is not None or len(self.samples) == _SHOWN:
            return
        total = self._expected() or _SHOWN
        if (item.index - self.start) * _SHOWN >= len(self.samples) * (total - self.start):
            self.samples.append((item.name, item.image, prediction.labels))

    def _close(self) -> None:
        # First all frames go to the journal, last the journal takes its final name: whatever ends the run in between,
        # a resumed one begins behind the last frame, and writers whose files are finished have nothing to do.
        self._checkpoint()
        for writer in self.writers:
            writer.close()
        if self.options.compare and self.predictor.needs_comparison and self.samples:
            images = [image for _, image, _ in self.samples[:_COMPARED]]
            self.record["agreement"] = round(self.predictor.agreement(images), 5)
        self._state("completed")
        if "report" in self.options.write:
            painter = Painter(self.space, legend=False)
            pictures = [(name, image, painter(image, labels)) for name, image, labels in self.samples]
            write_prediction_report(self.folder / "report.html", self.record, self.table.rows(), self.space, pictures)
        self.table.close()
        self._note("completed")

    def _break_off(self, error: BaseException) -> None:
        # A frame that some writers have and others lack must come again, so what followed the last checkpoint goes.
        if not self.torn:
            with suppress(OSError, ValueError):  # a full disk; the error that broke the run off is raised
                self._checkpoint()
        for writer in self.writers:
            writer.abort()
        self._note(_status(error), error)

    def _note(self, status: str, error: BaseException | None = None) -> None:
        """Write the record, with how things stand."""
        self._state(status, error)
        try:
            write_json(self.path, self.record)
        except UserError:
            if error is None:
                raise  # otherwise the first error says more

    def _state(self, status: str, error: BaseException | None = None) -> None:
        done, seconds = len(self.pipeline.seconds["write"]), self.record["seconds"] or 0
        flicker = self.smoother.flicker if self.smoother is not None else None
        self.record |= {
            "status": status,
            "error": None
            if error is None
            else self._neutral(f"{type(error).__name__}: {' '.join(str(error).split())}"),
            "resumed_at": self.start,
            "frames": dict(self.counts) | {"dropped": self.pipeline.dropped},
            "failures": self.failures,
            "fps": round(done / seconds, 2) if done and seconds else None,
            "milliseconds": self.pipeline.timings(),
            "batch_size": self.predictor.batch_size,
            "flicker": None if flicker is None else {"before": flicker[0], "after": flicker[1]},
        }

    def _neutral(self, text: str) -> str:
        """Replace the run's folder, which may hold a name; a relative one only where it stands as a path."""
        if self.options.keep_identifiers:
            return text
        folder = re.escape(str(self.folder))
        text = text.replace(str(self.folder.absolute()), "OUT")
        return re.sub(rf"(?<![\w./\\-]){folder}(?=[/\\])|(?<=['\"]){folder}(?=['\"])", "OUT", text)

    def _expected(self) -> int | None:
        most, total = self.options.most_frames, self.source.total
        return min(most, total) if most is not None and total is not None else most or total

    def _identity(self) -> dict[str, Any]:
        """What an earlier run must agree in to be gone on with."""
        options, predictor = self.options, self.predictor
        return {
            "input": f"{self.source.kind}:{self.source.fingerprint}",
            "weights_sha256": predictor.bundle.weights_sha256,
            "label_space": self.space.name,
            "mode": predictor.mode,
            "engine": predictor.engine.name,
            "precision": predictor.engine.precision,
            "write": sorted(set(options.write)),
            "side_by_side": options.side_by_side,
            "legend": options.legend,
            "smooth": options.smooth,
            "uncertainty": predictor.uncertainty,
            "frame_filter": None if options.frame_filter is None else _name(options.frame_filter),
            "most_frames": options.most_frames,
        }

    def _earlier(self) -> dict[str, Any] | None:
        if not self.path.is_file():
            return None
        if not self.options.resume:
            raise UserError(f"{str(self.folder)!r} holds a run already; go on with --resume, or name another --out.")
        try:
            earlier = read_json(self.path)
            found = earlier["identity"]
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{str(self.path)!r} is no record of a prediction; name another --out.") from error
        for key, value in self.identity.items():
            if found.get(key) != value:
                raise UserError(
                    f"{str(self.folder)!r} was begun with {key} {found.get(key)!r}, not {value!r}; give the same, or "
                    "name another --out."
                )
        return earlier

    def _new_record(self, where: str) -> dict[str, Any]:
        bundle, engine = self.predictor.bundle, self.predictor.engine
        record: dict[str, Any] = {
            "status": "running",
            "seconds": None,
            "bundle": {"name": bundle.name, "version": bundle.version, "classes": list(self.space.classes)},
            "device": device_name(engine.device),
            "source": {"kind": self.source.kind, "frames": self.source.total, "fps": self.source.fps},
            "identity": self.identity,
            "agreement": None,
            "versions": versions(),
            "git": git_revision(),
        }
        if self.options.keep_identifiers:
            record["identifiers"] = {
                "input": where,
                "command": command_line(),
                "start": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            }
        return record


def _name(function: object) -> str:
    """Return what tells a function, or an object that is called as one, from others."""
    known = function if hasattr(function, "__qualname__") else type(function)
    return f"{known.__module__}.{known.__qualname__}"


def _status(error: BaseException) -> str:
    return "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"Cannot make the folder {str(folder)!r}: {error.strerror}; name another --out.") from error
