"""Configuration -> which picture of which identity comes when."""

from accel_det.config.reid import ReidConfig
from accel_det.data.identities import IdentityTable
from accel_det.data.identity_order import GroupRule, IdentityGroups
from accel_det.data.identity_stream import GroupPlan, IdentityStream, plan_groups
from accel_det.data.order import EpochOrder, Turns
from accel_det.data.stream_feed import shard_lengths
from accel_det.data.stream_order import StreamedTurns, StreamTurns, plan_streams


def epoch_order(config: ReidConfig, table: IdentityTable, *, streamed: StreamedTurns | None) -> EpochOrder:
    """Which picture has its turn when; `length` is the turns of an epoch.

    Args:
        streamed: the order of streamed pictures, from `stream_turns`.
    """
    order, seed = config.data.order, config.train.seed
    turns: Turns | None = streamed
    if streamed is None and order == "groups":
        turns = IdentityGroups(table.labels(), _rule(config), cameras=table.camera_numbers(), seed=seed)
    return EpochOrder(len(table), seed=seed, shuffle=order == "shuffled", turns=turns)


def stream_turns(config: ReidConfig, table: IdentityTable) -> StreamedTurns | None:
    """The order of streamed pictures, which are read a window of neighbours at a time; None where they are not streamed."""
    if table.streamed is None:
        return None
    data, seed, lengths = config.data, config.train.seed, shard_lengths(table.streamed)
    if data.order == "groups":
        return IdentityStream(
            lengths, table.labels(), _rule(config), _plan(config), cameras=table.camera_numbers(), seed=seed
        )
    plan = plan_streams(
        images_per_update=config.train.images_per_update, most_streams=data.streams, window=data.stream_window
    )
    return StreamTurns(lengths, plan, seed=seed, shuffle=data.order == "shuffled")


def turns_per_epoch(config: ReidConfig, table: IdentityTable) -> int:
    return epoch_order(config, table, streamed=stream_turns(config, table)).length


def describe(config: ReidConfig, table: IdentityTable) -> list[str]:
    """What is unusual about the order of a training, as lines for the console."""
    data, lines = config.data, []
    if data.group_images:
        turns = turns_per_epoch(config, table)
        balanced = ", cameras balanced" if data.camera_balanced else ""
        lines.append(
            f"order: groups of {data.identities_per_group} identities x {data.images_per_identity} pictures{balanced}; an epoch "
            f"has {turns} turns, each picture at least once, {turns - len(table)} of them repeat one to fill a group"
        )
    elif data.order != "shuffled":
        lines.append(f"order: {data.order}")
    if table.streamed is not None:
        lines.append(f"streaming: {len(table.streamed.shards.lengths)} shard(s) read at {_places(config)}")
    return lines


def agreement(config: ReidConfig, table: IdentityTable) -> dict[str, object]:
    """What decides the order of data and the sizes of images: a resume must not change it."""
    data = config.data
    groups = data.order == "groups"
    return {
        "train.seed": config.train.seed,
        "train.images_per_update": config.train.images_per_update,
        "data.order": data.order,
        "data.identities_per_group": data.identities_per_group if groups else None,
        "data.images_per_identity": data.images_per_identity if groups else None,
        "data.camera_balanced": data.camera_balanced,
        "data.size_px": list(data.size_px),
        # None where a key is not used: a checkpoint from before there was the key agrees.
        "data.streaming": data.streaming or None,
        "data.streams": data.streams if data.streaming else None,
        "data.stream_window": data.stream_window if data.streaming else None,
        "the training data (fingerprint)": table.fingerprint,
    }


def _places(config: ReidConfig) -> str:
    data = config.data
    if data.order == "sequential":
        return f"one place, {data.stream_window} pictures at once"
    if data.order == "shuffled":
        return f"up to {data.streams} place(s), a window of {data.stream_window} pictures at each"
    plan = _plan(config)
    return (
        f"{plan.streams * plan.places} place(s), a window of {plan.window} pictures at each; groups are made within "
        f"{plan.streams} block(s) at a time, of up to {plan.places * plan.window} pictures"
    )


def _rule(config: ReidConfig) -> GroupRule:
    data = config.data
    return GroupRule(data.identities_per_group, data.images_per_identity, data.camera_balanced)


def _plan(config: ReidConfig) -> GroupPlan:
    data, images = config.data, config.train.images_per_update
    return plan_groups(
        groups_per_update=images // data.group_images,
        group_size=data.group_images,
        most_places=data.streams,
        window=data.stream_window,
    )
