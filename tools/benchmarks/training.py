"""Whole training steps, as tools/train.py makes them: `python tools/benchmarks/training.py`.

mmengine's Runner trains each config on images that are in the GPU's memory already. A step has
preprocessing, mixing, forward, loss, backward, clipping, the optimizer, hooks, and the average of
weights if the config has one. Classifiers train in bfloat16 and the dense tasks in fp16. Every
model gets the optimizer, the CUDA graphs and the preprocessing of V2M's configs; with `--stock`, it
gets what mmengine and mmpretrain do by themselves. Each model has a process of its own.
"""

import argparse
import multiprocessing
import os
import sys
import traceback
from collections.abc import Sequence
from multiprocessing.connection import Connection
from multiprocessing.context import BaseContext
from typing import Any

# Modules are loaded once, for all processes: asking for the GPU must leave it alone until then.
os.environ['PYTORCH_NVML_BASED_CUDA_CHECK'] = '1'

import torch  # noqa: E402
from machine import gpu_name  # noqa: E402
from results import Results  # noqa: E402
from steps import PARTS, measure  # noqa: E402
from trained import TRAINED  # noqa: E402

LOADED = ['mmdet.models', 'mmpretrain.models', 'mmseg.models', 'mmv2m.datasets', 'mmv2m.engine']


def process_context(on_gpu: bool) -> BaseContext:
    """Return how processes start: forked after the imports, if such a process can use the GPU."""
    context = multiprocessing.get_context('forkserver')
    context.set_forkserver_preload(LOADED)
    probe = context.Process(target=_reach_gpu, args=(on_gpu,))
    probe.start()
    probe.join()
    return multiprocessing.get_context('spawn') if probe.exitcode else context


def _reach_gpu(on_gpu: bool) -> None:
    if on_gpu:
        torch.zeros(1, device='cuda')


def measure_apart(
    context: BaseContext, name: str, args: argparse.Namespace
) -> dict[str, Any] | str:
    """Measure one model in a process of its own; return its times, or what went wrong."""
    parent, child = context.Pipe()
    process = context.Process(target=_answer, args=(child, name, args))
    process.start()
    child.close()
    try:
        return parent.recv()
    except EOFError:
        return 'its process died'
    finally:
        process.join()


def _answer(pipe: Connection, name: str, args: argparse.Namespace) -> None:
    try:
        pipe.send(measure(name, args))
    except Exception as error:
        traceback.print_exc()
        pipe.send(f'{type(error).__name__}: {error}')


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    tasks = list(dict.fromkeys(trained.task for trained in TRAINED.values()))
    parser.add_argument(
        '--tasks',
        nargs='+',
        default=tasks[:1],
        choices=tasks,
        help='tasks whose models are trained',
    )
    parser.add_argument(
        '--models', nargs='+', choices=list(TRAINED), help='train these models instead'
    )
    parser.add_argument('--size', type=int, nargs=2, metavar=('H', 'W'), help='size of all images')
    parser.add_argument('--batch', type=int, help='images in a batch; default: 64, dense tasks 2')
    parser.add_argument(
        '--stock', action='store_true', help='without what this project adds to mmengine'
    )
    parser.add_argument(
        '--graphs',
        action=argparse.BooleanOptionalAction,
        help='train with or without CUDA graphs; default: classifiers with them, as in the configs',
    )
    parser.add_argument('--warm-up', type=int, default=12, metavar='STEPS')
    parser.add_argument('--block', type=int, default=12, metavar='STEPS', help='steps per block')
    parser.add_argument('--blocks', type=int, default=3, help='blocks to time; the median counts')
    parser.add_argument('--device', default='cuda', choices=['cuda', 'cpu'])
    parser.add_argument(
        '--one-process', action='store_true', help='for all models, which then share memory'
    )
    parser.add_argument(
        '--kernels', type=int, default=0, metavar='ROWS', help='print the longest kernels of a step'
    )
    parser.add_argument('--out', help='write the results to this JSON file')
    args = parser.parse_args(argv)
    args.models = args.models or [n for n, trained in TRAINED.items() if trained.task in args.tasks]
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Measure what the command line asks for, and print it.

    Returns:
        The exit status: 1 if a model could not be measured.
    """
    args = parse_args(argv)
    device = 'CPU'
    if args.device == 'cpu':
        os.environ['CUDA_VISIBLE_DEVICES'] = ''
    else:
        device = gpu_name()
    results = Results(args.out, device=device, stock=args.stock)
    print(f'{device}; milliseconds a step')
    print(f'{"model":20}{"whole":>8}{"GPU":>8}', *(f'{part:>13}' for part in PARTS), end='')
    print(f'{"GPU/whole":>11}{"GiB":>7}{"groups":>8}{"graphs":>8}')
    context = None if args.one_process else process_context(args.device == 'cuda')
    failed = 0
    for name in args.models:
        found = measure(name, args) if context is None else measure_apart(context, name, args)
        if isinstance(found, str):
            failed = 1
            print(f'{name:20}FAILED: {found}', flush=True)
            continue
        results.append(found)
        print(_line(found), flush=True)
        for each in found.get('kernels', []):
            print(f'{each["milliseconds"]:10.3f}{each["calls"]:8.1f}  {each["kernel"][:100]}')
    return failed


def _line(found: dict[str, Any]) -> str:
    whole, nothing = found['milliseconds'], float('nan')  # a CPU has no figures of a GPU
    gpu, gib = (found[key] or nothing for key in ('gpu_milliseconds', 'peak_gib'))
    parts = ' '.join(f'{found["parts"][part]:13.1f}' for part in PARTS)
    return (
        f'{found["model"]:20}{whole:8.1f}{gpu:8.1f} {parts}{gpu / whole:11.0%}{gib:7.1f}'
        f'{found["groups"]:8}{"yes" if found["graphs"] else "no":>8}'
    )


if __name__ == '__main__':
    sys.exit(main())
