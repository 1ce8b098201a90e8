"""The phantom's rectal resections: eleven structures of the abdomen, one body per patient."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from lap_monai.data.phantom import shapes
from lap_monai.data.phantom.instruments import Instrument
from lap_monai.data.phantom.motion import Sway
from lap_monai.data.phantom.scene import Camera, Irregularity, Layer, Optics, Scene
from lap_monai.data.phantom.tissues import Tissue, Tissues

#: The structures of the Dresden Surgical Anatomy Dataset. The class id is the position plus one; 0 is all the rest.
ORGANS = (
    "abdominal_wall",
    "colon",
    "inferior_mesenteric_artery",
    "intestinal_veins",
    "liver",
    "pancreas",
    "small_intestine",
    "spleen",
    "stomach",
    "ureter",
    "vesicular_glands",
)

# Which structures are seen together, back to front; "mesentery" is the fat between them and no structure.
_REGIONS = {
    "upper": ("abdominal_wall", "liver", "spleen", "mesentery", "pancreas", "stomach", "small_intestine", "colon"),
    "middle": (
        "abdominal_wall",
        "mesentery",
        "small_intestine",
        "colon",
        "intestinal_veins",
        "inferior_mesenteric_artery",
        "ureter",
    ),
    "pelvis": ("abdominal_wall", "mesentery", "colon", "inferior_mesenteric_artery", "ureter", "vesicular_glands"),
}

_TISSUES = {
    "abdominal_wall": Tissue(
        "striped", ((200, 120, 115), (165, 85, 90), (210, 155, 120), (150, 70, 65)), ((220, 175, 165), (130, 50, 50))
    ),
    "mesentery": Tissue(
        "lobulated", ((222, 175, 85), (215, 155, 105), (225, 195, 130), (205, 130, 95)), ((165, 85, 40), (150, 60, 50))
    ),
    "colon": Tissue(
        "smooth", ((215, 155, 140), (205, 130, 105), (220, 175, 145), (185, 100, 90)), ((165, 55, 55), (190, 120, 60))
    ),
    "inferior_mesenteric_artery": Tissue(
        "smooth", ((200, 120, 95), (190, 90, 80), (215, 160, 125)), ((150, 60, 50), (200, 150, 120))
    ),
    "intestinal_veins": Tissue("smooth", ((105, 65, 95), (120, 50, 60), (140, 90, 100)), ((70, 40, 70), (150, 90, 90))),
    "liver": Tissue(
        "mottled", ((125, 48, 46), (155, 85, 62), (180, 125, 85), (115, 58, 72)), ((190, 120, 105), (150, 80, 70))
    ),
    "pancreas": Tissue("granular", ((220, 180, 120), (210, 150, 115), (200, 125, 100)), ((170, 90, 60), (160, 70, 60))),
    "small_intestine": Tissue(
        "folded", ((220, 150, 140), (205, 120, 110), (215, 165, 130), (190, 100, 100)), ((165, 50, 55), (180, 80, 70))
    ),
    "spleen": Tissue("liquid", ((120, 60, 80), (105, 45, 60), (135, 75, 75)), ((90, 40, 60), (150, 90, 95))),
    "stomach": Tissue(
        "veined", ((220, 165, 150), (205, 135, 120), (215, 175, 135), (195, 110, 105)), ((160, 50, 55), (150, 70, 60))
    ),
    "ureter": Tissue("smooth", ((220, 190, 165), (205, 150, 130), (225, 200, 150)), ((170, 70, 65), (190, 120, 100))),
    "vesicular_glands": Tissue(
        "granular", ((205, 150, 140), (215, 180, 150), (185, 110, 105)), ((150, 70, 70), (190, 130, 100))
    ),
}


class RectalPatient:
    """One person on the table; `scene` shows a structure with its neighbours.

    Args:
        seed: what determines the patient.
        cells: samples along a side of the textures.
    """

    def __init__(self, seed: np.random.SeedSequence, cells: int = 256) -> None:
        tissues, optics, irregularity, self._organs = seed.spawn(4)
        self.tissues = Tissues(tissues, _TISSUES, cells)
        self.optics = _draw_optics(np.random.default_rng(optics))
        self.irregularity = Irregularity.draw(np.random.default_rng(irregularity))
        self._organ_seeds = dict(zip(_TISSUES, self._organs.spawn(len(_TISSUES)), strict=True))

    def scene(self, organ: str, rng: np.random.Generator) -> Scene:
        """Arrange a view in which `organ` lies near the middle, with some of its neighbours."""
        regions = [names for names in _REGIONS.values() if organ in names]
        region = regions[rng.integers(len(regions))]
        shown = [name for name in region if name in (organ, "mesentery") or rng.random() < 0.45]
        organs = {name: _PLACES[name](np.random.default_rng(self._organ_seeds[name])) for name in shown}
        if organ in _LARGE:  # in front of its neighbours, or it might be hidden
            shown.remove(organ)
            shown.insert(1 + max(i for i, name in enumerate(shown) if name in (*_LARGE, "mesentery")), organ)
        layers = [Layer(0, "mesentery", shapes.everywhere(), 0.0, 1.0, grain=rng.uniform(0, 3))]
        for name in shown:
            layers += _layers(name, organs[name][0], rng)
        centre = np.array(organs[organ][1]) * rng.uniform(0.5, 1.0) + rng.normal(0, 0.04, 2)
        camera = Camera(
            (float(centre[0]), float(centre[1])),
            float(rng.uniform(0.85, 1.3)),
            float(rng.normal(0, 0.2)),
            Sway.draw(rng, rng.uniform(0.01, 0.05)),
        )
        return Scene(
            layers=tuple(layers),
            materials=self.tissues.select({layer.material for layer in layers}),
            camera=camera,
            optics=self.optics,
            irregularity=self.irregularity,
            instruments=tuple(_instruments(rng)),
            smoke=float(rng.uniform(0.05, 0.3)) if rng.random() < 0.25 else 0.0,
            bend=float(rng.uniform(0.02, 0.05)),
            breath=float(rng.uniform(0.003, 0.009)),
            breath_period=float(rng.uniform(1.5, 3.0)),
        )


_LARGE = ("liver", "spleen", "stomach", "small_intestine", "colon", "pancreas")

#: What a placement returns: the outline and a point in the middle of the structure.
_Placed = tuple[shapes.Shape, tuple[float, float]]


def _side(rng: np.random.Generator) -> float:
    return 1.0 if rng.random() < 0.5 else -1.0


def _place_wall(rng: np.random.Generator) -> _Placed:
    edge, slope = rng.uniform(-0.30, -0.12), rng.uniform(-0.4, 0.4)
    ground = shapes.below(edge, slope, 0.02)
    return (lambda x, y: -ground(x, y)), (0.0, edge - 0.12)


def _place_mesentery(rng: np.random.Generator) -> _Placed:
    edge = rng.uniform(-0.12, 0.08)
    return shapes.below(edge, rng.uniform(-0.3, 0.3), 0.03, rng.uniform(0, 6)), (0.0, edge + 0.2)


def _place_mass(width: tuple[float, float], height: tuple[float, float], up: float) -> Callable[..., _Placed]:
    """A placement of a large rounded organ."""

    def place(rng: np.random.Generator) -> _Placed:
        centre = (_side(rng) * rng.uniform(0.1, 0.45), up + rng.uniform(-0.08, 0.08))
        return shapes.ellipse(centre, (rng.uniform(*width), rng.uniform(*height)), rng.uniform(-0.5, 0.5)), centre

    return place


def _place_loops(radius: tuple[float, float], loops: int) -> Callable[..., _Placed]:
    """A placement of winding bowel."""

    def place(rng: np.random.Generator) -> _Placed:
        x = np.linspace(-0.8, 0.8, 8 * loops + 1)
        turns = loops * np.pi / 0.8 * rng.uniform(0.85, 1.15)
        y = rng.uniform(0.05, 0.2) + rng.uniform(0.07, 0.11) * np.sin(turns * x + rng.uniform(0, 6)) + 0.15 * x * x
        slope = rng.uniform(-0.3, 0.3)
        thick = rng.uniform(*radius)
        points = [(float(px), float(py + slope * px)) for px, py in zip(x, y, strict=True)]
        return shapes.tube(points, thick, thick * rng.uniform(0.8, 1.2)), points[4 * loops]

    return place


def _place_vessel(radius: tuple[float, float], branches: int) -> Callable[..., _Placed]:
    """A placement of a thin tube across the mesentery."""

    def place(rng: np.random.Generator) -> _Placed:
        angle, middle = rng.uniform(-0.9, 0.9), rng.normal((0.0, 0.12), (0.12, 0.06))
        thick = rng.uniform(*radius)
        way = np.array([np.cos(angle), np.sin(angle)])
        bow = np.array([-way[1], way[0]]) * rng.uniform(-0.08, 0.08)
        points = [middle - 0.8 * way, middle - 0.35 * way + bow, middle, middle + 0.35 * way - bow, middle + 0.8 * way]
        parts = [shapes.tube([_point(p) for p in points], thick, 0.8 * thick)]
        for _ in range(branches):
            turn = angle + _side(rng) * rng.uniform(0.5, 1.0)
            end = middle + 0.5 * np.array([np.cos(turn), np.sin(turn)])
            parts.append(shapes.capsule(_point(middle), _point(end), 0.7 * thick, 0.35 * thick))
        return shapes.union(*parts), _point(middle)

    return place


def _place_glands(rng: np.random.Generator) -> _Placed:
    centre = np.array([rng.normal(0, 0.1), rng.uniform(0.05, 0.2)])
    apart = rng.uniform(0.09, 0.14)
    size = (rng.uniform(0.07, 0.12), rng.uniform(0.03, 0.05))
    left = shapes.ellipse((float(centre[0] - apart), float(centre[1])), size, 0.4)
    right = shapes.ellipse((float(centre[0] + apart), float(centre[1])), size, -0.4)
    return shapes.union(left, right), _point(centre)


def _point(place: np.ndarray) -> tuple[float, float]:
    return float(place[0]), float(place[1])


_PLACES: dict[str, Callable[[np.random.Generator], _Placed]] = {
    "abdominal_wall": _place_wall,
    "mesentery": _place_mesentery,
    "colon": _place_loops((0.09, 0.13), 1),
    "inferior_mesenteric_artery": _place_vessel((0.022, 0.035), 1),
    "intestinal_veins": _place_vessel((0.018, 0.03), 3),
    "liver": _place_mass((0.45, 0.65), (0.2, 0.3), -0.2),
    "pancreas": _place_mass((0.22, 0.32), (0.06, 0.10), 0.12),
    "small_intestine": _place_loops((0.05, 0.075), 3),
    "spleen": _place_mass((0.18, 0.28), (0.11, 0.16), -0.1),
    "stomach": _place_mass((0.38, 0.55), (0.15, 0.22), -0.02),
    "ureter": _place_vessel((0.012, 0.018), 0),
    "vesicular_glands": _place_glands,
}

# How structures rise from their surroundings: bulge, rim, share of the patient's raggedness, shadow.
_FORMS = {
    "abdominal_wall": (0.0, 1.0, 1.0, 0.3),
    "mesentery": (0.08, 0.14, 1.0, 0.4),
    "colon": (0.11, 0.11, 0.5, 0.6),
    "inferior_mesenteric_artery": (0.03, 0.03, 0.25, 0.35),
    "intestinal_veins": (0.025, 0.025, 0.25, 0.25),
    "liver": (0.12, 0.2, 0.5, 0.6),
    "pancreas": (0.05, 0.08, 1.2, 0.35),
    "small_intestine": (0.07, 0.06, 0.4, 0.6),
    "spleen": (0.10, 0.14, 0.4, 0.6),
    "stomach": (0.12, 0.18, 0.4, 0.6),
    "ureter": (0.018, 0.016, 0.15, 0.3),
    "vesicular_glands": (0.035, 0.04, 0.8, 0.3),
}


def _layers(name: str, shape: shapes.Shape, rng: np.random.Generator) -> list[Layer]:
    bulge, rim, ragged, shadow = _FORMS[name]
    label = ORGANS.index(name) + 1 if name in ORGANS else 0
    return [Layer(label, name, shape, bulge, rim, 0.012 * ragged, shadow, Sway.draw(rng, 0.01), rng.uniform(-0.6, 0.6))]


def _draw_optics(rng: np.random.Generator) -> Optics:
    """A robot's camera: the picture is full, seldom with dark corners."""
    return Optics(
        centre=(0.0, 0.0),
        radius=rng.uniform(0.85, 1.0) if rng.random() < 0.2 else 1.4,
        light=(rng.normal(0, 0.15), rng.normal(0, 0.12), rng.uniform(0.5, 0.9)),
        falloff=rng.uniform(0.4, 1.8),
        exposure=rng.uniform(0.95, 1.4),
        tint=(rng.uniform(0.95, 1.12), rng.uniform(0.9, 1.05), rng.uniform(0.84, 1.1)),
        haze=max(0.0, rng.normal(0, 0.05)),
        noise=rng.uniform(1.5, 4.0),
    )


def _instruments(rng: np.random.Generator) -> list[Instrument]:
    """None to two, from the sides, at places of no importance. They are no structure: class id 0."""
    found = []
    for side in (np.pi, 0.0):
        if rng.random() < 0.4:
            tip = (float(-np.cos(side) * rng.uniform(-0.75, -0.25)), float(rng.uniform(-0.25, 0.3)))
            kind = "grasper" if rng.random() < 0.7 else "hook"
            shade = float(rng.choice([0.12, 0.3, 0.5]))
            found.append(
                Instrument(
                    label=0,
                    kind=kind,  # type: ignore[arg-type]
                    tip=tip,
                    angle=float(side + rng.normal(0, 0.4)),
                    width=float(rng.uniform(0.02, 0.03)),
                    shaft=(shade, shade, 1.05 * shade),
                    sleeve=(0.6, 0.57, 0.5),
                    sway=Sway.draw(rng, 0.03),
                )
            )
    return found
