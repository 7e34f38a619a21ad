"""Data sets on the hub -> rows: each read from the files of one commit, in the hub's own cache.

The files that a split needs are downloaded once (`huggingface_hub`) and then read by the reader of local files, so that
a suite is the same whether it comes from the hub or from a clone. `datasets.load_dataset` is not given the name of the
data set: where the hub cannot be asked, it takes the newest copy that it once prepared, whatever commit was wanted.

With `HF_HUB_OFFLINE=1` nothing here touches the network.

What this module does not know: suites, cards, what the columns mean.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rmeval.errors import ResourceError, UsageError, near_miss
from rmeval.progress import note
from rmeval.readers.rows import SUFFIXES, Row, read_file
from rmeval.whole_files import is_full

CARD = "README.md"
"""The file in which a data set on the hub says which files make which split."""

_COMMIT = re.compile(r"[0-9a-f]{40}")


class _NoFile(Exception):  # noqa: N818 - it reads as what happened
    """Nothing matches: it was never published, or offline, it may not have been downloaded."""


def is_commit(revision: str) -> bool:
    """Whether a revision names one state for ever, rather than a branch or a tag.

    >>> is_commit("main"), is_commit("2f2fd8ae590aeb949f7be265478b05280f93db68")
    (False, True)
    """
    return _COMMIT.fullmatch(revision) is not None


def resolve_revision(hub: str, revision: str) -> str:
    """The commit behind a branch or tag of a data set.

    Offline, or where the hub cannot be reached, it is the commit that the branch had when it was last downloaded; the
    revision as given where nothing is known of it. Raises `UsageError` where the hub says that there is no such data
    set or revision, or that one must log in.
    """
    if is_commit(revision):
        return revision
    from huggingface_hub import HfApi, constants

    if not constants.HF_HUB_OFFLINE:
        try:
            HfApi().dataset_info(hub, revision=revision)
            return _snapshot(hub, revision, [CARD]).name  # which notes the commit of the branch in the cache
        except Exception as fault:  # noqa: BLE001
            # no network, a proxy, a hub that is down: no common base
            _refuse_if_full(fault)
            if refused := _refused(hub, fault):
                raise UsageError(f"hub data set {hub}@{revision} cannot be read: {refused}") from None
            known = _cached_commit(hub, revision)
            if known:
                note(f"the hub cannot be asked for {hub} ({_reason(fault)}); read at the commit in the cache: {known}")
    return _cached_commit(hub, revision) or revision


def read_hub(hub: str, revision: str, config: str | None, split: str, files: tuple[str, ...]) -> Iterator[Row]:
    """The rows of one split of a data set, in the order of its files. Errors are those of `split_files` and the reader.

    A row's place is `<data set> <file> row <n>`.
    """
    for path in split_files(hub, revision, config, split, files):
        yield from read_file(path, f"{hub} {_inside(path)}")


def split_files(hub: str, revision: str, config: str | None, split: str, files: tuple[str, ...]) -> tuple[Path, ...]:
    """The files of one split in the hub's cache, downloaded where they are not there yet.

    `files` are globs from the root of the data set. Those whose name or folder is the split's are taken, and where none
    is, all of them are the split `train`. Without globs the data set itself says which files make a split: in the
    `configs` of its card, else by their names, as `datasets` reads them.

    Raises `UsageError` that says what was asked for, what is there, and offline, how to bring what is not.
    """
    wanted = f"{hub}@{revision}" + (f", config {config}" if config else "") + f", split {split}"
    from huggingface_hub import constants
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        if files:
            return _named(_snapshot(hub, revision, files), files, split)
        return _declared(hub, revision, config, split)
    except (UsageError, _NoFile, LocalEntryNotFoundError) as fault:
        if isinstance(fault, LocalEntryNotFoundError) or (isinstance(fault, _NoFile) and constants.HF_HUB_OFFLINE):
            raise UsageError(_not_at_hand(hub, wanted, fault)) from None
        raise UsageError(f"hub data set {wanted} cannot be read: {fault}") from None
    except Exception as fault:  # noqa: BLE001
        # network, authorisation, disk, a card that is no YAML: no common base
        _refuse_if_full(fault)
        raise UsageError(
            f"hub data set {wanted} cannot be read: {_refused(hub, fault) or _reason(fault)}. "
            "With --data PATH rmeval reads a local copy in the hub's or the official repository's layout."
        ) from None


def cache_folder(hub: str) -> Path:
    """Where the hub's cache keeps a data set: every commit, and the files that they share.

    >>> cache_folder("acme/refunds").name
    'datasets--acme--refunds'
    """
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE) / f"datasets--{hub.replace('/', '--')}"


def _snapshot(hub: str, revision: str, patterns: Iterable[str]) -> Path:
    """The folder of a commit in the hub's cache, with at least the files that match."""
    from huggingface_hub import snapshot_download

    with _bars():
        return Path(snapshot_download(hub, repo_type="dataset", revision=revision, allow_patterns=list(patterns)))


def _cached_commit(hub: str, revision: str) -> str | None:
    reference = cache_folder(hub) / "refs" / revision
    try:
        commit = reference.read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return None
    return commit if is_commit(commit) else None  # torn, or another file: a revision of a card may hold `..`


def _named(folder: Path, globs: tuple[str, ...], split: str) -> tuple[Path, ...]:
    """The files that globs name, those of the split where their names tell."""
    found: dict[Path, None] = {}
    for glob in globs:
        matched = [file for file in sorted(folder.glob(glob)) if file.is_file()]
        if not matched:
            raise _NoFile(f"no file matches {glob!r}")
        found.update(dict.fromkeys(matched))
    mine = tuple(file for file in found if _carries(file, split))
    if not mine and split != "train":
        names = ", ".join(sorted(_inside(file) for file in found)[:6])
        raise UsageError(f"none of the files carries the split in its name or folder ({names})")
    return mine or tuple(found)


