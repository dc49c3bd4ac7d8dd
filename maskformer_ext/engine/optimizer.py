"""AdamW with the original's parameter groups, and clipping of the whole gradient."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from maskformer_ext.config import OptimizerConfig
from maskformer_ext.errors import UserError
from maskformer_ext.files import reading

_NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)
_MOMENTS = {"step", "exp_avg", "exp_avg_sq"}  # what AdamW keeps for a parameter
_POSITION_TABLES = ("relative_position_bias_table", "absolute_pos_embed", "pos_embed")


def build_optimizer(model: nn.Module, config: OptimizerConfig) -> torch.optim.AdamW:
    """Create AdamW over the parameter groups of a model.

    Args:
        model: every trainable parameter is optimised.
        config: rates and decays.

    Returns:
        The optimizer; ``param_names`` of each group lists its parameters.
    """
    groups = parameter_groups(model, config)
    first, second = config.betas
    # fused: one kernel instead of a dozen small operations a parameter, on CPUs too
    return torch.optim.AdamW(groups, lr=config.lr, betas=(first, second), eps=config.eps, fused=True)


def restore_optimizer(optimizer: torch.optim.Optimizer, state: Any, source: str | Path) -> None:
    """Take up the moments of an earlier run; rates and decays stay those of the configuration.

    Args:
        optimizer: made by `build_optimizer`.
        state: what its ``state_dict`` was, from a file.
        source: the file, for errors.

    Raises:
        UserError: if the state is damaged or belongs to other parameters.
    """
    what = "a training state of this configuration"
    own = optimizer.state_dict()
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    with reading(source, what):
        for key in ("params", "param_names"):
            theirs = [group[key] for group in state["param_groups"]]
            if theirs != [group[key] for group in own["param_groups"]]:
                raise UserError(f"{source} is not {what}: its optimizer has other parameters or groups of them")
        for index, entry in state["state"].items():
            parameter = parameters[index]
            if entry.keys() != _MOMENTS or index < 0:
                raise UserError(f"{source} is not {what}: parameter {index} must have {', '.join(sorted(_MOMENTS))}")
            for key, value in entry.items():
                shape = parameter.shape if key != "step" else torch.Size([])
                if not isinstance(value, Tensor) or value.shape != shape or not value.is_floating_point():
                    raise UserError(
                        f"{source} is not {what}: {key} of parameter {index} must be a tensor of shape {tuple(shape)}"
                    )
        optimizer.load_state_dict({"state": state["state"], "param_groups": own["param_groups"]})


def restore_scaler(scaler: torch.amp.GradScaler, state: Any, source: str | Path) -> None:
    """Take up the scale of the loss; arguments and errors as those of `restore_optimizer`."""
    known = scaler.state_dict().keys()
    valid = isinstance(state, dict) and state.keys() == known
    if not valid or not all(isinstance(value, int | float) and 0 <= value < math.inf for value in state.values()):
        expected = ", ".join(known)
        raise UserError(f"{source} is not a training state of this configuration: scaler must hold numbers: {expected}")
    scaler.load_state_dict(state)


def parameter_groups(model: nn.Module, config: OptimizerConfig) -> list[dict[str, Any]]:
    """Sort the trainable parameters by learning rate and weight decay.

    The backbone learns at ``lr * backbone_multiplier``. Weights and biases of normalisation layers decay by
    ``weight_decay_norm``, embeddings by ``weight_decay_embed``, tables of position not at all, everything else (biases
    too) by ``weight_decay``.

    Args:
        model: its parameters below ``backbone`` are the backbone's.
        config: rates and decays.

    Returns:
        Groups of ``params`` (pairs of name and parameter), ``lr`` and ``weight_decay``, none empty.
    """
    groups: dict[tuple[float, float], dict[str, Any]] = {}
    for name, parameter, weight_decay in _with_weight_decay(model, config):
        lr = config.lr * (config.backbone_multiplier if "backbone" in name.split(".") else 1.0)
        group = groups.setdefault((lr, weight_decay), {"params": [], "lr": lr, "weight_decay": weight_decay})
        group["params"].append((name, parameter))
    return list(groups.values())


def clip_grad_norm(parameters: Iterable[nn.Parameter], max_norm: float) -> Tensor:
    """Scale all gradients so that their joint L2 norm is at most ``max_norm``.

    Args:
        parameters: those without a gradient are skipped.
        max_norm: 0 leaves the gradients as they are.

    Returns:
        The norm before clipping, a 0-d tensor (not finite if any gradient is not; the gradients then are not either).
    """
    parameters = list(parameters)
    if max_norm > 0:
        return nn.utils.clip_grad_norm_(parameters, max_norm)
    return nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])


def _with_weight_decay(model: nn.Module, config: OptimizerConfig) -> Iterator[tuple[str, nn.Parameter, float]]:
    """Yield every trainable parameter once, with its weight decay."""
    seen = set()
    for module_name, module in model.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            if parameter in seen or not parameter.requires_grad:
                continue
            seen.add(parameter)
            if isinstance(module, _NORMS):
                weight_decay = config.weight_decay_norm
            elif isinstance(module, nn.Embedding):
                weight_decay = config.weight_decay_embed
            elif name in _POSITION_TABLES:
                weight_decay = 0.0
            else:
                weight_decay = config.weight_decay
            yield f"{module_name}.{name}" if module_name else name, parameter, weight_decay
