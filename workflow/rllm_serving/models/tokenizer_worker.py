"""Compares the tokenizer that a program loads with the file itself: `python -m rllm_serving.models.tokenizer_worker`.

Runs in the program's environment, with the file of a job as argument: folder (the checkpoint), mended (folder that may
be made), program ("vllm", "sglang" or "quantize"), trust_remote_code, thinking (the chat template's enable_thinking;
null: not given), needs_template, report (file to write). The report has what `examine` returns, `patch` (the names of
what had to be changed) and `files` (those that were); or `refusal`, one line, where nothing helps.
"""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime, tzinfo
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rllm_serving.models.token_probe import BASIC, CHAT, TEXTS, THINKING_TAGS, digest, first_difference, with_tokens
from rllm_serving.models.tokenizer_patch import PINNED, Patch, linked

ANOTHER_DAY = datetime(2031, 11, 2, 13, 14, 15)
"""A time with no part in common with PINNED."""


class RefusedError(Exception):
    """A tokenizer that cannot be used; the message says what is wrong with it."""


def load(folder: Path, program: str, trust_remote_code: bool) -> Any:
    """Load a folder's tokenizer by the code that the program itself loads it with.

    Raises:
        RefusedError: where that fails.
    """
    get = _loader(program)
    try:
        return get(str(folder), trust_remote_code=trust_remote_code)
    except Exception as error:  # Whatever stops the engine there would stop its server.
        traceback.print_exc()
        raise RefusedError(f"it does not load: {type(error).__name__}: {_line(error)}") from error


def from_file(folder: Path) -> Any:
    """Return the `tokenizers.Tokenizer` of a folder's tokenizer.json, with what tokenizer_config.json adds to it.

    None where there is no tokenizer.json.
    """
    from tokenizers import AddedToken, Tokenizer

    if not (folder / "tokenizer.json").is_file():
        return None
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    # Both cut or fill whole batches; neither has a place in what is served.
    tokenizer.no_truncation()
    tokenizer.no_padding()
    more = _read(folder / "tokenizer_config.json").get("added_tokens_decoder", {})
    for number in sorted(more, key=int):
        token = dict(more[number])
        if tokenizer.token_to_id(token["content"]) is None:
            token.pop("__type", None)
            tokenizer.add_tokens([AddedToken(**token)])
    return tokenizer


def examine(tokenizer: Any, reference: Any, program: str, variables: Mapping[str, Any]) -> dict[str, Any]:
    """Compare a tokenizer that a program loaded with the reference of the same checkpoint.

    Args:
        tokenizer: from `load`.
        reference: from `from_file`; None: there is nothing to compare with.
        program: as of `load`.
        variables: of the chat template.

    Returns:
        class; reference (the file, or None); differences (in encoding or decoding, of which text, what); special (of
        each thinking tag that is one token: whether it is a special one, which decoding drops); clock (whether the
        chat template asks for the time; None without a template); ids_sha256 (of the token ids of all texts, by the
        reference); chat_tokens and chat_sha256 (number and digest of the reference's ids of the prompt of CHAT,
        rendered at the time PINNED; None without a template).

    Raises:
        RefusedError: where the reference itself does not give a text back.
    """
    encoder = reference or _Loaded(tokenizer)
    tokens = {} if reference is None else reference.get_added_tokens_decoder()
    in_file = [tokens[number].content for number in sorted(tokens)]
    probes = {**TEXTS, "tokens of the file": with_tokens(in_file)}
    ids = {name: encoder.encode(text, add_special_tokens=False).ids for name, text in probes.items()}
    # Classes of transformers add tokens that are their own, which must not be found in questions.
    added = with_tokens(sorted(set(tokenizer.get_added_vocab()) - set(in_file)))
    differences = [
        difference
        for name, text in {**probes, "tokens that loading added": added}.items()
        for difference in _differences(tokenizer, encoder, program, name, text)
    ]
    basic = encoder.decode(ids["basic"], skip_special_tokens=False)
    if basic.strip() != BASIC:
        raise RefusedError(f"its own file loses text: {first_difference(basic.strip(), BASIC)}")
    prompts = [_prompt(tokenizer, variables, at) for at in (PINNED, ANOTHER_DAY)]
    chat: list[int] | None = None
    if prompts[0] is not None:
        chat = encoder.encode(prompts[0], add_special_tokens=False).ids
        served = _encode_prompt(tokenizer, prompts[0], program)
        if served != chat:
            differences.append({"in": "encoding", "text": "chat prompt", "what": _first_tokens(served, chat)})
    return {
        "class": _class(tokenizer),
        "reference": None if reference is None else "tokenizer.json",
        "differences": differences,
        "special": {tag: _is_special(tokenizer, tag) for tag in THINKING_TAGS},
        "clock": None if prompts[0] is None else prompts[0] != prompts[1],
        "ids_sha256": digest(list(ids.values())),
        "chat_tokens": None if chat is None else len(chat),
        "chat_sha256": None if chat is None else digest(chat),
    }


