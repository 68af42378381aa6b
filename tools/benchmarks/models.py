"""Speed and memory of whole models beside timm's: `python tools/benchmarks/models.py`.

It measures images per second in inference and in training (forward and backward), and the peak
memory, under bfloat16 autocast on one GPU, all in one process. It prints a table and writes it as
JSON.
"""

import argparse
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import timm
import torch
from machine import clear_memory, gpu_name, peak_gib
from results import Results
from torch import nn
from triton.testing import do_bench

from mmv2m.models import V2M, Vim, VMamba


class Classifier(nn.Module):
    """A backbone with a linear head."""

    def __init__(self, backbone: type[nn.Module], arch: str, **settings: Any) -> None:
        super().__init__()
        self.backbone = backbone(arch, **settings)
        self.head = nn.Linear(self.backbone.out_channels[-1], 1000)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Turn images (B, 3, H, W) into scores (B, 1000)."""
        return self.head(self.backbone(x)[0])


def sized(backbone: type[nn.Module], arch: str, **settings: Any) -> Callable[..., nn.Module]:
    """Build a classifier whose backbone has to know the image size."""
    return lambda size: Classifier(backbone, arch, img_size=size, **settings)


def any_size(backbone: type[nn.Module], arch: str) -> Callable[..., nn.Module]:
    """Build a classifier whose backbone does not have to know the image size."""
    return lambda size: Classifier(backbone, arch)


def from_timm(name: str, sized: bool = True) -> Callable[..., nn.Module]:
    """Build one of timm's models."""
    return lambda size: timm.create_model(name, **(dict(img_size=size) if sized else {}))


MODELS: dict[str, Callable[..., nn.Module]] = {
    'V2M-T': sized(V2M, 'tiny', class_token='mean'),
    'V2M-S': sized(V2M, 'small', class_token='mean'),
    'V2M-S*': sized(V2M, 'pyramid-small'),
    'Swin-T': from_timm('swin_tiny_patch4_window7_224'),
    'V2M-B*': sized(V2M, 'pyramid-base'),
    'Swin-S': from_timm('swin_small_patch4_window7_224'),
    'DeiT-T': from_timm('deit_tiny_patch16_224'),
    'DeiT-S': from_timm('deit_small_patch16_224'),
    'Vim-T': sized(Vim, 'tiny'),
    'Vim-S': sized(Vim, 'small'),
    'VMamba-T': any_size(VMamba, 'tiny'),
    'VMamba-S': any_size(VMamba, 'small'),
    'V2M-T, class tokens': sized(V2M, 'tiny'),
    'V2M-S, class tokens': sized(V2M, 'small'),
    'V2M-T, local window': sized(V2M, 'local-tiny'),
    'V2M-S, local window': sized(V2M, 'local-small'),
    'ConvNeXt-T': from_timm('convnext_tiny', sized=False),
}


MODES: dict[str, Callable[[nn.Module], Any]] = {
    'eager': lambda model: model,
    'compile': torch.compile,
    'compile+graph': partial(torch.compile, mode='reduce-overhead'),
    'graph': lambda model: model,
}
"""How each mode changes a model before its step is timed; ``graph`` captures the whole step."""


def forward(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """Compute a model's outputs for a batch, without gradients."""
    with torch.inference_mode(), torch.autocast('cuda', torch.bfloat16):
        return model(images)


def make_train_step(model: nn.Module) -> Callable[[torch.Tensor], None]:
    """Return a function that runs forward and backward on a batch, with fresh gradients.

    The parameters are listed once, as in an optimizer, which sets their gradients to None.
    """
    parameters = list(model.parameters())

    def train_step(images: torch.Tensor) -> None:
        for parameter in parameters:
            parameter.grad = None
        with torch.autocast('cuda', torch.bfloat16):
            loss = model(images).float().logsumexp(-1).mean()
        loss.backward()

    return train_step


def as_graph(step: Callable[[], Any]) -> Callable[[], Any]:
    """Capture a step in a CUDA graph, and return the function that replays it."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


def measure(
    name: str, size: tuple[int, int], batch: int, mode: str, training: bool
) -> dict[str, Any]:
    """Measure one model's time in one mode, and its peak memory with weights and images."""
    before = clear_memory()
    torch.manual_seed(0)
    model = MODELS[name](size=size).cuda().train(training)
    images = torch.randn(batch, 3, *size, device='cuda')
    runnable: Any = MODES[mode](model)
    run = make_train_step(runnable) if training else partial(forward, runnable)
    step = partial(run, images)
    peak = peak_gib(step, before)  # measured here, as do_bench allocates memory to clear the cache
    if mode == 'graph':
        step = as_graph(step)
    milliseconds = do_bench(step, warmup=300, rep=800, return_mode='median')
    return dict(
        model=name,
        size=f'{size[0]}x{size[1]}',
        batch=batch,
        mode=mode,
        training=training,
        milliseconds=milliseconds,
        images_per_second=batch / milliseconds * 1e3,
        peak_gib=peak,
    )


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--models', nargs='+', default=list(MODELS), choices=list(MODELS))
    parser.add_argument('--size', type=int, nargs=2, default=(224, 224), metavar=('H', 'W'))
    parser.add_argument('--batch', type=int, default=128)
    parser.add_argument('--modes', nargs='+', default=['eager'], choices=list(MODES))
    parser.add_argument('--skip', choices=['inference', 'training'])
    parser.add_argument('--out', help='write the results to this JSON file')
    return parser.parse_args(argv)


def main() -> None:
    """Measure what the command line asks for, and print it."""
    args = parse_args()
    print(f'{gpu_name()}, torch {torch.__version__}, bf16 autocast')
    print(f'{"model":22}{"input":>16}{"mode":>14}{"":>11}{"ms":>9}{"img/s":>9}{"peak GiB":>10}')
    results = Results(args.out)
    for name in args.models:
        for mode in args.modes:
            for training in (False, True):
                if args.skip == ('training' if training else 'inference'):
                    continue
                r = measure(name, tuple(args.size), args.batch, mode, training)
                results.append(r)
                print(
                    f'{name:22}{r["batch"]:>6} x {r["size"]:>7}{mode:>14}'
                    f'{"training" if training else "inference":>11}{r["milliseconds"]:>9.2f}'
                    f'{r["images_per_second"]:>9.0f}{r["peak_gib"]:>10.2f}',
                    flush=True,
                )


if __name__ == '__main__':
    main()
