"""Find a network among what a file holds: below which keys it lies, and what wrappers put before its names.

Training programs save weights below ``model``, ``state_dict`` or ``ema`` among other things. Wrappers such as
DistributedDataParallel, torch.compile, Lightning's modules and moving averages put a prefix before all names. Neither
is known from a list: a layout is recognised by names that only it has, and what stands before those is the prefix.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import numpy as np
from torch import Tensor

from maskformer_ext.errors import UserError

# What is taken where several parts of a file hold weights, the first of these before the others.
_WRAPPERS = (
    *("model", "state_dict", "model_state_dict", "module", "network", "net", "weights", "params"),
    *("model_ema", "ema_model", "ema", "ema_state_dict", "params_ema", "teacher"),
)
_DEEPEST = 6
_MOST_DICTS = 1000
_LONGEST_PREFIX = 12  # parts between dots
# Names that only one layout has, in any place of a name. A whole model goes before a backbone alone.
_LANDMARKS = {
    "transformers": r"model\.(?:pixel_level_module|transformer_module)\.",
    "original": r"sem_seg_head\.",
    "native": r"(?:class_head|mask_head\.layers|transformer_decoder\.(?:layers|query_embed)"
    r"|pixel_decoder\.(?:mask_features|fpn|encoder|layers|adapters))\.",
    "backbone": r"(?:layer1\.0\.conv1|res2\.0\.conv1|layers\.0\.blocks\.0\.norm1|features\.1\.0\.norm1)\.",
}
_FIND = {layout: re.compile(rf"((?:[^.]+\.)*?){landmark}") for layout, landmark in _LANDMARKS.items()}
# Parts of names that wrappers of single modules add: torch.compile, FSDP, activation checkpoints.
_INNER = re.compile(r"(?<![^.])(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
_PARALLEL = "module."


def find_state(content: Any) -> Any:
    """Return the part of a file's content that maps names to tensors or arrays.

    Args:
        content: what the file holds: nested containers.

    Returns:
        The mapping of a known layout, else that with the most tensors. Where there is none: what lies where weights
        should be.
    """
    found = list(_mappings(content, ()))
    if not found:
        inside = (content[key] for key in _WRAPPERS if isinstance(content, dict) and isinstance(content.get(key), dict))
        return next(inside, content)
    known = [entry for entry in found if layout_of(entry[1]) is not None]
    return min(known or found, key=lambda entry: (_rank(entry[0]), -len(entry[1])))[1]


def layout_of(names: Collection[Any]) -> str | None:
    """Return "transformers", "original", "native" or "backbone"; None for names of no layout that is known here."""
    plain = [_INNER.sub("", name) for name in names if isinstance(name, str)]
    return next((layout for layout, pattern in _FIND.items() if any(map(pattern.match, plain))), None)


def bare_names(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Take what wrappers added off the names; what lies beside the network (a counter, a loss) is left out.

    Raises:
        UserError: if there are several networks.
    """
    weights = _renamed(weights, {name: _INNER.sub("", name) for name in weights})
    layout = layout_of(weights)
    if layout is None:
        wrapped = bool(weights) and all(name.startswith(_PARALLEL) for name in weights)
        return {name.removeprefix(_PARALLEL) if wrapped else name: value for name, value in weights.items()}
    prefixes = Counter(match[1] for name in weights if (match := _FIND[layout].match(name)))
    return _below(weights, prefixes)


def names_of(weights: Mapping[str, Tensor], known: Collection[str]) -> dict[str, Tensor]:
    """Take a prefix off the names where what remains are names of a network.

    Args:
        weights: by name.
        known: the network's names; dots and underscores count as the same.

    Raises:
        UserError: if there are several such networks.
    """
    flat = {name.replace(".", "_") for name in known}
    prefixes: Counter[str] = Counter()
    for name in weights:
        parts = name.split(".", _LONGEST_PREFIX)
        starts = [sum(len(part) + 1 for part in parts[:count]) for count in range(len(parts))]
        fits = (name[:start] for start in starts if name[start:].replace(".", "_") in flat)
        prefixes.update([prefix] if (prefix := next(fits, None)) is not None else [])
    most = max(prefixes.values(), default=0)
    return _below(weights, {prefix: count for prefix, count in prefixes.items() if 2 * count > most})


def _below(weights: Mapping[str, Tensor], prefixes: Mapping[str, int]) -> dict[str, Tensor]:
    if not prefixes:
        return dict(weights)
    if len(prefixes) > 1:
        first, second = sorted(prefixes)[:2]
        raise UserError(
            f"checkpoint: there are several networks, below {first or 'no prefix'!r} and {second!r}: keep the weights "
            "of one"
        )
    (prefix,) = prefixes
    return {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}


def _renamed(weights: Mapping[str, Tensor], names: Mapping[str, str]) -> dict[str, Tensor]:
    renamed = {names[name]: value for name, value in weights.items()}
    if len(renamed) < len(weights):
        twice = next(name for name, count in Counter(names.values()).items() if count > 1)
        raise UserError(f"checkpoint: {twice} is there twice, once in a wrapper")
    return renamed


def _mappings(content: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], dict[Any, Any]]]:
    """Yield every dict that holds a tensor or an array by name, with the keys that lead to it."""
    waiting, seen = [(path, content)], 0
    while waiting and seen < _MOST_DICTS:
        path, value = waiting.pop(0)
        seen += 1
        if not isinstance(value, dict):
            continue
        if any(isinstance(entry, Tensor | np.ndarray) and isinstance(key, str) for key, entry in value.items()):
            yield path, value
        if len(path) < _DEEPEST:
            inside = ((key, entry) for key, entry in value.items() if isinstance(entry, dict))
            waiting += [((*path, str(key)), entry) for key, entry in inside][:_MOST_DICTS]


def _rank(path: tuple[str, ...]) -> tuple[int, ...]:
    """Order the places where weights may lie: the best first."""
    return tuple(_WRAPPERS.index(key) if key in _WRAPPERS else len(_WRAPPERS) for key in path)
