"""Parts of a training that goes on after a resume as if it had not been interrupted."""

from .atomic_files import ATOMIC_FILES
from .differences import tell_differences
from .epoch_loop import ResumableEpochLoop, resumable_loop
from .generators import generator_states, restore_generators
from .latest import latest_checkpoint
from .worker_seeds import WorkerSeeds

__all__ = [
    'ATOMIC_FILES',
    'ResumableEpochLoop',
    'WorkerSeeds',
    'generator_states',
    'latest_checkpoint',
    'restore_generators',
    'resumable_loop',
    'tell_differences',
]
