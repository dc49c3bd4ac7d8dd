"""Find, compose, check and save configurations: YAML files below ``recipes/`` or anywhere, and ``key=value``.

What comes with weights (`config_from_dict`) is taken literally. A YAML file or an override may refer to other keys of
the configuration, ``output_dir: output/${name}``; nothing may refer to the environment or anything else outside.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from maskformer_ext.config.schema import Config, to_dict
from maskformer_ext.config.values import RATE, check_values
from maskformer_ext.config.yaml_files import STRANGE, read_yaml, reason, refuse_resolvers
from maskformer_ext.errors import UserError, visible, why
from maskformer_ext.files import write_text

CONFIG_DIR = Path(__file__).parent / "recipes"
"""Where the packaged recipes lie; the name of a recipe is its path below this folder without ``.yaml``."""

_LONGEST_LIST = 1000
_DEEPEST_KEY = 8  # of sections in sections


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
    values = read_yaml(path, find_config, _take)
    if "name" not in values and path.is_relative_to(CONFIG_DIR):
        values.name = path.relative_to(CONFIG_DIR).with_suffix("").as_posix()
        values.setdefault("output_dir", f"output/{values.name}")
    config = OmegaConf.merge(OmegaConf.structured(Config), values)
    return _override(config, overrides) if overrides else _finish(config, f"{path}: ")


def override_config(config: Config, overrides: Iterable[str] | Mapping[str, Any]) -> Config:
    """Return a configuration with some values replaced; arguments and errors as those of `load_config`."""
    from omegaconf import OmegaConf

    return _override(_set_values(OmegaConf.structured(Config), _literally(to_dict(config)), ""), overrides)


def override_checkpoint(config: Config, overrides: Iterable[str]) -> Config:
    """Apply ``key=value`` to the configuration of a checkpoint.

    Raises:
        UserError: for a key or value that does not exist, and for keys below ``model``, which the weights decide.
    """
    overrides = list(overrides)
    for override in overrides:
        if override.startswith("model."):
            raise UserError(f"{override.partition('=')[0]} cannot be changed: the weights of the checkpoint decide it")
    return override_config(config, overrides)


def config_from_dict(values: Mapping[str, Any], source: str) -> Config:
    """Return the configuration that plain containers describe, as ``to_dict`` wrote them.

    Texts are taken literally, whatever they hold; control characters in them are escaped.

    Args:
        values: nested containers; what is missing keeps its default.
        source: where they came from, for error messages.

    Raises:
        UserError: for a key or value that does not exist, has another type, or is out of range.
    """
    from omegaconf import OmegaConf

    return _finish(
        _set_values(OmegaConf.structured(Config), _literally(_visibly(values)), f"{source}: "), f"{source}: "
    )


def config_yaml(config: Config) -> str:
    """Return a complete configuration as YAML that `load_config` reads again."""
    from omegaconf import OmegaConf

    return OmegaConf.to_yaml(OmegaConf.create(_literally(to_dict(config))))


def save_config(config: Config, path: str | Path) -> None:
    """Write a complete configuration as YAML, to be read again by ``load_config``."""
    write_text(path, config_yaml(config))


def find_config(name: str | Path) -> Path:
    """Return the YAML file of a recipe name, a file or a run's output folder."""
    text = str(name)
    try:
        path = Path(text).expanduser()
    except RuntimeError as error:  # ~ of somebody who is not known here
        raise UserError(f"configuration {text!r:.80} is no name of a file ({why(error)})") from None
    candidates = [path, path / "config.yaml"] if path.is_absolute() or text.startswith(".") or path.suffix else []
    candidates += [CONFIG_DIR / f"{text}.yaml", CONFIG_DIR / text, path / "config.yaml"]
    try:
        found = next((candidate for candidate in candidates if candidate.is_file()), None)
    except (OSError, ValueError) as error:
        raise UserError(f"configuration {text!r:.80} is no name of a file ({why(error)})") from None
    if found is not None:
        return found
    known = available_configs()
    nearest = difflib.get_close_matches(text.removesuffix(".yaml"), known, n=3, cutoff=0.5)
    if path.suffix in (".yaml", ".yml") and not nearest:
        raise UserError(f"configuration file {text!r} does not exist")
    hint = f"did you mean {' or '.join(map(repr, nearest))}?" if nearest else f"available are {', '.join(known)}."
    raise UserError(f"no configuration is called {text!r}: {hint}")


def describe_type(annotation: Any) -> str:
    """Return in words what a field holds: ``int``, ``list of float``, ``str or null``."""
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


def _take(merged: Any, values: Mapping[Any, Any], where: str) -> None:
    """Check the values of a file, and note what it gives on top of its bases."""
    from omegaconf import OmegaConf

    _set_values(OmegaConf.structured(Config), values, where)
    packaged = Path(where.removesuffix(": ")).is_relative_to(CONFIG_DIR.resolve())
    _keep_given(merged, values, by_user=not packaged)


def _keep_given(config: Any, values: Mapping[Any, Any], *, by_user: bool = True) -> None:
    """Note the keys that somebody gives: they leave ``data.fit``, and the user's ones come into ``init_keep``.

    What is given is neither chosen from the data nor taken from weights.
    """
    from omegaconf import OmegaConf

    if by_user:
        keep = list(OmegaConf.select(config, "init_keep", default=None) or [])
        new = [key for key, _ in _leaves(values, set()) if key.startswith("model.") or key == RATE]
        if new:
            OmegaConf.update(config, "init_keep", list(dict.fromkeys([*keep, *new])), merge=False, force_add=True)
    fit = OmegaConf.select(config, "data.fit", default=None)
    if fit:
        given = {key for key, _ in _leaves(values, set())}
        if "data.fit" not in given:
            OmegaConf.update(config, "data.fit", [key for key in fit if key not in given], merge=False)


