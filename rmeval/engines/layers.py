"""Reward heads that stand on a backbone as layers of their own, in checkpoints whose class transformers lacks.

The backbone is loaded by transformers, or renamed to one that it has; the head's weights are read by their names in the
safetensors files and run in fp32. No code of a checkpoint is run, and a weight that the files lack is refused.

| head               | outputs at a place                                                                            |
|--------------------|-----------------------------------------------------------------------------------------------|
| layers             | linear layers with ReLU between them                                                          |
| gated (ArmoRM)     | k objectives, and k weights of the mixture: softmax(MLP(hidden) / temperature) times a scale   |
| paired (PairRM)    | linear layers with tanh between them, of the first place of the text and this one together    |

What this module does not know: requests, which output is the reward.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rmeval import strict_json
from rmeval.errors import UsageError


@dataclass(frozen=True, slots=True)
class Layers:
    """Where a checkpoint keeps a head of its own."""

    linear: tuple[str, ...]
    """Names of its linear layers in order; ReLU stands between two of them."""
    backbone: str = ""
    """`internlm2` where the backbone is renamed to Llama's; "" where transformers has it."""
    gated: bool = False
    """Whether it is ArmoRM's: `regression_layer`, `reward_transform_matrix` and `gating`."""
    paired: bool = False
    """Whether it is PairRM's, which reads each place together with the first place of its text."""
    prefix: str = ""
    """What the names of the backbone's weights begin with, where transformers expects another name."""


ARCHITECTURES: dict[str, Layers] = {
    "Qwen2ForProcessRewardModel": Layers(("score.0", "score.2")),
    "Qwen2ForRewardModel": Layers(("score.0", "score.2")),
    "InternLM2ForRewardModel": Layers(("v_head",), backbone="internlm2"),
    "INFORMForSequenceClassification": Layers(("score.0", "score.2")),
    "LlamaForRewardModelWithGating": Layers((), gated=True),
    "DebertaV2PairRM": Layers(("head_layer.1", "head_layer.4"), paired=True, prefix="pretrained_model."),
}
"""Classes that transformers lacks, by the name that `config.json` gives."""


def build(source: str, revision: str | None, layers: Layers, config: Any, **options: Any) -> Any:
    """The backbone with its head; `options` for the backbone. Raises `UsageError` for weights that the files lack."""
    import torch
    from transformers import AutoModel

    files = Files(source, revision)
    if layers.backbone == "internlm2":
        backbone = _renamed(files, config, options["dtype"])
    else:
        names = {f"^{re.escape(layers.prefix)}": ""} if layers.prefix else None
        backbone, info = AutoModel.from_pretrained(
            source,
            key_mapping=names,
            config=config,
            revision=revision,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
            **options,
        )
        if info["missing_keys"]:
            raise missing(source, info["missing_keys"])
    between = torch.nn.Tanh if layers.paired else torch.nn.ReLU
    head = _gated(files, config) if layers.gated else _stack(files, layers.linear, between)

    class Layered(torch.nn.Module):
        """A backbone, and the head at chosen places."""

        def __init__(self) -> None:
            super().__init__()
            self.backbone, self.head, self.paired = backbone, head, layers.paired

        def forward(self, input_ids: Any, mask: Any, where: tuple[Any, Any]) -> Any:
            hidden = self.backbone(input_ids=input_ids, attention_mask=mask, use_cache=False).last_hidden_state
            read = hidden[where].float()
            if layers.paired:  # the rows are in order, so the search finds the first place of each
                first = torch.searchsorted(where[0].contiguous(), where[0].contiguous())
                read = torch.cat([read[first], read], dim=-1)
            return self.head(read)

    return Layered()


def missing(source: str, names: Iterable[str]) -> UsageError:
    """The refusal of a checkpoint without some of its weights."""
    found = sorted(names)
    more = f" and {len(found) - 4} more" if len(found) > 4 else ""
    return UsageError(
        f"model {source}: the checkpoint does not hold {', '.join(found[:4])}{more}, so these weights would be random. "
        "A reward model needs a trained head."
    )


_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*\Z")


class Files:
    """The tensors of a checkpoint's safetensors files by name, in a folder or on the hub."""

    def __init__(self, source: str, revision: str | None = None) -> None:
        self.source, self.revision = source, revision
        self.where = self._index()

    def __getitem__(self, name: str) -> Any:
        """One tensor in fp32. Raises `UsageError` where no file holds it."""
        return self.tensor(name).float()

    def get(self, name: str) -> Any:
        """One tensor in fp32, or None."""
        return self[name] if name in self.where else None

    def tensor(self, name: str) -> Any:
        """One tensor as stored."""
        if name not in self.where:
            raise missing(self.source, [name])
        with self._opened(self.where[name]) as held:
            return held.get_tensor(name)

    @contextlib.contextmanager
    def _opened(self, file: str) -> Iterator[Any]:
        """A safetensors file; `UsageError` where it is none, or damaged."""
        from safetensors import SafetensorError, safe_open

        path = self._path(file)
        try:
            with safe_open(path, framework="pt") as held:
                yield held
        except (OSError, SafetensorError) as fault:
            raise UsageError(f"{path}: damaged, or no safetensors file: {fault}") from None

    def _path(self, file: str) -> str:
        if Path(self.source).is_dir():
            return str(Path(self.source) / file)
        from huggingface_hub import hf_hub_download

        return str(hf_hub_download(self.source, file, revision=self.revision))

    def _index(self) -> dict[str, str]:
        """Name of a tensor -> the file that holds it."""
        try:
            path = Path(self._path("model.safetensors.index.json"))
        except OSError:
            path = None
        if path is not None and path.is_file():  # a checkpoint in one file has no index
            index = strict_json.read(path)
            files = index.get("weight_map") if isinstance(index, dict) else None
            if not isinstance(files, dict) or not all(
                isinstance(one, str) and _NAME.match(one) for one in files.values()
            ):
                raise UsageError(f"{path}: no `weight_map` of tensors to files beside it")
            return files
        files = ["model.safetensors"]
        if Path(self.source).is_dir():
            files = sorted(path.name for path in Path(self.source).glob("*.safetensors"))
        found = {}
        for file in files:
            with self._opened(file) as held:
                found.update(dict.fromkeys(held.keys(), file))
        return found


