"""Cross-image contrast and its memory against loops."""

from __future__ import annotations

import math

import pytest
import torch

from lap_monai.losses import ClassMemory, CrossImageContrastLoss, RememberedClasses, memorable_features

D = 6


def make_batch(images=3, seed=0):
    """Embeddings of 4x6 cells, labels of 8x12 pixels of the classes 0, 1, 2, 255."""
    generator = torch.Generator().manual_seed(seed)
    embeddings = torch.randn(images, D, 4, 6, generator=generator, dtype=torch.float64)
    cells = torch.tensor([0, 1, 2, 255])[torch.randint(4, (images, 1, 4, 6), generator=generator)]
    return embeddings, cells.repeat_interleave(2, 2).repeat_interleave(2, 3)


def unit(vector):
    length = math.sqrt(sum(v * v for v in vector))
    return [v / length for v in vector]


def points_of(embeddings, label):
    """All labelled cells, then the mean of each class in each image: (unit vector, class, image)."""
    points, regions = [], []
    for image in range(len(embeddings)):
        by_class = {}
        for row in range(4):
            for column in range(6):
                channel = int(label[image, 0, 2 * row + 1, 2 * column + 1])
                if channel not in (0, 255):
                    vector = embeddings[image, :, row, column].tolist()
                    points.append((unit(vector), channel, image))
                    by_class.setdefault(channel, []).append(vector)
        for channel, vectors in sorted(by_class.items()):
            mean = [sum(column) / len(vectors) for column in zip(*vectors, strict=True)]
            regions.append((unit(mean), channel, image))
    return points + regions


def by_loops(anchors, others, temperature):
    losses = []
    for vector, channel, image in anchors:
        seen = [
            (sum(a * b for a, b in zip(vector, other, strict=True)) / temperature, kind == channel)
            for other, kind, where in others
            if not (kind == channel and where == image)
        ]
        total = math.log(sum(math.exp(s) for s, _ in seen)) if seen else 0
        positives = [total - s for s, same in seen if same]
        if positives:
            losses.append(sum(positives) / len(positives))
    return sum(losses) / len(losses)


def test_equals_the_definition_as_loops():
    embeddings, label = make_batch()
    points = points_of(embeddings, label)
    found = CrossImageContrastLoss(0.5, anchors=10_000)(embeddings, label)
    assert found.item() == pytest.approx(by_loops(points, points, 0.5), rel=1e-5)


def test_remembered_features_are_of_other_images():
    embeddings, label = make_batch(images=1)
    features = torch.nn.functional.normalize(torch.randn(5, D, dtype=torch.float64), dim=1)
    classes = torch.tensor([1, 1, 2, 3, 3])
    points = points_of(embeddings, label)
    others = points + [(f.tolist(), int(c), -1) for f, c in zip(features, classes, strict=True)]
    memory = RememberedClasses(features, classes)
    found = CrossImageContrastLoss(0.5, 10_000)(embeddings, label, memory=memory)
    assert found.item() == pytest.approx(by_loops(points, others, 0.5), rel=1e-5)


def test_one_image_without_memory_has_nothing_to_contrast():
    embeddings, label = make_batch(images=1)
    embeddings.requires_grad_()
    value = CrossImageContrastLoss()(embeddings, label)
    value.backward()
    assert value == 0
    assert (embeddings.grad == 0).all()


@pytest.mark.parametrize("content", [0, 255])
def test_background_and_unknown_pixels_take_no_part(content):
    embeddings, label = make_batch()
    embeddings.requires_grad_()
    value = CrossImageContrastLoss()(embeddings, torch.full_like(label, content), logits=torch.zeros(3, 3, 8, 12))
    value.backward()
    assert value == 0
    assert (embeddings.grad == 0).all()


def test_gradient_reaches_the_labelled_cells_alone():
    embeddings, label = make_batch()
    embeddings.requires_grad_()
    CrossImageContrastLoss(anchors=10_000)(embeddings, label).backward()
    taking_part = ((label != 0) & (label != 255))[:, 0, 1::2, 1::2]
    touched = embeddings.grad.abs().sum(1) > 0
    assert torch.equal(touched, taking_part)


def test_scaled_embeddings_and_permuted_images_change_nothing():
    embeddings, label = make_batch()
    loss = CrossImageContrastLoss(anchors=10_000)
    expected = loss(embeddings, label).item()
    assert loss(embeddings * 7, label).item() == pytest.approx(expected, rel=1e-5)
    assert loss(embeddings.flip(0), label.flip(0)).item() == pytest.approx(expected, rel=1e-5)


