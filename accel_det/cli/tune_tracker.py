"""`accel-det tune-tracker`: search for settings of the tracker on what was found before, so a trial takes seconds."""

import argparse
import hashlib
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import yaml

from accel_det.cli.failures import BAD_INPUT, DONE, answer
from accel_det.cli.search_space import Choices, Space, read_space
from accel_det.cli.track_inputs import Input, open_inputs
from accel_det.cli.tracker_settings import as_yaml, read_settings, without_appearance
from accel_det.cli.tune import Search, TrialEnd, facts, search, trials_table
from accel_det.engine.console import Console
from accel_det.metrics.mot_files import read_truth
from accel_det.metrics.tracking import Sequence as Scored, Truth, score_tracking
from accel_det.tracking.settings import PRESETS, TrackerSettings
from accel_det.tracking.tracker import Tracker

if TYPE_CHECKING:
    from accel_det.cli.study import Tried

METRICS = ("HOTA", "MOTA", "IDF1")