def _declared(hub: str, revision: str, config: str | None, split: str) -> tuple[Path, ...]:
    """The files of a split as the data set's own card, or else the names of its files, say."""
    from datasets.data_files import DataFilesDict, EmptyDatasetError, get_data_patterns, sanitize_patterns

    configs = _configs(_snapshot(hub, revision, [CARD]) / CARD)
    said: dict[str, Any] = {}
    if configs:
        name = config or ("default" if "default" in configs else next(iter(configs)))
        if config is None and len(configs) > 1 and "default" not in configs:
            chosen = [key for key, one in configs.items() if one.get("default")]
            if len(chosen) != 1:
                raise UsageError(f"it has several configs, name one: {', '.join(configs)}")
            name = chosen[0]
        if name not in configs:
            raise UsageError(f"there is no such config. {near_miss(name, configs)} It has {', '.join(configs)}")
        said = configs[name]
    inside = str(said.get("data_dir") or ("" if configs else config or ""))
    patterns = sanitize_patterns(said["data_files"]) if "data_files" in said else None
    if patterns is not None and split not in patterns:
        raise UsageError(f"there is no such split. {near_miss(split, patterns)} It has {', '.join(patterns)}")
    globs = patterns[split] if patterns else [f"*{suffix}" for suffix in SUFFIXES]
    base = _snapshot(hub, revision, [f"{inside}/{one}" if inside else one for one in globs]) / inside
    try:
        patterns = {split: patterns[split]} if patterns else get_data_patterns(base.as_posix())
        found = DataFilesDict.from_patterns(patterns, base_path=base.as_posix())
    except (EmptyDatasetError, FileNotFoundError):
        raise _NoFile(
            f"it holds no file {', '.join(globs)}{f' in {inside}/' if inside else ''}. Where a data set is a loading "
            "script, which is never run here, the hub's own copy of its rows is at the revision refs/convert/parquet"
        ) from None
    by_name = sorted(file for file in base.rglob("*") if _carries(file, split))
    if not (paths := tuple(Path(file) for file in found.get(split, by_name))):
        raise UsageError(f"there is no such split. It has {', '.join(found)}")
    return paths


def _configs(card: Path) -> dict[str, dict[str, Any]]:
    """What the card of a data set says about its configs, by name."""
    if not card.is_file():
        return {}
    from datasets.utils.metadata import MetadataConfigs
    from huggingface_hub import DatasetCard

    return dict(MetadataConfigs.from_dataset_card_data(DatasetCard.load(card).data))


def _carries(file: Path, split: str) -> bool:
    """Whether a file's name or its folder is the split's.

    >>> [_carries(Path(name), "raw") for name in ["raw.jsonl", "data/raw-00000-of-00001.parquet", "raw/0.parquet"]]
    [True, True, True]
    """
    stem = file.name.partition(".")[0]
    return file.name.endswith(SUFFIXES) and (stem == split or stem.startswith(f"{split}-") or file.parent.name == split)


def _inside(path: Path) -> str:
    """A file's path inside its data set: what follows `snapshots/<commit>/`.

    >>> _inside(Path("/cache/datasets--a--b/snapshots/0123/data/test.parquet"))
    'data/test.parquet'
    """
    return path.as_posix().partition("/snapshots/")[2].partition("/")[2]


def _not_at_hand(hub: str, wanted: str, fault: Exception) -> str:
    from huggingface_hub import constants

    why = "and HF_HUB_OFFLINE forbids to ask the hub" if constants.HF_HUB_OFFLINE else "and the hub cannot be reached"
    if not constants.HF_HUB_OFFLINE and fault.__cause__ is not None:
        why += f" ({_reason(fault)})"
    return (
        f"hub data set {wanted} is not, or not in full, in the hub's cache {constants.HF_HUB_CACHE}, {why}. "
        "On a machine with a network: rmeval fetch SUITE. Then copy the folder "
        f"{cache_folder(hub).name} from its cache ($HF_HOME/hub) into this one, or point HF_HOME to a shared one. "
        "Or read a local copy: --data PATH."
    )


def _refuse_if_full(fault: BaseException) -> None:
    """Raise `ResourceError` where what failed was to write into the cache."""
    from huggingface_hub import constants

    cause: BaseException | None = fault
    while cause is not None:
        if is_full(cause):
            raise ResourceError(
                f"{constants.HF_HUB_CACHE}: the disk is full; free some space and run the same command again"
            ) from None
        cause = cause.__cause__


def _refused(hub: str, fault: Exception) -> str | None:
    """What the hub's own refusal means, None for every other fault."""
    from huggingface_hub import constants
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    if isinstance(fault, GatedRepoError):
        return f"access must be asked for at {constants.ENDPOINT}/datasets/{hub}; then log in: hf auth login"
    if isinstance(fault, RepositoryNotFoundError):
        return f"{constants.ENDPOINT} has no such data set, or it is private: log in with hf auth login"
    return "it has no such branch, tag or commit" if isinstance(fault, RevisionNotFoundError) else None


def _reason(fault: BaseException) -> str:
    while fault.__cause__ is not None:
        fault = fault.__cause__
    return " ".join(str(fault).split())[:300].rstrip(".") or type(fault).__name__


@contextmanager
def _bars() -> Iterator[None]:
    """The hub's own progress bars on a terminal, none elsewhere."""
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    hide = not sys.stderr.isatty() and not are_progress_bars_disabled()
    if hide:
        disable_progress_bars()
    try:
        yield
    finally:
        if hide:
            enable_progress_bars()
