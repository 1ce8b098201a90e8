import numpy as np
from tiny_data import picture

from lap_monai.inference import Painter
from lap_monai.label_space import get_label_space

SPACE = get_label_space("cholecseg8k_zhang8")


def plain(image, labels):
    """The definition, pixel by pixel."""
    out = image.copy()
    height, width = labels.shape
    for y in range(height):
        for x in range(width):
            label = labels[y, x]
            if label == 255 or len(set(SPACE.colours[label])) == 1:
                continue
            around = [(y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)]
            inside = [labels[p] for p in around if 0 <= p[0] < height and 0 <= p[1] < width]
            colour = np.array(SPACE.colours[label])
            border = any(other != label for other in inside)
            out[y, x] = colour if border else image[y, x] - image[y, x] // 2 + colour // 2
    return out


def test_it_paints_as_defined():
    rng = np.random.default_rng(0)
    labels = rng.choice(np.array([0, 1, 3, 7, 255], dtype=np.uint8), (5, 7)).repeat(4, 0).repeat(4, 1)
    image = rng.integers(0, 256, (*labels.shape, 3), dtype=np.uint8)
    before = image.copy()
    painted = Painter(SPACE, legend=False)(image, labels)
    np.testing.assert_array_equal(painted, plain(image, labels))
    np.testing.assert_array_equal(image, before)


def test_the_legend_stands_below_and_the_plain_frame_beside():
    image, labels = picture(1, (60, 200)), np.full((60, 200), 2, dtype=np.uint8)
    sheet = Painter(SPACE, side_by_side=True)(image, labels)
    assert sheet.shape[1] == 400
    assert sheet.shape[0] > 60
    np.testing.assert_array_equal(sheet[:60, :200], image)
    strip = sheet[60:].reshape(-1, 3)
    for colour in SPACE.colours[1:]:
        assert (strip == colour).all(1).sum() > 20
    # Background is not painted; letters are smoothed, so that a few of their pixels may have its grey.
    assert (strip == SPACE.colours[0]).all(1).sum() < 20
