"""Injected losses on a stock MONAI trainer: they teach, they are logged, and they change nothing else."""

from __future__ import annotations

import copy

import pytest
import torch
from monai.engines import SupervisedTrainer
from monai.handlers import StatsHandler
from monai.networks.nets import BasicUNet
from torch.nn import functional as F

from lap_monai.handlers import LinearRamp, LossInjector, PrepareMixedBatch, TermLogger, UnpackOutputs, loss_terms
from lap_monai.networks import MultiTaskSegmenter

CLASSES = 3


def batches(count: int = 2, masked: int = 2, size: int = 4) -> list[dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(7)
    return [
        {
            "image": torch.rand(size, 3, 32, 32, generator=generator),
            "label": torch.randint(CLASSES, (size, 1, 32, 32), generator=generator),
            "classes": torch.randint(2, (size, CLASSES), generator=generator).float(),
            "has_mask": torch.arange(size) < masked,
        }
        for _ in range(count)
    ]


def segmentation_loss(logits, label):
    return F.cross_entropy(logits, label[:, 0])


def classification_loss(logits, classes):
    return F.binary_cross_entropy_with_logits(logits, classes)


def network() -> MultiTaskSegmenter:
    torch.manual_seed(0)
    unet = BasicUNet(spatial_dims=2, in_channels=3, out_channels=CLASSES, features=(4, 4, 8, 8, 8, 4))
    return MultiTaskSegmenter(unet, num_classes=CLASSES, embedding_dim=4)


def train(handlers, data=None, model=None, lr=0.1, **kwargs) -> tuple[SupervisedTrainer, MultiTaskSegmenter]:
    model = model or network()
    trainer = SupervisedTrainer(
        device="cpu",
        max_epochs=kwargs.pop("max_epochs", 1),
        train_data_loader=data or batches(),
        network=model,
        optimizer=torch.optim.SGD(model.parameters(), lr=lr),
        loss_function=segmentation_loss,
        prepare_batch=PrepareMixedBatch(),
        train_handlers=[UnpackOutputs(), *handlers],
        decollate=False,
        **kwargs,
    )
    trainer.run()
    return trainer, model


def classify(**kwargs) -> LossInjector:
    return LossInjector("cls", classification_loss, ["class_logits", "classes"], **kwargs)


def heads_moved(model: MultiTaskSegmenter) -> bool:
    fresh = network().heads.state_dict()
    return any(not torch.equal(value, fresh[name]) for name, value in model.heads.state_dict().items())


def test_the_heads_learn_only_through_an_injected_term():
    assert not heads_moved(train([])[1])
    assert heads_moved(train([classify()])[1])


def test_gradients_are_those_of_the_weighted_sum():
    data = batches(count=1)
    _, trained = train([classify(weight=0.25)], data)
    model = network().train()
    output = model(data[0]["image"], decode=2)
    loss = segmentation_loss(output.logits, data[0]["label"][:2])
    (loss + 0.25 * classification_loss(output.class_logits, data[0]["classes"])).backward()
    for (name, parameter), after in zip(model.named_parameters(), trained.parameters(), strict=True):
        expected = parameter if parameter.grad is None else parameter - 0.1 * parameter.grad
        torch.testing.assert_close(after, expected, msg=name)


def test_accumulated_steps_equal_one_step_on_the_whole_batch():
    # Both terms are means over images, so two halves of equal make-up average to the whole.
    halves = batches(count=2, masked=2, size=4)
    order = [0, 1, 4, 5, 2, 3, 6, 7]  # masked frames first again
    whole = [{key: torch.cat([half[key] for half in halves])[order] for key in halves[0]}]
    _, accumulated = train([classify()], halves, accumulation_steps=2)
    _, at_once = train([classify()], whole)
    for a, b in zip(accumulated.parameters(), at_once.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-4)


def test_every_term_is_logged_under_its_own_name(caplog):
    seen: list[dict[str, float]] = []
    share = TermLogger("share", lambda classes: classes.mean(), ["classes"])
    stats = StatsHandler(output_transform=lambda output: seen.append(loss_terms(output)) or seen[-1])
    train([classify(weight=0.5), share, stats], batches(count=1))
    terms = seen[0]
    assert set(terms) == {"loss", "seg", "cls", "share"}
    assert terms["loss"] == pytest.approx(terms["seg"] + 0.5 * terms["cls"], rel=1e-6)


def test_the_record_survives_decollation_and_starts_anew_each_iteration():
    data = batches(count=3, masked=4)
    model = network()
    engine = SupervisedTrainer(
        "cpu", 1, data, model, torch.optim.SGD(model.parameters(), lr=0.1), segmentation_loss,
        prepare_batch=PrepareMixedBatch(), train_handlers=[UnpackOutputs(), classify()],
    )  # fmt: skip
    engine.run()
    assert isinstance(engine.state.output, list)
    assert set(loss_terms(engine.state.output)) == {"loss", "seg", "cls"}


def test_a_plain_network_passes_through_unpacking():
    model = network()
    trainer, _ = train([], batches(masked=4), model=PlainInTraining(model.backbone))
    assert set(loss_terms(trainer.state.output)) == {"loss", "seg"}


class PlainInTraining(torch.nn.Module):
    def __init__(self, backbone):
        super().__init__()
        self.backbone = backbone

    def forward(self, image, decode=None):
        return self.backbone(image)


def test_weight_zero_equals_no_injector_and_skips_the_loss():
    def explode(*_):
        raise AssertionError("computed although its weight is 0")

    _, with_zero = train([LossInjector("cls", explode, ["class_logits", "classes"], weight=0.0)])
    _, without = train([])
    for a, b in zip(with_zero.parameters(), without.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_scheduled_weight_follows_the_epochs():
    weights: list[float] = []
    ramp = LinearRamp(0.0, 1.0, epochs=2)
    train([classify(weight=lambda epoch: weights.append(epoch) or ramp(epoch))], max_epochs=2)
    assert weights == [0.0, 0.5, 1.0, 1.5]
    assert [ramp(epoch) for epoch in (0, 1, 2, 9)] == [0.0, 0.5, 1.0, 1.0]


def test_mistakes_are_named():
    with pytest.raises(KeyError, match=r"no 'clases' in the engine's state.*Did you mean 'classes'"):
        train([LossInjector("cls", classification_loss, ["class_logits", "clases"])])
    with pytest.raises(ValueError, match="two handlers log the term 'cls'"):
        train([classify(), classify()])
    with pytest.raises(ValueError, match="list of names, got the string 'classes'"):
        LossInjector("cls", classification_loss, "classes")
    unordered = batches(count=1)
    unordered[0]["has_mask"] = torch.tensor([False, True, True, False])
    with pytest.raises(ValueError, match="frames with masks first"):
        train([], unordered)


def test_the_batch_is_left_as_it_came():
    data = batches(count=1)
    before = copy.deepcopy(data)
    train([classify()], data)
    assert all(torch.equal(data[0][key], before[0][key]) for key in before[0])
