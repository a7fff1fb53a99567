#!/usr/bin/env bash
# Tries another Python: all code compiles, and the side that needs no torch is installed and finds spikes.
#
#     scripts/smoke_python.sh python3.13
#
# Nothing is trained: pip's torch brings CUDA's gigabytes where there is no smaller build.
set -euo pipefail
cd "$(dirname "$0")/.."
python=$1
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"$python" -m venv "$folder/venv"
bin="$folder/venv/bin"
PYTHONPYCACHEPREFIX="$folder/cache" "$bin/python" -W error -m compileall -q s3bench optimizers tasks scripts tests
"$bin/pip" install --quiet --constraint constraints.txt \
    numpy pandas pyarrow scipy matplotlib jinja2 pyyaml rich psutil argcomplete
"$bin/pip" install --quiet --no-deps .
cd "$folder"
"$bin/python" >log.csv <<'END'
import math

print("step,loss")
for step in range(600):
    print(f"{step},{1 + 2 * math.exp(-step / 100) + 5 * (300 <= step < 306) + math.sin(step**2) / 50}")
END
"$bin/s3bench" spikes log.csv | tee found.txt
grep -q 300 found.txt
"$bin/s3bench" list tasks >list.txt
grep -q quadratic list.txt
echo "s3bench works with $("$bin/python" --version), as far as it needs no torch"
