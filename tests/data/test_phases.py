import pytest

from lap_monai.checks import UserError
from lap_monai.data import PHASES, phase_index, read_phase_file, read_phases


def write(path, rows, header="Frame\tPhase"):
    path.write_text("\n".join([header, *(f"{frame}\t{phase}" for frame, phase in rows)]) + "\n")
    return path


def original(seconds):
    """Rows of a 25-fps file: phase i // 7 of the video's length each."""
    count = 25 * seconds
    return [(frame, PHASES[frame * 7 // count]) for frame in range(count)]


def test_row_index_is_the_frame_number_of_an_original_file(tmp_path):
    rows = original(480)  # 12,000 rows: no 1-fps file is that long
    write(tmp_path / "video01-phase.txt", rows)
    table = read_phases(tmp_path, {"video01": 300})["video01"]
    for frame in (0, 299, 300, 1714, 1715, 11_999):
        assert table.at(frame) == rows[frame][1]
    assert table.at(12_000) is None


def test_renumbered_seconds_are_recognised_by_frames_beyond_the_file(tmp_path):
    rows = [(second, PHASES[0] if second < 60 else PHASES[1]) for second in range(120)]
    write(tmp_path / "video01-phase.txt", rows)
    table = read_phases(tmp_path, {"video01": 2900})["video01"]
    assert table.at(59 * 25 + 24) == PHASES[0]
    assert table.at(60 * 25) == PHASES[1]
    assert table.at(120 * 25) is None


def test_one_video_that_tells_settles_the_rate_of_the_folder(tmp_path):
    for video in ("video01", "video02"):
        write(tmp_path / f"{video}-phase.txt", [(s, PHASES[0] if s < 50 else PHASES[1]) for s in range(200)])
    # video02's frames alone would fit a 25-fps file; video01's do not.
    tables = read_phases(tmp_path, {"video01": 4000, "video02": 150})
    assert tables["video02"].at(150) == PHASES[0]


def test_seconds_that_kept_their_frame_numbers_are_looked_up_by_them(tmp_path):
    rows = [(25 * second, PHASES[0] if second < 10 else PHASES[1]) for second in range(20)]
    write(tmp_path / "video01-phase.txt", rows)
    table = read_phases(tmp_path, {"video01": 400})["video01"]
    assert table.at(249) == PHASES[0]
    assert table.at(250) == PHASES[1]
    assert table.at(499) == PHASES[1]
    assert table.at(500) is None


def test_short_original_file_that_its_clips_fill_is_read_frame_by_frame(tmp_path):
    rows = [(frame, PHASES[frame // 40]) for frame in range(240)]
    write(tmp_path / "video01-phase.txt", rows)
    table = read_phases(tmp_path, {"video01": 239})["video01"]
    assert [table.at(frame) for frame in range(240)] == [phase for _, phase in rows]


def test_videos_without_a_file_are_absent(tmp_path):
    write(tmp_path / "video01-phase.txt", original(10))
    assert set(read_phases(tmp_path, {"video01": 249, "video02": 10})) == {"video01"}


def test_spellings_and_a_missing_header_are_tolerated(tmp_path):
    path = tmp_path / "video01-phase.txt"
    path.write_text("0\tcalot-triangle-dissection\n1\tClipping_Cutting\n")
    table = read_phase_file(path)
    assert [table.at(0), table.at(1)] == ["CalotTriangleDissection", "ClippingCutting"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("Frame\tPhase\n0\tPreparation\n1\tPreperation\n", "line 3: unknown phase 'Preperation'.*Preparation"),
        ("Frame\tPhase\n0\tPreparation\nend\n", "line 3: expected 'Frame<TAB>Phase', found 'end'"),
        ("Frame\tPhase\n5\tPreparation\n4\tPreparation\n", "do not increase"),
        ("Frame\tPhase\n", "no rows"),
    ],
)
def test_damaged_files_are_named(tmp_path, content, message):
    path = tmp_path / "video01-phase.txt"
    path.write_text(content)
    with pytest.raises(UserError, match=message) as caught:
        read_phase_file(path)
    assert "video01-phase.txt" in str(caught.value)


def test_phase_index():
    assert [phase_index(name) for name in PHASES] == list(range(7))
    assert phase_index(None) == -1
    with pytest.raises(UserError, match="Did you mean 'Preparation'"):
        phase_index("preparation")


@pytest.mark.real_data
def test_real_files(real_data):
    tables = read_phases(real_data / "cholec80" / "phase_annotations_reconstructed", {"video68": 30, "video70": 30})
    assert set(tables) == {"video68", "video70"}
    assert tables["video68"].divisor == 1
    assert tables["video68"].at(0) == "Preparation"
