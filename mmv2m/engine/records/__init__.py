"""Results of runs as data files."""

from .provenance import changed_settings, config_digest, config_id, log_digest
from .record import Record, load_record, load_records, save_record
from .recorder import evaluation_record, training_record

__all__ = [
    'Record',
    'changed_settings',
    'config_digest',
    'config_id',
    'evaluation_record',
    'load_record',
    'load_records',
    'log_digest',
    'save_record',
    'training_record',
]
