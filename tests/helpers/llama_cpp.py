"""llama.cpp's server with a micro model, as a program of an environment that has its packages (tests/envs).

    python llama_cpp.py CHECKPOINT FILE.gguf PORT

It writes the checkpoint as GGUF and serves it; when it answers, it prints a line.
"""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import xllamacpp

PARTS = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}
WHOLE = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}


def convert(checkpoint: Path, target: Path) -> None:
    """Write a micro model (Qwen3's architecture, bfloat16) as GGUF in float32."""
    config = json.loads((checkpoint / "config.json").read_text())
    writer = gguf.GGUFWriter(target, "qwen3")
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_key_length(config["head_dim"])
    writer.add_value_length(config["head_dim"])
    writer.add_rope_freq_base(config["rope_parameters"]["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    add_tokenizer(writer, checkpoint, config)
    for name, values in tensors(checkpoint / "model.safetensors").items():
        writer.add_tensor(f"{renamed(name)}.weight", values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def add_tokenizer(writer: Any, checkpoint: Path, config: dict[str, Any]) -> None:
    tokenizer = json.loads((checkpoint / "tokenizer.json").read_text())
    texts = [f"[unused {number}]" for number in range(config["vocab_size"])]
    kinds = [gguf.TokenType.UNUSED] * len(texts)
    for text, number in tokenizer["model"]["vocab"].items():
        texts[number], kinds[number] = text, gguf.TokenType.NORMAL
    for added in tokenizer["added_tokens"]:
        texts[added["id"]] = added["content"]
        kinds[added["id"]] = gguf.TokenType.CONTROL if added["special"] else gguf.TokenType.USER_DEFINED
    writer.add_tokenizer_model("gpt2")
    # Cuts words otherwise than the micro models' own: they answer worse, which is nothing to this server.
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(texts)
    writer.add_token_types(kinds)
    writer.add_token_merges(
        [merge if isinstance(merge, str) else " ".join(merge) for merge in tokenizer["model"]["merges"]]
    )
    writer.add_eos_token_id(config["eos_token_id"])
    writer.add_add_bos_token(False)
    writer.add_chat_template((checkpoint / "chat_template.jinja").read_text())


def tensors(file: Path) -> dict[str, Any]:
    """The tensors of a safetensors file of bfloat16, as float32."""
    content = file.read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    found = {}
    for name, tensor in json.loads(content[8:start]).items():
        if name != "__metadata__":
            begin, end = (start + offset for offset in tensor["data_offsets"])
            upper = np.frombuffer(content[begin:end], dtype=np.uint16).astype(np.uint32) << 16
            found[name] = upper.view(np.float32).reshape(tensor["shape"])
    return found


def renamed(name: str) -> str:
    """What llama.cpp calls a tensor of transformers."""
    base = name.removesuffix(".weight")
    if base in WHOLE:
        return WHOLE[base]
    _, _, layer, part = base.split(".", 3)
    return f"blk.{layer}.{PARTS[part]}"


def main() -> None:
    checkpoint, file, port = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    convert(checkpoint, file)
    options = xllamacpp.CommonParams()
    options.model.path, options.port = str(file), port
    options.n_ctx, options.n_parallel, options.cpuparams.n_threads = 8192, 4, 1
    server = xllamacpp.Server(options)
    print("listening at", server.listening_address, flush=True)
    signal.pause()


if __name__ == "__main__":
    main()
