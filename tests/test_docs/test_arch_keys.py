"""docs/architectures.md has every key of an arch dict, with its default."""

import ast
import re
from dataclasses import MISSING, fields
from pathlib import Path

import mmv2m.models

PAGE = Path(__file__).resolve().parents[2] / 'docs/architectures.md'


def _documented():
    """By backbone: each key, and its default as it is written."""
    lines = [line.strip().strip('|').split('|') for line in PAGE.read_text().splitlines()]
    head = next(line for line in lines if line[0].strip() == 'key')
    names = [name.strip() for name in head[1:-1]]
    rows = [line for line in lines if len(line) == len(head) and re.match(r' `\w+` $', line[0])]
    assert len(rows) > 10
    return {
        name: {row[0].strip(' `'): row[1 + i].strip(' `') for row in rows if row[1 + i].strip()}
        for i, name in enumerate(names)
    }


def test_keys_and_defaults_are_the_codes():
    documented = _documented()
    backbones = set(mmv2m.models.__all__) - {'MODELS', 'SS2D'}
    assert backbones - set(documented) == {'PlainMambaAdapter'} and set(documented) < backbones
    assert mmv2m.models.PlainMambaAdapter.ARCH_ZOO is mmv2m.models.PlainMamba.ARCH_ZOO
    for name, keys in documented.items():
        sizes = next(iter(getattr(mmv2m.models, name).ARCH_ZOO.values()))
        found = {k: MISSING if v == 'needed' else ast.literal_eval(v) for k, v in keys.items()}
        assert found == {field.name: field.default for field in fields(sizes)}, name
