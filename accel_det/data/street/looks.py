"""Looks that belong to an identity: the same at every time and in front of every camera."""

from functools import lru_cache
from typing import NamedTuple

from accel_det.data.street.draws import Draws
from accel_det.data.street.light import Colour, shaded

CLOTHES: tuple[Colour, ...] = (
    (196, 42, 46), (226, 110, 38), (240, 190, 52), (96, 156, 62), (30, 104, 84), (46, 132, 186), (34, 62, 140),
    (108, 66, 150), (214, 108, 156), (240, 238, 230), (150, 154, 158), (52, 54, 60), (120, 84, 56), (222, 200, 164),
    (126, 34, 52), (72, 190, 190), (150, 172, 92), (200, 150, 214),
)  # fmt: skip
TROUSERS: tuple[Colour, ...] = (
    (38, 48, 78), (70, 92, 132), (34, 34, 38), (112, 112, 116), (178, 156, 120), (92, 70, 52), (226, 224, 216),
    (60, 84, 62), (120, 40, 48), (142, 164, 196),
)  # fmt: skip
SKIN: tuple[Colour, ...] = ((250, 214, 184), (232, 184, 146), (202, 148, 108), (150, 102, 70), (100, 66, 46))
HAIR: tuple[Colour, ...] = (
    (26, 22, 22), (66, 42, 26), (122, 78, 42), (214, 172, 92), (168, 66, 34), (188, 186, 184), (90, 50, 30),
)  # fmt: skip
PAINT: tuple[Colour, ...] = (
    (200, 36, 40), (34, 84, 168), (238, 238, 234), (42, 44, 50), (158, 164, 170), (232, 178, 34), (36, 116, 76),
    (222, 106, 34), (132, 186, 214), (112, 30, 48), (216, 206, 180), (116, 84, 150),
)  # fmt: skip
LIVERY: tuple[Colour, ...] = (
    (206, 34, 38),
    (240, 184, 40),
    (36, 120, 180),
    (42, 140, 88),
    (232, 120, 44),
    (120, 60, 140),
)


class PersonLook(NamedTuple):
    """A person; height in metres, build a factor on the width."""

    height: float
    build: float
    skin: Colour
    hair: Colour
    hair_style: str
    hat: Colour | None
    top: Colour
    pattern: str
    second: Colour
    legs: Colour
    legs_style: str
    shoes: Colour
    bag: str
    bag_colour: Colour


class CyclistLook(NamedTuple):
    """A person on a bicycle."""

    rider: PersonLook
    frame: Colour
    helmet: Colour
    basket: bool


class CarLook(NamedTuple):
    """A car: model is hatch, sedan, estate or suv."""

    model: str
    paint: Colour
    roof: Colour
    roof_box: bool


class BusLook(NamedTuple):
    """A bus; length in metres."""

    length: float
    paint: Colour
    stripe: Colour
    roof: Colour


Look = PersonLook | CyclistLook | CarLook | BusLook


@lru_cache(maxsize=4096)
def person_look(seed: int, identity: int) -> PersonLook:
    """What this person wears and is built like: a pure function of the two integers."""
    draws = Draws(seed, "person", identity)
    top = draws.choice(CLOTHES)
    second = draws.choice([colour for colour in CLOTHES if colour != top])
    return PersonLook(
        height=draws.uniform(1.56, 1.94),
        build=draws.uniform(0.88, 1.25),
        skin=draws.choice(SKIN),
        hair=draws.choice(HAIR),
        hair_style=draws.choice(("short", "short", "long", "long", "bun", "bald")),
        hat=draws.choice(CLOTHES) if draws.chance(0.25) else None,
        top=_varied(top, draws),
        pattern=draws.choice(("plain", "plain", "stripes", "open", "block")),
        second=_varied(second, draws),
        legs=_varied(draws.choice(TROUSERS), draws),
        legs_style=draws.choice(("trousers", "trousers", "trousers", "shorts", "skirt", "coat")),
        shoes=draws.choice(((30, 28, 28), (236, 234, 230), (120, 76, 44), (180, 40, 44))),
        bag=draws.choice(("none", "none", "backpack", "shoulder", "tote")),
        bag_colour=draws.choice(CLOTHES),
    )


@lru_cache(maxsize=1024)
def cyclist_look(seed: int, identity: int) -> CyclistLook:
    """A rider and a bicycle: a pure function of the two integers."""
    draws = Draws(seed, "cyclist", identity)
    rider = person_look(seed, identity)._replace(bag=draws.choice(("none", "none", "backpack")), hat=None)
    return CyclistLook(rider, draws.choice(PAINT), draws.choice(CLOTHES), draws.chance(0.3))


@lru_cache(maxsize=1024)
def car_look(seed: int, identity: int) -> CarLook:
    """A car's model and paint: a pure function of the two integers."""
    draws = Draws(seed, "car", identity)
    paint = _varied(draws.choice(PAINT), draws)
    roof = draws.choice(((40, 42, 46), (236, 236, 232))) if draws.chance(0.2) else paint
    return CarLook(draws.choice(("hatch", "sedan", "estate", "suv")), paint, roof, draws.chance(0.12))


@lru_cache(maxsize=1024)
def bus_look(seed: int, identity: int) -> BusLook:
    """A bus's length and livery: a pure function of the two integers."""
    draws = Draws(seed, "bus", identity)
    paint = draws.choice(LIVERY)
    stripe = draws.choice([(244, 242, 236), (244, 242, 236), *(colour for colour in LIVERY if colour != paint)])
    return BusLook(
        draws.uniform(8.5, 11.0), paint, stripe, shaded(paint, 0.9) if draws.chance(0.5) else (232, 232, 228)
    )


def look_of(seed: int, identity: int, *, label: int) -> Look:
    """The looks of a road user; label: 0 person, 1 cyclist, 2 car, 3 bus."""
    return (person_look, cyclist_look, car_look, bus_look)[label](seed, identity)


def _varied(colour: Colour, draws: Draws) -> Colour:
    return shaded(colour, draws.uniform(0.85, 1.12))
