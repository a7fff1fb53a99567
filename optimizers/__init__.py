"""Update rules that torch does not have. They know torch and nothing of the benchmark: take the folder, use it."""

from .muon import Muon
from .s3 import S3
from .signsgd import SignSGD

__all__ = ["S3", "Muon", "SignSGD"]
