"""The page of weights that the authors of other models publish."""

import textwrap
from collections.abc import Iterator, Sequence

from ..markdown import markdown_table
from ..published import Checkpoint, Source

__all__ = ['build_pretrained_page']

HEAD = """\
# Pretrained today

{intro}

<!-- not run: the network, and ImageNet -->
```bash
wget https://github.com/MzeroMiko/VMamba/releases/download/%23v2cls/vssm1_tiny_0230s_ckpt_epoch_264.pth
python tools/test.py configs/baselines/vmamba-t_8xb128_in1k.py vssm1_tiny_0230s_ckpt_epoch_264.pth
```

{where}

<!-- not run: the network -->
```bash
mim download mmv2m --config vmamba-t_8xb128_in1k --dest .  # the first file that its config takes
```

{how}

{settings}

{compared}

{limits}"""
INTRO = (
    "V2M's authors publish no weights. Those of Vim, VMamba, LocalMamba, PlainMamba and "
    'EfficientVMamba do, and their files work here as they are. A file is recognised by the names '
    'of its tensors, and converted as it is read. Download it and name the config that takes it. '
    'The test then prints the metric:'
)
WHERE = (
    'ImageNet has to lie in `data/imagenet`, as [Getting started](getting_started.md#imagenet) '
    'says. The tables below list every published file, with the figures that its authors print. '
    'None of these figures was measured here. Where the address of a file is known, mim fetches '
    'it, if the clone is installed:'
)
HOW = (
    "A file works as `load_from` too, and as `init_cfg=dict(type='Pretrained', checkpoint=...)` of "
    'a backbone, which takes its part of it. [Fine-tuning](fine_tuning.md) starts from such a '
    'file. A line of the log says that it was converted. '
    '`python tools/model_converters/official_to_mmv2m.py vmamba SRC DST` writes a converted file.'
)
SETTINGS = (
    'The heads and necks of detectors and segmentors are those of mmdet and mmseg. Backbones have '
    "the outputs that their authors' have. VMamba and PlainMamba have a norm behind each output. "
    'An output of Vim is what the last mixer of a quarter of the blocks adds, without a norm '
    "(`out_features='mixer'`); mmseg's `Feature2Pyramid` has Vim's deconvolutions. An output of "
    'LocalVim is the same behind a LayerNorm, and its blocks have LayerNorms too '
    "(`norm_cfg=dict(type='LN')`). The authors of Vim, LocalVim and EfficientVMamba publish no "
    'file of a detector or segmentor. Files that the UPerNet code of Vim and LocalVim saves work '
    'in `configs/baselines/upernet_vim-t_*` and `upernet_local-vim-*`. Files of '
    "Vim's own config for UPerNet on Vim-S are refused, because that is another model: it has "
    'rotary positions and a class token, and its scans are added up and not averaged.'
)
COMPARED = (
    'The backbones of all these detectors and segmentors were compared with the official code on '
    'random weights, on a CPU, and so were those of Vim-T, Vim-S, LocalVim-T and LocalVim-S. The '
    'command is `python tools/benchmarks/official_dense.py --clones FOLDER`, with clones of the '
    'repositories in `FOLDER`. Each backbone is what its config here and the official config '
    "build. Vim-S is what the official config of Vim-T builds at Vim-S's width. The relative "
    'errors of all four outputs are below 8e-6. Images were square for Vim, whose official code '
    'takes one size alone. They were square for LocalVim as well, whose official code puts scans '
    'along columns back as if maps were square.'
)
LIMITS = (
    'Images are resized and cropped as mmpretrain, mmdet and mmseg do it, which may differ a '
    "little from their authors' code."
)


def build_pretrained_page(sources: Sequence[Source]) -> str:
    """Return the page's text.

    Args:
        sources: The sources that :func:`..published.load_published` returns.
    """
    texts = dict(
        intro=INTRO, where=WHERE, how=HOW, settings=SETTINGS, compared=COMPARED, limits=LIMITS
    )
    filled = {key: textwrap.fill(text, 100, break_long_words=False) for key, text in texts.items()}
    return '\n\n'.join([HEAD.format(**filled), *map(_section, sources)]) + '\n'


def _section(source: Source) -> str:
    pages = ' and '.join(
        f'[{page}]({source.repository}/blob/{source.commit}/{page})' for page in source.pages
    )
    facts = (
        f'From {pages} of [{source.repository.removeprefix("https://github.com/")}]'
        f'({source.repository}) at {source.commit} of {source.date}; license {source.license}.'
    )
    parts = [f'## {source.name}', textwrap.fill(facts, 100, break_long_words=False)]
    for task in dict.fromkeys(c.data.name for c in source.checkpoints):
        parts += _table([c for c in source.checkpoints if c.data.name == task])
    return '\n\n'.join(parts)


def _table(checkpoints: list[Checkpoint]) -> Iterator[str]:
    data = checkpoints[0].data
    metrics = [m for m in data.metrics if any(m.name in c.metrics for c in checkpoints)]
    header = [data.name, 'Params (M)', *(m.name for m in metrics), 'Weights', 'Config']
    rows = [
        [
            c.name,
            '' if c.params is None else f'{c.params}',
            *('' if m.name not in c.metrics else f'{c.metrics[m.name]}' for m in metrics),
            f'[file]({c.url})' if c.url else f'[page]({c.page})',
            f'[{c.config}](../configs/{c.config})' if c.config else 'none',
        ]
        for c in checkpoints
    ]
    yield markdown_table(header, rows)
    notes: dict[str, list[str]] = {}
    for c in checkpoints:
        if c.note:
            notes.setdefault(c.note, []).append(c.name)
    if notes:
        yield '\n'.join(f'- {"; ".join(names)}: {note}.' for note, names in notes.items())
    commands = [_command(c) for c in checkpoints if c.config]
    if commands:
        block = '\n'.join(['```bash', *dict.fromkeys(commands), '```'])
        yield f'<!-- not run: needs the weights, and {data.name} -->\n{block}'


def _command(checkpoint: Checkpoint) -> str:
    file = (checkpoint.url or 'FILE').rpartition('/')[2]
    command = f'python tools/test.py configs/{checkpoint.config} {file}'
    tta = [m for m in checkpoint.data.metrics if m.tta and m.name in checkpoint.metrics]
    return f'{command}  # {tta[0].name}: --tta' if tta else command
