import json

import pytest
from tiny_data import picture, stripes, write_cholecseg8k, write_endoscapes, write_frame

from lap_monai.__main__ import main


@pytest.fixture
def root(tmp_path):
    return write_cholecseg8k(tmp_path / "set", {(video, 80): [80, 81] for video in (1, 2, 10)})


def test_a_sound_set_exits_0_and_lists_videos_in_order(root, capsys):
    assert main(["check", str(root)]) == 0
    out = capsys.readouterr().out
    assert "6 frames, 32x24, 6 with mask" in out
    assert out.rstrip().endswith("warnings.")
    assert "Sound: 0 errors" in out
    starts = [line.split()[0] for line in out.splitlines() if line.startswith("video") and "frames" not in line]
    assert starts == ["video01", "video02", "video10"]


def test_lines_fit_a_terminal(root, capsys):
    for frame in range(80, 95):
        write_frame(root, 1, 80, frame, mask=stripes(50, 1, 2, 3, 4, 6, 7, 8, 9, 10, 14, 15, 16, 17))
        write_frame(root, 2, 80, frame, image=picture(frame))
        write_frame(root, 10, 80, frame, image=picture(frame))
    assert main(["check", str(root), "--split", "endovit"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 100


def test_an_unsound_set_exits_1_and_names_the_file_and_value(root, capsys):
    write_frame(root, 2, 80, 81, mask=stripes(50, 77))
    assert main(["check", str(root)]) == 1
    out = " ".join(capsys.readouterr().out.split())
    assert "video02/video02_00080/frame_81_endo_watershed_mask.png: 77 (384 px)" in out
    assert "NOT sound: 1 error," in out


def test_many_findings_of_a_kind_are_cut_in_the_text_but_not_in_the_file(root, tmp_path, capsys):
    for frame in range(80, 100):
        write_frame(root, 1, 80, frame, mask=stripes(50, 77))
    assert main(["check", str(root), "--json", str(tmp_path / "r" / "check.json")]) == 1
    assert "and 14 more" in capsys.readouterr().out
    result = json.loads((tmp_path / "r" / "check.json").read_text())
    assert sum(finding["kind"] == "unknown mask value" for finding in result["findings"]) == 20
    assert result["sound"] is False
    assert result["videos"]["video01"]["classes"]["Black Background"]["frames"] == 20


def test_parts_of_the_split_are_counted(tmp_path, capsys):
    root = write_endoscapes(tmp_path / "e", {"train": [(1, 10), (2, 10)], "val": [(3, 10)]})
    assert main(["check", str(root)]) == 0
    out = capsys.readouterr().out
    assert "split folders: train 2 frames of 2 videos, val 1 frame of 1 video, test 0 frames of 0 videos" in out
    tool = next(line.split() for line in out.splitlines() if " Tool " in line)
    assert tool[-2:] == ["2", "1"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "does not exist"),
        (["."], "found an empty folder"),
        (["set", "--layout", "endoscapes"], "looks like layout 'cholecseg8k'"),
        (["set", "--layout", "cholecseg"], "Did you mean 'cholecseg8k'"),
        (["set", "--split", "zhang1"], "Did you mean 'zhang_1'"),
        (["set", "--label-space", "zhang8"], "cholecseg8k_zhang8"),
        (["set", "--label-space", "endoscapes_7"], "this data set is 'cholecseg8k'"),
    ],
)
def test_bad_input_is_one_line_and_exit_1(root, tmp_path, monkeypatch, capsys, arguments, message):
    if arguments == ["."]:
        (tmp_path / "empty").mkdir()
        monkeypatch.chdir(tmp_path / "empty")
    else:
        monkeypatch.chdir(tmp_path)
    assert main(["check", *arguments]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    assert message in captured.err


def test_a_report_that_cannot_be_written_is_one_line(root, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["check", str(root), "--json", str(tmp_path / "file" / "check.json")]) == 1
    assert capsys.readouterr().err.startswith("error: ")
