"""Models: the hub's cache layout offline, the hub itself (a stand-in on loopback), local folders, and faults."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from rllm_serving.models import checkpoints
from rllm_serving.models.checkpoints import ModelError, describe, prepare_checkpoint

WORKFLOW = Path(checkpoints.__file__).parents[2]
SHA, OTHER = "c" * 40, "d" * 40
CONFIG = {
    "architectures": ["Qwen3ForCausalLM"],
    "torch_dtype": "bfloat16",
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "max_position_embeddings": 4096,
}


def safetensors(*shapes: list[int]) -> bytes:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    header |= {f"t{shape}": {"dtype": "BF16", "shape": shape, "data_offsets": [0, 0]} for shape in shapes}
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + b"\0" * 64


def checkpoint(**config: Any) -> dict[str, bytes]:
    return {
        "config.json": json.dumps(CONFIG | config).encode(),
        "tokenizer.json": b"{}",
        "model.safetensors": safetensors([16, 8], [8], []),
    }


def folder_of(path: Path, files: dict[str, bytes]) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (path / name).write_bytes(content)
    return path


def hub_cache(root: Path, files: dict[str, bytes]) -> Path:
    """The hub's own layout: blobs by hash, a snapshot of links to them, a ref that names the commit."""
    repository = root / "models--lab--tiny"
    folder_of(repository / "refs", {"main": SHA.encode()})
    snapshot = folder_of(repository / "snapshots" / SHA, {})
    for name, content in files.items():
        digest = hashlib.sha256(content).hexdigest()
        folder_of(repository / "blobs", {digest: content})
        (snapshot / name).symlink_to(Path("../../blobs") / digest)
    return root


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_TOKEN", "hf_verysecret")


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize("revision", ["main", SHA])
def test_a_cached_model_is_found_offline(tmp_path: Path, revision: str) -> None:
    cache, target = hub_cache(tmp_path / "hub", checkpoint()), tmp_path / "models" / "tiny"
    spec = {"source": "hub", "id": "lab/tiny", "revision": revision}
    record = prepare_checkpoint("tiny", spec, target, cache)
    text = (target / "model.json").read_text()
    assert json.loads(text) == record
    assert "verysecret" not in text
    assert (record["source"], record["id"], record["revision"], record["commit"]) == (
        "hub",
        "lab/tiny",
        revision,
        SHA,
    )
    assert (Path(record["path"]) / "config.json").is_file()
    assert (target / "checkpoint").resolve().name == SHA
    assert record["parameters"] == 16 * 8 + 8 + 1
    assert record["bytes"] == sum(len(content) for content in checkpoint().values())
    assert {file["name"]: file["bytes"] for file in record["files"]}["tokenizer.json"] == 2
    assert record["architecture"] == "Qwen3ForCausalLM"
    assert record["dtype"] == "bfloat16"
    assert (record["num_attention_heads"], record["num_key_value_heads"]) == (8, 2)
    assert record["max_position_embeddings"] == 4096


@pytest.mark.usefixtures("offline")
def test_a_revision_that_is_not_cached_says_what_to_do(tmp_path: Path) -> None:
    cache = hub_cache(tmp_path / "hub", checkpoint())
    spec = {"source": "hub", "id": "lab/tiny", "revision": OTHER}
    with pytest.raises(ModelError, match=rf"models\.tiny: lab/tiny at revision {OTHER} .*HF_HUB_OFFLINE is set"):
        prepare_checkpoint("tiny", spec, tmp_path / "target", cache)
    assert not (tmp_path / "target").exists()


def test_a_local_folder_is_linked_and_a_second_call_replaces_the_link(tmp_path: Path) -> None:
    old, new = (folder_of(tmp_path / name, checkpoint()) for name in ("old", "new"))
    prepare_checkpoint("mine", {"source": "path", "path": str(old)}, tmp_path / "target")
    record = prepare_checkpoint("mine", {"source": "path", "path": str(new)}, tmp_path / "target")
    assert Path(record["path"]).resolve() == new
    assert (record["commit"], record["id"], record["revision"]) == (None, None, None)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"config.json": None}, "has no config.json"),
        ({"config.json": b"{"}, "config.json is no JSON"),
        ({"tokenizer.json": None}, "has no tokenizer"),
        ({"model.safetensors": None}, r"lacks weights: \*\.safetensors"),
        ({"model.safetensors": None, "pytorch_model.bin": b"x"}, r"lacks weights: \*\.safetensors"),
        ({"model.safetensors": b"version https://git-lfs"}, "model.safetensors is no safetensors file"),
        ({"model.safetensors": safetensors([2])[:20]}, "model.safetensors is no safetensors file"),
        (
            {"model.safetensors.index.json": b'{"weight_map": {"a": "model.safetensors", "b": "model-2.safetensors"}}'},
            "lacks weights: model-2.safetensors",
        ),
        ({"config.json": b'{"auto_map": {"AutoModel": "m.py"}}'}, "set models.mine.trust_remote_code: true"),
        ({"tokenizer_config.json": b'{"auto_map": {}}'}, "brings code of its own"),
    ],
)
def test_an_unusable_folder_is_refused(tmp_path: Path, change: dict[str, bytes | None], message: str) -> None:
    files = {name: content for name, content in (checkpoint() | change).items() if content is not None}
    with pytest.raises(ModelError, match=rf"models\.mine: .*{message}"):
        describe("mine", folder_of(tmp_path, files))


