"""Servers of the CUDA environments, started where there is no GPU: they get as far as the GPU, and fail there.

Imports with all compiled extensions, arguments, the model's config and the tokenizer are behind a server that asks for
the GPU. The machine pretends: an NVML that knows one, and the toolkit's stand-in for the driver, which answers to
everything that it is none. Opt-in: the environments are 25 GB. RLLM_SERVING_TEST_CUDA names a folder to keep them in.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import ROOT, run, snakemake
from engines.test_command_lines import SERVED, Line, lines
from helpers.mock_server import eventually
from rllm_serving import environments, toolkit

FOLDER = os.environ.get("RLLM_SERVING_TEST_CUDA")
pytestmark = pytest.mark.skipif(not FOLDER, reason="RLLM_SERVING_TEST_CUDA names no folder for the CUDA environments")
STUB = f"Error {toolkit.STUB_LIBRARY}: CUDA driver is a stub library"
AT_THE_GPU = {"vllm": "in init_device", "sglang": "in init_torch_distributed"}
"""What asks for the GPU, in the traceback: a worker, when everything else has been read."""
PRETENDING: dict[str, tuple[list[str], dict[str, str]]] = {
    # torch then asks NVML whether there is a GPU, without which vLLM would take Triton for missing.
    "vllm": ([], {"PYTORCH_NVML_BASED_CUDA_CHECK": "1"}),
    # SGLang asks torch for more than NVML knows: it is told.
    "sglang": (["--device", "cuda"], {}),
}
"""Arguments and variables that a server needs to take the machine for one with a GPU."""
STARTED = ("baseline", "bnb-nf4", "kv_cache_dtype fp8-e4m3", "speculative ngram", "speculative draft")
LONGEST_S = 1200.0


@pytest.fixture(scope="module")
def built() -> dict[str, Path]:
    """Engine -> its CUDA environment, built by the workflow, which compiles a kernel in each."""
    folder = Path(FOLDER or "")
    folder.mkdir(parents=True, exist_ok=True)
    targets = {engine: f"resources/environments/{engine}-cuda" for engine in SERVED}
    records = [f"{target}/environment.json" for target in targets.values()]
    # Until there: a machine that only builds may have no GPU.
    arguments = (*records, "--until", "build_environment")
    done = run(snakemake(folder, *arguments, config=ROOT / "tests" / "data" / "gpu.yaml"))
    assert done.returncode == 0, done.stdout[-6000:]
    return {engine: folder / target for engine, target in targets.items()}


@pytest.fixture(scope="module")
def pretended(built: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of libraries by which a machine pretends to have a GPU."""
    folder = tmp_path_factory.mktemp("pretended")
    source = Path(__file__).with_name("pretend_nvml.c")
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", folder / "libnvidia-ml.so.1", source], check=True)
    home = toolkit.cuda_home(built["vllm"])
    assert home is not None
    shutil.copy(home / "lib64" / "stubs" / "libcuda.so", folder / "libcuda.so.1")
    return folder


def line_with(name: str, found: list[Line]) -> Line:
    """The first line for GPUs that is asked for with an option, or by a config's baseline."""
    on_gpus = (line for line in found if line.device == "cuda")
    return next(line for line in on_gpus if any(name in who and "tensor_parallel" not in who for who in line.asked_by))


@pytest.mark.parametrize("name", STARTED)
@pytest.mark.parametrize("engine", SERVED)
def test_a_server_gets_as_far_as_the_gpu(
    built: dict[str, Path], pretended: Path, marked: str, tmp_path: Path, engine: str, name: str
) -> None:
    environment = built[engine]
    line = line_with(name, lines(engine, environments.python(environment), tmp_path))
    more, pretending = PRETENDING[engine]
    command = [*line.command, *more]
    variables = {
        **os.environ,
        **toolkit.search_path(environment),
        **toolkit.cuda_variables(environment),
        **toolkit.caches(tmp_path / "kernels", {}),
        **line.environment,
        **pretending,
        "LD_LIBRARY_PATH": str(pretended),
    }
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(command, env=variables, stdout=log, stderr=log, start_new_session=True)
        try:
            ended = eventually(lambda: process.poll() is not None, LONGEST_S)
        finally:
            process.kill()
            process.wait()
    text = (tmp_path / "log").read_text()
    assert ended and process.returncode != 0, text[-6000:]
    assert STUB in text and AT_THE_GPU[engine] in text, text[-6000:]


@pytest.mark.parametrize("engine", SERVED)
def test_a_toolkit_is_of_the_version_of_torch(built: dict[str, Path], engine: str) -> None:
    home = toolkit.cuda_home(built[engine])
    assert home is not None
    nvcc = run([str(home / "bin" / "nvcc"), "--version"]).stdout
    torch = run([str(environments.python(built[engine])), "-c", "import torch; print(torch.version.cuda)"]).stdout
    assert f"release {torch.strip().splitlines()[-1]}," in nvcc
