from __future__ import annotations

from pathlib import Path

import pytest

from lap_monai.checks import UserError
from lap_monai.experiments import check_targets, merge_configs


@pytest.mark.parametrize(
    ("component", "said"),
    [
        (
            {"_target_": "torch.optim.AdamW", "weigth_decay": 1},
            "'part': torch.optim.AdamW takes no argument 'weigth_decay'. Did you mean 'weight_decay'?",
        ),
        ({"_target_": "BasicUNet", "feature": [1]}, "takes no argument 'feature'. Did you mean 'features'?"),
        ({"_target_": "lap_monai.losses.MultiLabelLoss", "zzzz": 1}, "takes no argument 'zzzz'"),
        ({"_target_": "lap_monai.data.FrameCache.build", "row": []}, "Did you mean 'rows'?"),
        (
            {"_target_": "lap_monai.losses.MultiLabelLos"},
            "'part' names 'lap_monai.losses.MultiLabelLos', which does not exist. Did you mean 'MultiLabelLoss'?",
        ),
        ({"_target_": "lap_moni.losses.MultiLabelLoss"}, "which does not exist. Give the full name"),
        ({"_target_": "BasicUNett"}, "'BasicUNett', which does not exist"),
    ],
)
def test_what_a_component_cannot_be_built_from_is_refused(component: dict, said: str) -> None:
    with pytest.raises(UserError) as caught:
        check_targets({"part": component})
    assert said in str(caught.value)


def test_the_id_leads_to_the_component() -> None:
    with pytest.raises(UserError, match=r"^'train#handlers#1': "):
        check_targets({"train": {"handlers": [{"a": 1}, {"_target_": "torch.nn.ReLU", "inplce": True}]}})


@pytest.mark.parametrize(
    "component",
    [
        {"_target_": "torch.optim.AdamW", "params": "@x", "weight_decay": 1, "_desc_": "", "_disabled_": True},
        {"_target_": "torch.optim.SGD", "_requires_": "@x", "_mode_": "callable", "lr": 1},
        {"_target_": "$@x", "anything": 1},
        {"_target_": "builtins.dict", "anything": 1},
        {"_target_": "types.SimpleNamespace", "anything": 1},
        {"_target_": "monai.transforms.Lambdad", "keys": "a", "func": "$len"},
        {"_target_": "torch.nn.parallel.DistributedDataParallel", "module": "@x", "find_unused_parameters": True},
    ],
)
def test_what_may_be_right_is_left_alone(component: dict) -> None:
    check_targets({"part": component})


@pytest.mark.parametrize(
    "overlays", [[], ["phantom", "demo", "evaluate"], ["multi_gpu_train"], ["small", "endoscapes"]]
)
def test_the_bundle_itself_is_right(repository: Path, overlays: list[str]) -> None:
    configs = repository / "bundles" / "cholecseg8k_contrastive" / "configs"
    check_targets(merge_configs([configs / f"{name}.json" for name in ["train", *overlays]]))
    check_targets(merge_configs([configs / "inference.json"]))