def test_shards_count_once_and_a_quantized_checkpoint_has_no_parameter_count(tmp_path: Path) -> None:
    index = json.dumps({"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}).encode()
    shards = {"model-1.safetensors": safetensors([10]), "model-2.safetensors": safetensors([5, 2])}
    files = checkpoint() | shards | {"model.safetensors.index.json": index}
    assert describe("mine", folder_of(tmp_path / "full", files))["parameters"] == 20
    quantized = checkpoint(quantization_config={"quant_method": "gptq"})
    assert describe("mine", folder_of(tmp_path / "gptq", quantized))["parameters"] is None


def test_code_of_the_model_is_allowed_where_the_config_says_so(tmp_path: Path) -> None:
    files = checkpoint(auto_map={"AutoModel": "m.Model"})
    assert describe("mine", folder_of(tmp_path, files), trust_remote_code=True)["num_attention_heads"] == 8


def test_what_config_json_does_not_say_is_null(tmp_path: Path) -> None:
    record = describe("mine", folder_of(tmp_path, checkpoint() | {"config.json": b"{}"}))
    assert [record[key] for key in ("architecture", "dtype", "num_attention_heads")] == [None] * 3
    nested = json.dumps({"text_config": CONFIG}).encode()
    record = describe("mine", folder_of(tmp_path, {"config.json": nested}))
    assert (record["num_attention_heads"], record["dtype"]) == (8, "bfloat16")


class Hub(BaseHTTPRequestHandler):
    """As much of the hub as a snapshot needs: lab/tiny for all, lab/gated with a token; nothing else is there."""

    files = checkpoint() | {"pytorch_model.bin": b"unsafe", "README.md": b"# Tiny"}
    seen: list[tuple[str, str | None]]

    def log_message(self, *_: Any) -> None:
        pass

    def reply(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def do_GET(self) -> None:
        parts = self.path.partition("?")[0].strip("/").split("/")
        self.seen.append((self.path, self.headers["Authorization"]))
        repository, rest = ("/".join(parts[2:4]), parts[4:]) if parts[0] == "api" else ("/".join(parts[:2]), parts[2:])
        if repository == "lab/gated" and self.headers["Authorization"] != "Bearer hf_verysecret":
            self.reply(401, b"{}", X_Error_Code="GatedRepo")
        elif repository not in ("lab/tiny", "lab/gated"):
            self.reply(404, b"{}", X_Error_Code="RepoNotFound")
        elif rest[1] not in ("main", SHA):
            self.reply(404, b"{}", X_Error_Code="RevisionNotFound")
        elif rest[0] == "revision":
            self.reply(200, json.dumps({"id": repository, "sha": SHA}).encode())
        elif rest[0] == "tree":
            tree = [
                {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
                for name, content in self.files.items()
            ]
            self.reply(200, json.dumps(tree).encode(), Content_Type="application/json")
        else:
            content = self.files[rest[2]]
            self.reply(200, content, ETag=f'"{hashlib.sha1(content).hexdigest()}"', X_Repo_Commit=SHA)

    do_HEAD = do_GET


@pytest.fixture
def hub() -> Iterator[str]:
    Hub.seen = []
    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


CODE = """
import json, sys
from pathlib import Path
from rllm_serving.models.checkpoints import ModelError, prepare_checkpoint
try:
    print(json.dumps(prepare_checkpoint("m", json.loads(sys.argv[1]), Path(sys.argv[2]))))
except ModelError as error:
    print(error)
"""


def fetch(endpoint: str, tmp_path: Path, model: str, revision: str = "main", **env: str) -> str:
    """What FETCH prints in a process of its own: the hub library reads its environment when it is imported."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "HUGGING"))}
    clean |= {"HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path / "hf"), "PYTHONPATH": str(WORKFLOW)} | env
    spec = json.dumps({"source": "hub", "id": model, "revision": revision})
    command = [sys.executable, "-c", CODE, spec, str(tmp_path / "target")]
    result = subprocess.run(command, env=clean, capture_output=True, text=True, check=False)
    assert "verysecret" not in result.stdout + result.stderr
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_a_model_is_fetched_from_the_hub_once_and_then_found_offline(hub: str, tmp_path: Path) -> None:
    record = json.loads(fetch(hub, tmp_path, "lab/tiny"))
    assert (record["commit"], record["parameters"]) == (SHA, 137)
    assert {file["name"] for file in record["files"]} == {
        "config.json",
        "tokenizer.json",
        "model.safetensors",
    }
    assert {authorization for _, authorization in Hub.seen} == {None}
    asked = len(Hub.seen)
    assert json.loads(fetch(hub, tmp_path, "lab/tiny", HF_HUB_OFFLINE="1")) == record
    assert len(Hub.seen) == asked


def test_a_gated_model_needs_the_token_and_no_record_holds_it(hub: str, tmp_path: Path) -> None:
    refused = fetch(hub, tmp_path, "lab/gated")
    assert refused.startswith("models.m: lab/gated at revision main is gated and no token is set; accept its terms")
    assert json.loads(fetch(hub, tmp_path, "lab/gated", HF_TOKEN="hf_verysecret"))["commit"] == SHA
    for file in [*(tmp_path / "target").glob("*.json"), *(tmp_path / "hf").rglob("*")]:
        assert not file.is_file() or b"verysecret" not in file.read_bytes()


def test_a_wrong_id_revision_or_endpoint_is_named(hub: str, tmp_path: Path) -> None:
    assert "the hub knows no model lab/none; check models.m.id" in fetch(hub, tmp_path, "lab/none")
    assert f"lab/tiny has no revision {OTHER}" in fetch(hub, tmp_path, "lab/tiny", OTHER)
    assert "the hub cannot be reached" in fetch("http://127.0.0.1:9", tmp_path, "lab/tiny")
