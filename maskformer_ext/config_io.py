"""Find, compose, check and save configurations: YAML files below ``configs/`` or anywhere, and ``key=value``."""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from maskformer_ext.config import Config, to_dict
from maskformer_ext.errors import UserError
from maskformer_ext.files import write_text

CONFIG_DIR = Path(__file__).parent / "configs"
"""Where the packaged recipes lie; the name of a recipe is its path below this folder without ``.yaml``."""

_CHOICES = {
    "model.architecture": ("maskformer", "per_pixel_baseline", "per_pixel_baseline_plus"),
    "model.pixel_decoder": ("fpn", "transformer_encoder"),
    "model.decoder_memory": ("backbone", "pixel_decoder"),
    "criterion.matching": ("bipartite", "box", "fixed"),
    "data.task": ("semantic", "instance", "panoptic"),
    "data.on_error": ("raise", "skip"),
    "data.check": ("error", "warn", "off"),
    "data.fit": (
        "data.augmentation.min_sizes",
        "data.augmentation.crop_size",
        "inference.min_size",
        "model.num_queries",
    ),
    "schedule.name": ("poly", "step", "cosine"),
    "train.precision": ("fp32", "bf16", "fp16"),
    "inference.tasks": ("semantic", "instance", "panoptic"),
    "inference.resize": ("scores", "logits"),
    "inference.semantic": ("sum", "argmax"),
}

_AT_LEAST = {
    "model.num_queries": 1,
    "model.size_divisibility": 0,
    "model.decoder_layers": 1,
    "model.encoder_layers": 0,
    "data.num_workers": 0,
    "data.num_train": 1,
    "data.num_val": 1,
    "optimizer.lr": 0,
    "optimizer.clip_norm": 0,
    "schedule.warmup_iters": 0,
    "train.max_iters": 0,
    "train.batch_size": 1,
    "train.accumulation_steps": 1,
    "train.eval_period": 0,
    "train.checkpoint_period": 0,
    "train.keep_checkpoints": 1,
    "train.log_period": 1,
    "train.max_bad_steps": 1,
    "train.max_minutes": 0,
    "inference.tile": 0,
}

_LENGTHS = {
    "model.pixel_mean": (3,),
    "model.pixel_std": (3,),
    "optimizer.betas": (2,),
    "data.augmentation.crop_size": (0, 2),
    "data.augmentation.zoom_range": (2,),
}


def available_configs() -> list[str]:
    """List the names of the packaged recipes, sorted; what lies in a folder with ``_`` is only to start from."""
    names = (path.relative_to(CONFIG_DIR).with_suffix("").as_posix() for path in CONFIG_DIR.rglob("*.yaml"))
    return sorted(name for name in names if not name.startswith("_"))


def load_config(name: str | Path = "digits", overrides: Iterable[str] | Mapping[str, Any] = ()) -> Config:
    """Read a recipe and apply overrides.

    Args:
        name: the name of a packaged recipe, a YAML file, or a folder that holds a ``config.yaml`` (a run's output).
            A YAML file may name others to start from: ``base: camvid`` or ``base: [camvid, ./mine.yaml]``.
            A packaged recipe without a ``name`` of its own is called as its file, and writes below ``output/``.
        overrides: ``"section.key=value"`` texts, values in YAML, or a mapping from dotted keys to values.

    Returns:
        The complete configuration.

    Raises:
        UserError: for a configuration, key or value that does not exist or has another type; it names the nearest.
    """
    from omegaconf import OmegaConf

    path = find_config(name)
    values = _read(path)
    if "name" not in values and path.is_relative_to(CONFIG_DIR):
        values.name = path.relative_to(CONFIG_DIR).with_suffix("").as_posix()
        values.setdefault("output_dir", f"output/{values.name}")
    return _override(OmegaConf.merge(OmegaConf.structured(Config), values), overrides)


def override_config(config: Config, overrides: Iterable[str] | Mapping[str, Any]) -> Config:
    """Return a configuration with some values replaced; arguments and errors as those of `load_config`."""
    from omegaconf import OmegaConf

    return _override(OmegaConf.structured(config), overrides)


