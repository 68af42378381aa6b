"""Training from JPEG files: `python tools/benchmarks/loading.py`.

V2M-S* is trained on made-up photographs of 500 x 375 pixels, which the config's own pipeline loads
with its workers. The script measures the images per second of the data loader alone, of the step
alone on images that are on the device already, and of both together. It also measures the time that
each transform takes on one core. `--transforms` measures only the transforms and needs no GPU;
`--stock` measures mmpretrain's crop.
"""

import argparse
import time
from collections import defaultdict
from collections.abc import Generator, Sequence
from itertools import islice, repeat
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from machine import gpu_name
from mmengine.config import Config, ConfigDict
from mmengine.registry import DATASETS, DefaultScope
from mmengine.runner import Runner
from photos import make_imagenet
from results import Results
from trained import TRAINED, trained_config

from mmv2m.engine.task_library import task_library_of
from mmv2m.reproduce.made_batch import make_batch
from mmv2m.reproduce.runner_steps import made_loader, now, run_steps

CROP = 'TorchRandomResizedCrop'
STOCK_CROP = dict(type='RandomResizedCrop', backend='pillow')
EPOCH = 200_000
"""Number of images in an epoch of the made-up data; it is larger than the number loaded."""


def transform_times(cfg: Config, images: int) -> dict[str, float]:
    """Return the milliseconds of one core per image that each transform takes."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    seconds: dict[str, float] = defaultdict(float)
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        dataset = DATASETS.build(cfg.train_dataloader.dataset)
    for number in range(-images // 10, images):  # the first images only warm up
        sample = dataset.get_data_info(max(number, 0))
        for transform in dataset.pipeline.transforms:
            started = time.thread_time()
            sample = transform(sample)
            if number >= 0:
                seconds[type(transform).__name__] += time.thread_time() - started
    torch.set_num_threads(threads)
    return {name: 1e3 * total / images for name, total in seconds.items()}


def loader_speed(cfg: Config, batches: int) -> float:
    """Return the images per second of the data loader alone, once its first queue is used up."""
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        loader = Runner.build_dataloader(cfg.train_dataloader)
    iterator = iter(loader)
    for _ in islice(iterator, 3 * max(1, loader.num_workers)):
        pass
    started = time.perf_counter()
    count = sum(len(batch['data_samples']) for batch in islice(iterator, batches))
    return count / (time.perf_counter() - started)


def training_speed(cfg: Config, warm_up: int, steps: int, made: bool) -> float:
    """Return the images per second of the Runner's steps.

    Args:
        cfg: The config.
        warm_up: Number of steps that run before the timed ones.
        steps: Number of steps that are timed.
        made: Whether the images are on the device already.
    """
    batch = cfg.train_dataloader.batch_size
    loader = None
    if made:
        device = 'cuda' if torch.cuda.is_available() else 'cpu'
        loader = made_loader([make_batch(cfg, (224, 224), batch, device)])

    def script(runner: Runner) -> Generator[None, None, float]:
        yield from repeat(None, warm_up)
        started = now()
        yield from repeat(None, steps)
        return batch * steps / (now() - started)

    return run_steps(cfg, script, loader)


def files_config(args: argparse.Namespace, folder: str) -> Config:
    """Return the config of V2M-S* for the made-up files."""
    cfg = trained_config(TRAINED['V2M-S*'], args.stock, None, amp=torch.cuda.is_available())
    library = task_library_of(cfg)
    library.prepare()
    loader = ConfigDict({**library.dataloader_defaults, **cfg.train_dataloader})
    loader.update(num_workers=args.workers, persistent_workers=args.workers > 0)
    loader.update(batch_size=args.batch, pin_memory=torch.cuda.is_available())
    loader.dataset.data_root = folder
    if args.stock:
        for step in loader.dataset.pipeline:
            if step.type == CROP:
                step.update(STOCK_CROP)
    cfg.train_dataloader = loader
    return cfg


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        '--stock', action='store_true', help="use mmpretrain's crop, mmengine's step"
    )
    parser.add_argument('--transforms', action='store_true', help='time the transforms alone')
    parser.add_argument('--workers', type=int, default=8)
    parser.add_argument('--batch', type=int, default=64)
    parser.add_argument('--files', type=int, default=320, help='photographs to make')
    parser.add_argument('--warm-up', type=int, default=40, metavar='STEPS')
    parser.add_argument('--steps', type=int, default=200)
    parser.add_argument('--out', help='write the results to this JSON file')
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure what the command line asks for, and print it."""
    args = parse_args(argv)
    device = 'CPU' if args.transforms else gpu_name()
    facts = dict(stock=args.stock, workers=args.workers, batch=args.batch)
    results = Results(args.out, device=device, **facts)
    print(f'{device}, {args.workers} workers, batches of {args.batch}')
    with TemporaryDirectory() as folder:
        make_imagenet(Path(folder), args.files, EPOCH)
        cfg = files_config(args, folder)
        for name, milliseconds in transform_times(cfg, args.files).items():
            results.append(dict(transform=name, milliseconds=milliseconds))
            print(f'{name:24}{milliseconds:8.3f} ms per image')
        total = sum(found['milliseconds'] for found in results)
        print(
            f'{"all":24}{total:8.3f} ms per image, {1e3 / total:.0f} images/s per core', flush=True
        )
        if not args.transforms:
            _measure(cfg, args, results)


def _measure(cfg: Config, args: argparse.Namespace, results: list[dict[str, Any]]) -> None:
    """Return the three speeds."""
    for what in ('the data loader alone', 'steps alone', 'both'):
        if what == 'the data loader alone':
            speed = loader_speed(cfg, args.steps // 2)
        else:
            speed = training_speed(cfg, args.warm_up, args.steps, made=what == 'steps alone')
        results.append(dict(what=what, images_per_second=speed))
        print(f'{what:24}{speed:8.0f} images/s', flush=True)


if __name__ == '__main__':
    main()
