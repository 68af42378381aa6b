"""The names of PlainMamba's official adapter, and the names in PlainMambaAdapter."""

import re
from collections.abc import Iterable

from .weight_conversion import Plan, keep

__all__ = ['adapter_plan']

RENAMED = (
    (r'level_embed$', r'level_embed'),
    (r'up\.', r'up.'),
    (r'spm\.stem\.([0369])\.', lambda m: f'prior.stem.{int(m[1]) // 3}.conv.'),
    (r'spm\.stem\.([147])\.', lambda m: f'prior.stem.{int(m[1]) // 3}.bn.'),
    (r'spm\.conv([234])\.0\.', lambda m: f'prior.down.{int(m[1]) - 2}.conv.'),
    (r'spm\.conv([234])\.1\.', lambda m: f'prior.down.{int(m[1]) - 2}.bn.'),
    (r'spm\.fc([1-4])\.', lambda m: f'prior.proj.{int(m[1]) - 1}.'),
    (r'ad_norm([1-4])\.', lambda m: f'out_norms.{int(m[1]) - 1}.'),
    (r'(interactions\.\d+\.injector\.)', r'\1'),
    (r'(interactions\.\d+)\.extractor\.', r'\1.extractors.0.'),
    (
        r'(interactions\.\d+)\.extra_extractors\.(\d+)\.',
        lambda m: f'{m[1]}.extractors.{int(m[2]) + 1}.',
    ),
)
INSIDE = ((r'\.ffn\.dwconv\.dwconv\.', '.conv.'), (r'\.ffn\.fc', '.fc'))


def adapter_plan(names: Iterable[str], prefix: str) -> Plan:
    """Make the plan of an adapter's tensors, which is empty without an adapter.

    Args:
        names: Names of all tensors.
        prefix: Prefix of the backbone's names, both in the official code and here.
    """
    plan: Plan = {}
    for name in names:
        inner = name.removeprefix(prefix)
        for old, new in RENAMED:
            renamed, count = re.subn(f'^{old}', new, inner)
            if count:
                for part, there in INSIDE:
                    renamed = re.sub(part, there, renamed)
                plan[name] = {f'{prefix}{renamed}': keep}
    return plan
