"""Configurations: composing, overriding, and the sentence that a mistake gets."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from maskformer_ext.config import Config, to_dict
from maskformer_ext.config.help import describe_keys
from maskformer_ext.config.load import (
    available_configs,
    config_from_dict,
    find_config,
    iterate_fields,
    load_config,
    save_config,
)
from maskformer_ext.errors import UserError


@pytest.mark.parametrize("name", available_configs())
def test_every_packaged_recipe_loads(name):
    config = load_config(name)
    assert isinstance(config, Config)
    assert config.output_dir.startswith("output/")


def test_overrides_replace_values_of_the_recipe():
    config = load_config("digits", ["train.max_iters=7", "optimizer.lr=1e-3", "inference.tasks=[semantic,panoptic]"])
    assert (config.train.max_iters, config.optimizer.lr) == (7, 1e-3)
    assert config.inference.tasks == ["semantic", "panoptic"]
    assert load_config("digits", {"model.num_queries": 3}).model.num_queries == 3


def test_null_and_none_clear_an_optional_value():
    assert load_config("camvid", ["model.backbone_weights=null"]).model.backbone_weights is None
    assert load_config("camvid", ["model.backbone_weights=none"]).model.backbone_weights is None
    assert load_config("camvid", ["resume=none"]).resume == "none"


def test_text_is_taken_as_it_is_written():
    for written in ("007", "1_000", "no", "1e5", "2024-01-02"):
        config = load_config("digits", [f"name={written}", f"data.root={written}"])
        assert (config.name, config.data.root) == (written, written)
    assert load_config("digits", ["data.background="]).data.background == ""  # of data.background="" in a shell
    assert load_config("digits", ["data.background=''"]).data.background == ""
    with pytest.raises(UserError, match=r"data.task must be one of"):
        load_config("digits", ["data.task="])


def test_a_file_composes_from_bases_in_order(tmp_path):
    (tmp_path / "small.yaml").write_text("train: {max_iters: 5, batch_size: 2}\n")
    (tmp_path / "mine.yaml").write_text("base: [camvid, small]\nname: mine\ntrain:\n  batch_size: 4\n")
    config = load_config(tmp_path / "mine.yaml")
    assert (config.name, config.data.name, config.train.max_iters, config.train.batch_size) == ("mine", "camvid", 5, 4)


def test_a_recipe_in_a_subfolder_is_found_by_its_path(tmp_path, monkeypatch):
    (tmp_path / "ade20k-150").mkdir()
    (tmp_path / "ade20k-150" / "r50.yaml").write_text("name: ade\n")
    monkeypatch.setattr("maskformer_ext.config.load.CONFIG_DIR", tmp_path)
    assert available_configs() == ["ade20k-150/r50"]
    assert load_config("ade20k-150/r50").name == "ade"
    with pytest.raises(UserError, match="did you mean 'ade20k-150/r50'"):
        load_config("ade20k-150/r5")


def test_a_base_that_leads_back_to_itself_is_an_error(tmp_path):
    (tmp_path / "a.yaml").write_text("base: b\n")
    (tmp_path / "b.yaml").write_text("base: a\n")
    with pytest.raises(UserError, match="leads back to the file itself"):
        load_config(tmp_path / "a.yaml")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("max_iters=5", r"unknown key 'max_iters': did you mean 'train.max_iters' \(int\)\?"),
        ("train.max_iter=5", r"unknown key 'train.max_iter': did you mean 'train.max_iters' \(int\)\?"),
        ("optimiser.lr=1", r"unknown key 'optimiser.lr': did you mean 'optimizer.lr' \(float\)\?"),
        ("modle.num_querys=5", r"did you mean 'model.num_queries' \(int\)\?"),
        ("data.augmentation.crop=[1,2]", r"did you mean 'data.augmentation.crop_size' \(list of int\)\?"),
        ("train.max_iters=many", "train.max_iters must be int, got 'many'"),
        ("train.max_iters=1.5", "train.max_iters must be int, got 1.5"),
        ("train.compile=perhaps", "train.compile must be bool, got 'perhaps'"),
        ("name=null", "name must be str, got None"),
        ("inference.tasks=semantic", "inference.tasks must be list of str, got 'semantic'"),
        ("optimizer.betas=[a,b]", "optimizer.betas must be list of float"),
        ("optimizer.betas=[0.9]", "optimizer.betas must have 2 values"),
        ("train=5", "'train' is a section"),
        ("train", "is not of the form key=value"),
        ("--train.max_iters=5", "is not of the form key=value"),
        ("train.max_iters=[5", "is not a valid value"),
        ("train.precision=bf61", r"must be one of fp32, bf16, fp16, got 'bf61' \(did you mean bf16\?\)"),
        ("data.task=panoptics", "data.task must be one of semantic, instance, panoptic"),
        ("inference.tasks=[semantik]", "inference.tasks must be one of semantic, instance, panoptic"),
        ("schedule.name=linear", "schedule.name must be one of poly, step, cosine"),
        ("train.batch_size=0", "train.batch_size must be at least 1, got 0"),
        ("optimizer.lr=nan", "optimizer.lr must be at least 0, got nan"),
        ("train.ema_decay=1", r"train.ema_decay must be in \[0, 1\)"),
    ],
)
def test_a_mistake_is_one_sentence_that_names_key_type_or_choices(override, message):
    with pytest.raises(UserError, match=message) as caught:
        load_config("digits", [override])
    assert "\n" not in str(caught.value)


def test_a_mistake_in_a_file_names_the_file(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("base: digits\ntrain:\n  max_iter: 3\n")
    with pytest.raises(UserError, match=r"mine.yaml: unknown key 'train.max_iter': did you mean 'train.max_iters'"):
        load_config(path)
    path.write_text("train: [1\n")
    with pytest.raises(UserError, match=r"mine.yaml: is not valid YAML"):
        load_config(path)
    path.write_text("- 1\n")
    with pytest.raises(UserError, match=r"mine.yaml: must hold 'key: value' pairs"):
        load_config(path)


def test_an_unknown_configuration_names_the_nearest_or_all():
    with pytest.raises(UserError, match="did you mean 'digits'"):
        load_config("digts")
    with pytest.raises(UserError, match=r"available are .*camvid.*nuclei"):
        load_config("zzzzzz")
    with pytest.raises(UserError, match=r"configuration file 'there/is/none.yaml' does not exist"):
        load_config("there/is/none.yaml")


def test_a_saved_configuration_reads_back_equal(tmp_path):
    config = load_config("nuclei", ["optimizer.eps=1e-12", "data.root=some folder", "name='yes'"])
    save_config(config, tmp_path / "config.yaml")
    assert load_config(tmp_path / "config.yaml") == config
    assert load_config(tmp_path) == config  # the output folder of a run stands for its configuration
    assert config_from_dict(to_dict(config), "test") == config
    assert find_config(tmp_path) == tmp_path / "config.yaml"


def test_help_lists_every_key_without_importing_torch():
    text = describe_keys()
    assert all(f"{key}=" in text for key, _ in iterate_fields())
    assert "images per optimiser step" in text
    code = "import sys, maskformer_ext.train as t; t.main(['--help']); sys.exit('torch' in sys.modules)"
    started = time.monotonic()
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert "config=NAME_OR_FILE" in result.stdout and "digits" in result.stdout
    assert time.monotonic() - started < 20


_BOMB = "a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12)
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("base: 5", "base must be the name of a configuration, or a list of such, got 5"),
        ("base: [digits, 3]", "base must be the name"),
        ("base: {a: 1}", "base must be the name"),
        ("base:", "base must be the name .* got None"),
        ("base: nowhere", "base: no configuration is called 'nowhere'"),
        ('base: "a\\0b"', "base: "),
        ("base: ~nobody/x", "base: "),
        ("model: 3", "'model' is a section"),
        ("model: [1]", "'model' is a section"),
        ("model: null", "'model' is a section"),
        ("data: {augmentation: 5}", "'data.augmentation' is a section"),
        ("data.root: x", "unknown key 'data.root': write it in its section, data: {root: ...}"),
        ("name: a\nname: b", "duplicate key name"),
        ("1: 2", "unknown key '1'"),
        ("~: 3", "is not valid YAML"),
        ("? [a, b]\n: c", "is not valid YAML"),
        ("\tname: x", "is not valid YAML: .*cannot start any token"),
        ("name: !!python/object/apply:os.system [ls]", "is not valid YAML: could not determine a constructor"),
        ("name: !!binary aGVsbG8=", "name must be str"),
        ("name: !!set {a, b}", "is not valid YAML"),
        ("name: [1, 2]", "name must be str"),
        ("seed: {a: 1}", "unknown key 'seed.a'"),
        ("name: &a [*a]", "is not valid YAML"),
        (_BOMB, "its aliases stand for more than 1000000 values"),
        ("5", "must hold 'key: value' pairs"),
        ("text", "must hold 'key: value' pairs"),
        ("---\n---\n", "is not valid YAML"),
        ("a: " + "[" * 3000, "is not valid YAML"),
        ("a: " + "{a: " * 2000 + "1" + "}" * 2000, "is not valid YAML: it is nested too deeply"),
        ("\x00", "is not valid YAML"),
        ("name: \x1b[31m", "is not valid YAML"),
        ("train: {max_iters: 1e400}", "train.max_iters must be int"),
        ("optimizer: {lr: .inf}", "optimizer.lr must be a finite number"),
        ("criterion: {alpha: .nan}", "criterion.alpha must be a finite number"),
        ("optimizer: {lr: " + "9" * 5000 + "}", "is not valid YAML"),
        ("optimizer: {lr: " + "9" * 400 + "}", "optimizer.lr must be float"),
        ("model: {num_queries: 1000000000}", "model.num_queries must be at most 100000"),
        ("inference: {tta_min_sizes: [" + "400, " * 2000 + "]}", "must have at most 1000 values"),
        ("inference: {tile: 1}", "inference.tile must be 0 or at least 16"),
        ("name: ${oc.env:HOME}", "name: .* refers to something outside the configuration"),
        ("data: {root: 'x/${oc.env:HOME}'}", "data.root: .* refers to something outside"),
        ("name: ${output_dir:${oc.decode:x}}", "refers to something outside"),
        ("name: ${missing}", "name: Interpolation key 'missing' not found"),
        ("name: ${name}", "name: "),
        ("name: ${", "is not valid YAML"),
    ],
)
def test_a_file_of_another_structure_is_one_sentence_with_its_name(tmp_path, text, message):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=rf"mine\.yaml: .*{message}") as caught:
        load_config(path)
    assert str(caught.value).isprintable()


def test_bytes_that_are_no_text_are_one_sentence(tmp_path):
    (tmp_path / "mine.yaml").write_bytes(b"name: \xff\xfe")
    with pytest.raises(UserError, match=r"mine\.yaml is not a configuration: it is not UTF-8 text"):
        load_config(tmp_path / "mine.yaml")


def test_bases_that_share_their_bases_are_read_once(tmp_path):
    for number in range(40):
        text = f"base: [b{number + 1}, b{number + 1}, b{number + 1}]\n" if number < 24 else "name: deep\n"
        (tmp_path / f"b{number}.yaml").write_text(text)
    assert load_config(tmp_path / "b0.yaml").name == "deep"
    for number in range(40):
        (tmp_path / f"b{number}.yaml").write_text(f"base: b{number + 1}\n")
    with pytest.raises(UserError, match="leads through more than 30 files"):
        load_config(tmp_path / "b0.yaml")


def test_keys_may_refer_to_one_another_and_to_nothing_else(tmp_path, monkeypatch):
    monkeypatch.setenv("SECRET", "hunter2")
    (tmp_path / "mine.yaml").write_text("name: streets\noutput_dir: output/${name}\n")
    assert load_config(tmp_path / "mine.yaml").output_dir == "output/streets"
    assert load_config("digits", ["model.num_queries=${train.batch_size}"]).model.num_queries == 16
    for override in ("name=${oc.env:SECRET}", "data.root=a/${oc.env:SECRET}/b", "inference.tasks=['${oc.env:SECRET}']"):
        with pytest.raises(UserError, match="refers to something outside the configuration") as caught:
            load_config("digits", [override])
        assert "hunter2" not in str(caught.value)
    with pytest.raises(UserError, match="refers to something outside"):
        load_config("digits", {"name": "${oc.env:SECRET}"})


@pytest.mark.parametrize(
    "override",
    [
        *("a..b=1", "train.max_iters[0]=3", "=5", "x.y=1", "model=null", "name=", "train.max_iters=.inf", "\x1b=1"),
        *("optimizer.lr=" + "9" * 5000, "train.max_iters=" + "[" * 5000, "name=${", "name={a: 1}", "seed=[1, [2]]"),
    ],
)
def test_an_override_of_another_structure_is_one_sentence(override):
    with pytest.raises(UserError) as caught:
        load_config("digits", [override])
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("criterion.alpha=2", "criterion.alpha must be at most 1, got 2"),
        ("criterion.gamma=-1", "criterion.gamma must be at least 0, got -1"),
        ("criterion.no_object_weight=-1", "criterion.no_object_weight must be at least 0, got -1"),
        ("criterion.mask_weight=1e39", "criterion.mask_weight must be at most 1000000, got 1e"),
        ("optimizer.betas=[0.9, 1.0]", "optimizer.betas must be at most 0.999999, got 1"),
        ("optimizer.weight_decay=-1", "optimizer.weight_decay must be at least 0, got -1"),
        ("optimizer.eps=-1", "optimizer.eps must be at least 0, got -1"),
        ("inference.mask_threshold=2", "inference.mask_threshold must be at most 1, got 2"),
        ("inference.overlap_threshold=1e300", "inference.overlap_threshold must be at most 1000000, got 1e"),
    ],
)
def test_what_the_criterion_the_optimizer_or_an_op_would_refuse_later_is_told_by_its_key(override, message) -> None:
    with pytest.raises(UserError, match=f"^{message}"):
        load_config("digits", [override])
