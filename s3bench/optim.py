"""Provides the update rules of `optimizers` under a name that a user's own folder or file `optimizers` cannot take.

The package `optimizers` lies beside s3bench. Another `optimizers` beside the user's script comes first on sys.path.
Ours is then loaded under a private name, and `import optimizers` still gives the user's.
"""

import sys
from importlib import import_module
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

__all__ = ["ADOPT", "S3", "AdamAtan2", "CautiousAdamW", "Muon", "SignSGD"]


def _load_optimizers() -> ModuleType:
    """Return our package `optimizers`: the importable one where it is ours, else a private copy."""
    ours = Path(__file__).resolve().parent.parent / "optimizers" / "__init__.py"
    try:
        found = find_spec("optimizers")
    except ValueError:  # sys.modules holds a module without a spec
        found = None
    if found and found.origin and Path(found.origin).resolve() == ours:
        return import_module("optimizers")
    spec = spec_from_file_location("s3bench._optimizers", ours)
    if spec is None or spec.loader is None:
        raise ImportError(f"{ours} cannot be loaded")
    package = sys.modules[spec.name] = module_from_spec(spec)
    spec.loader.exec_module(package)
    for name in __all__:
        getattr(package, name).__module__ = __name__  # so that any process can read a pickled optimizer
    return package


if TYPE_CHECKING:
    from optimizers import ADOPT, S3, AdamAtan2, CautiousAdamW, Muon, SignSGD
else:
    _package = _load_optimizers()
    S3, Muon, SignSGD = _package.S3, _package.Muon, _package.SignSGD
    ADOPT, AdamAtan2, CautiousAdamW = _package.ADOPT, _package.AdamAtan2, _package.CautiousAdamW
