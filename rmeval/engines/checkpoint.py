"""A checkpoint before and while it is loaded: what it is, whether it may be loaded, and its identity.

Refused with one message each: no such folder or hub id, weights that are pickles, a checkpoint that needs its own
Python code, a head that the checkpoint does not hold.

What this module does not know: requests, batches, scores.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeAlias

from rmeval import strict_json
from rmeval.engines.layers import ARCHITECTURES, Layers, build, llama_config, missing
from rmeval.errors import UsageError
from rmeval.progress import note
from rmeval.whole_files import refuse_damaged

Form: TypeAlias = Literal["sequence", "token", "layers", "causal"]
"""How the weights are loaded and read, see `rmeval.engines.reading`."""

_AUTO: dict[Form, str] = {
    "sequence": "AutoModelForSequenceClassification",
    "token": "AutoModelForTokenClassification",
    "causal": "AutoModelForCausalLM",
}
_BY_FILE = ("PreTrainedTokenizerFast", "TokenizersBackend")
"""Tokenizers that are what tokenizer.json says."""
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.pkl", "*.ckpt")
_DECIDES = (
    *(".safetensors", ".json", ".jinja", ".txt", ".model"),
    *(".tiktoken", ".spm", ".vocab", ".bpe", ".codes"),  # vocabularies of older tokenizers
)
"""Endings of files that decide a score: weights, settings, tokenizers."""
_MOST_LAYERS = 2000
"""Some ten times what the deepest models have."""
_PLACES = ("position_embeddings", "wpe", "embed_positions")
"""Names of tables of learnt positions."""
_WEIGHTS = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*\.safetensors\Z")


class Checkpoint:
    """A model in a folder or on the hub."""

    def __init__(self, source: str, revision: str | None = None, layers: Layers | None = None) -> None:
        """`source` is a folder or a hub id; `layers` a head of its own, where a card knows better than the config.

        Raises `UsageError` when there is no config to read.
        """
        folder = Path(source).expanduser()
        self.folder = folder if folder.is_dir() else None
        self.source = str(folder) if self.folder else source
        self.name = folder.resolve().name if self.folder else source
        self.revision = revision
        if self.folder is None and (source.count("/") != 1 or source.startswith((".", "/", "~"))):
            raise UsageError(f"model {source!r}: no such folder, and not a hub id (org/name)")
        self.config = self._read_config()
        if self.folder is None:  # what the hub calls main may move on between this file and the weights
            self.revision = getattr(self.config, "_commit_hash", None) or revision
        self.layers = layers or ARCHITECTURES.get(self.architecture)
        said = getattr(self.config.get_text_config(), "num_hidden_layers", None)
        if isinstance(said, int) and said > _MOST_LAYERS:  # building their classes would take minutes and all memory
            raise UsageError(f"model {self.source}: config.json says num_hidden_layers = {said:,}; none has so many")

    def _read_config(self) -> Any:
        from transformers import AutoConfig

        if self.folder is not None and not (self.folder / "config.json").is_file():
            found = ", ".join(sorted(p.name for p in self.folder.iterdir())[:8]) or "nothing"
            merge = "; an adapter is to be merged into its model first" if "adapter_config.json" in found else ""
            raise UsageError(f"model {self.source}: no config.json in this folder (found {found}){merge}")
        try:
            return AutoConfig.from_pretrained(self.source, revision=self.revision, trust_remote_code=False)
        except Exception as fault:  # noqa: BLE001 - what transformers makes of a broken file has no common base
            raw = self._raw_config()
            if raw.get("architectures") == ["InternLM2ForRewardModel"]:
                made = llama_config(raw)
                made._commit_hash = self._commit()  # noqa: SLF001 - where transformers keeps it
                return made
            raise UsageError(self._why_no_config(fault)) from None

    def _raw_config(self) -> dict[str, Any]:
        """`config.json` as it stands; empty where it cannot be read."""
        path = self._file("config.json")
        try:
            raw = strict_json.read(path) if path is not None else None
        except UsageError:
            return {}
        return raw if isinstance(raw, dict) else {}

    def _commit(self) -> str | None:
        """The hub's commit, by the place of `config.json` in its cache."""
        path = self._file("config.json") if self.folder is None else None
        return path.parent.name if path is not None and path.parent.parent.name == "snapshots" else None

    def _file(self, name: str) -> Path | None:
        """A file of the checkpoint, in its folder or in the hub's cache; None where it has none of this name."""
        from transformers.utils import cached_file

        lenient = ("gated_repo", "missing_entries", "connection_errors")
        options: dict[str, Any] = {f"_raise_exceptions_for_{one}": False for one in lenient}
        try:
            found = cached_file(self.source, name, revision=self.revision, **options)
        except OSError:
            return None
        return None if found is None else Path(str(found))

    def _why_no_config(self, fault: Exception) -> str:
        if "trust_remote_code" in str(fault) or "custom code" in str(fault):
            return (
                f"model {self.source}: needs its own Python code (auto_map in config.json), and rmeval runs no code "
                "from checkpoints. Convert it to an architecture that transformers has, or serve it."
            )
        if self.folder is not None:
            return f"{self.folder / 'config.json'}: cannot be used: {_first_line(fault)}"
        return (
            f"model {self.source}: not found as a folder, and the hub did not give its config "
            f"({_first_line(fault)}). Check the name, or give a local folder; offline, only cached models are found"
        )

    @property
    def architecture(self) -> str:
        """The class that wrote the checkpoint, as its config names it."""
        named = self.config.architectures
        return str(named[0]) if isinstance(named, list) and named else "unknown"

    @property
    def trained(self) -> dict[str, Any]:
        """What `rmeval train` says of itself in the config; empty for other checkpoints."""
        found = getattr(self.config, "rmeval", None)
        return found if isinstance(found, dict) else {}

    @property
    def kind(self) -> str:
        """`scalar`, `outcome`, `process`, `value`, `pairwise`; else `token classifier`, `language model`, `unknown`."""
        said = {"bt": "scalar", "orm": "outcome", "prm": "process", "value": "value"}.get(str(self.trained.get("kind")))
        if self.architecture == "Qwen2ForProcessRewardModel":
            return "process"
        if self.layers is not None and self.layers.paired:
            return "pairwise"
        if self.layers is not None or self.architecture.endswith("ForSequenceClassification"):
            return "scalar"
        if self.architecture.endswith("ForTokenClassification"):
            return said or "token classifier"
        if self.architecture.endswith(("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")):
            return "language model"
        return "unknown"

    @property
    def form(self) -> Form:
        """How its weights are read."""
        if self.layers is not None:
            return "layers"
        if self.architecture.endswith("ForTokenClassification"):
            return "token"
        return "causal" if self.kind == "language model" else "sequence"

    @property
    def labels(self) -> tuple[str, ...]:
        """The head's labels in order."""
        names = self.config.id2label
        return tuple(str(names[i]) for i in sorted(names))

    @property
    def exclusive(self) -> bool:
        """Whether the labels share a softmax."""
        return len(self.labels) > 1 and self.config.problem_type in (None, "single_label_classification")

    @property
    def stored_dtype(self) -> str:
        """The dtype that the config names, without `torch.`."""
        return str(getattr(self.config, "dtype", None) or "float32").removeprefix("torch.")

    @cached_property
    def reads_last(self) -> bool:
        """Whether the class reads the last token, as decoder-only ones do; others pool by a rule of their own."""
        return self.splits or self.form != "sequence"

    @cached_property
    def splits(self) -> bool:
        """Whether the weights are a backbone that reads forwards and a head on its hidden states, which may be tried.

        Known without weights: the class is built on torch's meta device.
        """
        if self.layers is not None:
            return not self.layers.paired
        if self.form == "causal":
            return True
        # no such class is said when the weights are loaded
        return self._skeleton is None or has_token_head(self._skeleton)

    @cached_property
    def _skeleton(self) -> Any:
        """The class without its weights; None for a form without an auto class, or a config that none has."""
        return self._without_weights(_AUTO[self.form]) if self.form in _AUTO else None

    def _without_weights(self, auto: str) -> Any:
        import torch
        import transformers

        try:
            with torch.device("meta"):
                return getattr(transformers, auto).from_config(self.config)
        except (KeyError, ValueError, RuntimeError):
            return None
        except Exception as fault:  # noqa: BLE001 - what classes make of odd numbers has no common base
            raise UsageError(f"model {self.source}: config.json cannot be used: {_first_line(fault)}") from None

    @cached_property
    def identity(self) -> str:
        """The hub's commit, or the sha256 over config, weights and tokenizer files of a folder."""
        if self.folder is None:
            if not (commit := getattr(self.config, "_commit_hash", None)):  # a branch's name is that of many models
                raise UsageError(f"model {self.source}: the hub's commit could not be learnt; name it: @REVISION")
            return str(commit)
        digest = hashlib.sha256()
        for path in sorted(self.folder.iterdir()):
            if path.suffix in _DECIDES:
                digest.update(path.name.encode())
                try:
                    with path.open("rb") as handle:
                        digest.update(hashlib.file_digest(handle, "sha256").digest())
                except OSError as fault:  # a folder of that name, a link to nothing, no permission
                    raise UsageError(f"{path}: cannot be read: {fault.strerror or fault}") from None
        return f"sha256:{digest.hexdigest()}"

    @property
    def weight_bytes(self) -> int:
        """Size of its weights where they lie on this machine, else 0; nothing is fetched to find out."""
        return sum(path.stat().st_size for path in self._weights())

    def _weights(self) -> list[Path]:
        """Its safetensors files, where they lie on this machine."""
        folders = [self.folder] if self.folder is not None else []
        if self.folder is None:
            from huggingface_hub import try_to_load_from_cache

            names = ("model.safetensors", "model.safetensors.index.json")
            found = (try_to_load_from_cache(self.source, name, revision=self.revision) for name in names)
            folders = [Path(path).parent for path in found if isinstance(path, str)]
        return [path for folder in folders for path in sorted(folder.glob("*.safetensors")) if path.is_file()]

    def _refuse_damaged(self) -> None:
        """Raise `UsageError` with the name of a file of weights that cannot be read, or that holds whole numbers."""
        refuse_damaged(self._weights(), quantised=getattr(self.config, "quantization_config", None) is not None)

    @cached_property
    def vocabulary(self) -> int:
        """Rows of the table of tokens; 10**9 where that is not known."""
        table = None
        with suppress(AttributeError, NotImplementedError):  # no class for its form; CANINE hashes characters
            table = self._skeleton.get_input_embeddings()
        return int(getattr(table, "num_embeddings", 10**9))

    def _refuse_overstated(self) -> None:
        """Raise `UsageError` where the config speaks of far more weights than the files can hold.

        Weights that are missing are refused once the others are loaded; by then all of them were made up in memory.
        """
        if self.folder is None:  # of the hub's files only some may be here yet
            return
        model = self._skeleton if self.layers is None else self._without_weights("AutoModel")
        size = self.weight_bytes  # half a byte a weight is the least that anybody packs
        if model is not None and size and (said := sum(one.numel() for one in model.parameters())) > 2 * size:
            raise UsageError(
                f"model {self.source}: config.json describes {said:,} weights, and its files have {size:,} bytes: some "
                "are missing, or its sizes are wrong"
            )

    def refuse_unless_loadable(self) -> None:
        """Raise `UsageError` for what could never score or is not to be read, before any weight is."""
        if self.folder is not None and not any(self.folder.glob("*.safetensors")):
            pickles = sorted(p.name for pattern in _PICKLES for p in self.folder.glob(pattern))
            if pickles:
                raise UsageError(
                    f"model {self.source}: only pickled weights ({', '.join(pickles)}), which can run code when read. "
                    "rmeval loads safetensors only: convert once with save_pretrained(..., safe_serialization=True)"
                )
            raise UsageError(f"model {self.source}: no *.safetensors in this folder")
        if self.form == "causal" and self.config.is_encoder_decoder:
            raise UsageError(
                f"model {self.source}: {self.architecture} reads with an encoder and writes with a decoder. Language "
                "models that rmeval reads are decoders alone: without its encoder this one would say anything"
            )
        refuse_elsewhere(self.source, self._file, getattr(self.config, "transformers_weights", None))
        self._refuse_damaged()
        self._refuse_overstated()

    def table_of_places(self) -> int:
        """Rows of the table in which learnt positions stand; 10**9 for a class without one, which may read on."""
        import torch

        said = getattr(self.config.get_text_config(), "max_position_embeddings", None)
        rows: list[int] = []
        for name, table in self._skeleton.named_modules() if self._skeleton is not None else ():
            if name.endswith(_PLACES) and isinstance(table, torch.nn.Embedding):
                pad = table.padding_idx  # RoBERTa counts from behind it
                rows.append(table.num_embeddings - (0 if pad is None else pad + 1))
                rows += [said] if isinstance(said, int) else []  # OPT's table has two rows more
        return min(rows, default=10**9)

    def max_length(self, tokenizer: Any) -> int:
        """Tokens the model may read: the smallest of what tokenizer, config and a table of positions say."""
        limits = [tokenizer.model_max_length, getattr(self.config.get_text_config(), "max_position_embeddings", None)]
        if not self.splits:
            limits.append(self.table_of_places())
        known = [int(n) for n in limits if isinstance(n, int | float) and 1 <= n < 10**9]
        return min(known) if known else 10**9

    def tokenizer(self) -> Any:
        """The checkpoint's own tokenizer."""
        from transformers import AutoTokenizer, PreTrainedTokenizerFast
        from transformers.models.auto.tokenization_auto import get_tokenizer_config
        from transformers.utils import logging

        logging.set_verbosity_error()
        # of a backbone that was renamed, the tokenizer's own class is code of the checkpoint
        kind = PreTrainedTokenizerFast if self.layers is not None and self.layers.backbone else AutoTokenizer
        try:
            found = kind.from_pretrained(self.source, revision=self.revision, trust_remote_code=False)
            said = get_tokenizer_config(self.source, revision=self.revision).get("tokenizer_class")
            # transformers gives some architectures (Qwen2) their own splitting of words, whatever tokenizer.json says
            if said in _BY_FILE and type(found).__name__ not in _BY_FILE:
                note(f"{self.name}: its tokenizer was saved as {said} and is read as {type(found).__name__}: see that "
                     "texts come apart as in training")  # fmt: skip
            return found  # noqa: TRY300
        except Exception as fault:  # noqa: BLE001 - as above, and the tokenizers library raises Exception itself
            raise UsageError(f"model {self.source}: its tokenizer cannot be read: {_first_line(fault)}") from None

    def load(self, *, dtype: str, device: str, attention: str | None) -> Any:
        """The model in evaluation mode. Raises `UsageError` when any weight is missing from the checkpoint."""
        import torch
        import transformers
        from transformers.utils import logging

        self.refuse_unless_loadable()
        logging.set_verbosity_error()
        logging.disable_progress_bar()
        if attention is None and getattr(self.config.get_text_config(), "attn_logit_softcapping", None):
            attention = "eager"  # some versions of transformers (5.17) take one that leaves the capping out
        options = {"attn_implementation": attention} if attention else {}
        stored = getattr(torch, dtype)
        try:
            if self.layers is not None:
                model = build(self.source, self.revision, self.layers, self.config, dtype=stored, **options)
                self._refuse_damaged()
                return model.eval().to(device)
            model, info = getattr(transformers, _AUTO[self.form]).from_pretrained(
                self.source,
                revision=self.revision,
                dtype=stored,
                use_safetensors=True,
                trust_remote_code=False,
                output_loading_info=True,
                **options,
            )
        except (MemoryError, UsageError):
            raise
        except Exception as fault:  # noqa: BLE001 - odd values in a config fail wherever transformers first needs them
            raise UsageError(f"model {self.source}: cannot be loaded: {_first_line(fault)}") from None
        self._refuse_damaged()  # those that came from the hub only now
        if info["missing_keys"]:
            raise missing(self.source, info["missing_keys"])
        self._refuse_unread(model, sorted(info["unexpected_keys"]))
        _forgetful(model)
        return model.eval().to(device)

    def _refuse_unread(self, model: Any, names: list[str]) -> None:
        """Raise `UsageError` for weights of an adapter or of the head that the class would leave out; name others."""
        head = {f"{name}." for name, _ in model.named_children() if name != model.base_model_prefix}
        names = [name for name in names if not name.startswith("lm_head.") and "rotary" not in name]
        for name in names:
            if "lora_" in name or any(name.startswith(one) for one in head):
                what = "of an adapter that is not merged" if "lora_" in name else "of its head"
                raise UsageError(
                    f"model {self.source}: the checkpoint holds {name}, {what}, and {type(model).__name__} would leave "
                    "it out: scores would be those of another model"
                )
        if names:
            note(f"{self.name}: {type(model).__name__} has no use for {len(names)} weights, such as {names[0]}")


