import socket
import threading

import numpy as np
import pytest

from lap_monai.checks import UserError
from lap_monai.inference import Failure, LiveCapture, Options, open_source, predict

av = pytest.importorskip("av")


@pytest.mark.parametrize(("name", "codec"), [("v.mp4", "mpeg4"), ("v.avi", "mpeg4"), ("v.mkv", "libx264")])
def test_frames_come_in_order_with_their_times(write_video, name, codec):
    source = open_source(write_video(name, codec=codec))
    items = list(source.items())
    assert [item.index for item in items] == list(range(12))
    assert [item.name for item in items[:2]] == ["000000", "000001"]
    np.testing.assert_allclose([item.time for item in items], np.arange(12) / 25, atol=1e-3)
    assert items[0].image.shape == (48, 64, 3)
    assert source.total == 12
    assert source.fps == pytest.approx(25)
    # The square moves to the right by a pixel a frame.
    reds = [item.image[12:20, :, 0].astype(int) - item.image[12:20, :, 2] > 60 for item in items]
    columns = [np.nonzero(red)[1].mean() for red in reds]
    assert columns[11] - columns[0] == pytest.approx(11, abs=1.5)


def test_a_variable_frame_rate_is_kept(write_video):
    times = [0, 0.04, 0.5, 0.54, 2.0]
    found = [item.time for item in open_source(write_video("vfr.mp4", times)).items()]
    np.testing.assert_allclose(found, times, atol=1e-3)


def test_it_goes_on_from_any_frame(write_video):
    source = open_source(write_video())
    whole, rest = list(source.items()), list(source.items(7))
    assert [item.index for item in rest] == list(range(7, 12))
    for item, other in zip(rest, whole[7:], strict=True):
        np.testing.assert_array_equal(item.image, other.image)
        assert item.time == other.time


@pytest.mark.parametrize(
    ("name", "begin", "sound"),
    [("v.avi", 0, 0), ("v.mp4", 0, 0), ("v.mkv", 0, 0), ("v.mkv", 5, 0), ("v.mkv", 0, 4), ("v.avi", 0, 4)],
)
def test_a_file_that_ends_early_gives_what_it_has_and_says_so(write_video, name, begin, sound):
    path = write_video(name, [begin + i / 25 for i in range(60)], sound=sound)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3 if not sound else len(data) // 3])
    source = open_source(path)
    items = list(source.items())
    assert 2 < len(items) < 50
    assert isinstance(items[-1], Failure)
    assert "ends early" in items[-1].error
    assert not any(isinstance(item, Failure) for item in items[:-1])
    assert list(source.items(len(items))) == []  # a resumed run that has noted this has nothing left to note


@pytest.mark.parametrize(
    ("name", "begin", "sound"), [("v.mkv", 5, 0), ("v.mkv", 0, 4), ("v.avi", 0, 4), ("v.mov", 0, 4), ("v.ts", 5, 0)]
)
def test_pictures_that_begin_late_or_end_before_the_sound_are_whole(write_video, name, begin, sound):
    path = write_video(name, [begin + i / 25 for i in range(50)], sound=sound)
    items = list(open_source(path).items())
    assert [type(item).__name__ for item in items] == ["Item"] * 50
    np.testing.assert_allclose([item.time for item in items], np.arange(50) / 25, atol=2e-3)


def test_frames_that_an_edit_list_hides_are_not_missed(write_video, tmp_path):
    """A cut without encoding again keeps the frames since the last key frame, and hides them."""
    path = write_video(times=[i / 25 for i in range(50)])
    with av.open(str(path)) as whole, av.open(str(tmp_path / "cut.mp4"), "w") as cut:
        stream = cut.add_stream_from_template(whole.streams.video[0])
        for packet in whole.demux(whole.streams.video[0]):
            if packet.dts is not None:
                packet.stream, shift = stream, round(0.48 / packet.time_base)
                packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
                cut.mux(packet)
    source = open_source(tmp_path / "cut.mp4")
    items = list(source.items())
    assert (source.total, len(items)) == (50, 38)
    assert not any(isinstance(item, Failure) for item in items)


def test_a_video_without_frames_is_refused(write_video, tmp_path):
    path = write_video("v.mp4")
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(UserError, match=r"holds no pictures|cannot be opened"):
        open_source(path)
    (tmp_path / "empty.mkv").write_bytes(b"")
    with pytest.raises(UserError, match="cannot be opened"):
        open_source(tmp_path / "empty.mkv")
    with pytest.raises(UserError, match=r"holds no frame|cannot be opened \(End of file"):
        open_source(write_video("none.mkv", []))


def test_a_stream_of_another_machine_is_refused_and_none_is_said():
    with pytest.raises(UserError, match="over a network"):
        open_source("rtsp://10.1.2.3/scope")
    with pytest.raises(UserError, match=r"tcp://127\.0\.0\.1:1.*cannot be opened.*see that something sends it"):
        LiveCapture("tcp://127.0.0.1:1")
    with pytest.raises(UserError, match="capture device 99"):
        open_source("99")


def test_a_stream_of_this_machine_is_read_until_it_ends(write_video, predictor, tmp_path):
    data = write_video("v.ts", [i / 25 for i in range(50)], codec="libx264").read_bytes()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve():
            connection, _ = server.accept()
            with connection:
                connection.sendall(data)

        threading.Thread(target=serve, daemon=True).start()
        source = open_source(f"tcp://127.0.0.1:{server.getsockname()[1]}")
        assert (source.kind, source.total) == ("live", None)
        record = predict(source, predictor, tmp_path / "out", Options(write=["labels", "overlay"], compare=False))
    assert record["status"] == "completed"
    assert record["frames"]["ok"] + record["frames"]["dropped"] == 50
    with av.open(str(tmp_path / "out" / "overlay.mp4")) as overlay:
        assert sum(1 for _ in overlay.decode(video=0)) == record["frames"]["ok"]


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("name", "frames", "size"),
    [("SurgicalSAM2/video3.mp4", 81, (480, 854)), ("low_light_pairs_high/video01_080.mp4", 125, (256, 256))],
)
def test_real_videos_decode_to_the_end(real_data, name, frames, size):
    items = list(open_source(real_data / "laparoscopic_video" / name).items())
    assert len(items) == frames
    assert {item.image.shape[:2] for item in items} == {size}
    np.testing.assert_allclose(np.diff([item.time for item in items]), 1 / 25, atol=1e-3)
