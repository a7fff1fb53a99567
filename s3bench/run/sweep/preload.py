"""Imports, in the process that a sweep's workers are forked from, what each of them would import otherwise."""

import importlib
import os
import sys
from pathlib import Path

MODULES = "S3BENCH_PRELOAD"  # the environment variable with the modules' names, separated by commas

if str(Path.cwd()) not in sys.path:
    sys.path.append(str(Path.cwd()))  # for the user's own modules; last, so that it shadows nothing

for name in os.environ.get(MODULES, "").split(","):
    try:
        importlib.import_module(name)
    except Exception:
        continue  # the worker that needs the module reports why it cannot be imported

if environment := sys.modules.get("s3bench.run.environment"):  # which one_run imports
    environment.distributions()  # each worker would look through all installed packages
