"""Update rules that torch does not have: S3, SignSGD (with momentum: Signum) and Muon.

They need torch and nothing of the benchmark, so this folder can be copied into another project.
"""

from .muon import Muon
from .s3 import S3
from .signsgd import SignSGD

__all__ = ["S3", "Muon", "SignSGD"]
