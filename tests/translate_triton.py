"""Translates what Triton launches for the operators, for a GPU and without one; prints its kernels.

Triton's interpreter runs what its compiler refuses: it never looks at branches that are not taken.
The compiler's first stage, which does, takes a hundredth of the time of all of them. To be run as a
script, in a process that does not interpret.
"""

import torch
from scan_inputs import make_inputs, make_ssm_inputs
from torch import Tensor
from triton._C.libtriton import ir
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, make_backend
from triton.runtime.jit import JITFunction

from mmv2m import ops
from mmv2m.ops.backends import installed

TARGET = GPUTarget('cuda', 90, 32)
TYPES = {torch.float32: '*fp32', torch.bfloat16: '*bf16', torch.float16: '*fp16'}
SCALARS = {bool: 'i1', int: 'i32', float: 'fp32'}
OPTIONS = ('num_warps', 'num_stages')

translated: set[tuple] = set()


def translate(source, options):
    """To Triton's intermediate representation."""
    backend, context = make_backend(TARGET), ir.context()
    ir.load_dialects(context)
    backend.load_dialects(context)
    options = backend.parse_options(options)
    functions, modules = backend.get_codegen_implementation(options), backend.get_module_map()
    source.make_ir(TARGET, options, functions, modules, context)


def translate_only(kernel, *args, grid, warmup, **named):
    """In place of a launch."""
    values = dict(zip(kernel.arg_names, args, strict=False)) | named
    signature, constants = {}, {}
    for parameter in kernel.params:
        value = values.get(parameter.name, parameter.default if parameter.has_default else None)
        if parameter.is_constexpr or value is None:
            signature[parameter.name], constants[parameter.name] = 'constexpr', value
        elif isinstance(value, Tensor):
            signature[parameter.name] = TYPES[value.dtype]
        else:
            signature[parameter.name] = SCALARS[type(value)]
    options = {name: named[name] for name in OPTIONS if name in named}
    key = (kernel.__name__, str(signature), str(constants), str(options))
    if key not in translated:
        translate(ASTSource(kernel, signature, constants), options)
        translated.add(key)


def run(function, tensors, **options):
    """Forward and backward; what is computed is whatever was in memory."""
    leaves = {
        name: value.detach().requires_grad_() if isinstance(value, Tensor) else value
        for name, value in tensors.items()
    }
    y = function(**leaves, **options, backend='triton')
    y = y if isinstance(y, tuple) else (y,)
    torch.autograd.backward(y, [torch.ones_like(one) for one in y])


def run_scans(dtype):
    """Alone, short ones with and without what is optional, and in segments."""
    for states in (1, 16):
        given = make_inputs((1, 1, 2, 8), states, dtype)
        run(ops.directional_scan, given | dict(delta_softplus=True))
        run(ops.directional_scan, given | dict.fromkeys('BCD') | dict(z=None, delta_bias=None))
    sequence = make_ssm_inputs((1, 1, 4096), 8, projects='both', conv=False, dtype=dtype)
    run(ops.directional_ssm, sequence, projects='both')


def run_ssms(dtype):
    """Both halves of the 2D SSM. Steps are unrolled, so lanes are short."""
    how = dict(directions=['right', 'left', 'down', 'up'])
    for projects, reduction in (('input', 'none'), ('output', 'sum')):
        for states in (1, 16):
            given = make_ssm_inputs((2, 2, 2), 40, states=states, projects=projects, dtype=dtype)
            run(ops.directional_ssm, given, projects=projects, reduction=reduction, **how)
        plain = given | dict(gate=None, conv_bias=None)
        run(ops.directional_ssm, plain, projects=projects, reduction=reduction, log_A=True, **how)


def run_others(dtype):
    """What lies around the 2D SSM."""
    x, z = torch.ones(2, 2, 3, 5, 8).to(dtype)
    weight, scale = torch.ones(4, 8), torch.ones(8)
    for bias in (None, scale):
        parameters = (weight, None if bias is None else torch.ones(4), weight.t(), bias)
        names = ('weight', 'bias', 'out_weight', 'out_bias')
        run(ops.mlp, dict(zip(names, parameters, strict=True), x=x))
        summands = dict(branch=x, residual=z.float(), weight=scale, bias=bias)
        for factor in (None, torch.ones(len(x))):
            run(ops.add_norm, summands, factor=factor)
        for offset in (None, scale):
            run(ops.channel_norm, dict(x=x, weight=scale, bias=bias, offset=offset))
    run(ops.gated_linear, dict(x=x, z=z, weight=weight))
    conv = dict(x=x, weight=torch.ones(8, 4), bias=None)
    run(ops.directional_conv, conv)
    run(ops.directional_conv, conv, direction=['left', 'down'])
    run(ops.directional_conv, conv | dict(x=torch.stack((x, z))), direction=['up', 'right'])


def main():
    """Every operator, as it runs in training, in single and in half precision."""
    installed.INTERPRETED = True  # so that Triton takes tensors in main memory
    JITFunction.run = translate_only
    run_scans(torch.float32)
    run_ssms(torch.bfloat16)
    for dtype in (torch.float32, torch.bfloat16):
        run_others(dtype)
    print(*sorted({name for name, *_ in translated}))


if __name__ == '__main__':
    main()
