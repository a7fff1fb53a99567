"""Imported once by the process that a sweep's workers are forked from: what they would each import."""

import importlib
import os

MODULES = "S3BENCH_WARM"  # their names, separated by commas

for name in os.environ.get(MODULES, "").split(","):
    try:
        importlib.import_module(name)
    except Exception:
        continue
