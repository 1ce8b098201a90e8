from __future__ import annotations

import pytest
import torch

from lap_monai.metrics import confusion_matrix


def loop_counts(prediction: torch.Tensor, label: torch.Tensor, classes: int) -> torch.Tensor:
    counts = torch.zeros(len(label), classes, classes, dtype=torch.int64)
    for n in range(len(label)):
        for p, t in zip(prediction[n].flatten().tolist(), label[n].flatten().tolist(), strict=True):
            if t != 255:
                counts[n, t, p] += 1
    return counts


@pytest.mark.parametrize(("frames", "classes"), [(1, 2), (3, 5), (4, 13)])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64])
def test_equals_a_loop_over_pixels(frames: int, classes: int, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(frames)
    prediction = torch.randint(classes, (frames, 1, 5, 7), generator=generator).to(dtype)
    label = torch.randint(classes, (frames, 1, 5, 7), generator=generator).to(torch.uint8)
    label[torch.rand(label.shape, generator=generator) < 0.3] = 255
    counts = confusion_matrix(prediction, label, classes)
    assert counts.dtype == torch.int64
    assert torch.equal(counts, loop_counts(prediction, label, classes))


def test_a_frame_without_labelled_pixels_gives_zeros() -> None:
    counts = confusion_matrix(torch.zeros(2, 4, 4, dtype=torch.int64), torch.full((2, 4, 4), 255), 3)
    assert counts.shape == (2, 3, 3)
    assert not counts.any()


def test_ids_under_an_ignored_label_are_not_looked_at() -> None:
    assert confusion_matrix(torch.tensor([[9, 1]]), torch.tensor([[255, 1]]), 2).tolist() == [[[0, 0], [0, 1]]]


@pytest.mark.parametrize(("prediction", "label", "what"), [([[2]], [[1]], "prediction"), ([[1]], [[7]], "label")])
def test_ids_outside_the_label_space_are_refused(prediction: list, label: list, what: str) -> None:
    with pytest.raises(ValueError, match=f"expected {what} ids from 0 to 1"):
        confusion_matrix(torch.tensor(prediction), torch.tensor(label), 2)


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match="equal shape"):
        confusion_matrix(torch.zeros(1, 2, 2, dtype=torch.int64), torch.zeros(1, 2, 3, dtype=torch.int64), 2)
