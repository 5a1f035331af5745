"""Who is where at which time: smooth motion without collisions on wheels, as a pure function of the time.

All who drive in one lane share one movement: they go, and stop together while people cross the zebra. Gaps are left
such that nobody stops on it. People on foot each have a pace of their own and pass one another.
"""

import math
from typing import NamedTuple

from accel_det.data.street.draws import Draws
from accel_det.data.street.layout import LANE_END, STREET_END, STREET_START, ZEBRA_LENGTH, Street
from accel_det.data.street.looks import bus_look
from accel_det.data.street.people import Place

PERSON, CYCLIST, CAR, BUS = range(4)
CYCLE_S = 20.0
GO_S = 11.0
_IDENTITIES_PER_STREAM = 1000


class Actor(NamedTuple):
    """A road user at one moment; phase: of the gait or pedals, radians."""

    identity: int
    label: int
    place: Place
    phase: float
    walking: bool


class _Rider(NamedTuple):
    """One in a lane: start is metres along the lane at time 0."""

    identity: int
    label: int
    start: float


class _Lane(NamedTuple):
    """x metres; direction 1 drives towards +y; reach: metres that all advance in one cycle of the signal."""

    x: float
    direction: int
    reach: float
    riders: tuple[_Rider, ...]


class _Pedestrian(NamedTuple):
    """One on a sidewalk: speed in m/s, 0 stands; start is the y at time 0, metres."""

    identity: int
    x: float
    start: float
    speed: float
    heading: float
    phase: float


class _Crosser(NamedTuple):
    """One who crosses the zebra: comes along one sidewalk, leaves along the other.

    Attributes:
        at_s: when it steps on the road; side: where it comes from; y: of its line across, metres.
        come, leave: direction along y before and after.
    """

    identity: int
    at_s: float
    side: int
    x: float
    y: float
    speed: float
    come: int
    leave: int


class Traffic(NamedTuple):
    """All who pass through a street in some time."""

    lanes: tuple[_Lane, ...]
    pedestrians: tuple[_Pedestrian, ...]
    crossers: tuple[_Crosser, ...]


def traffic_of(street: Street, *, duration_s: float) -> Traffic:
    """All who are in the street between time 0 and duration_s; a longer duration only adds later comers."""
    lanes = tuple(
        _lane(street, stream, x=side * x, direction=side, speed=speed, duration_s=duration_s)
        for stream, (side, x, speed) in enumerate(((1, 1.6, 6.5), (-1, 1.6, 6.0), (1, 3.9, 3.8), (-1, 3.9, 3.5)))
    )
    pedestrians: list[_Pedestrian] = []
    for stream, (side, direction) in enumerate(((1, 1), (1, -1), (-1, 1), (-1, -1), (1, 0), (-1, 0))):
        pedestrians += _sidewalk(street, 4 + stream, side=side, direction=direction, duration_s=duration_s)
    return Traffic(lanes, tuple(pedestrians), tuple(_crossers(street, 10, duration_s=duration_s)))


def advance(time_s: float) -> float:
    """How far a lane has moved, in reaches: smooth, 1 more after every cycle, at rest in its last part."""
    cycles, within = divmod(time_s, CYCLE_S)
    t = min(within / GO_S, 1.0)
    return cycles + t - math.sin(2 * math.pi * t) / (2 * math.pi)


def half_length(actor_label: int, *, seed: int, identity: int) -> float:
    """Metres from the middle of a road user to its end."""
    if actor_label == BUS:
        return bus_look(seed, identity).length / 2
    return (0.25, 0.95, 2.3)[actor_label]


def _number(street: Street, stream: int, count: int) -> int:
    return street.first_identity + stream * _IDENTITIES_PER_STREAM + count


def _lane(street: Street, stream: int, *, x: float, direction: int, speed: float, duration_s: float) -> _Lane:
    draws = Draws(street.looks_seed, "lane", stream, *street.key)
    reach = speed * GO_S
    cycling = abs(x) > LANE_END
    zebra = street.zebra_y - STREET_START if direction > 0 else STREET_END - street.zebra_y
    last = -(duration_s / CYCLE_S + 1) * reach - 12
    position, riders = STREET_END - STREET_START + draws.uniform(0, 10), list[_Rider]()
    while position > last and len(riders) < _IDENTITIES_PER_STREAM:
        identity = _number(street, stream, len(riders))
        label = CYCLIST if cycling else (BUS if draws.chance(0.27) else CAR)
        half = half_length(label, seed=street.looks_seed, identity=identity)
        position -= half
        stops_on_zebra = (position - zebra + reach / 2) % reach - reach / 2
        if abs(stops_on_zebra) < half + ZEBRA_LENGTH / 2 + 0.5:
            position -= stops_on_zebra + half + ZEBRA_LENGTH / 2 + 0.5
        riders.append(_Rider(identity, label, position))
        position -= half + (draws.uniform(1.5, 9.0) if cycling else draws.uniform(1.8, 12.0)) / street.traffic
    return _Lane(x, direction, reach, tuple(riders))


