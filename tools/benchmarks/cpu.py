"""Models on a CPU beside timm's: `python tools/benchmarks/cpu.py`.

The script measures one image in inference, and a training step of the digits demo on the backends
`cpu` and `reference`, in milliseconds. The models take turns, so that a machine that gets slower or
faster does so for all of them. The fastest turn of each counts, because other programs can only
make a turn longer. The script prints the times and writes them as JSON.
"""

import argparse
import platform
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import machine  # noqa: F401 - this clone's mmv2m
import torch
import torch.nn.functional as F
from mmengine.config import Config
from models import Classifier, from_timm, sized
from results import Results
from torch import nn
from turns import Step, take_turns

from mmv2m.models import V2M, VMamba

ROOT = Path(__file__).resolve().parents[2]
DIGITS = 'configs/v2m-mini_digits.py'
MODELS: dict[str, Callable[[int], nn.Module]] = {
    'DeiT-T': from_timm('deit_tiny_patch16_224'),
    'V2M-T': sized(V2M, 'tiny'),
    'Swin-T': from_timm('swin_tiny_patch4_window7_224'),
    'V2M-S*': sized(V2M, 'pyramid-small'),
    'VMamba-T': lambda size: Classifier(VMamba, 'tiny'),
}
BACKENDS = ('cpu', 'reference')


def cpu_name() -> str:
    """Return the CPU's name as the system gives it."""
    try:
        lines = Path('/proc/cpuinfo').read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(':')[2].strip() for line in lines if line.startswith('model name')]
    return names[0] if names else platform.processor() or platform.machine()


def inference(name: str, size: int) -> Step:
    """Return a function that runs a model on one image."""
    model, image = MODELS[name](size).eval(), torch.randn(1, 3, size, size)

    def step() -> None:
        with torch.inference_mode():
            model(image)

    return step


def digits_step(backend: str) -> Step:
    """Return a training step of the digits demo's model, with a batch of the demo's size."""
    torch.manual_seed(0)
    cfg = Config.fromfile(ROOT / DIGITS)
    settings = {k: v for k, v in cfg.model.backbone.items() if k not in ('type', 'arch')}
    model = Classifier(V2M, cfg.model.backbone.arch, **settings, scan_backend=backend)
    images = torch.randn(
        cfg.train_dataloader.batch_size, 3, settings['img_size'], settings['img_size']
    )
    labels = torch.randint(cfg.model.head.num_classes, (len(images),))

    def step() -> None:
        model.zero_grad()
        F.cross_entropy(model(images), labels).backward()

    return step


def fastest(steps: Mapping[str, Step], rounds: int) -> dict[str, float]:
    """Return the milliseconds of each step's fastest turn."""
    return {name: min(times) for name, times in take_turns(steps, rounds).items()}


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--models', nargs='+', default=list(MODELS), choices=list(MODELS))
    parser.add_argument('--threads', type=int, default=torch.get_num_threads())
    parser.add_argument('--rounds', type=int, default=30)
    parser.add_argument('--size', type=int, default=224, help='height and width of the image')
    parser.add_argument('--out', help='write the results to this JSON file')
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure what the command line asks for, and print it."""
    args = parse_args(argv)
    torch.set_num_threads(args.threads)
    print(f'{cpu_name()}, {args.threads} threads, torch {torch.__version__}, float32')
    results = Results(args.out, cpu_name(), threads=args.threads, size=args.size)
    one_image = {name: partial(inference, name, args.size) for name in args.models}
    training = {backend: partial(digits_step, backend) for backend in BACKENDS}
    for kind, makers in (('model', one_image), ('backend', training)):
        for name, milliseconds in fastest({n: m() for n, m in makers.items()}, args.rounds).items():
            results.append({kind: name, 'milliseconds': milliseconds})
            print(f'{name:12}{milliseconds:9.1f} ms', flush=True)


if __name__ == '__main__':
    main()
