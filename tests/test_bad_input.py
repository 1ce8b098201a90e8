"""Input that is wrong, damaged or cut off, given to the command line: one clear line, and nothing half-written.

Every test goes through `lap_monai.__main__.main` with the real bundle, on a tiny phantom.
"""

from __future__ import annotations

import json
import os
import pickle
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from command_line import CONFIGS, REPOSITORY, CommandLine, assert_same_network, contents, tree
from PIL import Image

from lap_monai.checkpoints import previous_checkpoint
from lap_monai.data import read_cholecseg8k, split_by_video
from lap_monai.files import read_json
from lap_monai.handlers import EpochSeed


@pytest.fixture
def data(tiny_phantom: Path, tmp_path: Path) -> Path:
    """A copy of the phantom, to be damaged."""
    return Path(shutil.copytree(tiny_phantom, tmp_path / "data"))


def a_file(data: Path, kind: str = "") -> Path:
    """A frame of a training patient, or its mask."""
    video = split_by_video(read_cholecseg8k(data)).train[0]
    return sorted(data.glob(f"{video}/*/frame_*_endo{kind}.png"))[1]


def a_mask(data: Path) -> Path:
    return a_file(data, "_watershed_mask")


def cut(path: Path, size: int) -> None:
    path.write_bytes(path.read_bytes()[:size])


def repaint(path: Path, change: Callable[[np.ndarray], object]) -> None:
    """Change the pixels of a picture in place."""
    with Image.open(path) as image:
        pixels = np.array(image)
    change(pixels)
    Image.fromarray(pixels).save(path)


