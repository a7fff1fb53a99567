"""The record: everything that passes between a run and a report. No code outside of this package knows its files.

Other rooms import from here, or the submodules identity, lease and targets.
"""

from s3bench.record.cleaning import remove as remove
from s3bench.record.cleaning import superseded as superseded
from s3bench.record.config_file import has_ramp as has_ramp
from s3bench.record.config_file import load_config as load_config
from s3bench.record.files import DIVERGED as DIVERGED
from s3bench.record.files import FAILED as FAILED
from s3bench.record.files import FINISHED as FINISHED
from s3bench.record.files import LOG as LOG
from s3bench.record.files import MISSING as MISSING
from s3bench.record.files import OVER as OVER
from s3bench.record.files import RUNNING as RUNNING
from s3bench.record.files import STATES as STATES
from s3bench.record.files import SUMMARY as SUMMARY
from s3bench.record.files import folder_of as folder_of
from s3bench.record.files import lease_place as lease_place
from s3bench.record.files import refuse_other_version as refuse_other_version
from s3bench.record.files import size as size
from s3bench.record.lease import Busy as Busy
from s3bench.record.opening import opened as opened
from s3bench.record.progress import failed_at as failed_at
from s3bench.record.progress import has_result as has_result
from s3bench.record.progress import has_rows as has_rows
from s3bench.record.progress import outcome as outcome
from s3bench.record.progress import resumed as resumed
from s3bench.record.progress import rows_before as rows_before
from s3bench.record.progress import state as state
from s3bench.record.progress import steps_so_far as steps_so_far
from s3bench.record.reader import eval_arrays as eval_arrays
from s3bench.record.reader import folders as folders
from s3bench.record.reader import load_evals as load_evals
from s3bench.record.reader import load_record as load_record
from s3bench.record.reader import load_records as load_records
from s3bench.record.reader import load_rows as load_rows
from s3bench.record.reader import load_steps as load_steps
from s3bench.record.reader import refuse_arm as refuse_arm
from s3bench.record.reader import step_arrays as step_arrays
from s3bench.record.writer import Writer as Writer
from s3bench.record.writer import checkpoints as checkpoints
from s3bench.record.writer import kept as kept
from s3bench.record.writer import leased as leased
from s3bench.record.writer import plan as plan
from s3bench.record.writer import plan_all as plan_all
from s3bench.record.writer import set_checkpoints_aside as set_checkpoints_aside
from s3bench.record.writer import tidy as tidy
from s3bench.record.writer import write_checkpoint as write_checkpoint
from s3bench.record.writer import write_error as write_error
from s3bench.record.writer import write_kept as write_kept
from s3bench.record.writer import write_result as write_result
from s3bench.record.writer import write_start as write_start
