import json

import numpy as np
import pytest
from PIL import Image
from tiny_data import picture


@pytest.fixture
def frames(tmp_path):
    folder = tmp_path / "frames"
    folder.mkdir()
    for index in range(3):
        Image.fromarray(picture(index, (40, 60))).save(folder / f"{index}.png")
    return folder


def test_it_segments_a_folder_and_says_so(cli, frames, tiny_run):
    done = cli("predict", frames, "--bundle", tiny_run, "--out", cli.out, "--device", "cpu")
    assert done.status == 0, done.err
    assert "3 ok" in done.out
    assert "agreement with the bundle's own inference" in done.out
    assert len(list((cli.out / "labels").iterdir())) == 3
    assert {"frames.csv", "run.json", "report.html", "overlay"} <= {path.name for path in cli.out.iterdir()}
    record = json.loads((cli.out / "run.json").read_text())
    assert "identifiers" not in record
    assert str(frames) not in (cli.out / "run.json").read_text()


def test_failed_frames_show_in_the_exit_status(cli, frames, tiny_run):
    (frames / "1.png").write_bytes(b"no")
    done = cli("predict", frames, "--bundle", tiny_run, "--out", cli.out, "--write", "labels", "--keep-identifiers")
    assert done.status == 3
    assert "failed: 1 is no image" in done.out
    assert json.loads((cli.out / "run.json").read_text())["identifiers"]["input"] == str(frames)


def test_window_mode_and_frame_limits(cli, frames, tiny_run):
    words = ["--mode", "window", "--frames", 2, "--write", "labels", "--uncertainty", "--skip-black"]
    done = cli("predict", frames, "--bundle", tiny_run, "--out", cli.out, *words)
    assert done.status == 0, done.err
    assert "agreement" not in done.out
    assert sorted(path.name for path in (cli.out / "labels").iterdir()) == ["0.png", "1.png"]
    assert np.asarray(Image.open(cli.out / "labels" / "0.png")).shape == (40, 60)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--write", "lables"], "writer 'lables'"),
        (["--engine", "tensorflow"], "engine 'tensorflow'"),
        (["--frames", 0], "at least 1"),
        (["--smooth", 1], "below 1"),
        (["--batch-size", 0], "at least 1"),
        (["--device", "cuda:77"], "cannot be used"),
        (["--write", "uncertainty"], "add --uncertainty"),
    ],
)
def test_mistakes_are_one_line(cli, frames, tiny_run, words, message):
    assert message in cli("predict", frames, "--bundle", tiny_run, "--out", cli.out, *words).error


def test_results_inside_the_input_are_refused(cli, frames, tiny_run):
    error = cli("predict", frames, "--bundle", tiny_run, "--out", frames / "results").error
    assert "inside the input folder" in error
