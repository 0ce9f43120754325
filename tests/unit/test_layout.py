"""Where things stand: every module of the library has its tests, and no file is too long to be read in one go."""

from __future__ import annotations

import pytest
from conftest import ROOT

LIBRARY = ROOT / "workflow" / "rllm_serving"
MODULES = sorted(file.relative_to(LIBRARY).as_posix() for file in LIBRARY.rglob("*.py") if file.name != "__init__.py")
LONGEST = 320

# A module or folder without a test file of its own -> the one below tests/ that tests it.
TESTED_IN = {
    "analysis/counters.py": "unit/analysis/test_decomposition.py",
    "analysis/gates.py": "unit/analysis/test_validity.py",
    "analysis/metric.py": "unit/analysis/test_points.py",
    "analysis/metrics.py": "unit/analysis/test_points.py",
    "analysis/derived_check.py": "unit/analysis/test_derived_points.py",
    "analysis/false_positives.py": "unit/analysis/test_verdicts.py",
    "analysis/interaction.py": "unit/analysis/test_comparison.py",
    "claims/cells.py": "unit/claims/test_evaluation.py",
    "claims/facts.py": "unit/claims/test_definitions.py",
    "claims/planning.py": "unit/claims/test_definitions.py",
    "serving/running.py": "unit/serving/test_endpoints.py",
    "serving/target.py": "integration/test_endpoint_run.py",
    "study/config_engines.py": "unit/study/test_support.py",
    "study/sent.py": "unit/study/test_support.py",
    "study/config_claims.py": "unit/claims/test_definitions.py",
    "study/subjects.py": "unit/claims/test_definitions.py",
    "analysis/pairing.py": "unit/analysis/test_comparison.py",
    "analysis/says.py": "unit/analysis/test_points.py",
    "analysis/server_data.py": "unit/analysis/test_points.py",
    "analysis/timing.py": "unit/analysis/test_points.py",
    "measurement/sampling.py": "unit/measurement/test_warm_up.py",
    "datasets/micro_facts.py": "unit/datasets/test_micro_questions.py",
    "errors.py": "unit/quantization/test_job.py",
    "grading/arguments.py": "unit/grading/test_latex.py",
    "grading/math_worker.py": "unit/grading/test_grader.py",
    "grading/sandbox_worker.py": "unit/grading/test_sandbox.py",
    "load/bounded.py": "integration/test_endpoint_run.py",
    "load/chunks.py": "unit/load/test_stream.py",
    "load/requests.py": "integration/test_run.py",
    "load/token_counter.py": "unit/load/test_endpoint_stream.py",
    "logs.py": "unit/quantization/test_job.py",
    "measurement/endpoint.py": "integration/test_endpoint_run.py",
    "measurement/endpoint_telemetry.py": "integration/test_endpoint_run.py",
    "measurement/invalid_points.py": "integration/test_reruns.py",
    "measurement/fingerprint.py": "integration/test_reruns.py",
    "measurement/paths.py": "integration/test_run.py",
    "measurement/rows.py": "integration/test_run.py",
    "measurement/run.py": "integration/test_run.py",
    "models/micro_job.py": "workflow/test_end_to_end.py",
    "models/micro_recipes.py": "workflow/test_bad_configs.py",
    "models/micro_solutions.py": "unit/datasets/test_micro_questions.py",
    "models/micro_training.py": "workflow/test_end_to_end.py",
    "quantization/calibration.py": "unit/quantization/test_job.py",
    "quantization/worker.py": "engines/test_real_quantization.py",
    "report/charts.py": "browser/test_report.py",
    "report/figures/": "unit/report/test_figures.py",
    "report/matrix.py": "unit/report/test_page.py",
    "report/page_claims.py": "unit/report/test_page.py",
    "report/page_facts.py": "unit/report/test_page.py",
    "measurement/session.py": "integration/test_run.py",
    "study/plan_text.py": "unit/study/test_estimate.py",
    "report/page_tables.py": "unit/report/test_page.py",
    "report/table_forms.py": "unit/report/test_tables.py",
    "report/pictures.py": "unit/report/test_page.py",
    "schemas.py": "unit/grading/test_grader.py",
    "serving/engines/": "unit/serving/test_engines.py",
    "serving/hardware.py": "unit/serving/test_engines.py",
    "serving/warm_start.py": "unit/serving/test_kernel_cache.py",
    "serving/process.py": "unit/serving/test_gpus.py",
    "study/config_base.py": "unit/study/test_config.py",
    "study/config_docs.py": "unit/study/test_config.py",
    "study/config_errors.py": "workflow/test_bad_configs.py",
    "study/config_inputs.py": "unit/study/test_config.py",
    "study/config_options.py": "unit/study/test_config.py",
    "study/design.py": "unit/study/test_study.py",
}


def own_tests(module: str) -> str:
    """Path below tests/ of a module's own test file: `load/client.py` -> `unit/load/test_client.py`."""
    folder, _, name = module.rpartition("/")
    return "/".join(part for part in ("unit", folder, f"test_{name}") if part)


@pytest.mark.parametrize("module", MODULES)
def test_a_module_has_a_test_file(module: str) -> None:
    elsewhere = [file for name, file in TESTED_IN.items() if module == name or (name[-1] == "/" and name in module)]
    files = [ROOT / "tests" / file for file in (own_tests(module), *elsewhere)]
    assert any(file.is_file() for file in files), f"write tests/{own_tests(module)}"


def test_the_list_of_modules_tested_elsewhere_is_short_and_true() -> None:
    for name, file in TESTED_IN.items():
        assert (LIBRARY / name).exists() and (ROOT / "tests" / file).is_file(), name
        assert not (ROOT / "tests" / own_tests(name)).exists(), f"{name} has a test file of its own"


def test_no_file_is_too_long() -> None:
    suffixes = (".py", ".smk")
    files = [file for file in (ROOT / "workflow").rglob("*") if file.suffix in suffixes or file.name == "Snakefile"]
    lengths = {file.relative_to(ROOT).as_posix(): len(file.read_text().splitlines()) for file in files}
    assert {name: length for name, length in lengths.items() if length > LONGEST} == {}