def halve(path: Path) -> None:
    with Image.open(path) as image:
        half = image.resize((image.width // 2, image.height // 2), Image.Resampling.NEAREST)
    half.save(path)


# --- data ----------------------------------------------------------------------------------------------------------

DEFECTS: dict[str, tuple[Callable[[Path], Path], Callable[[Path], object], list[str]]] = {
    "missing frame": (a_file, Path.unlink, ["missing", "restore or delete"]),
    "missing mask": (a_mask, Path.unlink, ["missing", "restore the mask or delete"]),
    "truncated frame": (a_file, lambda path: cut(path, 400), ["cannot be decoded", "copy it again"]),
    "truncated mask": (a_mask, lambda path: cut(path, 100), ["cannot be decoded", "copy it again"]),
    "empty frame": (a_file, lambda path: cut(path, 0), ["damaged or no image", "copy it again"]),
    "no image": (a_file, lambda path: path.write_text("<html>"), ["damaged or no image", "copy it again"]),
    "mask of another size": (a_mask, halve, ["is 48x32, its frame 96x64", "give the mask that belongs"]),
    "unknown value": (
        a_mask,
        lambda path: repaint(path, lambda pixels: pixels[:9].fill(77)),
        ["holds 77, no value of layout 'cholecseg8k'", "unknown_values to 'ignore'"],
    ),
}


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_defect_of_the_data_is_named_with_its_file(cli: CommandLine, data: Path, defect: str) -> None:
    choose, damage, said = DEFECTS[defect]
    path = choose(data)
    damage(path)
    before = contents(data)
    error = cli.train(data=data).error
    assert str(path) in error
    for words in said:
        assert words in error
    assert contents(data) == before
    # The record of the draw is whole, and no training began.
    assert tree(cli.out) <= {"budget.json"}
    assert not [name for name in tree(cli.cache) if name.startswith(".")]


def test_unknown_values_may_be_ignored(cli: CommandLine, data: Path) -> None:
    repaint(a_mask(data), lambda pixels: pixels[:9].fill(77))
    with pytest.warns(UserWarning, match="holds 77, no value of layout 'cholecseg8k'; those pixels are ignored"):
        assert cli.train("unknown_values=ignore", "epochs=1", data=data).status == 0


def test_a_mended_data_set_goes_on_in_the_same_folder(cli: CommandLine, data: Path) -> None:
    whole = a_file(data).read_bytes()
    cut(a_file(data), 400)
    assert cli.train(data=data).status == 1
    a_file(data).write_bytes(whole)
    assert cli.train("epochs=1", data=data).status == 0
    assert read_json(cli.out / "run.json")["status"] == "completed"


@pytest.mark.parametrize(
    ("make", "words", "said"),
    [
        (lambda root: None, [], ["does not exist", "give the folder"]),
        (Path.mkdir, [], ["expected videoXX/", "found an empty folder"]),
        (Path.touch, [], ["is a file, not a folder"]),
        (lambda root: shutil.copytree(REPOSITORY / "configs", root), [], ["expected videoXX/", " splits/"]),
    ],
)
def test_a_folder_that_holds_no_data_set(
    cli: CommandLine, tmp_path: Path, make: Callable[[Path], object], words: list[str], said: list[str]
) -> None:
    make(tmp_path / "set")
    error = cli.train(*words, data=tmp_path / "set").error
    assert f"dataset_dir {str(tmp_path / 'set')!r}" in error
    for text in said:
        assert text in error
    assert not cli.out.exists()
    assert not cli.cache.exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["layout=endoscapes"], "which looks like layout 'cholecseg8k'"),
        (["layout=endoscape"], "Did you mean 'endoscapes'?"),
        (["label_space=endoscapes_7"], "no value of layout 'endoscapes'"),
        (["label_space=cholecseg8k_8"], "Unknown label space 'cholecseg8k_8'. Did you mean 'cholecseg8k_"),
        (["split_def=$data.load_split(@split)", "split=zhang_9"], "There is no split 'zhang_9'. Did you mean 'zhang_"),
        (["split_def=$data.load_split(@split)", "split=zhang_1"], "no video of part 'val' (video17, video28, video35)"),
        (["validate#part=vall"], "vall"),
        (["budget=0"], "budget fraction 0 must be above 0 and at most 1"),
        (["budget=5"], "budget fraction 5 must be above 0 and at most 1"),
        (["budget=five"], "'budget' to the text 'five', where the config has a number"),
        (["budget_unit=frames"], "Did you mean 'frame'?"),
        (["masked_per_batch=-1"], "masked_per_batch=-1: give 0 or more"),
        (["label_only_per_batch=1", "budget=1"], "there are no label_only frames"),
        (["frame_size=[32]"], "size must be (height, width)"),
        (["epochs=0"], "'train#trainer' gets 0 epochs; give a whole number"),
        (["epochs=ten"], "'epochs' to the text 'ten', where the config has a number"),
        (["learning_rate=-1"], "at 'optimizer' (torch.optim.AdamW): ValueError: Invalid learning rate: -1"),
        (["temperature=0"], "at 'dcl_loss'"),
        (["learning_rate=$1e-3 *"], "SyntaxError"),
        (["learning_rate=@learning_rat"], "@learning_rat"),
        (["ensure_positives=yes"], "write true or false"),
        (["num_workers=-1"], "num_workers"),
    ],
)
def test_a_value_that_makes_no_sense(cli: CommandLine, words: list[str], said: str) -> None:
    assert said in cli.train(*words).error
    assert tree(cli.out) <= {"budget.json"}


def test_there_is_nothing_to_resume(cli: CommandLine) -> None:
    assert f"No checkpoint at {str(cli.out / 'models' / 'checkpoint.pt')!r}; train first" in cli.train("--resume").error
    assert read_json(cli.out / "run.json")["status"] == "failed"
    assert not (cli.out / "models").exists()


def test_a_batch_of_more_frames_than_there_are_repeats_them(cli: CommandLine) -> None:
    """Each comes again with another augmentation, as `MixedBatchSampler` says."""
    assert cli.train("masked_per_batch=9", "epochs=1").status == 0


