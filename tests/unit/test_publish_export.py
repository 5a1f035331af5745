"""Export folders: whole or not there, the same when read back, and clear about damage."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from publish_cases import HOSTILE_CLASSES, contents, export_info, small_state
from torch import Tensor, nn

from accel_det.publish import layout
from accel_det.publish.export import ExportError, read_export, write_export
from accel_det.publish.hub import PushError
from accel_det.publish.layout import FILES, find_export


def test_what_is_written_is_what_is_read(tmp_path: Path) -> None:
    info, state = export_info(classes=HOSTILE_CLASSES), small_state()
    write_export(tmp_path / "best", state=state, info=info)
    assert sorted(contents(tmp_path / "best")) == sorted(FILES)
    found, tensors = read_export(tmp_path / "best")
    assert found == info
    assert set(tensors) == set(state)
    assert all(tensors[name].dtype == state[name].dtype and torch.equal(tensors[name], state[name]) for name in state)


def test_options_keep_their_types(tmp_path: Path) -> None:
    options = {"flag": True, "count": 1, "ratio": 1.0, "word": "1", "anchors_px": [10.0, 13.5]}
    write_export(tmp_path / "best", state=small_state(), info=export_info(options=options))
    found = read_export(tmp_path / "best")[0].options
    assert found == options
    assert [type(found[key]) for key in options] == [type(value) for value in options.values()]


class TiedNetwork(nn.Module):
    """Two layers with one weight, as detectors that share a head between decoder layers."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.second = nn.Linear(4, 4)
        self.second.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x).relu())


