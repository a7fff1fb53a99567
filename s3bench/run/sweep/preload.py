"""Imports, in the process that a sweep's workers are forked from, what each of them would import otherwise."""

import importlib
import os

MODULES = "S3BENCH_PRELOAD"  # the environment variable with the modules' names, separated by commas

for name in os.environ.get(MODULES, "").split(","):
    try:
        importlib.import_module(name)
    except Exception:
        continue  # the worker that needs the module reports why it cannot be imported
