"""NIfTI in and out: shapes, values, places, and two readers that are not ours."""

from __future__ import annotations

import gzip
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from medical_phantoms import SECRETS, labels_of, moving_picture
from monai.transforms import LoadImage

from lap_monai.checks import UserError
from lap_monai.inference.nifti_layout import find_layout
from lap_monai.inference.nifti_source import NiftiSource, is_nifti
from lap_monai.inference.nifti_writer import NiftiWriter
from lap_monai.inference.source import Failure, Item, open_source
from lap_monai.inference.writer import Output, Prediction
from lap_monai.label_space import get_label_space

pytestmark = pytest.mark.filterwarnings("ignore:NIfTI frames are read so")

RGB24 = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])
RGBA32 = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1"), ("A", "u1")])

#: A picture lying anywhere but along the axes.
OBLIQUE = np.array([[0.3, -0.4, 0, 11], [0.4, 0.3, 0, -7], [0, 0, 2, 5], [0, 0, 0, 1]], dtype=float)

FRAMES = moving_picture(5)
GREY = FRAMES[..., 0]


def structured(pixels: np.ndarray, dtype: np.dtype) -> np.ndarray:
    return np.ascontiguousarray(pixels).view(dtype)[..., 0]


def columns_first(frames: np.ndarray) -> np.ndarray:
    """From `(T, H, W, …)` to NIfTI's own `(W, H, T, …)`."""
    return np.moveaxis(frames, (0, 1, 2), (2, 1, 0))


#: What others write: name → the array, and the frames that it holds.
ALPHA = np.concatenate([FRAMES, np.full_like(FRAMES[..., :1], 255)], axis=-1)
KINDS: dict[str, tuple[np.ndarray, np.ndarray]] = {
    "grey (W, H)": (GREY[0].T, GREY[:1]),
    "grey (H, W)": (GREY[0], GREY[:1]),
    "grey (W, H, 1)": (GREY[0].T[..., None], GREY[:1]),
    "grey (W, H, T)": (columns_first(GREY), GREY),
    "grey (H, W, T)": (np.moveaxis(GREY, 0, 2), GREY),
    "grey (W, H, 1, T)": (columns_first(GREY)[:, :, None], GREY),
    "RGB (H, W, 3)": (FRAMES[0], FRAMES[:1]),
    "RGBA (H, W, 4)": (ALPHA[0], FRAMES[:1]),
    "RGB (H, W, 3, T)": (np.moveaxis(FRAMES, 0, 3), FRAMES),
    "RGB (W, H, T, 3)": (columns_first(FRAMES), FRAMES),
    "RGB (W, H, 1, T, 3)": (columns_first(FRAMES)[:, :, None], FRAMES),
    "RGB (W, H, T, 1, 3)": (columns_first(FRAMES)[:, :, :, None], FRAMES),
    "RGB24 (W, H)": (structured(FRAMES[0].swapaxes(0, 1), RGB24), FRAMES[:1]),
    "RGB24 (W, H, T)": (structured(columns_first(FRAMES), RGB24), FRAMES),
    "RGBA32 (W, H, T)": (structured(columns_first(ALPHA), RGBA32), FRAMES),
}


def save(path: Path, data: np.ndarray, affine: Any = OBLIQUE, **header: Any) -> Path:
    image = nib.Nifti1Image(data, affine)
    for name, value in header.items():
        image.header[name] = value
    nib.save(image, path)
    return path


def frames_of(path: Path, start: int = 0) -> list[Any]:
    return list(NiftiSource(path).items(start))


def write_labels(source: NiftiSource, folder: Path, skip: tuple[int, ...] = (), keep: bool = False) -> None:
    writer = NiftiWriter(Output(folder, source, get_label_space("cholecseg8k_zhang8"), keep_identifiers=keep))
    for item in source.items():
        if isinstance(item, Item) and item.index not in skip:
            writer.write(item, Prediction(labels_of(item.image)))
    writer.close()


# --- in ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("kind", KINDS)
def test_frames_come_as_they_were_taken(kind: str, suffix: str, tmp_path: Path) -> None:
    data, expected = KINDS[kind]
    path = save(tmp_path / f"any name{suffix}", data)
    assert is_nifti(path)
    items = frames_of(path)
    assert NiftiSource(path).total == len(items) == len(expected)
    for item, frame in zip(items, expected, strict=True):
        assert item.image.dtype == np.uint8
        assert item.image.flags.c_contiguous
        np.testing.assert_array_equal(item.image, frame if frame.ndim == 3 else np.repeat(frame[..., None], 3, axis=2))


