"""Update rules that torch does not have: S3, SignSGD (with momentum: Signum), Muon, and relatives of Adam.

They need torch and nothing of the benchmark, so this folder can be copied into another project.
"""

from .adam_variants import AdamAtan2, CautiousAdamW
from .adopt import ADOPT
from .muon import Muon
from .s3 import S3
from .signsgd import SignSGD

__all__ = ["ADOPT", "S3", "AdamAtan2", "CautiousAdamW", "Muon", "SignSGD"]
