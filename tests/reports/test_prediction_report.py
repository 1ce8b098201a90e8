import re

import pytest
from tiny_data import picture

from lap_monai.label_space import get_label_space
from lap_monai.reports.prediction_report import write_prediction_report

SPACE = get_label_space("cholecseg8k_zhang8")
RECORD = {
    "bundle": {"name": "<script>alert(1)</script>"},
    "identity": {"mode": "frame", "engine": "torch", "precision": "float32"},
    "device": "cpu",
    "fps": 12.5,
    "agreement": 0.98,
    "flicker": {"before": 0.04, "after": 0.01},
    "milliseconds": {"network": {"p50": 1.0, "p95": 2.0, "p99": 3.0}},
}


def rows(count, liver_from):
    """Frames at 25 a second; liver on half of the picture from one of them on; every tenth frame failed."""
    for index in range(count):
        area = 0.5 if index >= liver_from else 0.0
        status = "failed" if index % 10 == 9 else "ok"
        areas = {f"area {name}": str(area if name == "Liver" else 0) for name in SPACE.classes}
        present = "Liver" if area else ""
        yield {"status": status, "time": str(index / 25), "present": present, "confidence": "0.8", **areas}


@pytest.mark.parametrize("count", [1, 50, 5000])
def test_the_timeline_tells_when_a_structure_is_seen(tmp_path, count):
    page = write_prediction_report(
        tmp_path / "report.html", RECORD, rows(count, count // 2), SPACE, [("a<b", picture(1), picture(2))]
    ).read_text(encoding="utf-8")
    assert "<script>" not in page
    assert "a&lt;b" in page
    assert "default-src 'none'" in page
    assert "98.0 %" in page
    seen = sum(index >= count // 2 and index % 10 != 9 for index in range(count))
    assert f"in {seen:,} frames".replace(",", "\u202f") in page
    (points,) = re.findall(r'polygon points="([^"]+)"', page)  # of the liver, and of no other class
    steps = [tuple(map(float, point.split(","))) for point in points.split()[1:-1]]
    assert len(steps) <= 2 * 960
    empty = [x for x, y in steps if y > 33]
    full = [x for x, y in steps if y < 3]
    assert max(full) > 930  # a failed frame alone in a bin is a gap
    if count > 1:
        assert min(full) == pytest.approx(480, abs=10)
        assert min(empty) == 0
    assert "failed; frames.csv says why" in page or count < 10


@pytest.mark.parametrize(("count", "marks"), [(1, ["0"]), (4, ["0", "1", "2", "3"]), (9, ["0", "2", "4", "6", "8"])])
def test_frames_without_times_are_numbered_each_once(tmp_path, count, marks):
    frames = [row | {"time": ""} for row in rows(count, 0)]
    page = write_prediction_report(tmp_path / "report.html", RECORD, frames, SPACE).read_text(encoding="utf-8")
    assert re.findall(r'<text x="[\d.]+" y="12"[^>]*>(\d+)</text>', page) == marks
