"""Our Vim and VMamba beside their official code: `python tools/benchmarks/official.py`.

The official models run from clones of their repositories (see official_code.py) on the kernels of
mamba_ssm and causal_conv1d, which have to be installed. Our models have their weights. First, the
script compares both sides' logits and gradients in float32. As models.py does, it then measures
images per second in inference and in training, and the peak memory. Both sides take turns, and
cuDNN chooses its convolutions by timing them, as the official scripts have it. The script prints a
table and writes it as JSON; it fails if the two sides do not agree.
"""

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import official_code
import torch
from machine import clear_memory, gpu_name, peak_gib
from models import MODELS, forward, make_train_step
from results import Results
from torch import Tensor, nn
from triton.testing import do_bench

from mmv2m.utils.vim_weights import convert_vim_weights
from mmv2m.utils.vmamba_weights import convert_vmamba_weights

DEVICE = 'cuda'
SIZE = (224, 224)
SIDES = ('ours', 'official')
PAIRS = {
    'Vim-T': ('vim', 'tiny'),
    'Vim-S': ('vim', 'small'),
    'VMamba-T': ('vmamba', 'tiny'),
    'VMamba-S': ('vmamba', 'small'),
}
"""For each of our models, the official code and its arch."""

CONVERTERS = {'vim': convert_vim_weights, 'vmamba': convert_vmamba_weights}
COMPARED_IMAGES = 4
TOLERANCE = dict(logits_error=1e-4, gradient_error=1e-3)
"""The bounds of the relative errors in float32."""


def build(name: str, clone: Path) -> dict[str, nn.Module]:
    """Build our model and the official one with the same random weights, moved by noise."""
    code, arch = PAIRS[name]
    torch.manual_seed(0)
    theirs = getattr(official_code, code)(clone, arch)
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.02)
    ours = MODELS[name](size=SIZE)
    ours.load_state_dict(converted(name, theirs.state_dict()))
    return dict(ours=ours.to(DEVICE), official=theirs.to(DEVICE))


def converted(name: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Give the official model's weights, or their gradients, the names of ours."""
    found = CONVERTERS[PAIRS[name][0]](tensors)
    return {key.replace('head.fc.', 'head.'): value for key, value in found.items()}


def compare(name: str, models: Mapping[str, nn.Module]) -> dict[str, Any]:
    """Return the relative errors of our logits and of the worst gradient, in float32."""
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    torch.manual_seed(1)
    images = torch.randn(COMPARED_IMAGES, 3, *SIZE, device=DEVICE)
    logits = {side: model.eval()(images) for side, model in models.items()}
    direction = torch.randn_like(logits['ours'])
    for values in logits.values():
        (values * direction).sum().backward()
    expected = converted(name, {n: p.grad for n, p in models['official'].named_parameters()})
    errors = {
        n: relative_error(p.grad, expected[n].view_as(p))
        for n, p in models['ours'].named_parameters()
    }
    worst = max(errors, key=errors.__getitem__)
    return dict(
        logits_error=relative_error(logits['ours'], logits['official']),
        gradient_error=errors[worst],
        worst_gradient=worst,
    )


def relative_error(found: Tensor, expected: Tensor) -> float:
    """Return the norm of the difference over the norm of what is expected."""
    return ((found - expected).norm() / expected.norm()).item()


def measure(
    models: Mapping[str, nn.Module], side: str, images: Tensor, training: bool
) -> dict[str, Any]:
    """Measure one side's step and its peak memory, without the other side's weights."""
    forget_gradients(models)
    model, other = models[side].train(training), models[SIDES[side == 'ours']]
    run = make_train_step(model) if training else partial(forward, model)
    step = partial(run, images)
    torch.backends.cudnn.benchmark = True
    check_finite(step, model, training)
    peak = peak_gib(step, before=size_of(other))
    milliseconds = do_bench(step, warmup=300, rep=800, return_mode='median')
    return dict(
        batch=len(images),
        training=training,
        milliseconds=milliseconds,
        images_per_second=len(images) / milliseconds * 1e3,
        peak_gib=peak,
    )


def check_finite(step: Callable[[], Tensor | None], model: nn.Module, training: bool) -> None:
    """Run a step twice, which compiles and tunes, and raise if a result is not finite."""
    step()
    logits = step()
    values = [p.grad for p in model.parameters() if p.grad is not None] if training else [logits]
    if not all(torch.isfinite(value).all() for value in values):
        raise FloatingPointError('gradients or logits are not finite')


def forget_gradients(models: Mapping[str, nn.Module]) -> None:
    """Free all gradients, so that a peak of memory belongs to one model only."""
    for model in models.values():
        model.zero_grad(set_to_none=True)
    clear_memory()


def size_of(model: nn.Module) -> int:
    """Return the bytes of the parameters and the buffers."""
    return sum(t.numel() * t.element_size() for t in (*model.parameters(), *model.buffers()))


def measurements(
    name: str, models: Mapping[str, nn.Module], batch: int, rounds: int
) -> Iterator[dict[str, Any]]:
    """Yield the measurements of both sides in turns, first of inference, then of training."""
    tf32 = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    agreement = compare(name, models)
    torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = tf32
    counts = {side: sum(p.numel() for p in model.parameters()) for side, model in models.items()}
    images = torch.randn(batch, 3, *SIZE, device=DEVICE)
    for training in (False, True):
        for number in range(1, rounds + 1):
            for side in SIDES:
                found = measure(models, side, images, training)
                about = dict(model=name, side=side, parameters=counts[side], round=number)
                yield dict(**about, **found, **agreement)


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--models', nargs='+', default=list(PAIRS), choices=list(PAIRS))
    parser.add_argument('--vim', type=Path, default=Path('../Vim'), help='clone of hustvl/Vim')
    parser.add_argument(
        '--vmamba', type=Path, default=Path('../VMamba'), help='clone of MzeroMiko/VMamba'
    )
    parser.add_argument('--batch', type=int, default=128)
    parser.add_argument('--rounds', type=int, default=2, help='rounds of each measurement')
    parser.add_argument('--out', help='write the results to this JSON file')
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure what the command line asks for, and print it.

    Returns:
        The exit status: 1 if a model does not agree with its official code.
    """
    args = parse_args(argv)
    clones = dict(vim=args.vim, vmamba=args.vmamba)
    print(f'{gpu_name()}, torch {torch.__version__}, bf16 autocast')
    print(f'{"model":10}{"side":>10}{"":>11}{"ms":>9}{"img/s":>9}{"peak GiB":>10}')
    results = Results(args.out)
    for name in args.models:
        models = build(name, clones[PAIRS[name][0]].resolve())
        for r in measurements(name, models, args.batch, args.rounds):
            results.append(r)
            print(
                f'{name:10}{r["side"]:>10}{"training" if r["training"] else "inference":>11}'
                f'{r["milliseconds"]:>9.2f}{r["images_per_second"]:>9.0f}{r["peak_gib"]:>10.2f}',
                flush=True,
            )
        print(
            f'{name:10}relative errors in float32: logits {r["logits_error"]:.1e}, gradients up '
            f'to {r["gradient_error"]:.1e} ({r["worst_gradient"]})'
        )
        del models
        clear_memory()
    differing = {r['model'] for r in results if not agrees(r)}
    if differing:
        print(f'not in agreement with the official code: {", ".join(sorted(differing))}')
    return int(bool(differing))


def agrees(result: Mapping[str, Any]) -> bool:
    """Tell whether both sides computed the same in float32, within :data:`TOLERANCE`."""
    return all(result[key] < bound for key, bound in TOLERANCE.items())


if __name__ == '__main__':
    sys.exit(main())
