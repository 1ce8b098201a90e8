"""Two clinics that train one network together: weights travel, frames stay."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.fl.client import MonaiAlgo
from monai.fl.utils.constants import ExtraItems
from monai.fl.utils.exchange_object import ExchangeObject

from lap_monai.data import write_phantom

Weights = dict[str, torch.Tensor]


def clinic(bundle: Path, root: Path, seed: int, settings: dict[str, Any]) -> MonaiAlgo:
    """A client with patients of its own, and a copy of the bundle that is its run folder too."""
    home = root / f"clinic{seed}"
    ignored = shutil.ignore_patterns("models", "eval", "logging.conf")
    shutil.copytree(bundle, home / bundle.name, ignore=ignored)
    data = write_phantom(home / "phantom", videos=4, frames=4, size=(96, 64), seed=seed)
    own = settings | {"dataset_dir": str(data), "cache_dir": str(home / "cache")}
    configs = [f"configs/{name}.json" for name in ("train", "phantom", "evaluate")]
    client = MonaiAlgo(
        bundle_root=bundle.name,
        local_epochs=1,
        send_weight_diff=False,
        config_train_filename=configs[:2],
        config_evaluate_filename=configs,
        train_kwargs=dict(own),
        eval_kwargs=dict(own),
    )
    client.initialize(extra={ExtraItems.APP_ROOT: str(home), ExtraItems.CLIENT_NAME: home.name})
    return client


def average(answers: list[ExchangeObject]) -> Weights:
    """Federated averaging (McMahan et al. 2017): the mean of the answers, weighted by the steps behind them."""
    steps = [answer.statistics["num_executed_iterations"] for answer in answers]
    return {
        key: sum(n * answer.weights[key] for n, answer in zip(steps, answers, strict=True)) / sum(steps)
        for key in answers[0].weights
    }


@pytest.mark.slow
def test_two_clinics_train_one_network(bundle: Path, tiny: dict[str, Any], tmp_path: Path) -> None:
    clinics = [clinic(bundle, tmp_path, seed, tiny) for seed in (1, 2)]
    shared = {key: value.clone() for key, value in clinics[0].get_weights().weights.items()}
    for _ in range(2):
        before = shared
        answers = []
        for client in clinics:
            client.train(ExchangeObject(weights=before), extra={})
            answer = client.get_weights()
            answer.weights = {key: value.clone() for key, value in answer.weights.items()}
            answers.append(answer)
        shared = average(answers)
        first, second = (answer.weights for answer in answers)
        for moved in (first, second, shared):  # they learned, from different frames
            assert any(not torch.equal(moved[key], before[key]) for key in before)
        assert any(not torch.equal(first[key], second[key]) for key in first)
        torch.testing.assert_close(shared, {key: (first[key] + second[key]) / 2 for key in first})
    scores = [client.evaluate(ExchangeObject(weights=shared), extra={}).metrics for client in clinics]
    assert all(0 <= score["val_mean_iou"] <= 1 for score in scores)
    for client in clinics:
        client.finalize()


@pytest.mark.slow
def test_a_clinic_starts_each_round_from_the_weights_it_is_sent(
    bundle: Path, tiny: dict[str, Any], tmp_path: Path
) -> None:
    """At a learning rate of 0 it returns them."""
    client = clinic(bundle, tmp_path, 1, tiny | {"learning_rate": 0.0})
    for factor in (2.0, 3.0):
        sent = {key: factor * value for key, value in client.get_weights().weights.items()}
        client.train(ExchangeObject(weights=sent), extra={})
        returned = client.get_weights().weights
        assert all(torch.equal(returned[key], sent[key]) for key in sent)
    client.finalize()
