from __future__ import annotations

import numpy as np

from lap_monai.reports import Example
from lap_monai.reports.pictures import error_map, overlay

COLOURS = ((127, 127, 127), (255, 0, 0), (0, 0, 255))
IMAGE = np.full((4, 6, 3), 100, np.uint8)


def ids(left: int, right: int) -> np.ndarray:
    """Class `left` in the left half, `right` in the right half."""
    return np.repeat([[left] * 3 + [right] * 3], 4, axis=0).astype(np.uint8)


def test_background_shows_the_frame_and_classes_their_colour() -> None:
    painted = overlay(IMAGE, ids(0, 1), COLOURS)
    assert (painted[:, :3] == 100).all()
    assert (painted[:, 4:, 0] > 100).all()
    assert (painted[:, 4:, 2] < 100).all()


def test_ignored_pixels_are_dark() -> None:
    assert (overlay(IMAGE, ids(0, 255), COLOURS)[:, 3:] < 50).all()


def test_the_frame_itself_is_not_changed() -> None:
    image = IMAGE.copy()
    overlay(image, ids(1, 2), COLOURS)
    assert (image == 100).all()


def test_errors_wear_the_true_colour_or_on_background_the_claimed_one() -> None:
    def errors(truth: np.ndarray, prediction: np.ndarray) -> np.ndarray:
        return error_map(Example("n", "v", 0.5, IMAGE, truth, prediction), COLOURS)

    missed = errors(ids(1, 1), ids(1, 0))
    assert (missed[:, 3:] == COLOURS[1]).all()
    assert (missed[:, :3] == missed[0, 0]).all()
    assert len(set(missed[0, 0].tolist())) == 1
    claimed = errors(ids(0, 0), ids(0, 2))
    assert (claimed[:, 3:] == COLOURS[2]).all()
    ignored = errors(ids(255, 0), ids(1, 0))
    assert (ignored[:, :3] == 0).all()
