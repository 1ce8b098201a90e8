"""Whole runs: their files, their order, their interruptions."""

import csv
import os
import shutil
import subprocess
import sys
from itertools import count, islice
from pathlib import Path
from time import sleep

import numpy as np
import pytest
from PIL import Image
from tiny_data import picture

from lap_monai.checks import UserError
from lap_monai.files import read_json
from lap_monai.inference import WRITERS, Arrays, FileWriter, Item, Options, open_source, predict, run, skip_black

av = pytest.importorskip("av")


def table(folder):
    with (folder / "frames.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def decoded(path):
    with av.open(str(path)) as container:
        return [(frame.time, frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]


class Stopping:
    """A source that stops with an error at a frame, as a pulled plug would."""

    def __init__(self, source, at, error=KeyboardInterrupt):
        self._source, self._at, self._error = source, at, error
        self.kind, self.total, self.fps, self.fingerprint = source.kind, source.total, source.fps, source.fingerprint

    def items(self, start=0):
        yield from islice(self._source.items(start), self._at - start)
        raise self._error


@pytest.fixture
def frames(tmp_path):
    folder = tmp_path / "in put" / "ä"
    folder.mkdir(parents=True)
    for index in range(7):
        Image.fromarray(picture(index, (40, 60))).save(folder / f"frame {index}.png")
    return folder.parent


def test_every_frame_leaves_its_files_and_its_row(frames, predictor, tmp_path):
    (frames / "ä" / "frame 3.png").write_bytes(b"no picture")
    Image.fromarray(np.zeros((40, 60, 3), np.uint8)).save(frames / "ä" / "frame 5.png")
    predictor.uncertainty = True
    options = Options(write=["labels", "overlay", "probabilities", "uncertainty", "report"], frame_filter=skip_black)
    out = tmp_path / "out"
    record = predict(open_source(frames), predictor, out, options)
    assert record == read_json(out / "run.json")
    assert (record["status"], record["frames"]["ok"], record["frames"]["failed"]) == ("completed", 5, 1)
    assert record["frames"]["black"] == 1
    assert record["failures"] == [{"name": "ä/frame 3", "error": "is no image; copy it again"}]
    assert set(record["milliseconds"]) == {"decode", "prepare", "network", "write"}
    assert 0 <= record["agreement"] <= 1

    rows = table(out)
    assert [row["index"] for row in rows] == [str(index) for index in range(7)]
    assert [row["status"] for row in rows] == ["ok", "ok", "ok", "failed", "ok", "black", "ok"]
    image = np.asarray(Image.open(frames / "ä" / "frame 0.png"))
    prediction = predictor([image])[0]
    np.testing.assert_array_equal(np.asarray(Image.open(out / "labels" / "ä" / "frame 0.png")), prediction.labels)
    for index, name in enumerate(predictor.bundle.label_space.classes):
        inside = prediction.labels == index
        assert float(rows[0][f"area {name}"]) == pytest.approx(inside.mean(), abs=1e-6)
        assert (name in rows[0]["present"].split("; ")) == (inside.mean() >= 0.001)
    assert float(rows[0]["confidence"]) == pytest.approx(prediction.probabilities.max(0).mean(), abs=1e-4)
    assert float(rows[0]["uncertainty"]) == pytest.approx(prediction.uncertainty.mean(), abs=1e-4)
    stored = np.load(out / "probabilities" / "ä" / "frame 0.npz")
    np.testing.assert_allclose(stored["probabilities"] / 255, prediction.probabilities, atol=0.5 / 255 + 1e-6)
    assert (np.asarray(Image.open(out / "labels" / "ä" / "frame 5.png")) == 255).all()
    assert not (out / "labels" / "ä" / "frame 3.png").exists()
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "passed over: black" in page
    assert not list(out.rglob(".*"))


def test_a_video_becomes_an_overlay_with_its_times_and_no_tags(write_video, predictor, tmp_path):
    times = [0, 0.04, 0.08, 0.5, 0.54, 1.0]
    path = write_video("Jane Doe.mp4", times)
    record = predict(
        open_source(path), predictor, tmp_path / "out", Options(write=["overlay", "report"], side_by_side=True)
    )
    shown = decoded(tmp_path / "out" / "overlay.mp4")
    np.testing.assert_allclose([time for time, _ in shown], times, atol=1e-3)
    assert shown[0][1].shape[1] == 128
    source = [item.image for item in open_source(path).items()]
    np.testing.assert_allclose(shown[0][1][:48, :64].astype(int), source[0], atol=40)
    assert record["source"] == {"kind": "video", "frames": 6, "fps": pytest.approx(record["source"]["fps"])}
    for file in (tmp_path / "out").rglob("*"):
        if file.is_file():
            assert b"Jane" not in file.read_bytes()
            assert str(tmp_path).encode() not in file.read_bytes()


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_a_run_that_is_broken_off_goes_on_where_it_was(write_video, predictor, tmp_path, error, monkeypatch):
    monkeypatch.setattr(run, "CHECKPOINT_SECONDS", 0)  # a segment a frame
    source = open_source(write_video("v.mp4", [i / 25 for i in range(10)]))
    options = Options(write=["labels", "overlay"], compare=False)
    whole = predict(source, predictor, tmp_path / "whole", options)
    with pytest.raises(error):
        predict(Stopping(source, 6, error), predictor, tmp_path / "out", options)
    broken = read_json(tmp_path / "out" / "run.json")
    assert broken["status"] == ("interrupted" if error is KeyboardInterrupt else "failed")
    segments = sorted((tmp_path / "out" / "overlay_segments").glob("*.mp4"))
    assert segments
    assert all(len(decoded(segment)) == 1 for segment in segments)
    with (tmp_path / "out" / ".frames.csv").open("a") as file:
        file.write("6,000006,0.2")  # the line that a kill tore
    (tmp_path / "out" / "labels" / ".000006.0123abcd.png").touch()  # and the image that it left half-written
    (tmp_path / "out" / "overlay_segments" / ".000000006_21600.mp4").touch()  # and the segment
    record = predict(
        source, predictor, tmp_path / "out", Options(write=["labels", "overlay"], compare=False, resume=True)
    )
    assert record["frames"] == whole["frames"]
    assert record["resumed_at"] > 0
    assert table(tmp_path / "out") == table(tmp_path / "whole")
    pairs = zip(decoded(tmp_path / "out" / "overlay.mp4"), decoded(tmp_path / "whole" / "overlay.mp4"), strict=True)
    for (time, image), (other_time, other_image) in pairs:
        assert time == pytest.approx(other_time, abs=1e-3)
        assert np.abs(image.astype(int) - other_image).mean() < 6
    assert len(list((tmp_path / "out" / "labels").iterdir())) == 10
    assert not (tmp_path / "out" / "overlay_segments").exists()
    again = predict(
        source, predictor, tmp_path / "out", Options(write=["labels", "overlay"], compare=False, resume=True)
    )
    assert again == record


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_a_run_that_is_broken_off_after_its_last_frame_goes_on_behind_it(
    write_video, predictor, tmp_path, error, monkeypatch
):
    """The agreement needs a second network, for which there may be no time and no memory."""

    def fails(*args):
        raise error

    source, out = open_source(write_video()), tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(type(predictor), "agreement", fails)
        with pytest.raises(error):
            predict(source, predictor, out, Options())
    assert read_json(out / "run.json")["status"] == ("interrupted" if error is KeyboardInterrupt else "failed")
    overlay = (out / "overlay.mp4").read_bytes()
    record = predict(source, predictor, out, Options(resume=True))
    assert (record["status"], record["resumed_at"], record["frames"]["ok"]) == ("completed", 12, 12)
    assert len(table(out)) == 12
    assert (out / "overlay.mp4").read_bytes() == overlay
    assert (out / "report.html").is_file()


def test_a_kill_at_any_moment_of_the_end_loses_nothing(write_video, predictor, tmp_path, monkeypatch):
    """Copies of the folder, made before each change, stand for what kills would have left."""
    source, out = open_source(write_video()), tmp_path / "out"
    copies = []

    def copying(function):
        def copy_first(*args, **more):
            if (out / "run.json").is_file():
                copies.append(shutil.copytree(out, tmp_path / f"copy {len(copies)}"))
            return function(*args, **more)

        return copy_first

    functions = [(os, name) for name in ("replace", "rename", "unlink", "rmdir")]
    for module, name in [*functions, (Path, "replace"), (run, "write_prediction_report")]:
        monkeypatch.setattr(module, name, copying(getattr(module, name)))
    monkeypatch.setattr(run, "CHECKPOINT_SECONDS", 0.2)
    words = {"write": ["overlay", "report"], "compare": False}
    predict(source, predictor, out, Options(**words))
    monkeypatch.undo()
    times = [time for time, _ in decoded(out / "overlay.mp4")]
    assert len(copies) >= 5
    for copy in copies:
        record = predict(source, predictor, copy, Options(**words, resume=True))
        assert (record["status"], record["frames"]["ok"]) == ("completed", 12)
        assert table(copy) == table(out)
        assert [time for time, _ in decoded(copy / "overlay.mp4")] == pytest.approx(times, abs=1e-3)
        assert {path.name for path in copy.iterdir()} == {path.name for path in out.iterdir()}


class Live:
    """Frames without an end that come faster than any network takes them."""

    kind, total, fps, fingerprint = "live", None, 25.0, "live"

    def __init__(self, source):
        self._items = list(source.items())

    def items(self, start=0):
        for index in count():
            sleep(0.0002)
            yield Item(f"{index:06d}", index, self._items[index % len(self._items)].image, index / self.fps)


def test_the_limit_of_a_live_capture_counts_segmented_frames(write_video, predictor, tmp_path):
    source = Live(open_source(write_video()))
    record = predict(source, predictor, tmp_path / "out", Options(write=["labels"], compare=False, most_frames=8))
    assert record["frames"]["ok"] == len(table(tmp_path / "out")) == 8
    assert record["frames"]["dropped"] > 0


def test_a_live_capture_is_not_gone_on_with(write_video, predictor, tmp_path):
    source, options = Live(open_source(write_video())), Options(write=["overlay"], compare=False)
    with pytest.raises(RuntimeError):
        predict(Stopping(source, 6, RuntimeError), predictor, tmp_path / "out", options)
    before = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    with pytest.raises(UserError, match="live capture cannot be gone on with"):
        predict(source, predictor, tmp_path / "out", Options(write=["overlay"], compare=False, resume=True))
    assert {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()} == before


def test_a_frame_that_one_writer_lacks_comes_again_to_all(write_video, predictor, tmp_path, monkeypatch):
    class Failing(FileWriter):
        fails = True

        def __init__(self, output):
            pass

        def write(self, item, prediction):
            if item.index == 5 and self.fails:
                raise OSError(28, "No space left on device")

    monkeypatch.setitem(WRITERS, "failing", Failing)
    source = open_source(write_video())
    words = {"write": ["overlay", "failing"], "compare": False}
    with pytest.raises(OSError, match="No space"):
        predict(source, predictor, tmp_path / "out", Options(**words))
    monkeypatch.setattr(Failing, "fails", False)
    predict(source, predictor, tmp_path / "out", Options(**words, resume=True))
    assert [row["index"] for row in table(tmp_path / "out")] == [str(index) for index in range(12)]
    np.testing.assert_allclose(
        [time for time, _ in decoded(tmp_path / "out" / "overlay.mp4")], np.arange(12) / 25, atol=1e-3
    )


def test_another_run_in_the_same_folder_is_refused(frames, predictor, tmp_path):
    options = Options(write=["labels"], compare=False)
    predict(open_source(frames), predictor, tmp_path / "out", options)
    with pytest.raises(UserError, match="holds a run already"):
        predict(open_source(frames), predictor, tmp_path / "out", options)
    with pytest.raises(UserError, match="begun with write"):
        predict(open_source(frames), predictor, tmp_path / "out", Options(write=["overlay"], resume=True))
    Image.fromarray(picture(9)).save(frames / "new.png")
    with pytest.raises(UserError, match="begun with input"):
        predict(open_source(frames), predictor, tmp_path / "out", Options(write=["labels"], resume=True))


def test_arrays_and_iterables_are_sources_too(predictor, tmp_path):
    images = [picture(seed) for seed in range(4)]
    record = predict(
        Arrays(np.stack(images), fps=2), predictor, tmp_path / "a", Options(write=["labels"], compare=False)
    )
    assert record["frames"]["ok"] == 4
    assert [row["time"] for row in table(tmp_path / "a")] == ["0", "0.5", "1", "1.5"]
    wrong = (image for image in [images[0], images[1].astype(float)])
    record = predict(Arrays(wrong), predictor, tmp_path / "b", Options(write=["labels"], compare=False))
    assert (record["frames"]["ok"], record["frames"]["failed"]) == (1, 1)


def test_no_frame_at_all_is_an_error_as_often_as_it_is_resumed(frames, predictor, tmp_path):
    for path in frames.rglob("*.png"):
        path.write_bytes(b"no")
    for resume in (False, True, True):
        with pytest.raises(UserError, match="No frame could be read"):
            predict(open_source(frames), predictor, tmp_path / "out", Options(resume=resume))
    assert read_json(tmp_path / "out" / "run.json")["frames"]["failed"] == 7


def test_frames_passed_over_are_no_failures(frames, predictor, tmp_path):
    for path in frames.rglob("*.png"):
        Image.fromarray(np.zeros((40, 60, 3), np.uint8)).save(path)
    next(frames.rglob("*.png")).write_bytes(b"no")
    record = predict(open_source(frames), predictor, tmp_path / "out", Options(frame_filter=skip_black))
    assert record["frames"] == {"failed": 1, "black": 6, "dropped": 0}


def test_failures_before_an_interruption_are_listed_after_it(frames, predictor, tmp_path, monkeypatch):
    class Stopped(FileWriter):
        at = 3

        def __init__(self, output):
            pass

        def write(self, item, prediction):
            if item.index == self.at:
                raise KeyboardInterrupt

    monkeypatch.setitem(WRITERS, "stopped", Stopped)
    monkeypatch.setattr(run, "CHECKPOINT_SECONDS", 0)
    (frames / "ä" / "frame 1.png").write_bytes(b"no picture")
    (frames / "ä" / "frame 6.png").write_bytes(b"no picture")
    source, out, options = open_source(frames), tmp_path / "out", Options(["stopped"], resume=True, compare=False)
    for at in (3, 5):
        monkeypatch.setattr(Stopped, "at", at)
        with pytest.raises(KeyboardInterrupt):
            predict(source, predictor, out, options)
        broken = read_json(out / "run.json")
        assert (broken["frames"]["ok"], broken["frames"]["failed"]) == (at - 1, 1)
        assert [failure["name"] for failure in broken["failures"]] == ["ä/frame 1"]
    monkeypatch.setattr(Stopped, "at", None)
    record = predict(source, predictor, out, options)
    assert (record["frames"]["ok"], record["frames"]["failed"]) == (5, 2)
    error = "is no image; copy it again"
    assert record["failures"] == [{"name": f"ä/frame {index}", "error": error} for index in (1, 6)]


def test_another_filter_of_frames_is_another_run(frames, predictor, tmp_path):
    source, words = open_source(frames), {"write": ["labels"], "compare": False}
    with pytest.raises(KeyboardInterrupt):
        predict(Stopping(source, 3), predictor, tmp_path / "out", Options(**words, frame_filter=skip_black))
    with pytest.raises(UserError, match=r"begun with frame_filter '.*skip_black', not None"):
        predict(source, predictor, tmp_path / "out", Options(**words, resume=True))
    record = predict(source, predictor, tmp_path / "out", Options(**words, resume=True, frame_filter=skip_black))
    assert record["frames"]["ok"] == 7


def test_hidden_files_that_were_there_before_the_run_stay(frames, predictor, tmp_path):
    mine = tmp_path / "out" / ".holiday.20260801.jpg"
    mine.parent.mkdir()
    mine.write_bytes(b"sea")
    predict(open_source(frames), predictor, tmp_path / "out", Options(write=["labels"], compare=False))
    assert mine.read_bytes() == b"sea"


def test_queues_are_short_so_that_memory_does_not_grow(predictor, tmp_path, monkeypatch):
    """The source is never further ahead of the writers than the queues hold."""
    written, ahead = [], []

    def frames():
        for index in range(60):
            ahead.append(index - len(written))
            yield picture(index % 5)

    class Counting(FileWriter):
        def __init__(self, output):
            pass

        def write(self, item, prediction):
            written.append(item.index)

    monkeypatch.setitem(WRITERS, "counting", Counting)
    predict(Arrays(frames()), predictor, tmp_path / "out", Options(write=["counting"], compare=False))
    assert written == list(range(60))
    assert max(ahead) <= 8


def test_a_folder_that_cannot_be_written_is_said(frames, predictor, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match="Cannot make the folder"):
        predict(open_source(frames), predictor, tmp_path / "file" / "out")


FULL = """
import resource, signal, sys
from lap_monai.inference import Arrays, Options, Predictor, predict
import numpy as np
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
rng = np.random.default_rng(0)
frames = (rng.integers(0, 256, (96, 128, 3), dtype=np.uint8) for _ in range(400))
predictor = Predictor(sys.argv[1], device="cpu")
resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))
predict(Arrays(frames, fps=25), predictor, sys.argv[2], Options(write=["overlay"], compare=False))
"""


@pytest.mark.slow
def test_a_full_disk_ends_the_run_with_one_line_and_no_torn_video(tiny_run, tmp_path):
    """A limit on the size of a file stands for the disk."""
    words = [sys.executable, "-c", FULL, str(tiny_run), str(tmp_path / "out")]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert done.returncode != 0
    assert "UserError: Cannot write" in done.stderr.splitlines()[-1], done.stderr[-3000:]
    record = read_json(tmp_path / "out" / "run.json")
    assert record["status"] == "failed"
    for path in (tmp_path / "out").rglob("*.mp4"):
        assert decoded(path)
