"""Letting one process run several of mmengine's runners, as several processes would."""

from mmengine.utils import ManagerMixin

__all__ = ['forget_runners']


def forget_runners(manager=ManagerMixin):
    """Drop what mmengine keeps of earlier runs, as a new process would.

    It is kept by time stamp: of two runs that start within one second, the later one would get the
    earlier one's visualizer.
    """
    manager._instance_dict.clear()
    for subclass in manager.__subclasses__():
        forget_runners(subclass)
