"""The phantom's gallbladder removal: thirteen classes, seven phases, one body per patient."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lap_monai.data.phantom import shapes
from lap_monai.data.phantom.instruments import Instrument
from lap_monai.data.phantom.motion import Sway
from lap_monai.data.phantom.scene import Camera, Irregularity, Layer, Optics, Scene
from lap_monai.data.phantom.tissues import Tissue, Tissues
from lap_monai.label_space import get_label_space

_NAMES = get_label_space("cholecseg8k_13").classes
BLACK, WALL, LIVER, BOWEL, FAT, GRASPER, CONNECTIVE, BLOOD, DUCT, HOOK, GALLBLADDER, VEIN, LIGAMENT = range(len(_NAMES))

# The colours of each tissue run through the same maroon, rose, tan and cream, so that no colour belongs to one class.
_TISSUES = {
    "wall": Tissue(
        "striped",
        ((190, 105, 105), (150, 75, 90), (205, 145, 110), (170, 120, 125), (130, 60, 58), (205, 165, 120)),
        ((220, 175, 165), (120, 45, 50), (215, 165, 120)),
    ),
    "liver": Tissue(
        "mottled",
        ((125, 48, 46), (155, 85, 62), (180, 125, 85), (115, 58, 72), (170, 82, 78), (205, 150, 105)),
        ((190, 120, 105), (150, 80, 70), (200, 160, 130)),
    ),
    "bowel": Tissue(
        "smooth",
        ((215, 140, 140), (220, 170, 150), (190, 100, 100)),
        ((160, 50, 55), (180, 70, 60)),
    ),
    "fat": Tissue(
        "lobulated",
        ((222, 172, 75), (215, 150, 100), (225, 195, 130), (195, 115, 85), (170, 88, 70), (190, 115, 110)),
        ((165, 85, 40), (150, 60, 50), (190, 120, 50)),
    ),
    "connective": Tissue(
        "fibrous",
        ((215, 180, 170), (205, 140, 120), (180, 90, 80), (215, 190, 145), (150, 75, 70)),
        ((130, 30, 30), (110, 45, 40), (150, 80, 50)),
    ),
    "blood": Tissue(
        "liquid",
        ((110, 12, 15), (145, 22, 20), (85, 10, 15)),
        ((70, 5, 10), (150, 30, 30)),
    ),
    "duct": Tissue(
        "smooth",
        ((210, 190, 150), (190, 120, 110), (205, 160, 100)),
        ((150, 60, 50), (170, 110, 70)),
    ),
    "gallbladder": Tissue(
        "veined",
        ((205, 180, 130), (160, 155, 115), (195, 115, 110), (150, 135, 140), (170, 92, 80), (145, 70, 62)),
        ((150, 40, 45), (110, 40, 60), (120, 60, 40)),
    ),
    "vein": Tissue(
        "smooth",
        ((85, 50, 95), (70, 60, 110), (110, 50, 70)),
        ((60, 40, 80), (120, 70, 90)),
    ),
    "ligament": Tissue(
        "folded",
        ((205, 170, 160), (190, 150, 110), (170, 100, 95)),
        ((150, 70, 65), (200, 150, 130)),
    ),
}


@dataclass(frozen=True)
class Body:
    """Where things lie in one patient; lengths in units of the image height, see `scene`."""

    wall_edge: float
    wall_slope: float
    fat_edge: float
    fat_slope: float
    fat_wave: float
    fat_phase: float
    fundus: tuple[float, float]
    neck: tuple[float, float]
    girth: float
    lobe: tuple[float, float, float, float]
    bowel: tuple[float, float, float, float]
    appendage: tuple[float, float, float] | None
    ligament: float | None
    vein: bool
    liver_in_front: bool
    ragged: float
    bend: float


class Patient:
    """One person on the table: body, colours, textures, light and lens; `scene` shows it in a phase.

    Args:
        seed: what determines the patient.
        cells: samples along a side of the textures.
    """

    def __init__(self, seed: np.random.SeedSequence, cells: int = 256) -> None:
        tissues, *seeds = seed.spawn(5)
        body, optics, tools, irregularity = (np.random.default_rng(child) for child in seeds)
        self.body = _draw_body(body)
        self.optics = _draw_optics(optics)
        self.tissues = Tissues(tissues, _TISSUES, cells)
        self.irregularity = Irregularity.draw(irregularity)
        self._tools = _draw_tools(tools)

    def scene(self, phase: str, rng: np.random.Generator) -> Scene:
        """Arrange one clip of a phase: view, retraction, instruments, smoke."""
        view = _View.draw(rng, self.body, phase)
        layers = tuple(_tissue(self.body, view, phase, rng))
        return Scene(
            layers=layers,
            materials=self.tissues.select(layer.material for layer in layers),
            camera=view.camera,
            optics=self.optics,
            irregularity=self.irregularity,
            instruments=tuple(_instruments(self._tools, view, phase, rng)),
            smoke=float(rng.uniform(0.05, 0.4)) if phase in _SMOKY and rng.random() < 0.6 else 0.0,
            bend=self.body.bend,
            breath=float(rng.uniform(0.003, 0.009)),
            breath_period=float(rng.uniform(1.5, 3.0)),
            black_label=BLACK,
        )


_SMOKY = ("CalotTriangleDissection", "GallbladderDissection", "CleaningCoagulation")
_HOOKED = ("CalotTriangleDissection", "GallbladderDissection")
_BLEEDING = ("ClippingCutting", "GallbladderDissection", "CleaningCoagulation", "GallbladderPackaging")
_BED_OPEN = ("GallbladderDissection", "GallbladderPackaging", "CleaningCoagulation")
_GALLBLADDER_GONE = ("CleaningCoagulation", "GallbladderRetraction")


@dataclass(frozen=True)
class _View:
    """What one clip adds to the body: camera, and the gallbladder as it is held at that moment."""

    camera: Camera
    fundus: tuple[float, float]
    neck: tuple[float, float]
    hold: Sway

    @classmethod
    def draw(cls, rng: np.random.Generator, body: Body, phase: str) -> _View:
        lift = rng.uniform(0.0, 0.12) if phase != "Preparation" else rng.uniform(0.0, 0.04)
        fundus = (body.fundus[0] + rng.normal(0, 0.05), body.fundus[1] - lift)
        neck = (body.neck[0] + rng.normal(0, 0.03), body.neck[1] + rng.normal(0, 0.03))
        close = phase in ("CalotTriangleDissection", "ClippingCutting", "GallbladderDissection")
        focus = 0.5 * np.array(neck) if close else 0.15 * np.array(neck)
        pan = focus + rng.normal(0, (0.12, 0.08))
        if not close and rng.random() < 0.3:  # a look around, up to the wall
            pan = pan - np.array([0.0, 0.2])
        zoom = rng.uniform(0.95, 1.6) if close else rng.uniform(0.75, 1.1)
        camera = Camera(
            (float(pan[0]), float(pan[1])),
            float(zoom),
            float(rng.normal(0, 0.14)),
            Sway.draw(rng, rng.uniform(0.01, 0.05)),
        )
        return cls(camera, fundus, neck, Sway.draw(rng, rng.uniform(0.005, 0.03)))

    def to_picture(self, point: tuple[float, float]) -> tuple[float, float]:
        """Where a scene point lies in the picture when the camera is at rest."""
        dx, dy = point[0] - self.camera.pan[0], point[1] - self.camera.pan[1]
        cos, sin = np.cos(self.camera.roll), np.sin(self.camera.roll)
        return (
            float((dx * cos + dy * sin) * self.camera.zoom),
            float((dy * cos - dx * sin) * self.camera.zoom),
        )


def _draw_body(rng: np.random.Generator) -> Body:
    side = 1.0 if rng.random() < 0.7 else -1.0
    fundus = (side * rng.uniform(-0.30, -0.02), rng.uniform(-0.24, -0.10))
    neck = (fundus[0] + side * rng.uniform(0.06, 0.24), rng.uniform(0.10, 0.22))
    return Body(
        wall_edge=rng.uniform(-0.46, -0.14),
        wall_slope=side * rng.uniform(-0.35, 0.45),
        fat_edge=rng.uniform(0.14, 0.27),
        fat_slope=side * rng.uniform(-0.25, 0.20),
        fat_wave=rng.uniform(0.01, 0.04),
        fat_phase=rng.uniform(0, 6.28),
        fundus=fundus,
        neck=neck,
        girth=rng.uniform(0.085, 0.135),
        lobe=(
            side * rng.uniform(0.35, 0.65),
            rng.uniform(-0.25, 0.05),
            rng.uniform(0.2, 0.35),
            rng.uniform(0.16, 0.28),
        ),
        bowel=(side * rng.uniform(0.2, 0.5), rng.uniform(0.44, 0.56), rng.uniform(0.25, 0.4), rng.uniform(0.14, 0.22)),
        appendage=(side * rng.uniform(0.3, 0.6), rng.uniform(-0.3, -0.05), rng.uniform(0.08, 0.14))
        if rng.random() < 0.4
        else None,
        ligament=side * rng.uniform(0.1, 0.5) if rng.random() < 0.3 else None,
        vein=bool(rng.random() < 0.25),
        liver_in_front=bool(rng.random() < 0.4),
        ragged=rng.uniform(0.006, 0.014),
        bend=rng.uniform(0.02, 0.055),
    )


def _draw_optics(rng: np.random.Generator) -> Optics:
    centre = (rng.normal(0, 0.05), rng.normal(0, 0.025))
    return Optics(
        centre=centre,
        radius=rng.uniform(0.50, 0.68),
        light=(centre[0] + rng.normal(0, 0.14), centre[1] + rng.normal(0, 0.12), rng.uniform(0.45, 0.8)),
        falloff=rng.uniform(0.8, 3.2),
        exposure=rng.uniform(1.0, 1.5),
        tint=(rng.uniform(0.95, 1.12), rng.uniform(0.9, 1.05), rng.uniform(0.84, 1.1)),
        haze=max(0.0, rng.normal(0, 0.05)),
        noise=rng.uniform(1.5, 5.0),
    )


def _draw_tools(rng: np.random.Generator) -> dict[str, tuple[float, float, float]]:
    """Colours of the instruments that this operating room uses."""
    shafts = ((0.10, 0.10, 0.11), (0.30, 0.31, 0.36), (0.55, 0.55, 0.57))
    sleeves = ((0.80, 0.76, 0.66), (0.55, 0.50, 0.45), (0.25, 0.24, 0.25))
    return {
        "grasper": shafts[rng.integers(3)],
        "hook": shafts[rng.integers(2)],
        "sleeve": sleeves[rng.integers(3)],
    }


def _tissue(body: Body, view: _View, phase: str, rng: np.random.Generator) -> list[Layer]:
    """The layers of a clip, back to front."""
    ragged, hold = body.ragged, view.hold
    grains = rng.uniform(-0.5, 0.5, 4)
    liver = [
        Layer(
            LIVER,
            "liver",
            shapes.below(body.wall_edge, body.wall_slope, 0.02),
            0.10,
            0.25,
            ragged,
            0.6,
            grain=grains[0],
        )
    ]
    lobe = shapes.ellipse(body.lobe[:2], body.lobe[2:], 0.4)
    liver.append(Layer(LIVER, "liver", lobe, 0.12, 0.16, 0.6 * ragged, 0.65, Sway.draw(rng, 0.01), grains[1]))
    low = shapes.below(body.fat_edge, body.fat_slope, body.fat_wave, body.fat_phase)
    fat = [Layer(FAT, "fat", low, 0.09, 0.14, ragged, 0.5, Sway.draw(rng, 0.012), grains[2])]
    layers = [
        Layer(WALL, "wall", shapes.everywhere(), 0.0, 1.0, grain=body.wall_slope + 0.3 * grains[3]),
        *_ligament(body),
    ]
    layers += [liver[0], *fat, liver[1]] if body.liver_in_front else [*liver, *fat]
    layers += _vein(body, phase)
    layers.append(Layer(BOWEL, "bowel", shapes.ellipse(body.bowel[:2], body.bowel[2:]), 0.10, 0.14, 0.4 * ragged))
    if body.appendage is not None:
        x, y, size = body.appendage
        blob = shapes.ellipse((x, y), (size, 1.4 * size), 0.3)
        layers.append(Layer(FAT, "fat", blob, 0.09, 0.08, ragged, 0.5, Sway.draw(rng, 0.012)))
    layers += _gallbladder_bed(view, phase, ragged, rng)
    if phase not in _GALLBLADDER_GONE:
        layers += _gallbladder(body, view, phase, rng)
    if phase in _BLEEDING and rng.random() < 0.7:
        layers += _blood(view, rng, hold)
    return layers


def _ligament(body: Body) -> list[Layer]:
    if body.ligament is None:
        return []
    band = shapes.capsule((body.ligament, -0.7), (0.8 * body.ligament, body.wall_edge + 0.06), 0.07, 0.035)
    return [Layer(LIGAMENT, "ligament", band, 0.04, 0.04, body.ragged)]


def _vein(body: Body, phase: str) -> list[Layer]:
    if not body.vein or phase not in _BED_OPEN:
        return []
    x, y = body.fundus
    vessel = shapes.tube([(x - 0.1, y - 0.1), (x + 0.02, y + 0.04), (x + 0.06, y + 0.2)], 0.022, 0.012)
    return [Layer(VEIN, "vein", vessel, 0.03, 0.02, 0.003, 0.2)]


def _gallbladder_bed(view: _View, phase: str, ragged: float, rng: np.random.Generator) -> list[Layer]:
    """Raw connective tissue where the gallbladder has been peeled off the liver."""
    if phase not in _BED_OPEN:
        return []
    centre = tuple((np.array(view.fundus) * 0.4 + np.array(view.neck) * 0.6).tolist())
    bed = shapes.ellipse(
        (centre[0] + rng.normal(0, 0.03), centre[1]), (rng.uniform(0.10, 0.15), rng.uniform(0.05, 0.08)), 1.1
    )
    return [Layer(CONNECTIVE, "connective", bed, 0.03, 0.06, 1.2 * ragged, 0.25, grain=rng.uniform(0, 3))]


def _gallbladder(body: Body, view: _View, phase: str, rng: np.random.Generator) -> list[Layer]:
    """The gallbladder with the tissue around its neck and the duct that leaves it."""
    fundus, neck, hold = view.fundus, view.neck, view.hold
    girth = body.girth * (0.8 if phase == "GallbladderPackaging" else 1.0)
    if phase == "GallbladderDissection":
        fundus = (fundus[0], fundus[1] - 0.06)
    if phase == "GallbladderPackaging":
        fundus, neck = (fundus[0], fundus[1] + 0.05), (fundus[0] + 0.14, fundus[1] + 0.12)
    sac = shapes.capsule(fundus, neck, girth, 0.38 * girth)
    layers = []
    if phase in ("CalotTriangleDissection", "ClippingCutting"):
        end = (neck[0] + np.sign(neck[0] - fundus[0]) * 0.12, neck[1] + 0.13)
        middle = (0.5 * (neck[0] + end[0]) - 0.02, 0.5 * (neck[1] + end[1]) + 0.02)
        duct = shapes.tube([neck, middle, end], 0.02, 0.015)
        web = shapes.ellipse(
            (neck[0] + rng.normal(0, 0.02), neck[1] + 0.03), (rng.uniform(0.12, 0.17), rng.uniform(0.06, 0.09)), -0.5
        )
        layers.append(Layer(CONNECTIVE, "connective", web, 0.05, 0.06, 1.2 * body.ragged, 0.3, hold, rng.uniform(0, 3)))
        if phase == "ClippingCutting" or rng.random() < 0.3:
            layers.append(Layer(DUCT, "duct", duct, 0.03, 0.02, 0.003, 0.4, hold))
    layers.append(Layer(GALLBLADDER, "gallbladder", sac, 0.5 * girth + 0.06, girth, 0.5 * body.ragged, 0.6, hold))
    return layers


def _blood(view: _View, rng: np.random.Generator, hold: Sway) -> list[Layer]:
    """One to three pools and runs near the neck."""
    pools = []
    for _ in range(rng.integers(1, 4)):
        centre = (view.neck[0] + rng.normal(0, 0.10), view.neck[1] + rng.normal(0, 0.06))
        pool = shapes.ellipse(centre, (rng.uniform(0.03, 0.08), rng.uniform(0.012, 0.03)), rng.uniform(0, 3))
        pools.append(Layer(BLOOD, "blood", pool, 0.01, 0.02, 0.016, 0.1, hold))
    return pools


def _instruments(
    tools: dict[str, tuple[float, float, float]], view: _View, phase: str, rng: np.random.Generator
) -> list[Instrument]:
    """Who works in this clip. The grasper holds the fundus; the hook works at the neck in the two dissections only."""
    found = []
    if rng.random() < (0.5 if phase == "Preparation" else 0.75):
        target = view.fundus if phase not in _GALLBLADDER_GONE else view.neck
        tip = view.to_picture(target)
        angle = np.pi + rng.normal(0, 0.5) if rng.random() < 0.7 else rng.normal(-0.5, 0.4)
        found.append(
            Instrument(
                GRASPER, "grasper", tip, angle, rng.uniform(0.019, 0.027), tools["grasper"], tools["sleeve"],
                Sway.draw(rng, 0.03), rng.uniform(0.10, 0.28),
            )
        )  # fmt: skip
    if phase in _HOOKED and rng.random() < 0.5:
        tip = view.to_picture((view.neck[0] + rng.normal(0, 0.05), view.neck[1] + rng.normal(0, 0.04)))
        angle = rng.normal(0.15, 0.45)
        found.append(
            Instrument(
                HOOK,
                "hook",
                tip,
                angle,
                rng.uniform(0.015, 0.021),
                tools["hook"],
                tools["sleeve"],
                Sway.draw(rng, 0.05),
            )
        )
    return found
