"""The 64 faults: what goes wrong, and what has to happen then.

A test that proves the outcome of a fault, or a part of it, carries `@pytest.mark.fault("F12")`.

What this module does not know: which tests there are.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Fault:
    """One way to go wrong."""

    code: str
    what: str
    outcome: str
    made: str
    """How the tests make it happen."""


GROUPS = {
    "Model and data": range(1, 19),
    "Process and storage": range(19, 31),
    "Judges behind a server": range(31, 49),
    "Submissions and the board": range(49, 59),
    "Statistics": range(59, 65),
}

_ALL = """
F1 | a checkpoint with pickled weights alone | refused with exit 2, which names safetensors; the pickle is never read | a pickle that would write a file
F2 | pickles beside good safetensors | the safetensors are used; the pickles are never read | `.bin`, `.pt`, `.pkl`, `.ckpt` that would write a file
F3 | a checkpoint that brings its own Python code | refused, with or without a revision: no option runs code from a checkpoint; where transformers has the class itself, that one is read and the result says so | `auto_map` and a module that would write a file
F4 | Python files in a suite's folder | never imported, on no path through the suite; a note says that they were ignored | `__init__.py`, `suite.py`, `conftest.py` and more that would write a file
F5 | a card with a YAML object that runs a command | cards are TOML, and YAML is refused; a data set's YAML card on the hub is read by the safe loader | `!!python/object/apply:os.system`
F6 | safetensors with a header length of 2^63, cut short, or of another dtype than stated | one line with the file's name, exit 2, no traceback, under 200 MB above what the process had | files written byte by byte; peak memory read from the kernel
F7 | a chat template that reaches for Python's insides, or never ends | the sandbox refuses it, or the time limit ends it, in whatever thread it renders; every text is missing with the reason `template_refused`, and the run is incomplete | templates with `__mro__`, endless loops and endless powers
F8 | weights that hold NaN | every score is missing as `non_finite`, the aggregates are withheld, exit 3 | NaN in the head of a real checkpoint
F9 | one score in a thousand is NaN | listed as missing, the accuracy withheld; with `--max-failed 1` it stands with n = 999 | NaN in the embedding of one rare word
F10 | infinite scores, minus zero, margins of 1e308 | infinity is no score; the others compare as numbers do, and nothing overflows on the way to the result | replayed scores; an engine's own infinity
F11 | malformed rows | each named with its line, the first twenty at once, exit 2; harmless oddities are read; `--skip-bad-rows` goes on without them, counts them, marks the data's digest and calls the result incomplete | files with one fault per row
F12 | data altered after they were pinned | refused: the digest of ids, prompts and labels, or of all texts, is not the one pinned in the card | one byte of a file changed
F13 | an empty suite, one row, a subset without rows | an error that says so; an interval that is not estimable; an undefined aggregate that is never 0 and never NaN in the JSON | data files of that size
F14 | responses that are empty, blank, of one token, or of 100,000 | scored, or missing with the flag `truncated`, as the limit says; examples with an empty response or a text over the limit are listed; never a crash | texts of that length through real weights
F15 | a text of the limit less one, the limit, and one more | flags 0, 0, 1; where nothing may be cut, the third fails alone | texts counted in tokens
F16 | a pad token that is the eos token, and eos inside a prompt | the score of a batch is the score of the text alone | a checkpoint whose pad is its eos
F17 | padding on the other side, a neighbour ten times as long | no score moves by more than 1e-4, no decision changes | two copies of a checkpoint, and one very long text
F18 | batches of 1, 2, 7 and 32, and rows shuffled | the same decisions; no score moves by more than 1e-4 in float32 | the same rows in every batch size
F19 | SIGKILL at any moment of a run, a judging or a training | the same command does at most one batch, `concurrency` calls or `save_steps` steps again and ends with the same bytes as an undisturbed run | twenty processes of each killed at seeded moments
F20 | SIGINT or SIGTERM in the middle of a batch, a training, a write | exit 130 and the command that resumes; the store is sound and nothing is there by half; a second signal ends it at once | signals to a process at work, and to one that hangs in its clean-up
F21 | killed between writing a file and renaming it | the old file is whole; what was half written is gone after the next start | SIGKILL at the rename
F22 | a full disk, under every command that writes | exit 4 before anything is scored where 16 MiB are lacking, else what was committed is there, nothing by half, and the same command ends its work once there is room | a limit on file size, a limit on database pages, ENOSPC at the flush
F23 | a results folder that is read-only, a file, or gone | exit 2 with the path before anything is scored; one that goes in the middle is made again | a file, a place without permission, a folder removed while scoring
F24 | two processes at one run, one training or one board; many at one store | the second exits 5; of many none meets a lock and no row is lost | processes at once
F25 | a lock of a process that is gone, alive, or on another host | taken over with a note, also where another process has its number now; refused; refused | lock files with such contents
F26 | a store with a damaged header, a torn log, an older or newer schema | refused with its path and what to do, copied beside itself, left as it is, never made anew; of a torn log what was committed whole is read; an older one is brought up to date, a newer one refused | bytes written over real files
F27 | the same run with another limit, template, suite or judge; with another batch size | new keys, nothing mixed, and each field that changed since the model's last run on the suite is printed with both values; stored replies are used | two runs on one store
F28 | out of memory on the accelerator at 16 and 8 rows; at one row; in the process itself | ends at 4 with the same scores, and says so; the one that does not fit fails alone; exit 4, nothing by half | the error raised by batch size, and where files are made
F29 | a clock that jumps | no wait and no deadline moves: they are counted on the monotonic clock | a wall clock that goes back a year between two calls
F30 | a reader of stdout or stderr that leaves; a locale that is not UTF-8 | no traceback, the work goes on, the results are there; the answer is UTF-8 | a closed pipe; the C locale
F31 | a server says wait: twice, for too long, or nonsense | waits at least so long and counts the attempts; gives up on what is too long; nonsense is replaced by our own wait | HTTP 429 with every form of Retry-After
F32 | no quota, a wrong key, an unknown model | the run stops after at most one call per worker, exit 3, and keeps its rows | HTTP 401, 403, 404 and 429
F33 | HTTP 500 to 504, HTML, torn JSON, no choices, errors under status 200 | asked again a bounded number of times, then `api_error`; never read as a verdict | such answers with a verdict in them
F34 | silence, a drip, a connection reset | bounded time, `timeout` | a server that does so
F35 | one prompt that is too long for the server | that one fails with its reason, the others stand | HTTP 400 for one item
F36 | refusals, filters, empty answers | `refused` or `empty`, counted, asked again by a new run, never half a point | each of them in a whole run
F37 | an answer cut off in the middle of its reasoning | `truncated`, no verdict | finish reason `length` with a verdict in the text
F38 | verdicts in every garbled form | read or refused as the table says; official parsers by their own tables | a table of texts, and any text at all
F39 | ratings in every garbled form | the same; out of range is a failure and not the nearest end | a table of texts, and any text at all
F40 | responses that speak to the judge, close its delimiters, or look like a template's field | byte for byte in the prompt, marked and counted; an echo of them changes no verdict | such responses, and any text at all
F41 | log-probabilities that are absent, one-sided, of little mass, with and without a space | missing, bounded, missing, and added up | lists of tokens
F42 | another model answers in the middle of a run | said aloud, both recorded, the result marked mixed | a server that changes its name
F43 | judges that always say A, the first, anything, the longer, the right one, or nothing in a tenth | the figures of each to 1e-9; the flag for position bias goes up for those that have one and one time in a hundred for those that do not | verdicts whose figures are known
F44 | the same judging with 1 and 16 at once, shuffled, stopped and resumed | the same prompts per example, the same result | a judge that is a function of its prompt
F45 | another model, temperature, seed or vote; a spoilt row; pickles in the store | asked anew; asked anew with a warning; never unpickled | rows of the store overwritten
F46 | the cost limit is crossed in the middle; a price is unknown | no further call, those under way are kept, exit 3, resumable; refused with the option that is missing | a server that counts tokens
F47 | a batch whose poller dies; lines missing, doubled, shuffled; a batch that expires | taken up by its id, matched by id, the missing asked again | a server with batches, SIGKILL to the poller
F48 | an API key in the environment, said by the server wherever it can | found in no file, log or exception | every byte that was written is searched
F49 | a claimed accuracy that is off by 1e-3 | rejected, with both numbers | a result altered with its digests
F50 | sample ids missing, extra, twice, of another version; scores of another count | rejected with the code of the fault | samples altered with their digests
F51 | scores as texts, NaN, 1e999, 400 digits, 100,000 brackets, endless files, doubled keys, no UTF-8 | rejected in under 2 s and 300 MB | each of them, timed and measured
F52 | model names that leave the folder, are reserved, unprintable, twins, or endless | rejected; nothing is written anywhere | folder trees before and after
F53 | script, links, formulas and escape sequences in names and notes | inert in pages, Markdown, CSV and the terminal | a real browser, parsed pages, spreadsheets' first characters
F54 | links, devices, folders, archives and bombs in a submission | refused | real ones
F55 | two submissions of one name at once | one stands, the other is told so; the board is never half written | processes at once
F56 | scores that are copied, gold, constant, or partly made up | flagged; scoring 60 examples again finds 5 % forged with probability 0.95 | altered samples; simulation
F57 | another suite's digest, an unknown schema, a revision that is not pinned | rejected with the code of the fault | results altered with their digests
F58 | boards of none, one, all tied, and one with a gap | pages are made, rank ranges are right, a gap is no zero | results of that shape
F59 | all right or all wrong | an interval that is finite; no NaN in any JSON | such rows, to the result file
F60 | one cluster; as many as rows; a missing one | not estimable; as independent rows; an error | such clusters
F61 | ratings of players that never lost or never met | not identifiable, and no number is made up | such comparisons
F62 | lengths that separate the classes, margins without error or spread | flagged, and no coefficient is made up | such rows
F63 | comparisons over different examples | the shared ones, and how many were left out; none shared is an error | results with other ids
F64 | the same seed in other runs, processes and numbers of threads | the same numbers to the last bit | processes with other thread counts and hash seeds
"""

FAULTS = {
    fault.code: fault
    for fault in (Fault(*(cell.strip() for cell in line.split(" | "))) for line in _ALL.strip().splitlines())
}
