"""The cross-batch memory, alone and as further columns of the class-wise contrast."""

from __future__ import annotations

import math

import pytest
import torch

from lap_monai.losses import ClassContrastiveLoss, FeatureMemory, contrast_features, share_without_positive


def make_batch(images: int, seed: int, scales: int = 2):
    """Return embeddings, class vectors and phases."""
    generator = torch.Generator().manual_seed(seed)
    embeddings = [torch.randn(images, 5, generator=generator, dtype=torch.float64) for _ in range(scales)]
    classes = torch.randint(0, 2, (images, 2), generator=generator).float()
    return embeddings, classes, torch.randint(-1, 2, (images,), generator=generator)


def remember(memory: FeatureMemory, embeddings, classes, phase) -> None:
    memory.remember(contrast_features(embeddings), classes, phase)


def test_the_oldest_images_make_room():
    memory = FeatureMemory(5)
    for step in range(4):
        numbers = torch.arange(3 * step, 3 * step + 3)
        memory.remember(numbers[:, None, None].float(), numbers[:, None].float(), numbers)
        assert memory.recall().phase.tolist() == list(range(max(0, 3 * step - 2), 3 * step + 3))
    assert len(memory) == 5
    assert torch.equal(memory.recall().features.flatten(), memory.recall().classes.flatten())
    memory.remember(torch.zeros(7, 1, 1), torch.zeros(7, 1), torch.arange(7))  # a batch larger than the memory
    assert memory.recall().phase.tolist() == [2, 3, 4, 5, 6]


def test_what_is_remembered_has_no_gradient_and_is_no_view_of_the_batch():
    memory = FeatureMemory(4)
    features = torch.ones(2, 1, 3, requires_grad=True)
    memory.remember(features, torch.ones(2, 2), torch.zeros(2))
    assert not memory.recall().features.requires_grad
    with torch.no_grad():
        features.zero_()
    assert torch.equal(memory.recall().features, torch.ones(2, 1, 3))


def test_its_state_makes_an_equal_memory():
    memory, copy = FeatureMemory(8), FeatureMemory(8)
    copy.load_state_dict(memory.state_dict())
    assert copy.recall() is None
    remember(memory, *make_batch(6, 0))
    copy.load_state_dict(memory.state_dict())
    for other in (memory, copy):
        remember(other, *make_batch(6, 1))
    for ours, theirs in zip(memory.recall(), copy.recall(), strict=True):
        assert torch.equal(ours, theirs)


def test_a_smaller_memory_takes_the_newest_of_a_state():
    large, small = FeatureMemory(6), FeatureMemory(4)
    remember(large, *make_batch(6, 0))
    small.load_state_dict(large.state_dict())
    assert torch.equal(small.recall().features, large.recall().features[2:])


def test_an_empty_memory_changes_nothing():
    batch = make_batch(10, 2)
    assert torch.equal(ClassContrastiveLoss()(*batch, FeatureMemory(3).recall()), ClassContrastiveLoss()(*batch))


def test_contrast_with_a_memory_by_loops():
    embeddings, classes, phase = make_batch(7, 3)
    old = make_batch(11, 4)
    memory = FeatureMemory(20)
    remember(memory, *old)
    tau, total, anchors = 0.1, 0.0, 0
    every = [torch.cat([new, before]) for new, before in zip(embeddings, old[0], strict=True)]
    kinds = [
        (*c.tolist(), int(p)) for c, p in zip(torch.cat([classes, old[1]]), torch.cat([phase, old[2]]), strict=True)
    ]
    for i in range(7):
        positives = [j for j in range(18) if j != i and kinds[j] == kinds[i]]
        anchors += bool(positives)
        for z in every:
            scores = [torch.cosine_similarity(z[i], z[k], dim=0).item() / tau for k in range(18)]
            partition = math.log(sum(math.exp(scores[k]) for k in range(18) if k != i))
            total -= sum(scores[j] - partition for j in positives) / max(len(positives), 1)
    value = ClassContrastiveLoss(tau)(embeddings, classes, phase, memory.recall())
    assert value.item() == pytest.approx(total / anchors, rel=1e-6)


def test_gradients_reach_the_batch_and_not_the_memory():
    memory = FeatureMemory(8)
    remember(memory, *make_batch(8, 5))
    embeddings, classes, phase = make_batch(4, 6)
    embeddings = [embedding.requires_grad_() for embedding in embeddings]
    loss = ClassContrastiveLoss(0.5)
    recalled = memory.recall()
    recalled = recalled._replace(features=recalled.features.double())
    assert torch.autograd.gradcheck(lambda *scales: loss(scales, classes, phase, recalled), embeddings)


def test_a_lone_image_finds_its_positives_in_the_memory():
    memory = FeatureMemory(2)
    embedding = torch.tensor([[1.0, 0.0]], requires_grad=True)
    classes, phase = torch.tensor([[1.0, 0.0]]), torch.tensor([3])
    memory.remember(
        torch.tensor([[[0.0, 1.0]], [[0.0, -1.0]]]), torch.tensor([[1.0, 0.0], [0.0, 1.0]]), phase.repeat(2)
    )
    value = ClassContrastiveLoss(1.0)(embedding, classes, phase, memory.recall())
    value.backward()
    assert value.item() == pytest.approx(math.log(2))
    assert embedding.grad[0, 1] < 0  # a step downhill goes to the remembered positive
    assert share_without_positive(classes, phase).item() == 1
    assert share_without_positive(classes, phase, memory.recall()).item() == 0


def test_refuses_a_memory_of_nothing():
    with pytest.raises(ValueError, match="size of at least 1, got 0"):
        FeatureMemory(0)
