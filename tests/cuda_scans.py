"""Scans for the CUDA C++ kernels, with the reference's results; emulated where there is no GPU."""

import torch
from cuda_emulation import DEVICE
from scan_inputs import directions_of, make_inputs

from mmv2m.ops.gpu.scan_inputs import ScanInputs
from mmv2m.ops.reference import directional_scan_reference

__all__ = [
    'TOLERANCE',
    'cut_into_segments',
    'make_problem',
]

TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 1e-2, torch.float16: 2e-3}


def make_problem(shape, states, directions, sums, dtype, gated=False, **kinds):
    """A scan, a gradient of its output, and output and gradients of the reference."""
    each = [make_inputs(shape, states, dtype, **kinds, seed=k) for k in range(len(directions))]

    def stacked(name):
        return None if each[0][name] is None else torch.stack([e[name] for e in each])

    tensors = {name: stacked(name) for name in ('x', 'delta', 'B', 'C')}
    tensors.update({name: each[0][name] for name in ('A', 'D', 'delta_bias')})
    tensors['z'] = each[0]['z'] if gated else None
    generator = torch.Generator().manual_seed(1)
    grad_y = torch.randn((() if sums else (len(directions),)) + shape, generator=generator)
    grad_y = grad_y.to(dtype)
    order = ('x', 'delta', 'A', 'B', 'C', 'D', 'delta_bias')
    given = [None if tensors[n] is None else tensors[n].to(DEVICE) for n in order]
    z = tensors['z'].to(DEVICE) if gated else None
    inputs = ScanInputs(*given, 'apply', directions_of(*directions), z=z)
    return inputs, grad_y.to(DEVICE), reference_results(tensors, grad_y, directions, sums)


def reference_results(tensors, grad_y, directions, sums):
    leaves = {n: t.double().requires_grad_() for n, t in tensors.items() if t is not None}
    shared = {n: leaves[n] for n in ('A', 'D', 'delta_bias', 'z') if n in leaves}
    ys = [
        directional_scan_reference(
            **{n: leaves[n][k] for n in ('x', 'delta', 'B', 'C') if n in leaves},
            **shared,
            delta_softplus=True,
            direction=direction,
        )
        for k, direction in enumerate(directions)
    ]
    y = sum(ys) if sums else torch.stack(ys)
    y.backward(grad_y.double())
    return dict(y=y, **{name: leaf.grad for name, leaf in leaves.items()})


def cut_into_segments(monkeypatch, steps):
    """Have lanes cut into segments of at least this number of steps."""
    monkeypatch.setattr('mmv2m.ops.cuda.scan_edges.LEAST_STEPS', steps)
    monkeypatch.setattr('mmv2m.ops.cuda.scan_edges.LEAST_SEGMENTS', 2)
