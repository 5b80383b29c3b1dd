"""Models on disk: safetensors for the weights, their configuration in its header, the record beside.

No pickle: a weights file can't run code. Nothing is ever downloaded.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from .errors import ModelError, OptionError
from .network import BDINN, CONFIGS, BDINNConfig

__all__ = ["load_model", "save_model", "weights_path"]

WEIGHTS = Path(__file__).parent / "weights"


def weights_path(name: str) -> Path:
    """Where the weights of a model lie: `fast`, `quality`, or the path of a .safetensors file."""
    return WEIGHTS / f"{name}.safetensors" if name in CONFIGS else Path(name)


def load_model(name: str, device: str | torch.device = "cpu") -> BDINN:
    """A trained model, in evaluation mode.

    Args:
        name: `fast`, `quality`, or the path of a .safetensors file that `save_model` wrote.
        device: Where its weights go.

    Raises:
        ModelError: there is no such model or file, the file isn't a BDINN's, or there is no such device.
    """
    path = weights_path(name)
    if not path.is_file():
        if name in CONFIGS:
            raise ModelError(f"this installation lacks the weights of {name!r}, {path}: install bdinn anew")
        raise ModelError(f"no model {name!r}: use {', '.join(CONFIGS)} or the path of a .safetensors file")
    try:
        with safe_open(path, framework="pt") as file:
            config = BDINNConfig.from_dict(json.loads((file.metadata() or {})["bdinn_config"]))
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a mapping
        model = BDINN(config)
        model.load_state_dict(state)
        return model.to(device).eval()
    except KeyError as error:
        raise ModelError(f"{path} holds no BDINN: its header has no bdinn_config") from error
    except (OSError, SafetensorError, OptionError, RuntimeError, ValueError) as error:
        raise ModelError(f"can't load a model from {path}: {str(error).splitlines()[0]}") from error


def save_model(model: BDINN, path: Path, record: Mapping[str, Any]) -> None:
    """Write weights and configuration to `path`, and how they came about to the .json beside it.

    Args:
        model: The model; its weights are stored in their own dtype.
        path: A name that ends in .safetensors.
        record: Recipe, seed, steps, data and scores, as JSON can hold them.
    """
    state = {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
    save_file(state, path, metadata={"bdinn_config": json.dumps(model.config.to_dict())})
    path.chmod(0o644)  # safetensors makes files that nobody else can read
    path.with_suffix(".json").write_text(json.dumps(dict(record), indent=1) + "\n")
