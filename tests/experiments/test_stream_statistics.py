from __future__ import annotations

from statistics import mean, stdev

import pytest
from stream_results import CLASSES, STEPS, run

from lap_monai.experiments.stream_statistics import (
    arrivals,
    compare_methods,
    learnt_classes,
    step_means,
    summarise_methods,
    summarise_runs,
)
from lap_monai.task_stream import task_steps


def test_columns_are_the_classes_that_are_taught_in_the_order_of_their_ids() -> None:
    steps = task_steps(CLASSES, (("spleen", "ureter"), ("liver",)))
    assert arrivals(steps) == [0, 1, 0, None, 0]
    assert learnt_classes(steps) == ["background", "liver", "ureter", "spleen"]


def test_a_run_knows_its_matrix_and_what_it_forgot() -> None:
    rows = [*run("ddcl", 0, loss=0.1), *run("joint", 0, lift=0.2, loss=0.0)]
    found = {entry["method"]: entry for entry in summarise_runs(rows, STEPS)}
    matrix = found["ddcl"]["matrix"]["iou"]
    assert [line.count(None) for line in matrix] == [2, 1, 0]
    liver = [line[1] for line in matrix]
    forgotten = found["ddcl"]["iou"]["forgetting_from_first"]
    assert forgotten["classes"]["liver"] == pytest.approx(liver[0] - liver[2]) == pytest.approx(0.2)
    assert forgotten["classes"]["colon"] is None
    assert forgotten["mean"] == pytest.approx((0.2 + 0.1) / 2)
    assert found["ddcl"]["iou"]["backward_transfer"] == pytest.approx(-0.15)
    assert found["ddcl"]["iou"]["plasticity"]["mean"] == pytest.approx(-0.2)
    joint = found["joint"]
    assert joint["iou"]["final"]["all"] == pytest.approx(rows[-1]["means"]["iou"]["all"])
    assert joint["iou"]["plasticity"] is None
    assert joint["iou"]["forgetting_from_best"]["mean"] is None


def test_a_run_that_is_not_through_the_stream_has_no_summary() -> None:
    rows = [*run("ddcl", 0)[:2], *run("ddcl", 1)]
    assert [(entry["method"], entry["seed"]) for entry in summarise_runs(rows, STEPS)] == [("ddcl", 1)]


def test_means_of_one_step_leave_out_what_has_not_come() -> None:
    first, second, last = run("ddcl", 0)
    assert step_means(first, STEPS)["iou"]["new"] is None
    assert step_means(first, STEPS)["iou"]["all"] == pytest.approx(first["iou"]["liver"])
    assert step_means(second, STEPS)["iou"]["new"] == pytest.approx(second["iou"]["ureter"])
    expected = mean([last["iou"]["ureter"], last["iou"]["colon"]])
    assert step_means(last, STEPS)["iou"]["new"] == pytest.approx(expected)
    assert step_means(last, STEPS)["dice_per_image"]["base"] == pytest.approx(last["dice"]["liver"])


def test_methods_are_averaged_over_seeds() -> None:
    lifts = (0.0, 0.05, 0.2)
    rows = [entry for seed, lift in enumerate(lifts) for entry in run("mib", seed, lift=lift)]
    mib, none = summarise_methods(rows, summarise_runs(rows, STEPS), ["mib", "lwf"])
    new = [entry["means"]["iou"]["new"] for entry in rows if entry["step"] == 2]
    assert mib["iou"]["measures"]["new"] == {"mean": pytest.approx(mean(new)), "sd": pytest.approx(stdev(new)), "n": 3}
    assert mib["iou"]["measures"]["forgetting_from_best"]["sd"] == pytest.approx(0, abs=1e-12)
    assert mib["iou"]["measures"]["plasticity"]["mean"] is None
    assert mib["cost"] == {"real_images": 0, "synthetic_images": 0, "bytes": 2000, "seconds": 180}
    assert (none["n_seeds"], none["cost"], none["iou"]["measures"]) == (0, None, {})


def test_seeds_are_the_draws_over_which_a_verdict_has_to_hold() -> None:
    lifts = (0.1, 0.13, 0.11, 0.12, 0.1)
    rows = [entry for seed in range(5) for entry in run("finetune", seed)]
    rows += [entry for seed, lift in enumerate(lifts) for entry in run("ddcl", seed, lift=lift)]
    (found,) = compare_methods(rows, ["finetune", "ddcl"], STEPS, "finetune")
    assert (found["method"], found["than"], found["step"], found["n_draws"]) == ("ddcl", "finetune", 2, 5)
    assert found["n_patients"] == 6
    assert found["verdict"] == "better"
    assert found["classes"]["colon"]["difference"] == pytest.approx(mean(lifts))
    (few,) = compare_methods([entry for entry in rows if entry["seed"] < 2], ["finetune", "ddcl"], STEPS, "finetune")
    assert few["verdict"] == "not decided"
