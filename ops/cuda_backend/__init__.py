"""Kernels in CUDA C++, for what Triton cannot express at full speed.

``kernels/`` holds their sources; ``compile.py`` and ``launch.py`` bring them onto a GPU without
knowing what they compute. What has no kernel here runs on ``triton_backend``.
"""