def test_few_anchors_are_shared_by_the_classes_and_half_of_them_are_mispredicted():
    from lap_monai.losses.cross_image_contrast import _draw

    classes = torch.tensor([1] * 100 + [2] * 30 + [3] * 2)
    wrong = torch.zeros(132, dtype=torch.bool)
    wrong[:40] = True  # of class 1
    wrong[100] = True  # a single one of class 2
    chosen = _draw(classes, 30, wrong)
    assert len(chosen.unique()) == len(chosen)
    assert torch.bincount(classes[chosen]).tolist() == [0, 10, 10, 2]
    assert wrong[chosen][classes[chosen] == 1].sum() == 5
    assert wrong[chosen][classes[chosen] == 2].sum() == 1
    assert torch.bincount(classes[_draw(classes, 30, None)]).tolist() == [0, 10, 10, 2]
    all_wrong = _draw(classes, 30, torch.ones(132, dtype=torch.bool))
    assert torch.bincount(classes[all_wrong]).tolist() == [0, 10, 10, 2]


def test_without_anchors_the_means_of_classes_in_images_are_contrasted():
    embeddings, label = make_batch()
    regions = points_of(embeddings, label)[-6:]
    assert len({(channel, image) for _, channel, image in regions}) == 6, "two classes in three images"
    found = CrossImageContrastLoss(0.5, anchors=0)(embeddings, label, torch.randn(3, 4, 8, 12))
    assert found.item() == pytest.approx(by_loops(regions, regions, 0.5), rel=1e-5)


def test_training_gathers_a_class_across_images():
    embeddings, label = make_batch()
    embeddings = torch.nn.Parameter(embeddings)
    optimizer = torch.optim.Adam([embeddings], lr=0.05)
    loss = CrossImageContrastLoss(0.1, anchors=10_000)
    first = loss(embeddings, label).item()
    for _ in range(40):
        optimizer.zero_grad()
        value = loss(embeddings, label)
        value.backward()
        optimizer.step()
    points = points_of(embeddings.detach(), label)
    own = [
        sum(a * b for a, b in zip(p, q, strict=True)) for p, c, i in points for q, d, j in points if c == d and i != j
    ]
    other = [sum(a * b for a, b in zip(p, q, strict=True)) for p, c, _ in points for q, d, _ in points if c != d]
    assert value.item() < first / 1.5
    assert sum(own) / len(own) > 0.7
    assert sum(other) / len(other) < 0.2


def test_the_grid_of_embeddings_must_fit_the_labels():
    embeddings, _ = make_batch()
    with pytest.raises(ValueError, match="multiple of the embeddings' 4 x 6 pixels, got 9 x 12"):
        CrossImageContrastLoss()(embeddings, torch.zeros(3, 1, 9, 12))
    with pytest.raises(ValueError, match="temperature > 0"):
        CrossImageContrastLoss(temperature=0)


# --- memory --------------------------------------------------------------------------------------------------------


def test_memory_keeps_the_last_of_each_class():
    memory = ClassMemory(size=3)
    assert memory.recall() is None
    told = {1: [], 4: []}
    for value in range(8):
        channel = 4 if value % 3 == 0 else 1
        told[channel].append(value)
        memory.remember(torch.full((1, 2), float(value), requires_grad=True), torch.tensor([channel]))
    features, classes = memory.recall()
    assert classes.tolist() == [1, 1, 1, 4, 4, 4]
    assert features[:, 0].tolist() == told[1][-3:] + told[4][-3:]
    assert not features.requires_grad
    assert len(memory) == 6


def test_memory_survives_a_checkpoint_and_forgets_what_it_held():
    one, other = ClassMemory(2), ClassMemory(2)
    one.remember(torch.eye(3), torch.tensor([1, 2, 2]))
    other.remember(torch.ones(1, 3), torch.tensor([7]))
    other.load_state_dict(one.state_dict())
    for a, b in zip(one.recall(), other.recall(), strict=True):
        assert torch.equal(a, b)
    other.load_state_dict(ClassMemory(2).state_dict())
    assert len(other) == 0


@pytest.mark.parametrize("per_image", [1, 2, 100])
def test_a_batch_leaves_its_regions_and_some_pixels_of_each(per_image):
    embeddings, label = make_batch()
    features, classes = memorable_features(embeddings, label, per_image)
    points = points_of(embeddings, label)
    regions = [(p, c) for p, c, i in points[-6:]]
    counts = {}
    for _, channel, image in points[:-6]:
        counts[channel, image] = counts.get((channel, image), 0) + 1
    assert len(counts) == 6
    assert len(features) == 6 + sum(min(count, per_image) for count in counts.values())
    torch.testing.assert_close(features[-6:], torch.tensor([p for p, _ in regions], dtype=torch.float64))
    assert classes[-6:].tolist() == [c for _, c in regions]
    for feature, channel in zip(features[:-6], classes[:-6], strict=True):
        match = [c for p, c, _ in points if torch.allclose(torch.tensor(p, dtype=torch.float64), feature)]
        assert match == [int(channel)]


def test_sizes_are_checked():
    with pytest.raises(ValueError, match="size of 0 or more, got -1"):
        ClassMemory(-1)