def _differences(tokenizer: Any, encoder: Any, program: str, name: str, text: str) -> Iterator[dict[str, str]]:
    expected = encoder.encode(text, add_special_tokens=False).ids
    encoded = list(tokenizer.encode(text, add_special_tokens=False))
    if encoded != expected:
        yield {"in": "encoding", "text": name, "what": _first_tokens(encoded, expected)}
    decoded, in_file = _decode(tokenizer, expected, program), encoder.decode(expected, skip_special_tokens=False)
    if decoded != in_file:
        yield {"in": "decoding", "text": name, "what": first_difference(decoded, in_file)}


def settle(job: Mapping[str, Any]) -> dict[str, Any]:
    """Examine the checkpoint as it is and, where that is not enough, with what has to be changed.

    Returns:
        The last `examine`, with patch ({name: whether}), files and `before` (the examination of the checkpoint as it
        is; None where nothing was changed).

    Raises:
        RefusedError: where the changes do not help.
    """
    folder, program = Path(job["folder"]), job["program"]
    variables = {} if job["thinking"] is None else {"enable_thinking": job["thinking"]}
    reference = from_file(folder)
    found = examine(load(folder, program, job["trust_remote_code"]), reference, program, variables)
    if job["needs_template"] and found["chat_sha256"] is None:
        raise RefusedError("it has no chat template, so no question can be asked")
    patch = Patch(
        generic_class=bool(found["differences"]),
        ordinary_thinking_tags=any(found["special"].values()),
        pinned_clock=bool(found["clock"]),
    )
    if not patch:
        return {**found, "patch": asdict(patch), "files": [], "before": None}
    files = linked(folder, Path(job["mended"]), patch)
    mended = examine(load(Path(job["mended"]), program, job["trust_remote_code"]), reference, program, variables)
    if mended["differences"]:
        one = mended["differences"][0]
        raise RefusedError(
            f"{program} loads it as {found['class']}, and as {mended['class']} too it differs from the file in "
            f"{one['in']} '{one['text']}': {one['what']}"
        )
    if special := [tag for tag, is_special in mended["special"].items() if is_special]:
        raise RefusedError(f"{', '.join(special)} stay special tokens, which are dropped from answers before parsing")
    if mended["clock"]:
        raise RefusedError("its chat template puts the time into prompts in a way that cannot be pinned")
    if mended["chat_sha256"] != found["chat_sha256"]:
        raise RefusedError("its prompts become other ones when its clock is pinned")
    return {**mended, "patch": asdict(patch), "files": files, "before": found}


