from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from lap_monai.label_space import LabelSpace
from lap_monai.reports import write_replay_report

HOSTILE = "<script>alert(1)</script>"
SPACE = LabelSpace("two", "own", ("Liver", "Duct"), ((255, 0, 0), (0, 255, 0)), {0: 0, 1: 1}, (), "made up")


def results(steps: int = 4, **changes: Any) -> dict[str, Any]:
    measures = {"images": 20, "kid": 0.1 / steps, "kid_std": 0.01, "precision": 0.5, "recall": 0.25, "ms_ssim": 0.3}
    return {
        "set": "step_1",
        "generator": {"sha256": "ab" * 32, "frame_size": [48, 64]},
        "sampler": {"name": "dpm_solver", "steps": steps},
        "images": 20,
        "kept": 15,
        "memorisation": {
            "level": 0.01,
            "training_frames": 1234,
            "held_out_frames": 100,
            "held_out_patients": 7,
            "flagged": 3,
            "share": 0.15,
            "planted_caught": {"exact": 1.0, "flipped": 0.75},
            "pixel": {"limit": 0.0815},
        },
        "filters": {
            "memorised: pixels": {"dropped": 3, "limit": 0.0815},
            "class balance": {"dropped": 2, "limit": None},
        },
        "labels": {
            "classes": ["Liver", "Duct"],
            "pixels_before": {"Liver": 95, "Duct": 5},
            "pixels": {"Liver": 80, "Duct": 20},
            "images_with_class": {"Liver": 15, "Duct": 9},
        },
        "quality": {"all": measures, "kept": measures, "held_out": {"images": 2}},
    } | changes


def page(tmp_path: Path, found: dict[str, Any], **more: Any) -> str:
    picture = np.zeros((48, 64, 3), np.uint8)
    pair = SimpleNamespace(
        image=11, frame=f"video01_7{HOSTILE}", pixels=picture, frame_pixels=picture + 9, distance=0.0123, flagged=True
    )
    audited = SimpleNamespace(results=found, samples=[(4, picture), (5, picture)], neighbours=[pair])
    return write_replay_report(tmp_path / "report.html", audited, SPACE, **more).read_text(encoding="utf-8")


def test_one_file_that_loads_nothing_and_escapes_names(tmp_path: Path) -> None:
    text = page(tmp_path, results(set=HOSTILE))
    assert not re.search(r'(src|href)="(?!data:)', text)
    assert "<script" not in text
    assert "default-src 'none'" in text
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_shows_share_filters_pairs_and_classes(tmp_path: Path) -> None:
    text = page(tmp_path, results())
    assert "15%" in text
    assert 'flipped <b class="num">75%' in text
    assert "0.0815" in text
    assert text.count("data:image/jpeg") == 4
    assert re.search(r"Duct.*?5%.*?20%.*?>9<", text, re.DOTALL)
    assert "0.025 ± 0.010" in text
    assert "training frames beside synthetic ones" in text


def test_steps_and_training_are_drawn_when_there_are_any(tmp_path: Path) -> None:
    alone = page(tmp_path, results())
    assert "Over the steps" not in alone
    assert "While the generator was trained" not in alone
    history = [{"epoch": 5, "share": 0.0}, {"epoch": 10, "share": 0.5}]
    text = page(tmp_path, results(), others=[results(steps=8), results(steps=16)], history=history)
    assert text.count("dpm_solver: ") == 2 * 4  # heading and drawing of four measures
    assert "by steps" in text
    assert "While the generator was trained" in text
    other = results(steps=8, sampler={"name": "ddim", "steps": 8})
    assert "Over the steps" not in page(tmp_path, results(), others=[other])


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_none_and_all(tmp_path: Path, share: float) -> None:
    found = results()
    found["memorisation"]["share"] = share
    assert f"{100 * share:g}%" in page(tmp_path, found)