def test_the_same_frames_as_monais_reader(tmp_path: Path) -> None:
    path = save(tmp_path / "frame.nii.gz", FRAMES[0].swapaxes(0, 1))
    theirs = LoadImage(image_only=True)(path).numpy()  # (W, H, 3)
    np.testing.assert_array_equal(frames_of(path)[0].image, theirs.swapaxes(0, 1))


@pytest.mark.parametrize(
    ("dtype", "scale"), [("int16", 1), ("uint16", 1), ("float32", 1), ("float64", 255), ("float32", 255), ("int32", 1)]
)
def test_other_types_of_the_same_values(dtype: str, scale: float, tmp_path: Path) -> None:
    data = (GREY.astype(np.float64) / scale).astype(dtype)
    items = frames_of(save(tmp_path / "stack.nii", np.moveaxis(data, 0, 2)))
    np.testing.assert_array_equal(np.stack([item.image[..., 0] for item in items]), GREY)


def test_scaling_in_the_header_is_applied(tmp_path: Path) -> None:
    image = nib.Nifti1Image(np.moveaxis(GREY // 2, 0, 2), np.eye(4))
    image.header.set_slope_inter(2, 1)
    path = tmp_path / "scaled.nii"
    with path.open("wb") as file:  # as it stands: nibabel's own saving would undo the scaling
        image.header.write_to(file)
        file.write(b"\0" * (352 - file.tell()) + np.asarray(image.dataobj).tobytes(order="F"))
    np.testing.assert_array_equal(frames_of(path)[3].image[..., 1], GREY[3] // 2 * 2 + 1)


def test_brightness_is_one_for_all_frames_of_a_file(tmp_path: Path) -> None:
    """A black frame must not turn a file of 0..255 into one of 0..1."""
    data = np.moveaxis(GREY, 0, 2).astype(np.float32)
    data[..., 0] = np.linspace(0, 1, data[..., 0].size).reshape(data[..., 0].shape)
    assert frames_of(save(tmp_path / "stack.nii", data))[0].image.max() == 1


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_reading_goes_on_at_any_frame(suffix: str, tmp_path: Path) -> None:
    path = save(tmp_path / f"stack{suffix}", np.moveaxis(FRAMES, 0, 3))
    rest = frames_of(path, start=3)
    assert [item.index for item in rest] == [3, 4]
    np.testing.assert_array_equal(rest[0].image, FRAMES[3])


def test_a_folder_in_natural_order(tmp_path: Path) -> None:
    for name, count in {"op 10/clip": 2, "op 2/frame": 1, "op 2/later": 2}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        save(tmp_path / f"{name}.nii.gz", np.moveaxis(GREY[:count], 0, 2))
    source = open_source(tmp_path)
    items = list(source.items())
    clips = [f"{clip}/{frame:06d}" for clip in ("op 2/later", "op 10/clip") for frame in range(2)]
    assert [item.name for item in items] == ["op 2/frame", *clips]
    assert [item.index for item in items] == list(range(5))
    assert source.total == 5


def test_files_that_share_a_stem_keep_their_suffix(tmp_path: Path) -> None:
    """Also a stack whose frames would be called as files of a folder are; labels would overwrite each other."""
    (tmp_path / "in/b").mkdir(parents=True)
    for name, count in {"a.nii": 1, "a.nii.gz": 2, "b.nii": 2, "b/000000.nii": 1, "c.nii": 1}.items():
        save(tmp_path / "in" / name, columns_first(GREY[:count]) if count > 1 else GREY[0].T)
    source = NiftiSource(tmp_path / "in")
    names = [item.name for item in source.items()]
    stacks = [f"{stack}/{frame:06d}" for stack in ("a.nii.gz", "b.nii") for frame in range(2)]
    assert names == ["a.nii", *stacks, "b/000000", "c"]
    write_labels(source, tmp_path)
    written = sorted(path.relative_to(tmp_path / "nifti").as_posix() for path in tmp_path.glob("nifti/**/*.nii.gz"))
    assert written == ["a.nii.gz.nii.gz", "a.nii.nii.gz", "b.nii.nii.gz", "b/000000.nii.gz", "c.nii.gz"]


def test_what_was_assumed_is_said(tmp_path: Path) -> None:
    path = save(tmp_path / "clip.nii", np.moveaxis(FRAMES, 0, 3))
    with pytest.warns(UserWarning, match="axis 2 is the width, axis 3 the 3 channels, axis 4 the stack of 5 frames"):
        NiftiSource(path)


def test_equal_sides_are_in_niftis_own_order() -> None:
    assert not find_layout((64, 64), coloured=False).rows_first


def test_three_by_three_takes_the_earlier_axis_for_colour() -> None:
    layout = find_layout((64, 48, 3, 4), coloured=False)
    assert (layout.channel_axis, layout.stack_axis, layout.frames) == (2, 3, 4)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((64, 48, 1, 1, 5), "5 channels"),
        ((64, 48, 20, 5), "more channels than the model's 3"),
        ((64, 48, 20, 5, 3), "stacked along 2 axes"),
        ((3, 64, 48), "first two axes are no picture"),
        ((64,), "first two axes are no picture"),
        ((64, 48, 0), "first two axes are no picture"),
    ],
)
def test_what_is_no_stack_of_frames_is_refused(shape: tuple[int, ...], message: str, tmp_path: Path) -> None:
    path = tmp_path / "volume.nii"
    nib.save(nib.Nifti1Image(np.zeros(shape, np.uint8), np.eye(4)), path)
    with pytest.raises(UserError, match=message) as error:
        NiftiSource(path)
    assert "volume.nii" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("values", [(-1000, 400), (0, 4095), (0, np.nan)])
def test_values_that_are_no_brightness_fail(values: tuple[float, float], tmp_path: Path) -> None:
    data = np.linspace(0, 1, GREY[0].size).reshape(GREY[0].shape).astype(np.float32)
    failures = frames_of(save(tmp_path / "ct.nii", values[0] + data * (values[1] - values[0])))
    assert [type(failure) for failure in failures] == [Failure]
    assert "save frames of 0 to 255" in failures[0].error


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_truncated_files_fail_in_one_line(suffix: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    path = save(tmp_path / f"cut{suffix}", rng.integers(0, 256, (64, 48, 9), dtype=np.uint8))
    path.write_bytes(path.read_bytes()[:9000])
    found = frames_of(path)
    assert len(found) == 9
    assert all(isinstance(failure, Failure) for failure in found)
    assert "truncated" in found[0].error
    assert "\n" not in found[0].error


@pytest.mark.parametrize("content", [b"", b"no header" * 100, gzip.compress(b"no header" * 100, mtime=0)])
def test_what_is_no_nifti_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / ("bad.nii.gz" if content[:2] == b"\x1f\x8b" else "bad.nii")
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"bad\.nii"):
        NiftiSource(path)


@pytest.mark.parametrize("offset", [float("nan"), float("inf"), float("-inf")])
def test_a_header_without_a_finite_offset_is_refused(offset: float, tmp_path: Path) -> None:
    path = save(tmp_path / "bad.nii", FRAMES)
    content = bytearray(path.read_bytes())
    content[108:112] = np.float32(offset).tobytes()  # vox_offset of NIfTI-1
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"bad\.nii' is damaged"):
        NiftiSource(path)


