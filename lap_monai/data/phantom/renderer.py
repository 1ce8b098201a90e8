"""From a scene to a frame and its mask."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from scipy import ndimage

from lap_monai.data.phantom.materials import TILE
from lap_monai.data.phantom.noise import Array, enlarge, sample
from lap_monai.data.phantom.scene import Layer, Optics, Scene

#: Largest height that is drawn directly. A larger frame is drawn at a whole fraction of its size and enlarged:
#: endoscopic video is that soft, and the masks get steps of a few pixels as the real ones have.
_DRAWN_HEIGHT = 270

#: Radius of the lens's blur in drawn pixels: outlines are never sharp to the pixel.
_BLUR = 0.5

#: How fast a shadow ends: e-folds per image height.
_SHADOW_DECAY = np.float32(30)


def drawn_scale(size: tuple[int, int]) -> int:
    """How many pixels of a frame of `(W, H)` one drawn pixel covers along each axis."""
    return math.ceil(size[1] / _DRAWN_HEIGHT)


def render(
    scene: Scene, time: float, size: tuple[int, int], noise_seed: int
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Draw a scene.

    Args:
        scene: what to draw.
        time: seconds from the start of the clip.
        size: `(W, H)` in pixels.
        noise_seed: seed of the sensor noise.

    Returns:
        The picture `(H, W, 3)` and the class ids `(H, W)`, both `uint8`.
    """
    width, height = size
    scale = drawn_scale(size)
    grid = (math.ceil(height / scale), math.ceil(width / scale))
    rgb, labels = _draw(scene, time, grid)
    drawn = Image.fromarray(np.clip(rgb * 255 + 0.5, 0, 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(_BLUR))
    if scale > 1:
        drawn = drawn.resize((grid[1] * scale, grid[0] * scale), Image.Resampling.BICUBIC)
    picture = np.asarray(drawn)[:height, :width]
    if scale > 1:
        labels = labels.repeat(scale, 0).repeat(scale, 1)[:height, :width]
    return _add_sensor_noise(picture, scene.optics.noise, noise_seed), np.ascontiguousarray(labels)


class _Pixels(NamedTuple):
    """What the scope sees, one entry per pixel inside its circle."""

    place: NDArray[np.intp]  #: flat index in the grid
    view_x: Array
    view_y: Array
    x: Array
    y: Array
    owner: NDArray[np.int16]  #: index of the layer
    slope_x: Array
    slope_y: Array
    shade: Array
    smoke: Array


def _draw(scene: Scene, time: float, grid: tuple[int, int]) -> tuple[Array, NDArray[np.uint8]]:
    """Draw at the grid's own size, in [0, 1]."""
    optics = scene.optics
    pixels = _compose(scene, time, grid)
    radius = np.hypot(pixels.view_x - np.float32(optics.centre[0]), pixels.view_y - np.float32(optics.centre[1]))
    ids = np.array([layer.label for layer in scene.layers], dtype=np.uint8)[pixels.owner]
    colours = _shade(scene, time, pixels)
    _add_instruments(scene, time, colours, ids, pixels)
    colours = _look_through_scope(scene, colours, pixels.smoke, radius)
    ids[radius > optics.radius] = scene.black_label
    rgb = np.zeros((grid[0] * grid[1], 3), dtype=np.float32)
    labels = np.full(grid[0] * grid[1], scene.black_label, dtype=np.uint8)
    rgb[pixels.place], labels[pixels.place] = colours, ids
    return rgb.reshape(*grid, 3), labels.reshape(grid)


def _compose(scene: Scene, time: float, grid: tuple[int, int]) -> _Pixels:
    """Lay the layers over one another."""
    view_x, view_y = _view(grid)
    x, y, coarse, fine, smoke = _look(scene, time, grid)
    owner = np.zeros(grid, dtype=np.int16)
    slope_x, slope_y = np.zeros((2, *grid), dtype=np.float32)
    shade = np.ones(grid, dtype=np.float32)
    fraying = coarse + np.float32(0.35) * fine
    for index, layer in enumerate(scene.layers):
        dx, dy = layer.sway.at(time)
        depth = layer.shape(x - np.float32(dx), y - np.float32(dy)) + np.float32(layer.ragged) * fraying
        inside = depth > 0
        # what is near the rim of a layer in front lies in its shadow, what belongs to the layer does not
        shadow = 1 - np.float32(layer.shadow) * np.exp(np.minimum(depth, 0) * _SHADOW_DECAY)
        shade = np.where(inside, 1, shade * shadow)
        rise = np.clip(depth / np.float32(layer.rim), 0, 1)
        down, right = np.gradient(np.float32(layer.bulge) * rise * (2 - rise), np.float32(1 / grid[0]))
        slope_x, slope_y = np.where(inside, right, slope_x), np.where(inside, down, slope_y)
        owner[inside] = index
    # tissue has no creases: round them off over a hundredth of the height
    rounding = max(grid[0] // 60, 1)
    slope_x, slope_y = (ndimage.uniform_filter(slope, rounding) for slope in (slope_x, slope_y))
    optics = scene.optics
    reach = np.hypot(view_x - np.float32(optics.centre[0]), view_y - np.float32(optics.centre[1]))
    place = np.flatnonzero(reach < optics.radius + 0.02)
    fields = (view_x, view_y, x, y, owner, slope_x, slope_y, shade, smoke)
    return _Pixels(place, *(field.ravel()[place] for field in fields))  # type: ignore[arg-type]


def _view(grid: tuple[int, int]) -> tuple[Array, Array]:
    """Picture coordinates of the pixels' centres."""
    rows = ((np.arange(grid[0], dtype=np.float32) + 0.5) / grid[0]) - 0.5
    columns = ((np.arange(grid[1], dtype=np.float32) + 0.5) - grid[1] / 2) / grid[0]
    return np.broadcast_to(columns[None], grid), np.broadcast_to(rows[:, None], grid)


def _look(scene: Scene, time: float, grid: tuple[int, int]) -> tuple[Array, Array, Array, Array, Array]:
    """Scene coordinates of every pixel, bent and breathing, and the fraying and smoke fields there."""
    camera = scene.camera
    dx, dy = camera.sway.at(time)
    cos, sin = np.float32(np.cos(camera.roll + 0.5 * dx)), np.float32(np.sin(camera.roll + 0.5 * dx))
    zoom, pan = np.float32(camera.zoom), (np.float32(camera.pan[0] + dx), np.float32(camera.pan[1] + dy))

    def to_scene(view_x: Array, view_y: Array) -> tuple[Array, Array]:
        return (view_x * cos - view_y * sin) / zoom + pan[0], (view_x * sin + view_y * cos) / zoom + pan[1]

    # The fields are smooth: look them up on a coarse grid. Its aspect may differ a little, hence explicit coordinates.
    small = (max(grid[0] // 3, 2), max(grid[1] // 3, 2))
    coarse_x = ((np.arange(small[1], dtype=np.float32) + 0.5) / small[1] - 0.5) * np.float32(grid[1] / grid[0])
    coarse_y = (np.arange(small[0], dtype=np.float32) + 0.5) / small[0] - 0.5
    u, v = (part / np.float32(scene.irregularity.tile) for part in to_scene(coarse_x[None], coarse_y[:, None]))
    fields = sample(scene.irregularity.fields[..., :4], u, v)
    drift = sample(scene.irregularity.fields[..., 4:], u + np.float32(0.11 * time), v - np.float32(0.17 * time))
    bend_x, bend_y, coarse, fine = (enlarge(np.ascontiguousarray(fields[..., k]), grid) for k in range(4))
    x, y = to_scene(*_view(grid))
    breath = np.float32(scene.breath * np.sin(2 * np.pi * time / scene.breath_period))
    bend = np.float32(scene.bend)
    return x + bend * bend_x, y + bend * bend_y + breath, coarse, fine, enlarge(drift[..., 0], grid)


def _shade(scene: Scene, time: float, pixels: _Pixels) -> Array:
    """Colour and light the tissue."""
    found = np.empty((len(pixels.place), 5), dtype=np.float32)
    gloss, shininess = np.empty((2, len(pixels.place)), dtype=np.float32)
    for index in np.unique(pixels.owner):
        layer = scene.layers[index]
        where = np.flatnonzero(pixels.owner == index)
        material = scene.materials[layer.material]
        u, v = _texture_coordinates(layer, index, pixels.x[where], pixels.y[where], time)
        found[where] = sample(material.texture, u, v)
        gloss[where], shininess[where] = material.gloss, material.shininess
    slope_x = np.clip(pixels.slope_x + found[:, 3], -2, 2)
    slope_y = np.clip(pixels.slope_y + found[:, 4], -2, 2)
    diffuse, gleam = _light(scene.optics, pixels, slope_x, slope_y, shininess)
    return found[:, :3] * (diffuse[:, None] * scene.optics.gains) + (gloss * gleam)[:, None]


def _texture_coordinates(layer: Layer, index: int, x: Array, y: Array, time: float) -> tuple[Array, Array]:
    """Where a layer's texture is looked up, in periods: it moves with the layer."""
    dx, dy = layer.sway.at(time)
    cos, sin = np.float32(np.cos(layer.grain) / TILE), np.float32(np.sin(layer.grain) / TILE)
    x, y = x - np.float32(dx), y - np.float32(dy)
    return x * cos + y * sin + np.float32(0.37 * index), y * cos - x * sin + np.float32(0.61 * index)


def _light(optics: Optics, pixels: _Pixels, slope_x: Array, slope_y: Array, shininess: Array) -> tuple[Array, Array]:
    """Diffuse (Lambert) and mirrored (Blinn) light that tissue of these slopes sends back from a lamp."""
    lx, ly = np.float32(optics.light[0]) - pixels.view_x, np.float32(optics.light[1]) - pixels.view_y
    lz = np.float32(optics.light[2])
    reach = lx**2 + ly**2
    distance = np.sqrt(reach + lz**2)
    steep = 1 / np.sqrt(slope_x**2 + slope_y**2 + 1)
    leaning = -slope_x * lx - slope_y * ly
    fading = _fading(optics, reach) * pixels.shade
    diffuse = (0.3 + 0.75 * np.maximum((leaning + lz) * steep / distance, 0)) * fading
    # the half-way vector between lamp and camera (0, 0, 1), normalised after the dot product
    halfway = (leaning + lz + distance) * steep / np.sqrt(reach + (lz + distance) ** 2)
    gleam = np.float32(0.8) * np.maximum(halfway, 1e-3) ** shininess * fading
    return diffuse, gleam


def _fading(optics: Optics, reach: Array) -> Array:
    """How bright the lamp is at a squared distance from its middle."""
    return np.float32(optics.exposure) / (1 + np.float32(optics.falloff) * reach)


def _add_instruments(scene: Scene, time: float, rgb: Array, ids: NDArray[np.uint8], pixels: _Pixels) -> None:
    """Paint the instruments and their shadows over the tissue, in place."""
    optics = scene.optics
    for instrument in scene.instruments:
        depth = instrument.distance(pixels.view_x, pixels.view_y, time)
        near = np.flatnonzero(depth > -0.1)
        rgb[near] *= (1 - np.float32(0.45) * np.exp(np.minimum(depth[near], 0) * _SHADOW_DECAY))[:, None]
        inside = np.flatnonzero(depth > 0)
        if not len(inside):
            continue
        x, y = pixels.view_x[inside], pixels.view_y[inside]
        lit = _fading(optics, (np.float32(optics.light[0]) - x) ** 2 + (np.float32(optics.light[1]) - y) ** 2)
        colour = instrument.colour(x, y, time) * (lit[:, None] * optics.gains)
        rgb[inside] = colour + np.float32(0.25) * rgb[inside].mean(0)  # metal mirrors what surrounds it
        ids[inside] = instrument.label


def _look_through_scope(scene: Scene, rgb: Array, smoke: Array, radius: Array) -> Array:
    """Smoke, fog, the dark rim of the lens and the camera's response."""
    optics = scene.optics
    haze = np.clip(scene.smoke * (0.7 + 0.45 * smoke) + optics.haze, 0, 0.8).astype(np.float32)[:, None]
    rgb = rgb * (1 - haze) + haze * (np.float32(0.62) * optics.gains)
    edge = np.clip(1 - (radius - np.float32(optics.radius)) * 90, 0, 1)
    rgb *= (edge * (1.15 - 0.45 * (radius / np.float32(optics.radius)) ** 4))[:, None]
    # a soft shoulder instead of clipping, as a camera has
    return np.where(rgb > 0.8, 1 - 0.2 * np.exp(-(rgb - 0.8) / 0.2), rgb)


def _add_sensor_noise(picture: NDArray[np.uint8], sigma: float, seed: int) -> NDArray[np.uint8]:
    """Add grain: mostly in brightness, cut from one tile at a random place."""
    rng = np.random.default_rng(seed)
    tile = rng.standard_normal((96, 128), dtype=np.float32) * np.float32(sigma)
    height, width = picture.shape[:2]
    grain = np.tile(tile, (height // 96 + 1, width // 128 + 1))[:height, :width]
    return np.clip(picture + np.rint(grain).astype(np.int16)[..., None], 0, 255).astype(np.uint8)
