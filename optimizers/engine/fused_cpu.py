"""Turns a recorded rule into one C++ function over all tensors of a step; compiles it on this machine and caches it."""

import contextlib
import ctypes
import functools
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from array import array
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor

from .recording import CompilerError, Recording, translate

ONE_THREAD = 2**15  # coordinates up to which one thread is faster than several

OPTIONS = ["-O3", "-w", "-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math"]
NO_JUMP_THREADING = "-fno-thread-jumps"  # else each side of a choice becomes a path of its own

EXPRESSIONS = {
    "add": "{} + {}",
    "sub": "{} - {}",
    "mul": "{} * {}",
    "div": "{} / {}",
    "neg": "-{}",
    "abs": "absolute({})",
    "sqrt": "root({})",
    "pow": "power({}, {})",
    "log2": "logarithm({})",
    "exp2": "exponential({})",
    "sign": "T({0} > T(0)) - T({0} < T(0))",
    "clamp": "clamp({0}, {1}, {2})",
    "clamp_min": "{1} > {0} ? {1} : {0}",
    "maximum": "{0} > {1} ? {0} : {1}",  # the second operand where one of both is NaN: one instruction
    "minimum": "{0} < {1} ? {0} : {1}",
    "ge": "T({0} >= {1})",  # in place, so that it has the operands' type
    "where": "{} ? {} : {}",
    "eq": "{} == {}",
    "gt": "{1} < {0}",
    "lt": "{} < {}",
}
TYPES = {torch.float32: "float", torch.float64: "double", torch.bfloat16: "bfloat16", torch.float16: "_Float16"}

# No header of C++: to build its library takes Zig a minute.
PRELUDE = """#include <stdint.h>
#include <string.h>

static inline float absolute(float x) { return __builtin_fabsf(x); }
static inline float root(float x) { return __builtin_sqrtf(x); }
static inline float power(float x, float y) { return __builtin_powf(x, y); }
static inline float logarithm(float x) { return __builtin_log2f(x); }
static inline float exponential(float x) { return __builtin_exp2f(x); }
static inline double absolute(double x) { return __builtin_fabs(x); }
static inline double root(double x) { return __builtin_sqrt(x); }
static inline double power(double x, double y) { return __builtin_pow(x, y); }
static inline double logarithm(double x) { return __builtin_log2(x); }
static inline double exponential(double x) { return __builtin_exp2(x); }

template <typename T> static inline T clamp(T x, T low, T high) {  // one instruction each; NaN stays
  const T below = high < x ? high : x;
  return low > below ? low : below;
}

struct bfloat16 {
  uint16_t bits;
  operator float() const {
    const uint32_t wide = uint32_t(bits) << 16;
    float x;
    memcpy(&x, &wide, 4);
    return x;
  }
  void operator=(float x) {  // to the nearest, ties to even
    uint32_t wide;
    memcpy(&wide, &x, 4);
    bits = x == x ? uint16_t((wide + 0x7fff + ((wide >> 16) & 1)) >> 16) : 0x7fc0;
  }
};
"""


def make_kernel(
    recording: Recording, columns: dict[str, torch.dtype], scalars: Sequence[str]
) -> Callable[[Sequence[Sequence[Tensor]], dict[str, float | Tensor]], None]:
    """Compile a recorded rule and return a function that takes rows of flat tensors, as columns, and the scalars.

    Raises CompilerError if the rule cannot be compiled.
    """
    step = _build(source(recording, columns, scalars)).step
    number = "d" if torch.float64 in columns.values() else "f"
    step.argtypes = [ctypes.c_void_p, *[ctypes.c_int64] * 3, ctypes.c_void_p]
    step.restype = None

    def run(tensors: Sequence[Sequence[Tensor]], values: dict[str, float | Tensor]) -> None:
        sizes = list(map(Tensor.numel, tensors[0]))
        table = array("q", sizes)
        for column in tensors:
            table.extend(map(Tensor.data_ptr, column))
        total = sum(sizes)
        threads = torch.get_num_threads() if total > ONE_THREAD else 1
        numbers = array(number, [float(values[name]) for name in scalars])
        step(table.buffer_info()[0], len(sizes), total, threads, numbers.buffer_info()[0])

    return run


def source(recording: Recording, columns: dict[str, torch.dtype], scalars: Sequence[str]) -> str:
    """Return the C++ of a rule, in which each thread takes its share of the coordinates of all rows.

    The table holds the sizes of the rows, then the addresses of their first tensors, then of their second, and so on.
    As all numbers are arguments, the compiler does not reverse a comparison: choices become minima and maxima.
    """
    wide = "double" if torch.float64 in columns.values() else "float"
    loads = [f"const T {name} = of_{name}[i];" for name in columns]
    rule = [f"const auto {name} = {text};" for name, text in translate(recording, EXPRESSIONS)]
    stores = [f"of_{name}[i] = {value};" for name, value in recording.changed().items()]
    body = "\n        ".join(loads + rule + stores)
    pointers = "\n      ".join(
        f"{TYPES[dtype]}* __restrict__ of_{name} = ({TYPES[dtype]}*)row[{index} * rows];"
        for index, (name, dtype) in enumerate(columns.items(), start=1)
    )
    return f"""{PRELUDE}
typedef {wide} T;

extern "C" void step(const int64_t* table, int64_t rows, int64_t total, int64_t threads, const T* scalars) {{
  {" ".join(f"const T {name} = scalars[{index}];" for index, name in enumerate(scalars))}
#pragma omp parallel for num_threads(threads)
  for (int64_t thread = 0; thread < threads; thread++) {{
    int64_t first = total * thread / threads, last = total * (thread + 1) / threads;
    for (const int64_t* row = table; row < table + rows && last > 0; row++) {{
      {pointers}
      const int64_t size = row[0], stop = last < size ? last : size;
#pragma GCC ivdep
      for (int64_t i = first; i < stop; i++) {{
        {body}
      }}
      first = first > size ? first - size : 0;
      last -= size;
    }}
  }}
}}
"""


