from __future__ import annotations

from lap_monai.experiments.panels import choose_frames


def scores(*values: float, patients: int = 100) -> dict[str, tuple[float, str]]:
    return {f"f{place:02d}": (value, f"p{place % patients}") for place, value in enumerate(values)}


def test_a_good_a_middling_and_a_bad_frame_by_the_mean_over_methods() -> None:
    rising = scores(*(place / 10 for place in range(11)))
    assert choose_frames([rising]) == ["f08", "f05", "f02"]
    falling = scores(*(1 - place / 10 for place in range(11)))
    assert choose_frames([falling]) == ["f02", "f05", "f08"]
    strong = {name: (3 * value, patient) for name, (value, patient) in falling.items()}
    assert choose_frames([rising, strong]) == choose_frames([falling])


def test_from_different_patients_while_there_are_others() -> None:
    found = choose_frames([scores(*(place / 10 for place in range(11)), patients=3)])
    assert len({int(name[1:]) % 3 for name in found}) == 3


def test_few_frames_are_shown_once_each() -> None:
    assert sorted(choose_frames([scores(0.1, 0.9, patients=1)])) == ["f00", "f01"]


def test_only_frames_that_every_method_has() -> None:
    assert choose_frames([scores(0.1, 0.5, 0.9), {"f01": (0.2, "p1")}]) == ["f01"]
