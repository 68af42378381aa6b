"""Letting one process run several of mmengine's runners, as several processes would."""

import importlib.util
from pathlib import Path

from mmengine.utils import ManagerMixin

__all__ = ['forget_runners', 'run_tool']

TOOLS = Path(__file__).resolve().parents[1] / 'tools'


def forget_runners(manager=ManagerMixin):
    """Drop what mmengine keeps of earlier runs, as a new process would.

    It is kept by time stamp: of two runs that start within one second, the later one would get the
    earlier one's visualizer.
    """
    manager._instance_dict.clear()
    for subclass in manager.__subclasses__():
        forget_runners(subclass)


def run_tool(tool, arguments, options, gpus=1, meanwhile=None):
    """Run a tool in this process, in the place of ``mmv2m.reproduce.runs._run``.

    A process of its own would spend most of its time on imports.
    """
    assert gpus == 1
    spec = importlib.util.spec_from_file_location(Path(tool).stem, TOOLS / tool)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    forget_runners()
    pairs = [f'{key}={value}' for key, value in options.items()]
    module.main([*arguments, *(['--cfg-options', *pairs] if pairs else [])])
