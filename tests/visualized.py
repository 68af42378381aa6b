"""What the tests of tools/visualization share: the tools, and something to draw."""

import importlib.util
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from PIL import Image
from tiny_digits import TINY_DIGITS

ROOT = Path(__file__).resolve().parents[1]


def load_tool(name):
    path = ROOT / f'tools/visualization/{name}.py'
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write_tiny_model():
    """A config of a tiny model, made weights for it, and an image, in the working directory."""
    Path('config.py').write_text(TINY_DIGITS)
    cfg = Config.fromfile('config.py')
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(cfg.model)
    torch.save(dict(state_dict=model.state_dict()), 'weights.pth')
    pixels = np.random.default_rng(0).integers(0, 255, (8, 8, 3)).astype(np.uint8)
    Image.fromarray(pixels).save('digit.png')
    return pixels
