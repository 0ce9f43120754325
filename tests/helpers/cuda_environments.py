"""Environments with the CUDA toolkit that NVIDIA's wheels bring."""

from __future__ import annotations

from pathlib import Path


def cuda_environment(folder: Path) -> Path:
    """An environment with what NVIDIA's wheels bring, in small: no `lib64`, and libraries by their versions alone."""
    home = folder / "lib" / "python3.11" / "site-packages" / "nvidia" / "cu13"
    for name in ("bin/nvcc", "lib/libcudart.so.13", "lib/libcublasLt.so.13", "lib/libcudart_static.a"):
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).touch()
    (home / "include").mkdir()
    (home / "include" / "cuda.h").write_text(
        "#define cuMemAlloc cuMemAlloc_v2\nCUresult CUDAAPI cuInit(unsigned int Flags);\nstatic cuuint32_t other;\n"
    )
    return folder