def config_from_dict(values: Mapping[str, Any], source: str) -> Config:
    """Return the configuration that plain containers describe, as ``to_dict`` wrote them.

    Args:
        values: nested containers; what is missing keeps its default.
        source: where they came from, for error messages.
    """
    from omegaconf import OmegaConf

    return _finish(_set_values(OmegaConf.structured(Config), OmegaConf.create(dict(values)), f"{source}: "))


def save_config(config: Config, path: str | Path) -> None:
    """Write a complete configuration as YAML, to be read again by ``load_config``."""
    from omegaconf import OmegaConf

    write_text(path, OmegaConf.to_yaml(OmegaConf.create(to_dict(config))))


def find_config(name: str | Path) -> Path:
    """Return the YAML file of a recipe name, a file or a run's output folder."""
    text = str(name)
    path = Path(text).expanduser()
    candidates = [path, path / "config.yaml"] if path.is_absolute() or text.startswith(".") or path.suffix else []
    candidates += [CONFIG_DIR / f"{text}.yaml", CONFIG_DIR / text, path / "config.yaml"]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    known = available_configs()
    nearest = difflib.get_close_matches(text.removesuffix(".yaml"), known, n=3, cutoff=0.5)
    if path.suffix in (".yaml", ".yml") and not nearest:
        raise UserError(f"configuration file {text!r} does not exist")
    hint = f"did you mean {' or '.join(map(repr, nearest))}?" if nearest else f"available are {', '.join(known)}."
    raise UserError(f"no configuration is called {text!r}: {hint}")


def describe_type(annotation: Any) -> str:
    """Say in words what a field holds: ``int``, ``list of float``, ``str or null``."""
    if isinstance(annotation, types.UnionType) or typing.get_origin(annotation) is typing.Union:
        parts = [describe_type(part) for part in typing.get_args(annotation) if part is not type(None)]
        return " or ".join([*parts, "null"])
    if typing.get_origin(annotation) is list:
        return f"list of {describe_type(typing.get_args(annotation)[0])}"
    return str(annotation.__name__)