def _loader(program: str) -> Callable[..., Any]:
    match program:
        case "vllm":
            from vllm.tokenizers import get_tokenizer

            return get_tokenizer  # type: ignore[no-any-return]
        case "sglang":
            from sglang.srt.utils.hf_transformers.tokenizer import get_tokenizer as sglang_tokenizer

            return sglang_tokenizer  # type: ignore[no-any-return]
    from transformers import AutoTokenizer

    return partial(AutoTokenizer.from_pretrained, padding_side="left")


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


class _Loaded:
    """A loaded tokenizer with the two methods of the library's own, where no file says what it must do."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer

    def encode(self, text: str, add_special_tokens: bool) -> Any:
        ids = list(self._tokenizer.encode(text, add_special_tokens=add_special_tokens))
        return type("Encoding", (), {"ids": ids})

    def decode(self, ids: Sequence[int], skip_special_tokens: bool) -> str:
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=skip_special_tokens))


def _decode(tokenizer: Any, ids: Sequence[int], program: str) -> str:
    """Decode as the program does: vLLM asks the library below for it, which never cleans spaces up."""
    raw = {"clean_up_tokenization_spaces": False} if program == "vllm" else {}
    return str(tokenizer.decode(list(ids), skip_special_tokens=False, **raw))


def _encode_prompt(tokenizer: Any, prompt: str, program: str) -> list[int]:
    """Encode a rendered prompt as the program does: SGLang leaves a tokenizer alone that by itself adds nothing."""
    keeps = program == "sglang" and not len(tokenizer.encode(""))
    return list(tokenizer.encode(prompt) if keeps else tokenizer.encode(prompt, add_special_tokens=False))


def _prompt(tokenizer: Any, variables: Mapping[str, Any], at: datetime) -> str | None:
    """Return the prompt of CHAT as rendered at a time; None where the tokenizer has no template."""
    if not getattr(tokenizer, "chat_template", None):
        return None
    messages = [{"role": "user", "content": CHAT}]
    try:
        with _clock(at):
            options = {"tokenize": False, "add_generation_prompt": True, **variables}
            return str(tokenizer.apply_chat_template(messages, **options))
    except Exception as error:  # A template can raise what it likes.
        raise RefusedError(f"its chat template fails: {_line(error)}") from error


@contextmanager
def _clock(at: datetime) -> Iterator[None]:
    """Let chat templates see a fixed time."""
    from transformers.utils import chat_template_utils

    class Stopped(datetime):
        @classmethod
        def now(cls, _: tzinfo | None = None) -> Any:
            return at

    real = chat_template_utils.datetime
    chat_template_utils.datetime = Stopped
    try:
        yield
    finally:
        chat_template_utils.datetime = real


def _is_special(tokenizer: Any, tag: str) -> bool | None:
    """Whether decoding drops the token; None where the tag is no single token."""
    ids = list(tokenizer.encode(tag, add_special_tokens=False))
    if len(ids) != 1 or tag not in tokenizer.decode(ids, skip_special_tokens=False):
        return None
    return tag not in tokenizer.decode(ids, skip_special_tokens=True)


def _class(tokenizer: Any) -> str:
    """Name of the class of transformers, not of what engines wrap around it."""
    names = (one.__name__ for one in type(tokenizer).__mro__ if one.__module__.startswith("transformers"))
    return next(names, type(tokenizer).__name__)


def _first_tokens(got: Sequence[int], expected: Sequence[int]) -> str:
    """Return the token ids from where two encodings begin to differ, for people."""
    pairs = enumerate(zip(got, expected, strict=False))
    start = next((i for i, (a, b) in pairs if a != b), min(len(got), len(expected)))
    return f"token {start} is {list(got[start : start + 3])} instead of {list(expected[start : start + 3])}"


def _read(file: Path) -> dict[str, Any]:
    return dict(json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else {}


def main() -> None:
    """Run the job and write its report."""
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    try:
        report = settle(job)
        report["versions"] = {name: version(name) for name in ("tokenizers", "transformers")}
    except RefusedError as refusal:
        report = {"refusal": str(refusal)}
    Path(job["report"]).write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
