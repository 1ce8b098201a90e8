import numpy as np
import pytest
from PIL import Image
from tiny_data import picture, write_wide_png

from lap_monai.checks import UserError
from lap_monai.inference import Failure, Item, open_source


def save(path, image=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture(1) if image is None else image).save(path)
    return path


def test_a_folder_is_read_with_its_subfolders_in_natural_order(tmp_path):
    for name in ("b/frame 10.png", "b/frame 2.png", "a 2/ö.jpg", "a 10/x.PNG", "a 2/.hidden.png", "a 2/x_mask.png"):
        save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no frame")
    source = open_source(tmp_path)
    items = list(source.items())
    assert [item.name for item in items] == ["a 2/ö", "a 10/x", "b/frame 2", "b/frame 10"]
    assert [item.index for item in items] == [0, 1, 2, 3]
    assert source.total == 4
    assert [item.name for item in source.items(3)] == ["b/frame 10"]
    np.testing.assert_array_equal(items[1].image, picture(1))


def test_links_are_followed_and_loops_end(tmp_path):
    save(tmp_path / "elsewhere" / "far.png")
    save(tmp_path / "in" / "near.png")
    (tmp_path / "in" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "back").symlink_to(tmp_path / "in")
    (tmp_path / "in" / "gone.png").symlink_to(tmp_path / "nothing.png")
    names = [item.name for item in open_source(tmp_path / "in").items()]
    assert names == ["link/far", "near"]


def test_files_that_differ_in_the_suffix_alone_keep_it(tmp_path):
    save(tmp_path / "a.png")
    save(tmp_path / "a.jpg")
    save(tmp_path / "a.png.png")
    save(tmp_path / "b.png")
    assert [item.name for item in open_source(tmp_path).items()] == ["a.jpg", "a.png", "a.png.png", "b"]


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "LA", "1", "CMYK"])
def test_every_mode_of_8_bits_becomes_rgb_as_pil_converts_it(tmp_path, mode):
    image = Image.fromarray(picture(3)).convert("L" if mode == "LA" else mode).convert(mode)
    path = tmp_path / f"frame.{'tif' if mode == 'CMYK' else 'png'}"
    image.save(path)
    (item,) = open_source(path).items()
    np.testing.assert_array_equal(item.image, np.asarray(image.convert("RGB")))
    assert item.name == "frame"


def test_bad_files_fail_by_name_and_the_others_come(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 40 * 40)
    save(tmp_path / "1.png")
    (tmp_path / "2.png").write_bytes((tmp_path / "1.png").read_bytes()[:200])
    (tmp_path / "3.png").write_bytes(b"")
    save(tmp_path / "4.png", np.full((8, 8), 40000, dtype=np.uint16))
    frames = [Image.fromarray(picture(seed)) for seed in (1, 2)]
    frames[0].save(tmp_path / "5.gif", save_all=True, append_images=frames[1:])
    save(tmp_path / "6.png", np.zeros((90, 90, 3), dtype=np.uint8))
    save(tmp_path / "7.png")
    items = list(open_source(tmp_path).items())
    assert [type(item) for item in items] == [Item, *[Failure] * 5, Item]
    errors = [item.error for item in items if isinstance(item, Failure)]
    for error, word in zip(errors, ["decoded", "no image", "8 bits", "holds 2 pictures", "limit"], strict=True):
        assert word in error
        assert str(tmp_path) not in error


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_pngs_of_16_bits_a_channel_fail_whatever_their_colours(tmp_path, channels):
    """Pillow opens all but grey ones as 8 bits, keeping the high bytes: 600 would become 2."""
    (item,) = open_source(write_wide_png(tmp_path / "1.png", np.full((8, 8, channels), 600, np.uint16))).items()
    assert isinstance(item, Failure)
    assert item.error == "has more than 8 bits a channel; convert it to 8 bits"


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("planes", ["contig", "separate"])
def test_tiffs_of_16_bits_a_channel_fail(tmp_path, compression, order, planes):
    tifffile = pytest.importorskip("tifffile")
    shape = (8, 8, 3) if planes == "contig" else (3, 8, 8)
    options = {"photometric": "rgb", "planarconfig": planes, "compression": compression, "byteorder": order}
    tifffile.imwrite(tmp_path / "1.tif", np.full(shape, 600, np.uint16), **options)
    (item,) = open_source(tmp_path / "1.tif").items()
    assert isinstance(item, Failure)
    assert "more than 8 bits" in item.error


@pytest.mark.parametrize("suffix", ["png", "tif", "bmp", "webp", "gif", "jpg"])
def test_8_bits_of_every_format_are_taken(tmp_path, suffix):
    (item,) = open_source(save(tmp_path / f"1.{suffix}")).items()
    assert isinstance(item, Item)


@pytest.mark.parametrize("name", ["42", "0"])
def test_a_folder_whose_name_is_a_number_is_no_capture_device(tmp_path, monkeypatch, name):
    save(tmp_path / name / "a.png")
    monkeypatch.chdir(tmp_path)
    source = open_source(name)
    assert (source.kind, source.total) == ("frames", 1)


def test_nothing_to_read_is_said(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        open_source(tmp_path / "none")
    with pytest.raises(UserError, match="holds no frame"):
        open_source(tmp_path)
    (tmp_path / "x.doc").write_text("x")
    with pytest.raises(UserError, match="no known kind"):
        open_source(tmp_path / "x.doc")
    with pytest.raises(UserError, match="Did you mean 'video'"):
        open_source(tmp_path, "vidoe")