# --- classes that are not there ------------------------------------------------------------------------------------

GALLBLADDER, BLACK = 22, 50


def erase(data: Path, videos: tuple[str, ...]) -> None:
    """Turn the gallbladder of some patients into black background."""
    for path in (path for video in videos for path in data.glob(f"{video}/*/*_watershed_mask.png")):
        repaint(path, lambda pixels: np.place(pixels, pixels == GALLBLADDER, BLACK))


def test_a_class_absent_from_training_is_warned_of_and_scored_where_the_truth_shows_it(
    cli: CommandLine, data: Path
) -> None:
    erase(data, split_by_video(read_cholecseg8k(data)).train)
    with pytest.warns(UserWarning, match=r"no training frame shows .*Gallbladder"):
        assert cli.train("epochs=1", data=data).status == 0
    assert cli.evaluate(data=data).status == 0
    (row,) = read_json(cli.out / "results.json")["rows"]
    assert row["iou"]["Gallbladder"] is not None
    assert "Gallbladder" not in row["absent"]


def test_a_class_absent_from_the_evaluated_frames_is_null_and_never_0(cli: CommandLine, data: Path) -> None:
    erase(data, split_by_video(read_cholecseg8k(data)).test)
    assert cli.train("epochs=1", data=data).status == 0
    assert cli.evaluate(data=data).status == 0
    (row,) = read_json(cli.out / "results.json")["rows"]
    present = [value for value in row["iou"].values() if value is not None]
    assert row["iou"]["Gallbladder"] is None
    assert "Gallbladder" in row["absent"]
    assert row["n_present"] == len(present) == 8 - len(row["absent"])
    assert row["miou"] == pytest.approx(sum(present) / len(present))
    (column,) = (line for line in (cli.out / "results.csv").read_text().splitlines()[:1])
    cells = dict(zip(column.split(","), (cli.out / "results.csv").read_text().splitlines()[1].split(","), strict=True))
    assert all(not value for name, value in cells.items() if "Gallbladder" in name and "iou" in name)


# --- configs -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["epoch=3"], "the command line sets 'epoch', which the config does not have. Did you mean 'epochs'?"),
        (["train#trainr#max_epochs=3"], "Did you mean 'train#trainer#max_epochs'?"),
        (["optimizer#weigth_decay=0.1"], "AdamW takes no argument 'weigth_decay'. Did you mean 'weight_decay'?"),
        (["train#handlers#99#interval=2"], "'train#handlers#99#interval'"),
        (["optimizer#_target_=torch.optim.Adamm"], "Did you mean 'torch.optim.Adam"),
    ],
)
@pytest.mark.parametrize("where", ["command line", "overlay"])
def test_a_misspelled_override_is_refused(
    cli: CommandLine, tmp_path: Path, words: list[str], said: str, where: str
) -> None:
    if where == "command line":
        error = cli.train(*words).error
    else:
        key, _, value = words[0].partition("=")
        overlay = tmp_path / "overlay.json"
        overlay.write_text(json.dumps({key: value}))
        error = cli.train(overlays=[overlay]).error
        said = said.replace("the command line", repr(str(overlay)))
    assert said.removeprefix("Did you mean 'torch.optim.") in error
    assert not cli.out.exists()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"epochs": 3,', "cannot be read"),
        ("", "cannot be read"),
        ("[1, 2]", "is not one object with keys"),
        ("\x00\xff", "cannot be read"),
    ],
)
def test_a_config_that_is_none(cli: CommandLine, tmp_path: Path, text: str, said: str) -> None:
    overlay = tmp_path / "overlay.json"
    overlay.write_bytes(text.encode("latin-1"))
    error = cli.train(overlays=[overlay]).error
    assert said in error
    assert str(overlay) in error
    assert not cli.out.exists()


def test_a_config_that_is_not_there(cli: CommandLine) -> None:
    assert f"No config file {str(CONFIGS / 'trian.json')!r}" in cli("run", CONFIGS / "trian.json").error


