"""Operators on the kernels beside the float64 reference; Triton's interpreted without a GPU."""

import naive
import torch

__all__ = ['CORNERS', 'DEVICE', 'KERNELS', 'SSM_PARAMETERS', 'TOLERANCE', 'compare']

DEVICE = 'cuda' if torch.cuda.is_available() else 'cpu'

# Relative errors of outputs and gradients: rounding of intermediate maps, and of sums. Triton's
# interpreter cuts bfloat16 off instead of rounding it, so its errors have one sign and add up.
TOLERANCE = {
    torch.float32: 1e-5,
    torch.bfloat16: 1e-2 if DEVICE == 'cuda' else 3e-2,
    torch.float16: 2e-3,
}
# Those in CUDA C++ are emulated without a GPU too, in test_cuda_kernels.py.
KERNELS = ['triton', 'cuda'] if DEVICE == 'cuda' else ['triton']
CORNERS = ['right', 'left', 'down', 'up']
SSM_PARAMETERS = ('conv_weight', 'conv_bias', 'x_proj', 'dt_proj', 'dt_bias', 'A', 'D')


def compare(function, tensors, tolerance, **options):
    """Output and every gradient on the kernels, against the float64 reference."""
    for backend in KERNELS:
        compare_backend(function, tensors, tolerance, backend, **options)


def compare_backend(function, tensors, tolerance, kernels, **options):
    """The same on one backend, whose device the tensors are on."""
    device = 'cpu' if kernels == 'cpu' else DEVICE
    results = []
    for backend, dtype in ((kernels, None), ('reference', torch.float64)):
        leaves = {
            name: None if value is None else value.to(device, dtype).detach().requires_grad_()
            for name, value in tensors.items()
        }
        y = function(**leaves, **options, backend=backend)
        # A fixed upstream gradient: errors of y itself must not show in those of the inputs.
        generator = torch.Generator().manual_seed(1)
        y.backward(torch.randn(y.shape, generator=generator).to(tensors['x'].dtype).to(y))
        gradients = {name: leaf.grad for name, leaf in leaves.items() if leaf is not None}
        results.append(dict(y=y, **gradients))
    for name, truth in results[1].items():
        error = naive.relative_error(results[0][name], truth)
        assert error < tolerance, (name, error)
    assert results[0]['y'].dtype == tensors['x'].dtype
    assert results[0]['y'].is_contiguous()
