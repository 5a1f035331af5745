"""The three uses of the street: single scenes, sequences of frames, and crops of people."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from accel_det.data.street.draws import Draws
from accel_det.data.street.layout import Street, street_of
from accel_det.data.street.light import LIGHTS, Light, light_of, pick_light
from accel_det.data.street.people import Place
from accel_det.data.street.shapes import extent
from accel_det.data.street.stage import PERSON_HEIGHT, Scene, Stage, actor_shapes
from accel_det.data.street.traffic import CYCLE_S, PERSON, Actor, actors_at, traffic_of
from accel_det.data.street.view import View

# In single scenes, whose longer side would be below this share of the image height is not drawn.
SCENE_SMALLEST = 0.15
# Nor who would take more than this share of the image, and hide the others.
SCENE_LARGEST = 0.3
# A scene's or a camera's street has fewer identities than this.
IDENTITIES_PER_STREET = 20_000
# Of a single scene: few enough that a small detector learns it in minutes, enough that they hide one another.
CROWDING = 0.6
# Metres: what a close-up looks at, breast-high; and the share of the image's height of a person there.
_SIDEWALK_CENTER = (-6.9, 19.0, 0.8)
_CLOSE_UP_SHARE = 0.27


class Crop(NamedTuple):
    """A picture of one person: image (H, W, 3) uint8 RGB, whom it shows, and which camera took it."""

    image: NDArray[np.uint8]
    identity: int
    camera: int


def sources() -> tuple[Path, ...]:
    """The files of this package, which everything that it draws is a function of."""
    return tuple(sorted(Path(__file__).parent.glob("*.py")))


def view_of(draws: Draws, *, height: int, width: int) -> View:
    """A camera on a mast or a house, which looks along the street from either side; image in pixels."""
    x, z = draws.sign() * draws.uniform(3.4, 8.0), draws.uniform(2.6, 4.8)
    focal = draws.uniform(1.6, 2.2) * max(height, 0.75 * width)
    yaw = math.atan2(-0.8 * x, 14.0) + draws.uniform(-0.2, 0.2)
    horizon = draws.uniform(0.12, 0.3) * height
    return View(x, 0.0, z, yaw, math.atan2(height / 2 - horizon, focal), focal, width / 2, height / 2, height, width)


def camera_of(seed: int, camera: int, *, height: int, width: int) -> tuple[View, Light]:
    """Viewpoint, light and colour cast of a numbered camera: cameras 0, 1, 2, 3 see day, dusk, night, fog, and so on."""
    draws = Draws(seed, "camera", camera)
    view = view_of(draws, height=height, width=width)
    return view, light_of(draws, LIGHTS[camera % len(LIGHTS)])


def scene(
    seed: int, index: int, *, height: int, width: int, crowding: float = CROWDING, sidewalk: bool = False
) -> Scene:
    """One picture of a street of its own, in a light of its own, with people of its own.

    Args:
        seed, index: any integers >= 0; the scene is a pure function of them and the size.
        height, width: of the image, pixels, at least 32.
        crowding: factor on how many road users there are; 1 is a busy street.
        sidewalk: look at the people of the left sidewalk from near, as `sequence` does; else at all of the street, where
            whoever would be drawn small or hide the others is left away.

    Raises:
        ValueError: a seed or index is negative, or the size is too small.
    """
    _check_size(height, width)
    first = index * IDENTITIES_PER_STREET
    street = street_of(seed, "scene", index, first_identity=first, crowding=crowding)
    draws = Draws(seed, "scene", index)
    view = view_of(draws, height=height, width=width)
    stage = Stage(street, view=_close_up(view) if sidewalk else view, light=pick_light(draws))
    time_s = draws.uniform(0, CYCLE_S)
    actors = actors_at(traffic_of(street, duration_s=CYCLE_S), time_s)
    smallest, largest = (0.0, 1.0) if sidewalk else (SCENE_SMALLEST, SCENE_LARGEST)
    return stage.render(actors, noise_key=(seed, "scene", index), smallest=smallest, largest=largest)


def sequence(
    seed: int,
    *,
    frames: int,
    camera: int = 0,
    height: int = 240,
    width: int = 320,
    frames_per_s: float = 10.0,
    sidewalk: bool = False,
) -> Iterator[Scene]:
    """Frames of one camera before the one street of a seed: other cameras see the same people at the same time.

    Args:
        frames: how many; a longer sequence begins with the shorter one.
        camera: a number >= 0, see `camera_of`.
        height, width: pixels.
        sidewalk: look at the people of the left sidewalk from near, where they hide one another; else at all of the street.

    Raises:
        ValueError: a number is negative, or the size is too small.
    """
    _check_size(height, width)
    if frames < 0 or frames_per_s <= 0:
        raise ValueError(f"street: frames must be >= 0 and frames_per_s > 0, got {frames} and {frames_per_s}")
    street = street_of(seed, "sequence", crowding=0.6)
    view, light = camera_of(seed, camera, height=height, width=width)
    stage = Stage(street, view=_close_up(view) if sidewalk else view, light=light)
    traffic = traffic_of(street, duration_s=frames / frames_per_s)
    for frame in range(frames):
        yield stage.render(actors_at(traffic, frame / frames_per_s), noise_key=(seed, "sequence", camera, frame))


def crops(
    seed: int,
    *,
    identities: int,
    cameras: int,
    per_camera: int,
    height: int = 128,
    width: int = 64,
    first_identity: int = 0,
) -> Iterator[Crop]:
    """Pictures of people as a detector would cut them out, identity by identity, camera by camera.

    Args:
        identities: how many people, numbered from first_identity on; cameras: how many, from 0 on.
        per_camera: pictures of each person from each camera: other place, direction, step and noise.
        height, width: of a picture, pixels.

    Raises:
        ValueError: a number is negative, or the size is too small.
    """
    _check_size(height, width)
    for identity in range(first_identity, first_identity + identities):
        for camera in range(cameras):
            for shot in range(per_camera):
                yield Crop(_crop(seed, identity, camera, shot, height=height, width=width), identity, camera)


def _crop(seed: int, identity: int, camera: int, shot: int, *, height: int, width: int) -> NDArray[np.uint8]:
    draws = Draws(seed, "crop", identity, camera, shot)
    view, light = camera_of(seed, camera, height=480, width=640)
    street = street_of(seed, "crops", camera)
    actor = _posed(draws, identity, view)
    x1, y1, x2, y2 = extent(actor_shapes(actor, seed=seed, view=view, sun=light.sun_azimuth))
    tall = (y2 - y1) * draws.uniform(1.04, 1.16)
    scale = height / tall
    left = (x1 + x2) / 2 - width / scale / 2 + draws.uniform(-0.05, 0.05) * tall
    top = (y1 + y2) / 2 - tall / 2 + draws.uniform(-0.02, 0.02) * tall
    window = view.window(left=left, top=top, scale=scale, height=height, width=width)
    actors = [actor]
    if draws.chance(0.3):
        actors.append(_passer_by(draws, actor, identity, street))
    exposure = draws.uniform(0.9, 1.1)
    red, green, blue = light.gain
    jittered = light._replace(gain=(red * exposure, green * exposure, blue * exposure))
    picture = Stage(street, view=window, light=jittered).render(
        actors, noise_key=(seed, "crop", identity, camera, shot)
    )
    return picture.image


def _close_up(view: View) -> View:
    """The same camera turned to the left sidewalk, so near that people in its middle take a good quarter of the height."""
    (pixel,), (depth,) = view.project(np.array([_SIDEWALK_CENTER]))
    scale = _CLOSE_UP_SHARE * view.height * float(depth) / (PERSON_HEIGHT * view.focal)
    left, top = float(pixel[0]) - view.width / scale / 2, float(pixel[1]) - view.height / scale / 2
    return view.window(left=left, top=top, scale=scale, height=view.height, width=view.width)


def _posed(draws: Draws, identity: int, view: View) -> Actor:
    """The person somewhere on the ground before the camera, at a step of its walk."""
    depth, across = draws.uniform(9.0, 20.0), draws.uniform(-0.3, 0.3)
    x = view.x + depth * (math.sin(view.yaw) + across * math.cos(view.yaw))
    y = view.y + depth * (math.cos(view.yaw) - across * math.sin(view.yaw))
    heading = draws.choice((math.pi / 2, -math.pi / 2, 0.0, math.pi)) + draws.uniform(-0.5, 0.5)
    x = min(max(x, -8.2), 8.2)
    return Actor(identity, PERSON, Place(x, y, heading), draws.uniform(0, 2 * math.pi), draws.chance(0.85))


def _passer_by(draws: Draws, actor: Actor, identity: int, street: Street) -> Actor:
    """Someone else, a little to the side and before or behind."""
    place = Place(
        actor.place.x + draws.sign() * draws.uniform(0.4, 0.8),
        actor.place.y + draws.uniform(-1.2, 2.0),
        draws.uniform(0, 6.28),
    )
    other = 1_000_000_000 + draws.integer(0, 1 << 20)
    return Actor(other, PERSON, place, draws.uniform(0, 2 * math.pi), True)


def _check_size(height: int, width: int) -> None:
    if height < 32 or width < 32:
        raise ValueError(f"street: pictures must be at least 32 x 32 pixels, got height {height}, width {width}")
