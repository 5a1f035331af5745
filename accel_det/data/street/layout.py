"""What a street is made of, beside those who use it: houses, zebra crossing, and things that stand about.

Across the street, metres from its middle and alike on both sides: lane, cycle lane, strip with trees and lamps,
sidewalk, house fronts.
"""

from typing import NamedTuple

from accel_det.data.street.draws import Draws
from accel_det.data.street.light import Colour, shaded

LANE_END = 3.2
CYCLE_END = 4.6
STRIP_END = 5.6
WALL = 9.0
STREET_START, STREET_END = -8.0, 78.0
ZEBRA_LENGTH = 3.4

_PLASTER: tuple[Colour, ...] = (
    (226, 196, 150), (206, 140, 104), (186, 92, 74), (232, 222, 200), (168, 186, 190), (222, 178, 170), (150, 160, 132),
    (240, 214, 140), (176, 150, 128), (142, 152, 172), (214, 206, 220), (120, 104, 98),
)  # fmt: skip
_AWNINGS: tuple[Colour, ...] = ((190, 52, 48), (44, 112, 84), (40, 84, 140), (220, 160, 50), (130, 70, 110))
_STRIP_THINGS = ("tree", "tree", "tree", "lamp", "lamp", "sign", "bin", "bollard", "bollard", "box", "cone")
_WALL_THINGS = ("planter", "planter", "parasol", "box", "bin", "board", "cone")


class House(NamedTuple):
    """One front; side is 1 on the right and -1 on the left, start and end are metres along the street."""

    side: int
    start: float
    end: float
    floors: int
    floor_height: float
    columns: int
    wall: Colour
    frame: Colour
    roof: Colour
    shop: bool
    awning: Colour
    shutters: bool
    poster: int
    number: int

    @property
    def height(self) -> float:
        """Metres up to the eaves."""
        return self.floors * self.floor_height + 0.9


class Prop(NamedTuple):
    """A thing that stands on the ground; size in metres, number makes it different from others of its kind."""

    kind: str
    x: float
    y: float
    size: float
    number: int


class Street(NamedTuple):
    """A street, from its key.

    Attributes:
        looks_seed: whose identities walk here; first_identity: the number of the first of them.
        key: from which everything else about the street is drawn.
        zebra_y: middle of the zebra crossing, metres.
        crowd: factor on how many people there are; traffic: the same for wheels.
    """

    looks_seed: int
    first_identity: int
    key: tuple[int | str, ...]
    zebra_y: float
    crowd: float
    traffic: float
    asphalt: Colour
    paving: Colour
    cycle_path: Colour
    houses: tuple[House, ...]
    props: tuple[Prop, ...]


def street_of(looks_seed: int, *key: int | str, first_identity: int = 0, crowding: float = 1.0) -> Street:
    """The street of a key.

    Args:
        looks_seed: alone decides how people and vehicles look.
        crowding: factor on how many of them there are.
    """
    draws = Draws(looks_seed, "street", *key)
    zebra_y = draws.uniform(12.0, 22.0)
    gray = draws.integer(84, 116)
    paving = draws.choice(((176, 168, 156), (162, 164, 168), (190, 170, 146), (150, 140, 132)))
    return Street(
        looks_seed=looks_seed,
        first_identity=first_identity,
        key=key,
        zebra_y=zebra_y,
        crowd=crowding * draws.uniform(0.6, 1.5),
        traffic=crowding * draws.uniform(0.7, 1.5),
        asphalt=(gray, gray, gray + draws.integer(0, 8)),
        paving=paving,
        cycle_path=draws.choice(((gray - 6, gray - 6, gray), (150, 92, 80), (96, 128, 108))),
        houses=tuple(_houses(draws)),
        props=tuple(_props(draws, zebra_y)),
    )


def _houses(draws: Draws) -> list[House]:
    houses = []
    for side in (-1, 1):
        start = STREET_START
        while start < STREET_END:
            length = draws.uniform(7.0, 15.0)
            wall = shaded(draws.choice(_PLASTER), draws.uniform(0.88, 1.08))
            houses.append(
                House(
                    side=side,
                    start=start,
                    end=start + length,
                    floors=draws.integer(2, 6),
                    floor_height=draws.uniform(2.9, 3.5),
                    columns=max(2, int(length / draws.uniform(2.2, 3.2))),
                    wall=wall,
                    frame=draws.choice(((240, 238, 230), shaded(wall, 0.7), (70, 60, 56))),
                    roof=draws.choice(((150, 76, 58), (86, 84, 92), (112, 92, 80))),
                    shop=draws.chance(0.6),
                    awning=draws.choice(_AWNINGS),
                    shutters=draws.chance(0.35),
                    poster=draws.integer(0, 4),
                    number=draws.integer(0, 1 << 30),
                )
            )
            start += length
    return houses


def _props(draws: Draws, zebra_y: float) -> list[Prop]:
    props = []
    for side in (-1, 1):
        y = STREET_START + draws.uniform(6.0, 12.0)
        while y < STREET_END:
            if abs(y - zebra_y) > ZEBRA_LENGTH / 2 + 0.6:
                kind = draws.choice(_STRIP_THINGS)
                props.append(Prop(kind, side * 5.1, y, draws.uniform(0.85, 1.2), draws.integer(0, 1 << 30)))
            y += draws.uniform(2.0, 7.0)
        y = STREET_START + draws.uniform(8.0, 14.0)
        while y < STREET_END:
            kind = draws.choice(_WALL_THINGS)
            props.append(Prop(kind, side * 8.55, y, draws.uniform(0.85, 1.15), draws.integer(0, 1 << 30)))
            y += draws.uniform(5.0, 14.0)
        beside = zebra_y + side * (ZEBRA_LENGTH / 2 + 0.3)
        props.append(Prop("signal", side * 4.9, beside, 1.0, draws.integer(0, 1 << 30)))
    return props