def iterate_fields(schema: Any = Config, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the dotted key and the type of every value of the configuration."""
    hints = typing.get_type_hints(schema)
    for field in dataclasses.fields(schema):
        key, annotation = f"{prefix}{field.name}", hints[field.name]
        if dataclasses.is_dataclass(annotation):
            yield from iterate_fields(annotation, f"{key}.")
        else:
            yield key, annotation


def _read(path: Path, chain: tuple[Path, ...] = ()) -> Any:
    """Read one YAML file on top of its bases."""
    import yaml
    from omegaconf import DictConfig, OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    path = path.resolve()
    if path in chain:
        raise UserError(f"{path}: 'base' leads back to the file itself, through {' -> '.join(p.name for p in chain)}")
    try:
        values = OmegaConf.load(path)
    except (yaml.YAMLError, OmegaConfBaseException, UnicodeDecodeError) as error:
        raise UserError(f"{path}: is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(values, DictConfig):
        raise UserError(f"{path}: must hold 'key: value' pairs")
    bases = values.pop("base", [])
    merged: Any = OmegaConf.create()
    for base in [bases] if isinstance(bases, str) else bases:
        beside = [path.parent / base, path.parent / f"{base}.yaml"]
        found = next((file for file in beside if file.is_file() and file.resolve() != path), None)
        merged = OmegaConf.merge(merged, _read(found or find_config(base), (*chain, path)))
    _set_values(OmegaConf.structured(Config), values, f"{path}: ")  # only for its errors, which name this file
    _keep_given(merged, values)
    return OmegaConf.merge(merged, values)


def _override(config: Any, overrides: Iterable[str] | Mapping[str, Any]) -> Config:
    from omegaconf import OmegaConf

    for key, value in _override_items(overrides):
        values = OmegaConf.create()
        OmegaConf.update(values, key, value, force_add=True)
        config = _set_values(config, values, "")
        _keep_given(config, values)
    return _finish(config)


def _keep_given(config: Any, values: Any) -> None:
    """Take the keys that somebody gives out of ``data.fit``: what is given is not chosen."""
    from omegaconf import OmegaConf

    fit = OmegaConf.select(config, "data.fit", default=None)
    if fit:
        given = {key for key, _ in _leaves(typing.cast("dict[str, Any]", OmegaConf.to_container(values)), set())}
        if "data.fit" not in given:
            OmegaConf.update(config, "data.fit", [key for key in fit if key not in given], merge=False)


def _override_items(overrides: Iterable[str] | Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    import yaml
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    if isinstance(overrides, Mapping):
        yield from overrides.items()
        return
    optional = {key for key, annotation in iterate_fields() if describe_type(annotation).endswith("null")}
    for text in overrides:
        key, separator, value = text.partition("=")
        if not separator or not key or key.startswith("-"):
            raise UserError(f"{text!r} is not of the form key=value, for instance train.max_iters=1000")
        if key in optional and value in ("None", "none"):
            yield key, None
            continue
        try:
            yield key, OmegaConf.to_container(OmegaConf.from_dotlist([f"value={value}"]))["value"]  # type: ignore[index, call-overload]
        except (yaml.YAMLError, OmegaConfBaseException) as error:
            raise UserError(f"{key}: {value!r} is not a valid value: {' '.join(str(error).split())}") from error


def _set_values(config: Any, values: Any, where: str) -> Any:
    """Set values in a structured configuration key by key, so that an error names one key."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    kinds = dict(iterate_fields())
    sections = {key.rsplit(".", 1)[0] for key in kinds if "." in key}
    for key, value in _leaves(typing.cast("dict[str, Any]", OmegaConf.to_container(values)), sections):
        if key in sections:
            inside = next(name for name in kinds if name.startswith(f"{key}."))
            raise UserError(f"{where}{key!r} is a section: set a key in it, for instance {inside}")
        if key not in kinds:
            raise UserError(f"{where}unknown key {key!r}{_suggest(key, kinds)}")
        try:
            OmegaConf.update(config, key, value, merge=False)
        except OmegaConfBaseException as error:
            raise UserError(f"{where}{key} must be {describe_type(kinds[key])}, got {value!r}") from error
    return config


def _leaves(values: Mapping[Any, Any], sections: set[str], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        key = f"{prefix}{name}"
        if isinstance(value, Mapping) and (key in sections or value):
            yield from _leaves(value, sections, f"{key}.")
        else:
            yield key, value


def _suggest(key: str, kinds: Mapping[str, Any]) -> str:
    leaf = key.rsplit(".", 1)[-1]
    names = {name.rsplit(".", 1)[-1]: name for name in reversed(list(kinds))}
    nearest = [name for name in kinds if name.rsplit(".", 1)[-1] == leaf]
    nearest += difflib.get_close_matches(key, kinds, n=1, cutoff=0.75)
    nearest += [names[match] for match in difflib.get_close_matches(leaf, names, n=1, cutoff=0.6)]
    nearest += difflib.get_close_matches(key, kinds, n=1, cutoff=0.0)
    return f": did you mean {nearest[0]!r} ({describe_type(kinds[nearest[0]])})?"


def _finish(config: Any) -> Config:
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        OmegaConf.resolve(config)
        result = OmegaConf.to_object(config)
    except OmegaConfBaseException as error:
        raise UserError(f"configuration: {str(error).splitlines()[0]}") from error
    assert isinstance(result, Config)
    _check_values(result)
    return result


def _check_values(config: Config) -> None:
    values = dict(_leaves(to_dict(config), set()))
    for key, choices in _CHOICES.items():
        for value in values[key] if isinstance(values[key], list) else [values[key]]:
            if value not in choices:
                near = difflib.get_close_matches(str(value), choices, n=1)
                hint = f" (did you mean {near[0]}?)" if near else ""
                raise UserError(f"{key} must be one of {', '.join(choices)}, got {value!r}{hint}")
    for key, least in _AT_LEAST.items():
        if not values[key] >= least:
            raise UserError(f"{key} must be at least {least}, got {values[key]}")
    for key, lengths in _LENGTHS.items():
        if len(values[key]) not in lengths:
            expected = " or ".join(map(str, lengths))
            raise UserError(f"{key} must have {expected} values, got {values[key]}")
    if not 0 <= config.train.ema_decay < 1:
        raise UserError(f"train.ema_decay must be in [0, 1), got {config.train.ema_decay}")