# --- run folders ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [["epoch=3"], ["budget=7"], ["dataset_dir=nowhere"], ["learning_rate=-1"]])
def test_a_run_that_cannot_begin_leaves_an_earlier_one_as_it_was(
    cli: CommandLine, tiny_run: Path, words: list[str]
) -> None:
    shutil.copytree(tiny_run, cli.out)
    before = contents(cli.out)
    assert cli.train(*words).error
    assert contents(cli.out) == before


def test_a_run_folder_that_is_a_file(cli: CommandLine) -> None:
    cli.out.write_text("mine")
    assert f"Cannot write '{cli.out}" in cli.train().error
    assert cli.out.read_text() == "mine"


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_run_folder_that_may_not_be_written(cli: CommandLine) -> None:
    cli.out.mkdir(mode=0o500)
    assert "Permission denied" in cli.train().error


# --- checkpoints ---------------------------------------------------------------------------------------------------


class Malicious:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable, tuple]:
        return open, (str(self.path), "w")


def flip_a_bit(path: Path) -> None:
    """Change one weight in the middle of the file, where no structure notices."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 64
    path.write_bytes(content)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "truncated": lambda path: cut(path, path.stat().st_size // 2),
    "random bytes": lambda path: path.write_bytes(random.Random(0).randbytes(5000)),
    "empty": lambda path: cut(path, 0),
    "flipped bit": flip_a_bit,
    "text": lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\n"),
    "code": lambda path: path.write_bytes(pickle.dumps({"model": Malicious(path.with_name("executed"))})),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("use", ["resume", "evaluate", "infer"])
def test_a_damaged_checkpoint_is_refused_and_nothing_in_it_is_run(
    cli: CommandLine, tiny_run: Path, use: str, damage: str
) -> None:
    shutil.copytree(tiny_run, cli.out)
    path = cli.out / "models" / ("checkpoint.pt" if use == "resume" else "model.pt")
    DAMAGES[damage](path)
    previous_checkpoint(path).unlink(missing_ok=True)  # to which a resumption would fall back
    before = contents(cli.out / "models")
    if use == "resume":
        error = cli.train("--resume", "epochs=3").error
    elif use == "evaluate":
        error = cli.evaluate().error
    else:
        error = cli.infer(cli.data, cli.out / "models", "pattern=**/*_endo.png").error
    assert f"The checkpoint {str(path)!r} is damaged or not a checkpoint" in error
    assert "restore it or delete it" in error
    assert contents(cli.out / "models") == before
    assert "executed" not in tree(cli.out / "models")
    assert not (cli.out / "results.json").exists()
    assert not tree(cli.folder / "labels")


def test_a_failed_resumption_is_recorded_after_the_run_that_it_wanted_to_continue(
    cli: CommandLine, tiny_run: Path
) -> None:
    shutil.copytree(tiny_run, cli.out)
    checkpoint = cli.out / "models" / "checkpoint.pt"
    cut(checkpoint, 50)
    previous_checkpoint(checkpoint).unlink()  # to which it would fall back
    assert cli.train("--resume", "epochs=3").status == 1
    record = read_json(cli.out / "run.json")
    assert record["status"] == "failed"
    assert "is damaged" in record["error"]
    assert record["start"]
    assert [earlier["status"] for earlier in record["earlier"]] == ["completed"]


@pytest.mark.parametrize("use", ["resume", "evaluate"])
def test_a_checkpoint_of_another_label_space_is_refused(cli: CommandLine, tiny_run: Path, use: str) -> None:
    """Both spaces have eight classes, so that the weights would fit."""
    shutil.copytree(tiny_run, cli.out)
    words = ["label_space=cholecseg8k_endovit8", "--out", cli.out]
    error = (cli.train("--resume", "epochs=3", *words) if use == "resume" else cli.evaluate(*words)).error
    assert "was trained with label_space 'cholecseg8k_zhang8', but this run uses 'cholecseg8k_endovit8'" in error
    assert "set label_space to 'cholecseg8k_zhang8' or give another checkpoint" in error


def test_a_training_is_not_resumed_on_other_data(cli: CommandLine, tiny_run: Path) -> None:
    shutil.copytree(tiny_run, cli.out)
    error = cli.train("--resume", "epochs=3", "budget=0.25", "--out", cli.out).error
    assert "was trained with budget 0.5, but this run uses 0.25" in error


def test_a_checkpoint_of_another_network_is_refused(cli: CommandLine, tiny_run: Path) -> None:
    shutil.copytree(tiny_run, cli.out)
    assert "does not fit the configured model" in cli.evaluate("backbone_def#features=[8,8,8,16,16,8]").error


def test_evaluation_without_a_training(cli: CommandLine) -> None:
    assert "No checkpoint at" in cli.evaluate().error


# --- frames to segment ---------------------------------------------------------------------------------------------


def test_inference_names_a_damaged_frame(cli: CommandLine, data: Path, tiny_run: Path) -> None:
    cut(a_file(data), 400)
    error = cli.infer(data, tiny_run / "models", "pattern=**/*_endo.png").error
    assert str(a_file(data)) in error
    assert "cannot be decoded" in error


def test_inference_says_where_it_found_no_frame(cli: CommandLine, tiny_run: Path, tmp_path: Path) -> None:
    error = cli.infer(tmp_path / "nowhere", tiny_run / "models").error
    assert str(tmp_path / "nowhere") in error
    assert "set dataset_dir" in error


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("network_def#features=[4]", "at 'network_def'"),
        ("num_classes=9", "does not fit the configured model: size mismatch"),
        ("dataset_dirr=x", "Did you mean 'dataset_dir'?"),
    ],
)
def test_inference_with_another_network(cli: CommandLine, data: Path, tiny_run: Path, word: str, said: str) -> None:
    assert said in cli.infer(data, tiny_run / "models", "pattern=**/*_endo.png", word).error


def test_inference_without_weights(cli: CommandLine, data: Path, tmp_path: Path) -> None:
    assert f"No checkpoint at {str(tmp_path / 'nowhere' / 'model.pt')!r}" in cli.infer(data, tmp_path / "nowhere").error


# --- a full disk ---------------------------------------------------------------------------------------------------


class SmallDisk:
    """A file system of a few megabytes."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.filler = root / "filler"

    def fill(self, leave: int) -> None:
        """Use up all but `leave` bytes."""
        free = shutil.disk_usage(self.root).free
        self.filler.write_bytes(bytes(max(0, free - leave)))

    def free(self) -> None:
        self.filler.unlink()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """A disk of 4 MB; skips where none can be mounted."""
    root = tmp_path / "disk"
    root.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(root)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        yield SmallDisk(root)
    finally:
        subprocess.run(["umount", str(root)], check=True)


