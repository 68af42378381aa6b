"""How kernels get onto a GPU: compiled, loaded, launched, and launched again. The contract.

Nothing here knows what a kernel computes. A launch is a :class:`.launch.Launch` of a CUDA C++ file,
or a launch of Triton's; both know what they are compiled for (``key``) and can be compiled in the
background (``compile_ahead``). The driver takes either as a :class:`.launch.Prepared`.

**What is recorded.** An operator of the ``'cuda'`` backend runs as plain Python the first time that
arguments of a layout come (dtypes, shapes, strides, addresses modulo 16, numbers and names). The
second time, :mod:`.recording` watches it: which memory PyTorch allocates, which kernels are
launched, and into which allocation or argument each pointer among their arguments points. From the
third time on, :mod:`.replay` launches the same kernels with the new addresses. If the operator does
anything else, such as an operation of PyTorch's, or returns something else than whole new tensors,
it always runs as plain Python, and the log says why on the level DEBUG.

**What a replay may assume.** The layout, which is the key under which it is found, is the same; so
what the operator would launch is the same. It must not depend on the numbers in a tensor. Tensors
that share an address have shared it in the recorded call too. Scratch memory is needed from the
first to the last launch that uses it; buffers that are never needed at a time share a place
(:mod:`.scratch`). Results and scratch are allocated anew in every replay, on PyTorch's current
stream, so a replay may be captured in a CUDA graph of the user's.

**What frees it.** A recording holds descriptions of launches and no memory of the GPU. Each
operator remembers the 1,024 layouts that it met last and drops the others. Loaded kernels stay
until the process ends; compiled ones stay in ``$MMV2M_CACHE_DIR``, by default ``~/.cache/mmv2m``.

**What is compiled when.** Before an operator runs on a GPU for the first time, :mod:`.rehearsal`
runs it on tensors without memory, of a few sizes that stand for all, with its gradients. What it
would launch is compiled in the background, in processes of their own, once for all processes of a
machine (:mod:`.ahead`). A model can have all its operators do so before it runs, in a context of
:func:`.rehearsal.compiling_ahead`, so that the kernels of its stages are compiled side by side.

Training steps of a fixed size run as CUDA graphs of whole models (``mmv2m/engine/cuda_graphs``).
Replays are for the other steps: sizes that vary, inference, and the passes before a capture.
"""
