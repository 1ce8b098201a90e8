"""Against the bundle's own MONAI transforms, to the bit."""

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from monai.transforms import AsDiscreted, Compose, Invertd, NormalizeIntensityd, Resized, ScaleIntensityRanged
from PIL import Image

from lap_monai.checks import UserError
from lap_monai.inference import Preprocessing


def transforms_of(repository: Path, size: list[int]) -> Compose:
    parser = ConfigParser()
    parser.read_config(str(repository / "bundles/cholecseg8k_contrastive/configs/inference.json"))
    parser["frame_size"] = size
    return parser.get_parsed_content("preprocessing")


SIZES = [
    ((480, 854), (240, 427)),
    ((64, 96), (32, 48)),
    ((37, 53), (32, 48)),
    ((101, 77), (40, 31)),
    ((20, 30), (32, 48)),
]


@pytest.mark.parametrize(("size", "network_size"), SIZES)
def test_frames_and_labels_are_those_of_the_bundles_transforms(repository, tmp_path, size, network_size):
    rng = np.random.default_rng(size)
    image = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(image).save(tmp_path / "frame.png")
    transforms = transforms_of(repository, list(network_size))
    ours = Preprocessing.of_transforms(transforms.transforms, "inference.json")
    theirs = transforms({"image": str(tmp_path / "frame.png")})
    assert torch.equal(ours(image), theirs["image"].as_tensor())

    logits = torch.from_numpy(rng.normal(size=(5, *network_size)).astype(np.float32))
    back = Compose(
        [
            AsDiscreted("pred", argmax=True),
            Invertd("pred", transform=transforms, orig_keys="image", nearest_interp=True, to_tensor=True),
        ]
    )
    # MONAI's frames are W x H in a file and H x W after the Transposed, which its inverse takes back too.
    restored = back({**theirs, "pred": theirs["image"].new_tensor(logits)})["pred"][0].T.numpy()
    np.testing.assert_array_equal(ours.restore(logits.argmax(0).to(torch.uint8), size), restored)


def test_a_transform_that_is_not_computed_is_refused_by_name():
    transforms = [Resized("image", (4, 4), mode="area"), NormalizeIntensityd("image")]
    with pytest.raises(UserError, match=r"'a\.json' has NormalizeIntensityd"):
        Preprocessing.of_transforms(transforms, "a.json")
    with pytest.raises(UserError, match=r"'a\.json' resizes to \[4\]; give a height and a width"):
        Preprocessing.of_transforms([Resized("image", (4,), mode="area")], "a.json")
    with pytest.raises(UserError, match="lacks ScaleIntensityRanged"):
        Preprocessing.of_transforms(transforms[:1], "a.json")


def test_values_are_scaled_after_the_resize_only():
    scale = ScaleIntensityRanged("image", 0, 255, 0, 1, clip=True)
    with pytest.raises(UserError, match="Resized"):
        Preprocessing.of_transforms([scale, Resized("image", (4, 4), mode="area")], "a.json")


@pytest.mark.parametrize("size", [(64, 96), (37, 53), (32, 48)])
def test_a_frame_that_must_not_be_written_to_is_read_without_a_word(size):
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    expected = Preprocessing((32, 48))(image)
    image.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(Preprocessing((32, 48))(image), expected)
    assert image.max() > 1  # nor was it scaled in place