def test_a_full_disk_stops_the_cache_before_it_begins(cli: CommandLine, small_disk: SmallDisk) -> None:
    error = cli.train(f"cache_dir={small_disk.root}").error
    assert f"no space for the frame cache in {str(small_disk.root)!r}" in error
    assert "LAP_MONAI_CACHE" in error
    assert not tree(small_disk.root)


@pytest.mark.parametrize("leave", [16_384, 65_536, 131_072])
def test_a_full_disk_ends_a_training_that_goes_on_once_there_is_room(
    cli: CommandLine, small_disk: SmallDisk, leave: int
) -> None:
    out = small_disk.root / "out"
    assert cli.train("epochs=1", out=out).status == 0
    small_disk.fill(leave)
    before = contents(out / "models")
    error = cli.train("--resume", "epochs=3", out=out).error
    assert f"Cannot write '{out}" in error or f"Cannot write the checkpoint '{out}" in error
    assert "free space" in error.lower()
    assert set(before) == tree(out / "models")  # no temporary file
    assert not [name for name in tree(out) if Path(name).name.startswith(".")]
    small_disk.free()
    assert cli.train("--resume", "epochs=3", out=out).status == 0
    assert cli.train("epochs=3", out=cli.folder / "uninterrupted").status == 0
    assert_same_network(out / "models/checkpoint.pt", cli.folder / "uninterrupted/models/checkpoint.pt")


