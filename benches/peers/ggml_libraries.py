"""llama.cpp's shared libraries: those of the wheel `cyllama-vulkan`, or those that `llama-cpp-python` was compiled with."""

import ctypes
import importlib.util
from pathlib import Path


def load(kind):
    """Opens the libraries of a backend, `vulkan` or `cpu`, so that each finds the ones before it."""
    package = {"vulkan": "cyllama", "cpu": "llama_cpp"}[kind]
    found = importlib.util.find_spec(package)
    if found is None:
        raise SystemExit(f"the Python package {package} is missing: run ./setup")
    home = Path(found.origin).parent
    folder = home.parent / "cyllama_vulkan.libs" if kind == "vulkan" else home / "lib"
    libraries = []
    for stem in ["libggml-base", "libggml-cpu"] + (["libggml-vulkan"] if kind == "vulkan" else []):
        # `libggml-base.so`, or with a hash: `libggml-base-184f4db6.so.0.12.0`.
        files = sorted(file for file in folder.glob(f"{stem}*") if file.name[len(stem)] in ".-")
        if not files:
            raise SystemExit(f"missing {stem} in {folder}: run ./setup")
        libraries.append(ctypes.CDLL(str(files[0]), mode=ctypes.RTLD_GLOBAL))
    return libraries