def test_tied_weights_are_stored_once_and_load_strictly_with_equal_outputs(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = TiedNetwork()
    write_export(tmp_path / "best", state=network.state_dict(), info=export_info())
    header_bytes = int.from_bytes((tmp_path / "best/model.safetensors").read_bytes()[:8], "little")
    header = json.loads((tmp_path / "best/model.safetensors").read_bytes()[8 : 8 + header_bytes])
    assert sorted(set(header) - {"__metadata__"}) == ["first.bias", "first.weight", "second.bias"]
    assert header["__metadata__"]["format"] == "pt"
    state = read_export(tmp_path / "best")[1]
    assert state["second.weight"].data_ptr() == state["first.weight"].data_ptr()
    again = TiedNetwork()
    again.load_state_dict(state, strict=True)
    x = torch.randn(3, 4)
    assert torch.equal(again(x), network(x))


def test_the_metadata_of_the_weights_stand_in_one_order_in_every_process(tmp_path: Path) -> None:
    for number in range(8):
        write_export(tmp_path / str(number), state=small_state(), info=export_info())
    files = {(tmp_path / str(number) / "model.safetensors").read_bytes() for number in range(8)}
    assert len(files) == 1
    (data,) = files
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    assert list(header["__metadata__"]) == ["aliases", "format"]


def test_views_of_one_memory_come_back_with_their_values(tmp_path: Path) -> None:
    whole = torch.arange(12.0).view(3, 4)
    state = {"whole": whole, "row": whole[1], "turned": whole.t(), "copy": whole.clone()}
    write_export(tmp_path / "best", state=state, info=export_info())
    found = read_export(tmp_path / "best")[1]
    assert set(found) == set(state)
    assert all(torch.equal(found[name], state[name]) for name in state)


def test_a_fresh_process_computes_the_same_bits(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(8, 16), nn.SiLU(), nn.Linear(16, 2)).eval()
    write_export(tmp_path / "best", state=network.state_dict(), info=export_info())
    code = (
        "import sys, torch; from torch import nn; from pathlib import Path\n"
        "from accel_det.publish.export import read_export\n"
        "torch.set_num_threads(1)\n"
        "network = nn.Sequential(nn.Linear(8, 16), nn.SiLU(), nn.Linear(16, 2)).eval()\n"
        "network.load_state_dict(read_export(Path(sys.argv[1]))[1], strict=True)\n"
        "print(network(torch.linspace(-1, 1, 24).view(3, 8)).view(-1).detach().view(torch.int32).tolist())\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "best")], capture_output=True, text=True, check=True
    )
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    here = network(torch.linspace(-1, 1, 24).view(3, 8)).detach().view(-1).view(torch.int32).tolist()
    torch.set_num_threads(threads)
    assert json.loads(run.stdout) == here


def test_any_flipped_byte_of_the_weights_is_found_and_the_file_named(tmp_path: Path) -> None:
    folder = tmp_path / "best"
    write_export(folder, state={"a": torch.arange(3.0)}, info=export_info())
    file = folder / "model.safetensors"
    whole = file.read_bytes()
    for position in range(len(whole)):
        file.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
        with pytest.raises(ExportError, match=r"model\.safetensors: damaged: its sha256"):
            read_export(folder)
    assert len(whole) > 100
    for cut in (whole[:-1], whole + b"x", b""):
        file.write_bytes(cut)
        with pytest.raises(ExportError, match=rf"model\.safetensors: damaged: {len(cut)} bytes, {len(whole)} were"):
            read_export(folder)
    file.unlink()
    with pytest.raises(ExportError, match=r"model\.safetensors: No such file"):
        read_export(folder)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("format_version", 2, "format_version is 2, expected 1"),
        ("classes", "RBC", "classes: Input should be a valid array"),
        ("classes", ["RBC"], "model.num_classes is 3, but classes has 1 names"),
        ("metrics", {"AP": "high"}, "metrics.AP: Input should be a valid number"),
        ("resize", {"mode": "crop", "size_px": 64, "max_size_px": 64, "multiple": 32}, "resize.mode: Input should be"),
        ("inference", None, "inference: Input should be"),
        ("weights", {}, "weights.sha256 is missing"),
    ],
)
def test_a_wrong_value_in_the_configuration_is_named(tmp_path: Path, key: str, value: object, said: str) -> None:
    write_export(tmp_path / "best", state=small_state(), info=export_info())
    file = tmp_path / "best" / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), key: value}))
    with pytest.raises(ExportError) as caught:
        read_export(tmp_path / "best")
    assert said in str(caught.value)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", [b"", b"{", b"[1]", b"\xff\xfe", b"[" * 100_000])
def test_a_configuration_that_is_no_json_object_is_an_error_that_names_it(tmp_path: Path, text: bytes) -> None:
    write_export(tmp_path / "best", state=small_state(), info=export_info())
    (tmp_path / "best" / "config.json").write_bytes(text)
    with pytest.raises(ExportError, match=r"config\.json: (damaged: not JSON|holds a JSON list)"):
        read_export(tmp_path / "best")


def test_a_crash_at_any_step_of_a_replacement_leaves_the_old_or_the_new_export(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Crash(BaseException):
        """Not an Exception: no handler may tidy up, as none would after a kill."""

    folder = tmp_path / "best"
    calls = {"left": 0}

    def crashing(function: object) -> object:
        def call(*arguments: object, **options: object) -> object:
            calls["left"] -= 1
            if calls["left"] < 0:
                raise Crash
            return function(*arguments, **options)  # type: ignore[operator]

        return call

    monkeypatch.setattr(Path, "rename", crashing(Path.rename))
    monkeypatch.setattr(Path, "mkdir", crashing(Path.mkdir))
    monkeypatch.setattr(layout.os, "fsync", crashing(layout.os.fsync))
    monkeypatch.setattr(layout.shutil, "rmtree", crashing(layout.shutil.rmtree))
    calls["left"] = 1000
    write_export(folder, state=small_state(0.0), info=export_info())
    values = []
    for step in range(1, 100):
        calls["left"] = step - 1
        try:
            write_export(folder, state=small_state(float(step)), info=export_info())
            break
        except Crash:
            calls["left"] = 1000
        info, state = read_export(folder)
        assert info == export_info()
        values.append(state["layer.weight"][0, 0].item())
        assert values[-1] in (values[-2] if len(values) > 1 else 0.0, float(step))
    assert step > 8, "mkdir, five fsyncs, two renames and the removals should each have crashed once"
    assert 0.0 in values
    assert read_export(folder)[1]["layer.weight"][0, 0].item() == step
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["best"]


def test_a_folder_that_cannot_be_written_is_an_error_and_the_old_export_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "best"
    write_export(folder, state=small_state(1.0), info=export_info())

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(layout.os, "fsync", full)
    with pytest.raises(ExportError, match=r"best\.part: export not written \(No space left on device\)"):
        write_export(folder, state=small_state(2.0), info=export_info())
    assert read_export(folder)[1]["layer.weight"][0, 0].item() == 1.0
    assert not (tmp_path / "best.part").exists()


def test_a_run_gives_its_best_export_or_else_its_last_and_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"no export in it; expected config\.json, or a run's folder"):
        find_export(tmp_path)
    write_export(tmp_path / "export" / "last", state=small_state(), info=export_info())
    assert find_export(tmp_path) == tmp_path / "export" / "last"
    write_export(tmp_path / "export" / "best", state=small_state(), info=export_info())
    assert find_export(tmp_path) == tmp_path / "export" / "best"
    assert find_export(tmp_path, choices=("last",)) == tmp_path / "export" / "last"
    (tmp_path / "export" / "best").rename(tmp_path / "export" / "best.old")  # killed between two renames
    assert find_export(tmp_path) == tmp_path / "export" / "best.old"
    assert read_export(tmp_path / "export" / "best")[0] == export_info()


def test_tokens_and_passwords_never_reach_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub_token = "hf_" + "aB3" * 12
    key, password = "0123456789abcdef-wandb", "correct-horse"
    monkeypatch.setenv("WANDB_API_KEY", key)
    command = f"HF_TOKEN={hub_token} accel-det train x.yaml --set push.repo=https://ada:{password}@hub.example/x"
    info = export_info(run_config=f"comment: {key}\ntoken: {hub_token}\n")
    info = export_info(run_config=info.run_config, training=info.training.__class__(1, 2, command, {"x": key}))
    write_export(tmp_path / "best", state=small_state(), info=info)
    everything = b"".join(contents(tmp_path / "best").values())
    for secret in (hub_token, key, password):
        assert secret.encode() not in everything
    assert b"accel-det train x.yaml" in everything


def test_numbers_that_are_not_finite_and_missing_classes_are_refused() -> None:
    with pytest.raises(ExportError, match=r"metrics\.AP is nan, expected a finite number"):
        export_info(metrics={"AP": float("nan")})
    with pytest.raises(ExportError, match="no classes"):
        export_info(classes=())


def test_a_class_name_that_is_no_unicode_text_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="is not Unicode text"):
        write_export(tmp_path / "best", state=small_state(), info=export_info(classes=("\ud800",)))
    assert not list(tmp_path.iterdir())


def test_errors_of_publishing_are_value_errors() -> None:
    assert issubclass(ExportError, ValueError)
    assert issubclass(PushError, ValueError)