def test_a_bad_file_of_a_folder_takes_its_place_and_the_others_come(tmp_path: Path) -> None:
    save(tmp_path / "a.nii", GREY[0].T)
    (tmp_path / "b.nii").write_bytes(b"no header" * 100)
    (tmp_path / "c.nii.gz").write_bytes(gzip.compress(b"no header" * 100, mtime=0))
    save(tmp_path / "d.nii", np.zeros((8, 8), np.uint8))
    save(tmp_path / "e.nii.gz", columns_first(GREY[:2]))
    (tmp_path / "f.nii").symlink_to(tmp_path / "nowhere.nii")
    source = NiftiSource(tmp_path)
    items = list(source.items())
    assert source.total == len(items) == 6
    assert [type(item) for item in items] == [Item, Failure, Failure, Failure, Item, Item]
    assert [item.name for item in items] == ["a", "b", "c", "d", "e/000000", "e/000001"]
    assert [item.index for item in items] == list(range(6))
    for failure, words in zip(items[1:4], ["damaged or no NIfTI", "damaged or no NIfTI", "no picture"], strict=True):
        assert isinstance(failure, Failure)
        assert words in failure.error
    assert [item.name for item in source.items(3)] == ["d", "e/000000", "e/000001"]


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("damage", ["gone", "header", "cut", "no room"])
def test_failures_hold_no_folder(damage: str, suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the source's nor that of the temporary file, both of which may hold names."""
    temporary = tmp_path / SECRETS[1]
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    (tmp_path / SECRETS[0]).mkdir()
    path = save(tmp_path / SECRETS[0] / f"a{suffix}", GREY[0].T)
    source = NiftiSource(path.parent)
    content = path.read_bytes()
    if damage == "no room":
        monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=0))
        if suffix == ".nii":
            return  # which is not unpacked
    elif damage == "gone":
        path.unlink()
    elif damage == "header":
        path.write_bytes(gzip.compress(b"x" * 9000) if suffix == ".nii.gz" else b"x" * 9000)
    else:
        path.write_bytes(content[: len(content) // 2])
    (failure,) = source.items()
    assert isinstance(failure, Failure)
    assert not [word for word in (*SECRETS[:2], str(tmp_path), "unpacked") if word in failure.error]


def test_a_folder_without_nifti_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no NIfTI file"):
        NiftiSource(tmp_path)


# --- out -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_labels_lie_on_their_frames(kind: str, tmp_path: Path) -> None:
    """Same affine, same sides, and at every pixel what the stand-in network says of the frame there."""
    data, frames = KINDS[kind]
    source = NiftiSource(save(tmp_path / "in.nii.gz", data))
    write_labels(source, tmp_path / "out")
    labels: Any = nib.load(tmp_path / "out/nifti/labels.nii.gz")
    np.testing.assert_array_equal(labels.affine, nib.load(tmp_path / "in.nii.gz").affine)
    assert labels.get_data_dtype() == np.uint8
    assert labels.shape[:2] == data.shape[:2]
    assert labels.shape[2:] == () or np.prod(labels.shape[2:]) == len(frames)
    if data.dtype.names is None and "RGB" in kind:  # the channels' axis keeps its place before the stack
        kept = [1 if length in (3, 4) else length for length in data.shape[2:]]
        assert labels.shape[2:] == tuple(kept)[: len(labels.shape) - 2]
    stack = np.asarray(labels.dataobj).reshape(*data.shape[:2], -1, order="F")
    for i, frame in enumerate(frames):
        shown = frame if frame.ndim == 3 else np.repeat(frame[..., None], 3, axis=2)
        expected = labels_of(shown)
        np.testing.assert_array_equal(stack[..., i], expected if data.shape[0] == expected.shape[0] else expected.T)


@pytest.mark.parametrize("codes", [(1, 0), (0, 1), (2, 4), (0, 0)])
def test_simpleitk_puts_both_in_one_place(codes: tuple[int, int], tmp_path: Path) -> None:
    """A reader that shares no code with nibabel, whichever of the header's two transforms holds, or none."""
    sitk = pytest.importorskip("SimpleITK")
    image = nib.Nifti1Image(structured(columns_first(FRAMES), RGB24), OBLIQUE)
    image.set_qform(OBLIQUE, codes[0])
    image.set_sform(OBLIQUE, codes[1])
    nib.save(image, tmp_path / "in.nii")
    write_labels(NiftiSource(tmp_path / "in.nii"), tmp_path)
    frame, labels = sitk.ReadImage(tmp_path / "in.nii"), sitk.ReadImage(tmp_path / "nifti/labels.nii.gz")
    for property_ in ("Size", "Spacing", "Origin", "Direction"):
        assert getattr(labels, f"Get{property_}")() == getattr(frame, f"Get{property_}")()
    pixels = sitk.GetArrayFromImage(frame)  # (T, H, W, 3)
    np.testing.assert_array_equal(pixels, FRAMES)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(labels), np.stack([labels_of(frame) for frame in FRAMES]))


def test_monai_loads_the_labels_onto_the_frame(tmp_path: Path) -> None:
    write_labels(NiftiSource(save(tmp_path / "in.nii", GREY[0].T)), tmp_path)
    load = LoadImage(image_only=True)
    frame, labels = load(tmp_path / "in.nii"), load(tmp_path / "nifti/labels.nii.gz")
    np.testing.assert_array_equal(frame.affine, labels.affine)
    assert frame.shape == labels.shape
    np.testing.assert_array_equal(labels.numpy(), labels_of(np.repeat(GREY[0].T[..., None], 3, axis=2)))


def test_frames_without_a_prediction_are_ignored_ones(tmp_path: Path) -> None:
    source = NiftiSource(save(tmp_path / "in.nii", columns_first(GREY)))
    write_labels(source, tmp_path, skip=(1, 4))
    labels = np.asarray(nib.load(tmp_path / "nifti/labels.nii.gz").dataobj)  # type: ignore[attr-defined]
    assert [set(np.unique(labels[..., i])) == {255} for i in range(5)] == [False, True, False, False, True]


def test_each_file_of_a_folder_gets_its_own_labels(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name in ("a", "b"):
        save(tmp_path / f"in/{name}.nii.gz", columns_first(GREY if name == "a" else GREY[:2]))
    write_labels(NiftiSource(tmp_path / "in"), tmp_path)
    shapes = [nib.load(tmp_path / f"nifti/{name}.nii.gz").shape for name in ("a", "b")]  # type: ignore[attr-defined]
    assert shapes == [(80, 48, 5), (80, 48, 2)]


def test_the_second_version_of_the_format_stays_itself(tmp_path: Path) -> None:
    nib.save(nib.Nifti2Image(columns_first(GREY), OBLIQUE), tmp_path / "in.nii")
    write_labels(NiftiSource(tmp_path / "in.nii"), tmp_path)
    assert type(nib.load(tmp_path / "nifti/labels.nii.gz")) is nib.Nifti2Image


def test_other_sources_get_a_file_a_frame_with_the_identity(tmp_path: Path) -> None:
    source = NiftiSource(save(tmp_path / "in.nii", GREY[0]))
    writer = NiftiWriter(Output(tmp_path, source, get_label_space("endoscapes_7")))
    writer.write(Item("clip 1/frame_80", 0, FRAMES[0]), Prediction(labels_of(FRAMES[0])))
    writer.close()
    labels: Any = nib.load(tmp_path / "nifti/clip 1/frame_80.nii.gz")
    np.testing.assert_array_equal(labels.affine, np.eye(4))
    np.testing.assert_array_equal(np.asarray(labels.dataobj), labels_of(FRAMES[0]).T)


def test_the_same_labels_are_the_same_bytes(tmp_path: Path) -> None:
    source = NiftiSource(save(tmp_path / "in.nii", columns_first(GREY)))
    for folder in ("one", "two"):
        write_labels(source, tmp_path / folder)
    one, two = ((tmp_path / folder / "nifti/labels.nii.gz").read_bytes() for folder in ("one", "two"))
    assert one == two


def test_an_aborted_writer_leaves_nothing(tmp_path: Path) -> None:
    source = NiftiSource(save(tmp_path / "in.nii", columns_first(GREY)))
    writer = NiftiWriter(Output(tmp_path / "out", source, get_label_space("endoscapes_7")))
    item = next(iter(source.items()))
    assert isinstance(item, Item)
    writer.write(item, Prediction(labels_of(item.image)))
    writer.abort()
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file()]


@pytest.mark.parametrize("keep", [False, True])
def test_nothing_of_the_header_but_geometry_is_carried_over(keep: bool, tmp_path: Path) -> None:
    image = nib.Nifti1Image(columns_first(GREY), OBLIQUE)
    image.header["descrip"] = f"{SECRETS[0]} {SECRETS[2]}".encode()
    image.header["db_name"] = SECRETS[1].encode()
    image.header["aux_file"] = SECRETS[3].encode()
    image.header["intent_name"] = SECRETS[4].encode()
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", SECRETS[5].encode()))
    image.header["toffset"] = 81559
    nib.save(image, tmp_path / f"{SECRETS[0]}.nii.gz")
    write_labels(NiftiSource(tmp_path / f"{SECRETS[0]}.nii.gz"), tmp_path / "out", keep=keep)
    (path,) = (path for path in (tmp_path / "out").rglob("*") if path.is_file())
    content = gzip.decompress(path.read_bytes())
    found = [secret for secret in SECRETS[:6] if secret.encode() in content or secret in path.name]
    assert found == ([secret for secret in SECRETS[:6] if secret != SECRETS[4]] if keep else [])