def has_token_head(model: Any) -> bool:
    """Whether the class applies a linear `score` head to every position, as decoder-only classifiers do."""
    import torch

    return isinstance(getattr(model, "score", None), torch.nn.Module)


def _forgetful(model: Any) -> None:
    """Have `dynamic` rotary angles depend on the text at hand, and not on the longest that was read before it."""

    def forget(module: Any, _: Any) -> None:
        for name, original in list(module.named_buffers(recurse=False)):
            if name.endswith("original_inv_freq"):
                of = name.removesuffix("original_inv_freq")  # a kind of layers, where each has angles of its own
                setattr(module, f"{of}inv_freq", original)
                setattr(module, f"{of}max_seq_len_cached", module.original_max_seq_len)

    for module in model.modules():
        if "dynamic" in str(getattr(module, "rope_type", "")):
            module.register_forward_pre_hook(forget)


def refuse_elsewhere(source: str, file: Callable[[str], Path | None], named: object = None) -> None:
    """Raise `UsageError` for a checkpoint whose weights are not all in safetensors files beside its config.

    transformers follows an index, or a file's name in the config, into other folders and to pickles, and adds an
    adapter that lies beside weights; none of that would be in the checkpoint's digest. `file` gives a file by its name.
    """
    if file("adapter_config.json") is not None:
        raise UsageError(
            f"model {source}: an adapter lies beside its weights (adapter_config.json), which would be added to them. "
            "Merge it into the weights (PEFT: merge_and_unload, save_pretrained), or take its files away"
        )
    names: list[object] = [] if named is None else [str(named).removesuffix(".index.json")]
    index = str(named) if str(named).endswith(".index.json") else "model.safetensors.index.json"
    if all(_WEIGHTS.match(str(one)) for one in names) and (path := file(index)) is not None:
        listed = strict_json.read(path)
        held = listed.get("weight_map") if isinstance(listed, dict) else None
        names += held.values() if isinstance(held, dict) else []
    for one in names:
        if not (isinstance(one, str) and _WEIGHTS.match(one)):
            raise UsageError(
                f"model {source}: its weights are said to lie in {one!r}: only safetensors files beside its config are "
                "read. Save it again with save_pretrained"
            )


def _first_line(fault: Exception) -> str:
    lines = str(fault).strip().splitlines()
    return lines[0] if lines else type(fault).__name__
