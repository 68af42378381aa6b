"""The compilation, loading, launch and replay of kernels on a GPU.

Nothing here depends on what a kernel computes. A launch is a :class:`.launch.Launch` of a CUDA C++
file, or a launch of a Triton kernel. Both have a ``key`` that says what is compiled, and can be
compiled in the background (``compile_ahead``). The driver takes either as a
:class:`.launch.Prepared`.

**What is recorded.** A layout is the dtypes, shapes, strides, addresses modulo 16, numbers and
names of an operator's arguments. The first time that a layout occurs, an operator of the ``'cuda'``
backend runs as plain Python. The second time, :mod:`.recording` notes which memory PyTorch
allocates, which kernels are launched, and into which allocation or argument each pointer among
their arguments points. From the third time on, :mod:`.replay` launches the same kernels with the
new addresses. If the operator does anything else, such as an operation of PyTorch, or if it returns
anything but whole new tensors, it always runs as plain Python. Then the log gives the reason on the
level DEBUG.

**What a replay assumes.** The layout, under which a recording is found, determines the launches. So
the launches must not depend on the numbers in a tensor. Tensors that share an address have shared
it in the recorded call too. Scratch memory is needed from the first to the last launch that uses
it, and buffers that are not needed at the same time share memory (:mod:`.scratch`). Results and
scratch memory are allocated anew in every replay, on PyTorch's current stream, so a replay may be
captured in a user's CUDA graph.

**What frees it.** A recording holds descriptions of launches and no memory of the GPU. Each
operator remembers the 1,024 layouts that were used last, and drops others. Loaded kernels stay
until the process ends. Compiled kernels stay in ``$MMV2M_CACHE_DIR``, by default
``~/.cache/mmv2m``.

**What is compiled when.** Before an operator runs on a GPU for the first time, :mod:`.rehearsal`
runs it and its gradients on tensors without memory, of a few sizes that stand for all. The kernels
that it would launch are compiled in the background, in processes of their own, once for all
processes of a machine (:mod:`.ahead`). In a context of :func:`.rehearsal.compiling_ahead`, a model
can do that for all its operators before it runs, so that the kernels of its stages are compiled
side by side.

Training steps of a fixed size run as CUDA graphs of whole models (``mmv2m/engine/cuda_graphs``).
Replays are for the other steps: sizes that vary, inference, and the passes before a capture.
"""
