"""How time and memory grow with the image: `python tools/benchmarks/scaling.py`.

V2M-T's cost should grow with the number of tokens; DeiT-T stands beside it, whose attention makes
the cost grow faster. The script measures square images with one batch size, in inference and in
training, under bfloat16 autocast on one GPU. It prints a table, writes it as JSON and draws it.
"""

import argparse
from collections.abc import Sequence
from typing import Any

import torch
from machine import gpu_name
from models import measure
from results import Results

SIZES = (224, 448, 672, 896, 1120, 1344, 1568, 1792)


def sweep(models: list[str], sizes: list[int], batch: int, out: str | None) -> Results:
    """Measure every model at every size, and print each result; skip sizes that do not fit."""
    results = Results(out)
    print(f'{"model":10}{"pixels":>8}{"":>11}{"ms":>10}{"us/token":>10}{"peak MiB":>10}')
    for name in models:
        for training in (False, True):
            for size in sizes:
                try:
                    r = measure(name, (size, size), batch, 'eager', training)
                except torch.cuda.OutOfMemoryError:
                    print(f'{name:10}{size:>8}  does not fit into memory')
                    break
                r['pixels'], r['tokens'] = size, batch * (size // 16) ** 2
                results.append(r)
                print(
                    f'{name:10}{size:>8}{"training" if training else "inference":>11}'
                    f'{r["milliseconds"]:>10.2f}{1e3 * r["milliseconds"] / r["tokens"]:>10.3f}'
                    f'{1024 * r["peak_gib"]:>10.0f}',
                    flush=True,
                )
    return results


def draw(results: list[dict[str, Any]], path: str) -> None:
    """Draw time and memory over the number of tokens, for inference and training."""
    import matplotlib

    matplotlib.use('Agg')
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(10, 4), layout='constrained')
    for axis, key, label in (
        (axes[0], 'milliseconds', 'milliseconds a batch'),
        (axes[1], 'peak_gib', 'peak memory, GiB'),
    ):
        for name in dict.fromkeys(r['model'] for r in results):
            for training, style in ((False, '--'), (True, '-')):
                rows = [r for r in results if (r['model'], r['training']) == (name, training)]
                axis.plot(
                    [r['tokens'] / r['batch'] for r in rows],
                    [r[key] for r in rows],
                    style,
                    marker='.',
                    label=f'{name}, {"training" if training else "inference"}',
                )
        axis.set(xlabel='tokens an image', ylabel=label, ylim=(0, None), xlim=(0, None))
    axes[0].legend()
    figure.suptitle(f'Images of {SIZES[0]} to {SIZES[-1]} pixels a side')
    figure.savefig(path, dpi=120)


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--models', nargs='+', default=['V2M-T', 'DeiT-T'])
    parser.add_argument('--sizes', type=int, nargs='+', default=SIZES)
    parser.add_argument('--batch', type=int, default=8)
    parser.add_argument('--out', help='write the results to this JSON file')
    parser.add_argument('--plot', help='draw the results into this image file')
    return parser.parse_args(argv)


def main() -> None:
    """Measure what the command line asks for, print it and draw it."""
    args = parse_args()
    print(f'{gpu_name()}, batch {args.batch}, bf16 autocast')
    results = sweep(args.models, args.sizes, args.batch, args.out)
    if args.plot:
        draw(results, args.plot)


if __name__ == '__main__':
    main()
