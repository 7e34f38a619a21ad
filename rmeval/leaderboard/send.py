"""How a submission leaves this machine: git steps that are printed, a pull request by `gh`, or one on the hub.

Nothing here runs unless it was asked for: what is sent is public and cannot be taken back.

What this module does not know: what is in a submission, whether it is sound.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rmeval.errors import UsageError
from rmeval.results import ResultView


@dataclass(frozen=True, slots=True)
class Letter:
    """A submission's folder with what is written on the outside."""

    folder: Path
    branch: str
    title: str
    body: str


def letter(folder: Path, view: ResultView, level: str) -> Letter:
    """The branch, title and text that a submission is sent with."""
    held = view.result
    # a branch holds no two dots in a row and does not end in one
    name = re.sub(r"\.+", ".", f"submit-{folder.parent.name}-{folder.name}").lower()
    value = "none" if held.headline.value is None else f"{held.headline.value:.6g}"
    body = (
        f"{held.model.name} ({held.model.kind}, revision {held.model.revision or 'none'}) on {held.suite.name}, "
        f"{held.suite.examples} examples: {held.headline.name} {value}.\n\n"
        f"`rmeval verify` says {level}. Result {held.id}."
    )
    return Letter(folder, f"{name}-{held.id[:7]}", f"Submit {held.model.name} on {held.suite.name}", body)


def git_steps(sent: Letter) -> list[list[str]]:
    """The commands that put a submission on a branch of its own and push it; other changes stay out of the commit."""
    folder = str(sent.folder)
    return [
        ["git", "switch", "-c", sent.branch],
        ["git", "add", "--", folder],
        ["git", "commit", "-m", sent.title, "--", folder],
        ["git", "push", "-u", "origin", sent.branch],
    ]


def has_gh() -> bool:
    """Whether GitHub's own command is there."""
    return shutil.which("gh") is not None


def need_gh() -> None:
    """Raise `UsageError` where it is not."""
    if not has_gh():
        raise UsageError("--pull-request needs GitHub's command `gh` on the PATH; without it the git steps are printed")


def open_pull_request(sent: Letter) -> str:
    """Run the steps and `gh pr create`; the address that `gh` prints.

    Raises `UsageError` where there is no `gh`, and for the first step that fails, with the steps that are left.
    """
    need_gh()
    create = ["gh", "pr", "create", "--title", sent.title, "--body", sent.body, "--head", sent.branch]
    steps = [*git_steps(sent), create]
    said = ""
    for n, step in enumerate(steps):
        done = subprocess.run(step, capture_output=True, text=True, check=False)  # noqa: S603 - words, no shell
        said = done.stdout.strip()
        if done.returncode:
            left = "\n".join(f"  {one}" for one in spelled(steps[n:]))
            why = done.stderr.strip() or f"exit code {done.returncode}"
            raise UsageError(f"{' '.join(step[:2])}: {why}\nthe submission is written; these steps are left:\n{left}")
    return said.splitlines()[-1] if said else ""


def spelled(steps: Sequence[Sequence[str]]) -> list[str]:
    """Commands as a person types them."""
    return [shlex.join(step) for step in steps]


def push_to_hub(sent: Letter, data_set: str) -> str:
    """The submission as a pull request to a data set on the hub, never as a commit; its address.

    Raises `UsageError` where the hub refuses or cannot be reached.
    """
    from huggingface_hub import CommitOperationAdd, HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

    # of the HTTP library that the client is built on, whichever it is: also raised where nobody answers
    unanswered: type[BaseException] = HfHubHTTPError.__mro__[1]

    place = f"submissions/{sent.folder.parent.name}/{sent.folder.name}"
    files = [CommitOperationAdd(f"{place}/{path.name}", path) for path in sorted(sent.folder.iterdir())]
    try:
        made = HfApi().create_commit(
            data_set,
            files,
            repo_type="dataset",
            commit_message=sent.title,
            commit_description=sent.body,
            create_pr=True,
        )
    except OfflineModeIsEnabled:
        raise UsageError("--push-to-hub: HF_HUB_OFFLINE is set, so nothing is sent") from None
    except (unanswered, HFValidationError) as fault:
        said = " ".join(str(fault).split())[:300]
        raise UsageError(f"--push-to-hub {data_set}: {said}") from None
    return str(made.pr_url or made.commit_url)
