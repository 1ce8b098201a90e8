"""What a stream's results say of runs that are done, failed, not begun, or somebody else's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from stream_steps import SPACE, make_files

from lap_monai.checks import UserError
from lap_monai.data import Stream
from lap_monai.experiments.step_state import write_state
from lap_monai.experiments.stream_cells import StreamCell, build_stream_cells
from lap_monai.experiments.stream_collect import collect_stream, frame_scores, kept_for
from lap_monai.experiments.stream_files import StreamFiles
from lap_monai.experiments.stream_study import StreamStudy, load_stream_study
from lap_monai.files import write_json

STREAM = Stream("three", SPACE, (("liver", "stomach"), ("colon",), ("spleen",)), "one_organ_per_frame")


@pytest.fixture
def study(repository: Path) -> StreamStudy:
    return load_stream_study(repository / "configs" / "studies" / "methods.yaml")


@pytest.fixture
def files(tmp_path: Path) -> StreamFiles:
    return make_files(tmp_path)


def finish(cell: StreamCell, number: int, score: float, seconds: float = 5) -> None:
    """Write what the runs of a step leave."""
    for step in cell.steps:
        if step.number == number:
            write_state(step, "done", seconds=seconds)
    evaluation = cell.evaluations[number]
    names = ["background", "liver", "stomach", "colon", "spleen"][: 3 + number]
    scores = dict.fromkeys(names, score)
    video = {"p1": {"miou": score, "iou": scores, "n_frames": 1}}
    row = {"step": number, "miou": score, "iou": scores, "dice": scores}
    row |= {"per_image": {"iou": scores, "dice": scores}, "per_video": {"miou": score, "videos": video}}
    write_json(evaluation.folder / "results.json", {"rows": [row]})


def collect(study: StreamStudy, files: StreamFiles, *names: str, done: int = 3) -> tuple[dict[str, Any], Any]:
    cells = build_stream_cells(study, files, study.choose(names), (0,))
    for cell in cells:
        for number in list(cell.evaluations)[:done]:
            finish(cell, number, 0.8 - 0.1 * number)
    return collect_stream(STREAM, study, files, cells), cells


def test_rows_summaries_and_costs(study: StreamStudy, files: StreamFiles) -> None:
    results, _ = collect(study, files, "finetune", "mib", "joint")
    assert results["reference"] == "finetune"
    assert results["classes"] == ["background", "colon", "liver", "spleen", "stomach"]
    assert [(row["method"], row["step"]) for row in results["rows"]] == [
        ("finetune", 0), ("finetune", 1), ("finetune", 2), ("mib", 0), ("mib", 1), ("mib", 2), ("joint", 2),
    ]  # fmt: skip
    first = results["rows"][0]
    assert (first["iou"]["liver"], first["iou"]["colon"]) == (0.8, None)
    assert first["seconds"] == 10, "a training and an evaluation"
    summary = results["summary"][0]["iou"]["measures"]
    assert summary["forgetting_from_best"]["mean"] == pytest.approx((0.2 + 0.2 + 0.1) / 3)
    assert results["summary"][0]["cost"]["seconds"] == 30
    assert not results["not_done"]


def test_what_is_missing_is_named_with_its_reason(study: StreamStudy, files: StreamFiles) -> None:
    cells = build_stream_cells(study, files, study.choose(["finetune", "mib"]), (0,))
    finish(cells[0], 0, 0.5)
    write_state(cells[0].training(1), "failed", reason="no memory")
    results = collect_stream(STREAM, study, files, cells)
    found = {(row["method"], row["step"]): (row["status"], row["reason"]) for row in results["not_done"]}
    assert found == {
        ("finetune", 1): ("failed", "no memory"),
        ("finetune", 2): ("failed", "no memory"),
        ("mib", 1): ("missing", ""),
        ("mib", 2): ("missing", ""),
    }
    assert [row["step"] for row in results["rows"]] == [0, 0], "step 0 is everybody's"
    assert all(entry["n_seeds"] == 0 for entry in results["summary"])


def test_results_of_another_config_or_step_are_refused(study: StreamStudy, files: StreamFiles) -> None:
    _, (cell,) = collect(study, files, "finetune")
    evaluation = cell.evaluations[1]
    write_json(evaluation.folder / "results.json", {"rows": [{"step": 2}]})
    with pytest.raises(UserError, match="results of step 2, not 1"):
        collect_stream(STREAM, study, files, [cell])
    (evaluation.folder / "results.json").unlink()
    with pytest.raises(UserError, match="missing or damaged"):
        collect_stream(STREAM, study, files, [cell])
    write_json(evaluation.state_file, {"status": "done", "fingerprint": "of something else"})
    with pytest.raises(UserError, match="was run with another config"):
        collect_stream(STREAM, study, files, [cell])


def test_what_a_step_finds_is_counted_in_images_and_bytes(study: StreamStudy, files: StreamFiles) -> None:
    (cell,) = build_stream_cells(study, files, study.choose(["exemplar"]), (0,))
    kept = files.run_dir / "cells" / "exemplar" / "seed_0" / "step_0" / "models" / "exemplars.json"
    image, mask = files.run_dir / "image.png", files.run_dir / "mask.png"
    image.write_bytes(b"x" * 30)
    mask.write_bytes(b"x" * 7)
    write_json(kept, [{"image": str(image), "label": {str(mask): 1}, "exemplar_of": [0]}])
    assert kept_for(cell.training(1)) == {"real_images": 1, "synthetic_images": 0, "bytes": 37}
    assert kept_for(cell.training(0)) == {"real_images": 0, "synthetic_images": 0, "bytes": 0}


def test_scores_of_frames_leave_out_what_is_not_judged(study: StreamStudy, files: StreamFiles) -> None:
    (cell,) = build_stream_cells(study, files, study.choose(["finetune"]), (0,))
    evaluation = cell.evaluations[1]
    evaluation.folder.mkdir(parents=True)
    lines = ["id,video,iou/background,iou/liver", "a,p1,0.5,0.7", "b,p1,nan,0.2", "c,p2,nan,nan", "d,p2,,0.1"]
    (evaluation.folder / "frames.csv").write_text("\n".join(lines), encoding="utf-8")
    assert frame_scores(evaluation) == {
        "a": (pytest.approx(0.6), "p1"),
        "b": (0.2, "p1"),
        "d": (0.1, "p2"),
    }