def _sidewalk(street: Street, stream: int, *, side: int, direction: int, duration_s: float) -> list[_Pedestrian]:
    """The people of one sidewalk that go one way; direction 0: who stand."""
    draws = Draws(street.looks_seed, "sidewalk", stream, *street.key)
    walked = 1.7 * duration_s if direction else 0.0
    offset, people = STREET_END - STREET_START, list[_Pedestrian]()
    pair: _Pedestrian | None = None
    while offset > -walked and len(people) < _IDENTITIES_PER_STREAM:
        identity = _number(street, stream, len(people))
        if pair is not None:
            beside = pair.x - side * 0.55 if abs(pair.x) > 7.2 else pair.x + side * 0.55
            people.append(pair._replace(identity=identity, x=beside, phase=draws.uniform(0, 6.28)))
            pair = None
            continue
        x = side * (draws.uniform(5.9, 8.0) if direction else draws.choice((5.75, 8.3)))
        y = STREET_START + offset if direction >= 0 else STREET_END - offset
        heading = direction * math.pi / 2 if direction else draws.uniform(-math.pi, math.pi)
        speed = draws.uniform(1.0, 1.6) if direction else 0.0
        person = _Pedestrian(identity, x, y, speed, heading, draws.uniform(0, 6.28))
        people.append(person)
        pair = person if direction and draws.chance(0.22) else None
        offset -= draws.uniform(1.5, 8.5 if direction else 22.0) / street.crowd
    return people


def _crossers(street: Street, stream: int, *, duration_s: float) -> list[_Crosser]:
    draws = Draws(street.looks_seed, "crossers", stream, *street.key)
    crossers: list[_Crosser] = []
    for cycle in range(-2, int(duration_s / CYCLE_S) + 3):
        for _ in range(draws.integer(1, 5)):
            if draws.uniform() > street.crowd:
                continue
            identity = _number(street, stream, len(crossers))
            at_s = cycle * CYCLE_S + GO_S + draws.uniform(0.0, 1.2)
            y = street.zebra_y + draws.uniform(-0.4, 0.4) * ZEBRA_LENGTH
            speed, x = draws.uniform(1.3, 1.6), draws.uniform(6.0, 7.6)
            crossers.append(_Crosser(identity, at_s, draws.sign(), x, y, speed, draws.sign(), draws.sign()))
    return crossers


def actors_at(traffic: Traffic, time_s: float) -> list[Actor]:
    """Everyone in the street at this time, in the order of their identities' streams."""
    actors: list[Actor] = []
    for lane in traffic.lanes:
        moved = lane.reach * advance(time_s)
        for rider in lane.riders:
            along = rider.start + moved
            if -12 < along < STREET_END - STREET_START:
                y = STREET_START + along if lane.direction > 0 else STREET_END - along
                phase = 2.2 * along + rider.identity
                place = Place(lane.x, y, lane.direction * math.pi / 2)
                actors.append(Actor(rider.identity, rider.label, place, phase, True))
    for person in traffic.pedestrians:
        y = person.start + person.speed * time_s * math.sin(person.heading)
        if STREET_START < y < STREET_END:
            sway = 0.12 * math.sin(0.5 * time_s + person.phase) if person.speed else 0.0
            phase = person.phase + 4.4 * person.speed * time_s
            place = Place(person.x + sway, y, person.heading)
            actors.append(Actor(person.identity, PERSON, place, phase, person.speed > 0))
    actors += [actor for crosser in traffic.crossers if (actor := _crossing(crosser, time_s)) is not None]
    return actors


def _crossing(crosser: _Crosser, time_s: float) -> Actor | None:
    """Along a sidewalk, over the zebra, along the other; the two corners are rounded."""
    walked = crosser.speed * (time_s - crosser.at_s)
    if not -45 < walked < 60:
        return None
    (x, y), (ahead_x, ahead_y) = _path(crosser, walked), _path(crosser, walked + 0.3)
    heading = math.atan2(ahead_y - y, ahead_x - x)
    return Actor(crosser.identity, PERSON, Place(x, y, heading), 4.4 * walked + crosser.identity, True)


def _path(crosser: _Crosser, walked: float) -> tuple[float, float]:
    """The mean of the sharp-cornered path over the 1.2 m around, which is smooth.

    Args:
        walked: metres since stepping on the road, negative before.
    """
    x = y = 0.0
    steps = (-0.6, -0.36, -0.12, 0.12, 0.36, 0.6)
    for shift in steps:
        along = walked + shift + (crosser.x - 4.6)
        across = min(max(along, 0.0), 2 * crosser.x)
        x += crosser.side * (crosser.x - across)
        y += crosser.y - crosser.come * min(along, 0.0) * -1 + crosser.leave * max(along - 2 * crosser.x, 0.0)
    return x / len(steps), y / len(steps)