def is_available() -> bool:
    """Return whether a C++ compiler is found."""
    return _compiler() is not None


def _compiler() -> list[str] | None:
    """Return the command in $CXX, or else that of the first known compiler that is found; None if there is none."""
    return _find_compiler(os.environ.get("CXX", ""), os.environ.get("PATH", ""))


@functools.lru_cache(maxsize=16)  # asked at every step
def _find_compiler(asked: str, path: str) -> list[str] | None:
    """Return the command that is asked for, or that of a known compiler on a PATH, or of Zig's; None if there is none.

    Its package for Python, ziglang, holds a C++ compiler.
    """
    try:
        own = shlex.split(asked)
    except ValueError:  # a quotation mark is missing
        return None
    for command in [own] if own else [["g++"], ["clang++"], ["c++"]]:
        if shutil.which(command[0], path=path):
            return command
    found = None if own else find_spec("ziglang")
    zig = shutil.which("zig", path=str(Path(found.origin).parent)) if found and found.origin else None
    return [zig, "cc"] if zig else None


@functools.lru_cache(maxsize=256)
def _build(text: str) -> ctypes.CDLL:
    """Return the library built from a source, by this process or an earlier one; raise CompilerError if that fails."""
    compiler = _compiler()
    if compiler is None:
        raise CompilerError(
            "no C++ compiler is found: name one in CXX, put g++, clang++ or c++ on the PATH, or install ziglang"
        )
    command = [*compiler, *OPTIONS, *_vector_options()]
    name = f"{hashlib.sha256(repr((command, text)).encode()).hexdigest()[:32]}.so"
    kept = Path(os.environ.get("TORCH_EXTENSIONS_DIR") or "~/.cache/torch_extensions", "optimizers", name).expanduser()
    with contextlib.suppress(OSError):  # it does not exist or cannot be loaded
        return ctypes.CDLL(str(kept))
    try:
        with tempfile.TemporaryDirectory() as own:
            built = Path(own, name)
            _compile(command, text, built)
            with contextlib.suppress(OSError):  # the folder cannot be written, or not loaded from
                _keep(built, kept)
                return ctypes.CDLL(str(kept))
            return ctypes.CDLL(str(built))
    except OSError as error:
        raise CompilerError(f"the library that {command[0]} made cannot be loaded: {error}") from error


def _keep(built: Path, kept: Path) -> None:
    """Copy a file to a place where other processes may be doing the same."""
    kept.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=kept.parent) as own:
        Path(shutil.copy(built, own)).replace(kept)


def _compile(command: list[str], text: str, target: Path) -> None:
    """Run the compiler; leave out options that it may lack.

    Not all have OpenMP or call a processor by the same name, and only GCC has -fno-thread-jumps.
    """
    command = [*command, "-shared", "-fPIC", "-x", "c++", "-", "-o", str(target), "-lm"]
    untuned = [option for option in command if not option.startswith("-mtune=")]
    tries = [[*command, "-fopenmp", NO_JUMP_THREADING], [*command, "-fopenmp"], [*command, NO_JUMP_THREADING], command]
    if Path(command[0]).stem == "zig":  # it accepts -fopenmp, but what that calls is missing when the kernel is loaded
        tries = []
    try:
        for given in (*tries, untuned):
            done = subprocess.run(given, input=text, capture_output=True, text=True, check=False)
            if done.returncode == 0:
                return
    except OSError as error:
        raise CompilerError(f"{command[0]}: {error.strerror}") from error
    reason = (done.stderr.splitlines() or [f"exit code {done.returncode}"])[0]
    raise CompilerError(f"{command[0]} failed: {reason}")


def _vector_options() -> list[str]:
    """Return options for vector instructions, by name instead of "native": different hosts may share the cache."""
    found = torch.backends.cpu.get_cpu_capability()
    if platform.machine() not in ("x86_64", "AMD64") or not found.startswith("AVX"):
        return []
    options = ["-mavx2", "-mfma", "-mf16c"]
    if not found.startswith("AVX512"):
        return [*options, "-mtune=haswell"]  # 5% faster, on a Zen 3 too
    return [*options, *(f"-mavx512{part}" for part in ("f", "bw", "dq", "vl")), "-mtune=skylake-avx512"]