def test_a_full_disk_leaves_no_half_result(cli: CommandLine, small_disk: SmallDisk, tiny_run: Path) -> None:
    out = small_disk.root / "out"
    shutil.copytree(tiny_run, out)
    small_disk.fill(leave=24_576)
    assert f"Cannot write '{out}" in cli.evaluate(out=out).error
    for name in tree(out):
        assert not Path(name).name.startswith(".")
        if name.endswith(".json"):
            read_json(out / name)
    small_disk.free()
    assert cli.evaluate(out=out).status == 0


# --- interruptions -------------------------------------------------------------------------------------------------


def history(out: Path) -> list[dict]:
    """The epochs of a run, without what the clock decides."""
    return [
        {name: value for name, value in row.items() if name != "seconds"} for row in read_json(out / "history.json")
    ]


def assert_same_run(first: Path, second: Path) -> None:
    assert history(first) == history(second)
    for name in ("checkpoint.pt", "model.pt"):
        assert_same_network(first / "models" / name, second / "models" / name)


def test_ctrl_c_ends_with_130_and_the_run_goes_on_where_it_was(
    cli: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference = cli.folder / "uninterrupted"
    assert cli.train("epochs=4", out=reference).status == 0

    usual = EpochSeed.__call__

    def press_ctrl_c(self: EpochSeed, engine: object) -> None:
        usual(self, engine)
        if engine.state.epoch == 3:
            os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(EpochSeed, "__call__", press_ctrl_c)
        outcome = cli.train("epochs=4")
    assert outcome.status == 130
    assert outcome.err == "interrupted\n"
    record = read_json(cli.out / "run.json")
    assert record["status"] == "interrupted"
    assert not [name for name in tree(cli.out) if Path(name).name.startswith(".")]

    assert cli.train("--resume", "epochs=4").status == 0
    assert_same_run(cli.out, reference)
    record = read_json(cli.out / "run.json")
    assert record["status"] == "completed"
    assert [earlier["status"] for earlier in record["earlier"]] == ["interrupted"]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_process_that_is_stopped_goes_on_where_it_was(cli: CommandLine, number: signal.Signals) -> None:
    words = cli.words("epochs=8")
    process = subprocess.Popen(
        [sys.executable, "-m", "lap_monai", *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    deadline = time.monotonic() + 200
    while process.poll() is None and time.monotonic() < deadline:
        if (cli.out / "history.json").is_file() and len(read_json(cli.out / "history.json")) >= 3:
            break
        time.sleep(0.02)
    process.send_signal(number)
    _, err = process.communicate(timeout=100)

    # Python itself ends by SIGINT once a KeyboardInterrupt went through `eval`, as MONAI's configs use it; a shell sees
    # 130 either way.
    expected = {signal.SIGINT: (130, -2), signal.SIGTERM: (143,), signal.SIGKILL: (-9,)}
    assert process.returncode in expected[number], err
    status = read_json(cli.out / "run.json")["status"]
    assert status == ("running" if number == signal.SIGKILL else "interrupted")
    assert "Traceback" not in err
    if number == signal.SIGINT:
        assert err.splitlines()[-1] == "interrupted"

    assert cli.train("--resume", "epochs=8").status == 0
    assert cli.train("epochs=8", out=cli.folder / "uninterrupted").status == 0
    assert_same_run(cli.out, cli.folder / "uninterrupted")