def _linear(files: Files, name: str) -> Any:
    import torch

    weight = files[f"{name}.weight"]
    bias = files.get(f"{name}.bias")
    layer = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    with torch.no_grad():
        layer.weight.copy_(weight)
        if bias is not None:
            layer.bias.copy_(bias)
    return layer


def _stack(files: Files, names: Iterable[str], between: Any) -> Any:
    import torch

    stack: list[Any] = []
    for name in names:
        stack += [between(), _linear(files, name)] if stack else [_linear(files, name)]
    return torch.nn.Sequential(*stack)


def _gated(files: Files, config: Any) -> Any:
    """ArmoRM's head: [places, 2k], the transformed objectives and then the weights of the mixture."""
    import torch

    depth = sum(1 for name in files.where if name.startswith("gating.layers.") and name.endswith(".weight"))
    rewards = _linear(files, "regression_layer")
    transform = files["reward_transform_matrix"]
    gate = _stack(files, [f"gating.layers.{i}" for i in range(depth)], torch.nn.ReLU)
    scale = float(files["gating.logit_scale"][0])
    temperature = getattr(config, "gating_temperature", None)
    k = rewards.out_features
    if not temperature or transform.shape != (k, k) or gate[-1].out_features != k:
        raise UsageError(
            f"model {files.source}: a gated head, and not ArmoRM's ({k} objectives, a transform of "
            f"{list(transform.shape)}, {gate[-1].out_features} weights): a quantile head of the same name has no "
            "published reading that rmeval knows. Score it with its authors' code and replay the scores"
        )

    class Gated(torch.nn.Module):
        """Objectives and their weights."""

        def __init__(self) -> None:
            super().__init__()
            self.rewards, self.gate = rewards, gate
            self.register_buffer("transform", transform)

        def forward(self, hidden: Any) -> Any:
            mixture = (self.gate(hidden) / temperature).softmax(dim=-1) * scale
            return torch.cat([self.rewards(hidden) @ self.transform, mixture], dim=-1)

    return Gated()


def internlm2_as_llama(files: Files, config: Any) -> dict[str, Any]:
    """InternLM2's weights under Llama's names; the fused projection holds, per key head, its queries, key and value."""
    heads, kept = config.num_attention_heads, config.num_key_value_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // heads
    each = heads // kept
    found = {
        "embed_tokens.weight": files.tensor("model.tok_embeddings.weight"),
        "norm.weight": files.tensor("model.norm.weight"),
    }
    names = {
        "attention.wo": "self_attn.o_proj",
        "feed_forward.w1": "mlp.gate_proj",
        "feed_forward.w3": "mlp.up_proj",
        "feed_forward.w2": "mlp.down_proj",
        "attention_norm": "input_layernorm",
        "ffn_norm": "post_attention_layernorm",
    }
    for i in range(config.num_hidden_layers):
        ours, theirs = f"layers.{i}.", f"model.layers.{i}."
        for theirs_name, our_name in names.items():
            found[f"{ours}{our_name}.weight"] = files.tensor(f"{theirs}{theirs_name}.weight")
        fused = files.tensor(f"{theirs}attention.wqkv.weight").unflatten(0, (kept, each + 2, size))
        for name, part in (("q", fused[:, :each]), ("k", fused[:, each : each + 1]), ("v", fused[:, each + 1 :])):
            found[f"{ours}self_attn.{name}_proj.weight"] = part.flatten(0, 2)
    return found


def _renamed(files: Files, config: Any, dtype: Any) -> Any:
    from transformers import LlamaModel

    model = LlamaModel(config).to(dtype)
    model.load_state_dict(internlm2_as_llama(files, config), strict=True)
    return model


def llama_config(raw: dict[str, Any]) -> Any:
    """The config of an InternLM2 backbone as Llama's, which has the same shape.

    Raises `UsageError` for biases, which Llama's class has in other places.
    """
    from transformers import LlamaConfig

    if raw.get("bias"):
        raise UsageError("an InternLM2 backbone with biases has no counterpart among Llama's; serve it with vLLM")
    known = (
        *("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"),
        *("num_key_value_heads", "hidden_act", "max_position_embeddings", "initializer_range", "rms_norm_eps"),
        *("bos_token_id", "eos_token_id", "pad_token_id", "tie_word_embeddings", "architectures", "reward_token_id"),
    )
    found = {name: raw[name] for name in known if name in raw}
    scaling = raw.get("rope_scaling")
    rope = {"rope_type": "default", "rope_theta": float(raw.get("rope_theta", 10000.0))}
    if scaling:
        rope = {"rope_type": str(scaling["type"]), "factor": float(scaling["factor"]), "rope_theta": rope["rope_theta"]}
    return LlamaConfig(**found, rope_parameters=rope, num_labels=1)
