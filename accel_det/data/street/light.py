"""Light, air and sensor of a camera: what turns a thing's colour into a pixel's."""

import math
from typing import NamedTuple

from accel_det.data.street.draws import Draws

Colour = tuple[int, int, int]

LIGHTS = ("day", "dusk", "night", "fog")


class Light(NamedTuple):
    """How a scene is lit and recorded.

    Attributes:
        name: one of LIGHTS.
        sky_top, sky_bottom: colours of the sky at the top of the image and at the horizon.
        gain: factor on each channel of everything that does not shine by itself: brightness and colour cast.
        fog: colour that distance fades into; fog_per_m: optical density of the air, 1/m.
        sun_azimuth: direction shadows fall, radians from +x; sun_length: metres of shadow per metre of height.
        shadow: darkness of shadows in [0, 1].
        lit: share of windows with light behind them; glow: strength of lamps and headlights in [0, 1].
        noise: standard deviation of the sensor, in steps of 1/255; blur: radius of the lens, pixels.
    """

    name: str
    sky_top: Colour
    sky_bottom: Colour
    gain: tuple[float, float, float]
    fog: Colour
    fog_per_m: float
    sun_azimuth: float
    sun_length: float
    shadow: float
    lit: float
    glow: float
    noise: float
    blur: float

    def tint(self, colour: Colour, depth: float, *, shines: bool = False) -> Colour:
        """The colour of a thing seen from a distance in metres."""
        clear = math.exp(-self.fog_per_m * max(depth, 0.0))
        veil = 1.0 - clear
        red: float
        green: float
        blue: float
        red, green, blue = colour
        if not shines:
            gain_r, gain_g, gain_b = self.gain
            red, green, blue = min(red * gain_r, 255.0), min(green * gain_g, 255.0), min(blue * gain_b, 255.0)
        fog_r, fog_g, fog_b = self.fog
        return (
            int(red * clear + fog_r * veil + 0.5),
            int(green * clear + fog_g * veil + 0.5),
            int(blue * clear + fog_b * veil + 0.5),
        )

    def plain(self) -> "Light":
        """The same without shadows, glow, noise and blur: every pixel belongs to one thing."""
        return self._replace(shadow=0.0, glow=0.0, noise=0.0, blur=0.0)


_BASE: dict[str, Light] = {
    "day": Light(
        "day", (96, 160, 226), (214, 232, 244), (1, 1, 1), (206, 222, 236), 0.004, 0, 0.9, 0.42, 0.03, 0, 3.0, 0.3
    ),
    "dusk": Light(
        "dusk", (92, 84, 140), (250, 172, 112), (0.92, 0.74, 0.70), (214, 150, 124), 0.008, 0, 2.2, 0.3, 0.4, 0.5, 4.5, 0.35
    ),
    "night": Light(
        "night", (14, 18, 44), (44, 48, 84), (0.47, 0.50, 0.66), (36, 40, 66), 0.008, 0, 0.6, 0.25, 0.5, 0.9, 7.0, 0.4
    ),
    "fog": Light(
        "fog", (196, 202, 206), (212, 216, 218), (0.88, 0.91, 0.92), (208, 212, 214), 0.036, 0, 0.3, 0.15, 0.2, 0.25, 4.0, 0.6
    ),
}  # fmt: skip


def light_of(draws: Draws, name: str) -> Light:
    """A light of this name (one of LIGHTS), with a cast, an exposure and a sun of its own."""
    base = _BASE[name]
    exposure = draws.uniform(0.86, 1.12)
    warmth, tint = draws.uniform(-0.07, 0.07), draws.uniform(-0.03, 0.03)
    red, green, blue = base.gain
    return base._replace(
        gain=(red * exposure * (1 + warmth), green * exposure * (1 + tint), blue * exposure * (1 - warmth)),
        sun_azimuth=draws.uniform(0, 2 * math.pi),
        sun_length=base.sun_length * draws.uniform(0.6, 1.4),
        noise=base.noise * draws.uniform(0.5, 1.5),
        blur=base.blur * draws.uniform(0.0, 1.6),
        fog_per_m=base.fog_per_m * draws.uniform(0.6, 1.4),
    )


def pick_light(draws: Draws) -> Light:
    """Half of all scenes by day, the others at dusk, by night or in fog."""
    return light_of(draws, draws.choice(("day", "day", "day", "dusk", "night", "fog")))


def shaded(colour: Colour, factor: float) -> Colour:
    """The colour, darker (factor < 1) or lighter."""
    red, green, blue = colour
    return min(255, int(red * factor + 0.5)), min(255, int(green * factor + 0.5)), min(255, int(blue * factor + 0.5))


def mixed(first: Colour, second: Colour, share: float) -> Colour:
    """Between two colours: the first at share 0, the second at 1."""
    rest = 1.0 - share
    red, green, blue = (int(a * rest + b * share + 0.5) for a, b in zip(first, second, strict=True))
    return red, green, blue