def _override(config: Any, overrides: Iterable[str] | Mapping[str, Any]) -> Config:
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    for key, value in _override_items(overrides):
        refuse_resolvers(value, "", key)
        try:
            values = OmegaConf.create()
            OmegaConf.update(values, key, value, force_add=True)
            plain = typing.cast("dict[str, Any]", OmegaConf.to_container(values))
        except (OmegaConfBaseException, *STRANGE) as error:
            raise UserError(f"{key!r:.60}={value!r:.60} cannot be set: {reason(error)}") from error
        config = _set_values(config, plain, "")
        _keep_given(config, plain)
    return _finish(config)


def _override_items(overrides: Iterable[str] | Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    import yaml
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    if isinstance(overrides, Mapping):
        yield from overrides.items()
        return
    kinds = {key: describe_type(annotation) for key, annotation in iterate_fields()}
    for text in overrides:
        key, separator, value = text.partition("=")
        if not separator or not key or key.startswith("-"):
            raise UserError(f"{text!r} is not of the form key=value, for instance train.max_iters=1000")
        kind = kinds.get(key, "")
        if kind.endswith("null") and value in ("None", "none"):
            yield key, None
            continue
        if kind == "str" and not value and key.startswith("data."):  # what a shell makes of data.background=""
            yield key, ""
            continue
        try:
            read = OmegaConf.to_container(OmegaConf.from_dotlist([f"value={value}"]))["value"]  # type: ignore[index, call-overload]
            # A folder called 007, 1_000 or no is text where text is meant.
            yield key, value if kind.startswith("str") and isinstance(read, bool | int | float) else read
        except (yaml.YAMLError, OmegaConfBaseException, *STRANGE) as error:
            raise UserError(f"{key}: {value!r:.60} is not a valid value: {reason(error)}") from error


def _set_values(config: Any, values: Mapping[Any, Any], where: str) -> Any:
    """Set values in a structured configuration key by key, so that an error names one key."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    kinds = dict(iterate_fields())
    sections = {key.rsplit(".", 1)[0] for key in kinds if "." in key}
    for key, value in _leaves(values, sections):
        if key in sections:
            inside = next(name for name in kinds if name.startswith(f"{key}."))
            raise UserError(f"{where}{key!r} is a section: set a key in it, for instance {inside}")
        if key not in kinds:
            raise UserError(f"{where}unknown key {key!r:.80}{_suggest(key[:80], kinds)}")
        if isinstance(value, list) and len(value) > _LONGEST_LIST:
            raise UserError(f"{where}{key} must have at most {_LONGEST_LIST} values, got {len(value)}")
        try:
            OmegaConf.update(config, key, value, merge=False)
        except (OmegaConfBaseException, *STRANGE) as error:
            raise UserError(f"{where}{key} must be {describe_type(kinds[key])}, got {value!r:.60}") from error
    return config


def _leaves(values: Mapping[Any, Any], sections: set[str], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        key = f"{prefix}{name}"
        if isinstance(value, Mapping) and (key in sections or (value and prefix.count(".") < _DEEPEST_KEY)):
            yield from _leaves(value, sections, f"{key}.")
        else:
            yield key, value


def _literally(value: Any) -> Any:
    """Escape what OmegaConf would take for a reference."""
    return _map_texts(value, lambda text: re.sub(r"(\\*)\$\{", lambda match: f"{match[1] * 2}\\${{", text))


def _visibly(value: Any) -> Any:
    """Escape control characters, which no setting needs."""
    return _map_texts(value, visible)


def _map_texts(value: Any, change: Callable[[str], str], depth: int = 0) -> Any:
    if isinstance(value, str):
        return change(value)
    if depth < _DEEPEST_KEY and isinstance(value, Mapping):
        return {
            _map_texts(key, change, depth + 1): _map_texts(entry, change, depth + 1) for key, entry in value.items()
        }
    if depth < _DEEPEST_KEY and isinstance(value, list | tuple):
        return [_map_texts(entry, change, depth + 1) for entry in value]
    return value


def _suggest(key: str, kinds: Mapping[str, Any]) -> str:
    leaf = key.rsplit(".", 1)[-1]
    names = {name.rsplit(".", 1)[-1]: name for name in reversed(list(kinds))}
    nearest = [name for name in kinds if name.rsplit(".", 1)[-1] == leaf]
    nearest += difflib.get_close_matches(key, kinds, n=1, cutoff=0.75)
    nearest += [names[match] for match in difflib.get_close_matches(leaf, names, n=1, cutoff=0.6)]
    nearest += difflib.get_close_matches(key, kinds, n=1, cutoff=0.0)
    return f": did you mean {nearest[0]!r} ({describe_type(kinds[nearest[0]])})?"


def _finish(config: Any, where: str = "") -> Config:
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        result = OmegaConf.to_object(config)
    except (OmegaConfBaseException, *STRANGE) as error:
        key = getattr(error, "full_key", None)
        raise UserError(f"{where or 'configuration: '}{f'{key}: ' if key else ''}{why(error)}") from error
    assert isinstance(result, Config)
    check_values(result, where)
    return result
