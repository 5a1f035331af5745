"""How much is in the catalogue."""

import test_broken_boxes
import test_broken_coco
import test_broken_configurations
import test_broken_csv
import test_broken_identities
import test_broken_images
import test_broken_json_lists
import test_broken_paths
import test_broken_shards
import test_broken_xml
import test_broken_yolo

from accel_det.data.defects import DEFECT_KINDS

FAMILIES = [
    test_broken_boxes.ENTRIES,
    test_broken_coco.ENTRIES,
    test_broken_csv.ENTRIES,
    test_broken_identities.ENTRIES,
    test_broken_images.ENTRIES,
    test_broken_json_lists.ENTRIES,
    test_broken_paths.ENTRIES,
    test_broken_shards.ENTRIES,
    test_broken_xml.ENTRIES,
    test_broken_yolo.ENTRIES,
]
OF_TWO_SPLITS = {"leakage", "same_name", "near_duplicate", "shared_identity", "query_without_match", "one_camera"}
OF_ONE_CLASS_LIST = {"unknown_class"}
CONSEQUENCES = {"image_without_annotations", "single_picture"}


def test_the_catalogue_has_at_least_150_entries_and_none_twice() -> None:
    names = [entry.name for family in FAMILIES for entry in family]
    names += [f"image: {picture.name}" for picture in test_broken_images.PICTURES]
    names += [f"image: {file}" for file in test_broken_images.FILES]
    names += [f"configuration: {case.name}" for case in test_broken_configurations.CONFIGURATIONS]
    assert len(names) >= 150
    twice = {name for name in names if names.count(name) > 1}
    assert not twice


def test_every_kind_of_defect_of_one_split_is_in_the_catalogue() -> None:
    found = {word.partition("*")[0] for family in FAMILIES for entry in family for word in entry.found.split()}
    assert found | OF_TWO_SPLITS | OF_ONE_CLASS_LIST | CONSEQUENCES == set(DEFECT_KINDS)
