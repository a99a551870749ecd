"""Makes the evaluation logs that the tests read, by really running the tools that write them.

    python scripts/generate_log_fixtures.py                    # both, in throw-away environments
    python scripts/generate_log_fixtures.py --work /tmp/logs   # the same, kept for the next run

A server on the loopback interface plays two models, `acme/tiny-1` and `acme/tiny-2`. Over a few
invented questions (below) lm-evaluation-harness runs with `--log_samples` and Inspect writes
`.eval` and `.json`; what they wrote goes to `tests/data/logs/fixtures`, with paths, addresses and
facts on this machine taken out. Needs a package registry, no key and no other network.

The packages are pinned (`PACKAGES`). After raising a version, run this, look at the diff of the
JSON files, and run `python -m pytest tests/data/logs`.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

FIXTURES = Path(__file__).resolve().parent.parent / "tests" / "data" / "logs" / "fixtures"
PACKAGES = {
    "lm-eval": ("lm_eval[api]==0.4.13", "datasets>=2.20"),
    "inspect": ("inspect_ai==0.3.285", "openai>=3,<4"),
}
MODELS = ("acme/tiny-1", "acme/tiny-2")
PUBLIC_URL = "http://localhost:8000"  # stands where the server's own address stood

# -- the questions: invented for this file ------------------------------------------------------

SUMS = (
    ("A crate holds 7 jars of plum jam. How many jars are in 6 crates?", "42"),
    ("Ida plants 9 rows of 12 leeks and eats 8 of them. How many are left?", "100"),
    ("Ein Turm hat 4 Etagen à 9 Fenster – wie viele sind das? 🏠", "36"),
    (
        "A ferry leaves with 31 passengers, takes on 14 at the first island and sets down half of "
        "all its passengers, rounded down, at the second, where nobody else boards because of the "
        "fog. How many passengers are on board afterwards?",
        "23",
    ),
)
SUM_SHOTS = (
    ("A bench seats 3. How many sit on 5 full benches?", "15"),
    ("Two kettles hold 4 litres each. How many litres is that?", "8"),
)
PICKS = (
    ("Which of these tools measures an angle?", ("ruler", "protractor", "scale", "sieve"), 1),
    ("Which number is a prime?", ("21", "33", "37", "39"), 2),
    ("Which word is the odd one out?", ("oak", "elm", "ash", "carp", "yew"), 3),
    ("Was wiegt mehr?", ("ein Pfund Blei", "ein Kilo Federn"), 1),
)
PICK_SHOT = ("Which of these is wet?", ("sand", "rain", "salt", "wool"), 1)
RIDDLES = (
    ("What has a neck but no head?", "a bottle"),
    ("What gets wetter the more it dries?", "a towel"),
)
LETTERS = "ABCDEFGHIJ"


def _known() -> dict[str, str]:
    """What the server answers when it answers right, by question."""
    known = dict((*SUMS, *SUM_SHOTS, *RIDDLES))
    for question, options, right in (*PICKS, PICK_SHOT):
        known[question] = f"{LETTERS[right]}|{options[right]}"
    return known


# -- the endpoint -------------------------------------------------------------------------------


class Endpoint(BaseHTTPRequestHandler):
    """As much of an OpenAI-compatible server as the two tools ask for.

    A token is a code point. Which questions a model gets right is fixed: `tiny-1` all but every
    fourth, `tiny-2` every second. A question with FAULT in it is refused with status 400.
    """

    known = _known()

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing on the terminal."""

    def do_GET(self) -> None:
        """``/tokenizer_info``, with which lm-eval looks for a tokenizer."""
        self._send({"tokenizer_class": "Characters", "eos_token": "\x03", "chat_template": ""})

    def do_POST(self) -> None:
        """One of the endpoints, by the end of its path."""
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if self.path.endswith("/detokenize"):
            self._send({"prompt": "".join(map(chr, body["tokens"]))})
        elif self.path.endswith("/tokenize"):
            self._send({"tokens": [ord(char) for char in body["prompt"]]})
        elif self.path.endswith("/chat/completions"):
            self._chat(body)
        else:
            self._complete(body)

    def _chat(self, body: Mapping[str, Any]) -> None:
        asked = _text(body["messages"][-1]["content"])
        if "FAULT" in asked:
            self._send({"error": {"message": "the model is out of order", "code": 400}}, 400)
            return
        answer = self._answer(body["model"], asked)
        limit = body.get("max_tokens") or body.get("max_completion_tokens") or 10_000
        message = {"role": "assistant", "content": answer[:limit]}
        reason = "stop" if len(answer) <= limit else "length"
        n_in = sum(len(_text(message["content"])) for message in body["messages"])
        self._send(
            {
                "id": "chatcmpl-0",
                "object": "chat.completion",
                "created": 1_790_000_000,
                "model": body["model"],
                "choices": [{"index": 0, "message": message, "finish_reason": reason}],
                "usage": {
                    "prompt_tokens": n_in,
                    "completion_tokens": len(answer[:limit]),
                    "total_tokens": n_in + len(answer[:limit]),
                },
            }
        )

    def _complete(self, body: Mapping[str, Any]) -> None:
        prompts = body["prompt"]
        if isinstance(prompts, str) or isinstance(prompts[0], int):
            prompts = [prompts]
        choices: list[dict[str, Any]] = []
        for index, prompt in enumerate(prompts):
            text = prompt if isinstance(prompt, str) else "".join(map(chr, prompt))
            if not body.get("echo"):
                answer = self._answer(body["model"], text)
                choices.append({"index": index, "text": answer, "finish_reason": "stop"})
                continue
            # The model's own choice is likely, every other continuation is not.
            own = self._answer(body["model"], text).partition("|")[2]
            likely = -0.01 if own and text.endswith(own) else -0.5
            logprobs = [None, *[likely] * (len(text) - 1), -1.0]
            choices.append(
                {
                    "index": index,
                    "text": text,
                    "finish_reason": "length",
                    "logprobs": {
                        "tokens": [*text, "."],
                        "token_logprobs": logprobs,
                        "top_logprobs": [None, *({"x": lp} for lp in logprobs[1:])],
                        "text_offset": list(range(len(text) + 1)),
                    },
                }
            )
        self._send({"id": "cmpl-0", "model": body["model"], "choices": choices})

    def _answer(self, model: str, text: str) -> str:
        """What ``model`` replies to the last known question in ``text``."""
        place, question = max((text.rfind(known), known) for known in self.known)
        if place < 0:
            return "I do not know."
        number = list(self.known).index(question)
        right = number % 4 != 3 if model.endswith("1") else number % 2 == 0
        answer = self.known[question]
        if "|" in answer:
            letter, _, option = answer.partition("|")
            if not right:
                letter = "A"
                option = next(options[0] for q, options, _ in (*PICKS, PICK_SHOT) if q == question)
            if "ANSWER:" in text:
                return f"I compared the options.\n\nANSWER: {letter}"
            return f"The answer is ({letter})." if "letter" in text else f"|{option}"
        if not answer.isdigit():
            return answer if right else "a sponge"
        reply = f"Step by step: that makes {answer if right else int(answer) + 1}."
        return f"{reply} The answer is {answer}." if right and number % 2 else reply

    def _send(self, told: Mapping[str, Any], status: int = 200) -> None:
        raw = json.dumps(told).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    return "".join(part.get("text", "") for part in content or ())


@contextmanager
def serving() -> Iterator[str]:
    """The endpoint's address while the block runs."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Endpoint)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


# -- lm-evaluation-harness ----------------------------------------------------------------------

_DATA = """\
dataset_path: json
dataset_kwargs: {{data_files: {{test: {folder}/{task}.jsonl, train: {folder}/{task}_shots.jsonl}}}}
test_split: test
fewshot_split: train
metadata: {{version: 1.0}}
"""
TASKS = {
    # two filters, worked examples in front
    "zr_sums": """\
doc_to_text: "Question: {{question}}\\nAnswer:"
doc_to_target: "{{answer}}"
output_type: generate_until
num_fewshot: 2
generation_kwargs: {until: ["Question:"], max_gen_toks: 64}
filter_list:
  - name: strict-match
    filter:
      - {function: regex, regex_pattern: "The answer is (-?[0-9]+)"}
      - {function: take_first}
  - name: flexible-extract
    filter:
      - {function: regex, group_select: -1, regex_pattern: "(-?[0-9]+)"}
      - {function: take_first}
metric_list: [{metric: exact_match, aggregation: mean, higher_is_better: true}]
""",
    # log-likelihoods of the options: several requests a document, acc and acc_norm
    "zr_picks": """\
doc_to_text: "Question: {{question}}\\nAnswer:"
doc_to_choice: choices
doc_to_target: answer
output_type: multiple_choice
num_fewshot: 1
metric_list:
  - {metric: acc, aggregation: mean, higher_is_better: true}
  - {metric: acc_norm, aggregation: mean, higher_is_better: true}
""",
    # options in the prompt, a letter for an answer
    "zr_letters": """\
doc_to_text: "{{question}}\\n{% for o in options %}{{'ABCDEFGHIJ'[loop.index0]}}. {{o}}\\n\
{% endfor %}Answer with the letter."
doc_to_target: letter
output_type: generate_until
generation_kwargs: {until: ["\\n\\n"], max_gen_toks: 64}
filter_list:
  - name: custom-extract
    filter: [{function: regex, regex_pattern: "\\\\(([A-J])\\\\)"}, {function: take_first}]
metric_list: [{metric: exact_match, aggregation: mean, higher_is_better: true}]
""",
    # fields of unusual names, every document asked twice
    "zr_riddles": """\
doc_to_text: "Riddle: {{riddle}}"
doc_to_target: solution
output_type: generate_until
repeats: 2
generation_kwargs: {until: ["\\n\\n"], max_gen_toks: 64}
metric_list: [{metric: exact_match, aggregation: mean, higher_is_better: true}]
""",
    # no field holds the question; it stands in the messages alone, behind worked examples
    "zr_hidden": """\
doc_to_text: !function zr_functions.asked
doc_to_target: out
output_type: generate_until
num_fewshot: 1
generation_kwargs: {until: ["\\n\\n"], max_gen_toks: 64}
filter_list:
  - name: number
    filter:
      - {function: regex, group_select: -1, regex_pattern: "(-?[0-9]+)"}
      - {function: take_first}
metric_list: [{metric: exact_match, aggregation: mean, higher_is_better: true}]
""",
}
_FUNCTIONS = """\
def asked(doc):
    return " ".join(doc["words"])
"""


def _documents(task: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The test documents of a task and those to draw worked examples from."""
    if task == "zr_sums":
        rows: list[dict[str, Any]] = [{"question": q, "answer": a} for q, a in (*SUMS, *SUM_SHOTS)]
        return rows[: len(SUMS)], rows[len(SUMS) :]
    if task == "zr_picks":
        rows = [{"question": q, "choices": o, "answer": r} for q, o, r in (*PICKS, PICK_SHOT)]
        return rows[:-1], rows[-1:]
    if task == "zr_letters":
        rows = [
            {"question": q, "options": o, "letter": LETTERS[r]} for q, o, r in (*PICKS, PICK_SHOT)
        ]
        return rows[:-1], rows[-1:]
    if task == "zr_riddles":
        rows = [{"riddle": q, "solution": a} for q, a in RIDDLES]
        return rows, rows[:1]
    rows = [{"words": q.split(" "), "out": a} for q, a in (*SUMS[:2], SUM_SHOTS[0])]
    return rows[:-1], rows[-1:]


def run_lm_eval(python: Path, work: Path, url: str) -> None:
    """Run the tasks over both models and check the logs in."""
    tasks, out = work / "tasks", work / "lm-eval"
    shutil.rmtree(out, ignore_errors=True)
    tasks.mkdir(parents=True, exist_ok=True)
    (tasks / "zr_functions.py").write_text(_FUNCTIONS, encoding="utf-8")
    for name, text in TASKS.items():
        head = f"task: {name}\n" + _DATA.format(folder=tasks, task=name)
        (tasks / f"{name}.yaml").write_text(head + text, encoding="utf-8")
        for suffix, rows in zip(("", "_shots"), _documents(name), strict=True):
            _write_jsonl(tasks / f"{name}{suffix}.jsonl", rows)
    chat = ("local-chat-completions", "/v1/chat/completions", "--apply_chat_template")
    plain = ("local-completions", "/v1/completions")
    for model, names, (kind, path, *flags) in (
        (MODELS[0], "zr_sums,zr_letters,zr_riddles,zr_hidden", chat),
        (MODELS[0], "zr_picks", plain),
        (MODELS[1], "zr_sums,zr_picks", plain),
    ):
        arguments = f"model={model},base_url={url}{path},num_concurrent=1,max_retries=1"
        _run(
            [
                *(python, "-m", "lm_eval", "run", "--model", kind, "--model_args", arguments),
                *("--tasks", names, "--include_path", tasks, "--output_path", out),
                *("--log_samples", *flags),
            ],
            cwd=work,
            HF_HOME=str(work / "hf"),
            HF_HUB_OFFLINE="1",
            OPENAI_API_KEY="none",
        )
    target = FIXTURES / "lm-eval"
    shutil.rmtree(target, ignore_errors=True)
    for source in sorted(out.rglob("*.json*")):
        place = target / source.relative_to(out)
        place.parent.mkdir(parents=True, exist_ok=True)
        text = scrubbed(source.read_text(encoding="utf-8"), work, url)
        if source.suffix == ".json":
            told = json.loads(text)
            for private in ("pretty_env_info", "git_hash", "upper_git_hash"):
                told.pop(private, None)
            text = json.dumps(told, indent=2, ensure_ascii=False) + "\n"
        place.write_text(text, encoding="utf-8")


# -- Inspect ------------------------------------------------------------------------------------


def run_inspect(python: Path, work: Path, url: str) -> None:
    """Run this file inside Inspect's environment and check the logs in."""
    out = work / "inspect"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    _run(
        [python, Path(__file__).resolve(), "--inside-inspect", out],
        cwd=out,
        ACME_BASE_URL=f"{url}/v1",
        ACME_API_KEY="none",
    )
    target = FIXTURES / "inspect"
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    _run([python, Path(__file__).resolve(), "--scrub", out, "--url", url, "--into", target], out)


def inside_inspect(out: Path) -> None:
    """Write one log of each kind; runs in the environment that has `inspect_ai`."""
    from inspect_ai import Task, eval  # type: ignore[import-not-found]
    from inspect_ai.dataset import Sample  # type: ignore[import-not-found]
    from inspect_ai.log import (  # type: ignore[import-not-found]
        ProvenanceData,
        convert_eval_logs,
        invalidate_samples,
        read_eval_log,
        write_eval_log,
    )
    from inspect_ai.log._recorders.chunked import (  # type: ignore[import-not-found]
        convert_eval_logs_to_chunked,
    )
    from inspect_ai.model import (  # type: ignore[import-not-found]
        ChatMessageAssistant,
        ChatMessageUser,
    )
    from inspect_ai.scorer import (  # type: ignore[import-not-found]
        Score,
        choice,
        includes,
        match,
        mean,
        scorer,
    )
    from inspect_ai.solver import (  # type: ignore[import-not-found]
        generate,
        multiple_choice,
        system_message,
    )

    @scorer(metrics={"correct": [mean()], "n_chars": [mean()]})  # type: ignore[untyped-decorator]
    def graded() -> Any:
        async def score(state: Any, target: Any) -> Any:
            text = state.output.completion
            right = float(f" {target.text}." in text)
            return Score(value={"correct": right, "n_chars": len(text)}, answer=text)

        return score

    shots = "\n\n".join(f"Question: {q}\nAnswer: {a}" for q, a in SUM_SHOTS)
    sums = [Sample(id=f"sum-{i}", input=q, target=a) for i, (q, a) in enumerate(SUMS)]
    picks = [
        Sample(id=i, input=q, choices=list(options), target=LETTERS[right])
        for i, (q, options, right) in enumerate(PICKS, start=1)
    ]
    talks = [
        Sample(
            id=f"talk/{i}",
            input=[
                ChatMessageUser(content=SUM_SHOTS[0][0]),
                ChatMessageAssistant(content=SUM_SHOTS[0][1]),
                ChatMessageUser(content=question),
            ],
            target=answer,
        )
        for i, (question, answer) in enumerate(SUMS[:2])
    ]
    broken = [
        Sample(id="good", input=SUMS[0][0], target=SUMS[0][1]),
        Sample(id="refused", input="FAULT: how many is 3 and 4?", target="7"),
        Sample(id="withdrawn", input=SUMS[1][0], target=SUMS[1][1]),
    ]

    def run(model: str, dataset: list[Any], solver: Any, by: Any, name: str, **more: Any) -> Path:
        task = Task(dataset=dataset, solver=solver, scorer=by, name=name)
        more = {"log_format": "eval", "fail_on_error": False, **more}
        (log,) = eval(task, model=f"openai-api/{model}", log_dir=str(out), display="none", **more)
        return Path(str(log.location).removeprefix("file://"))

    def named(path: Path, name: str) -> Path:
        return path.rename(out / name)

    prompt = [system_message(f"Some worked examples.\n\n{shots}"), generate()]
    both = [match(numeric=True), includes()]
    one = named(run(MODELS[0], sums, prompt, both, "sums", epochs=2), "sums_tiny-1.eval")
    named(run(MODELS[1], sums, prompt, both, "sums"), "sums_tiny-2.eval")
    named(
        run(MODELS[0], picks, multiple_choice(), choice(), "picks", log_format="json"),
        "picks_tiny-1.json",
    )
    named(run(MODELS[0], talks, generate(), graded(), "talks"), "talks_tiny-1.eval")
    faults = named(run(MODELS[0], broken, generate(), match(), "faults"), "faults_tiny-1.eval")
    log = read_eval_log(str(faults))
    uuid = next(s.uuid for s in log.samples if s.id == "withdrawn")
    by = ProvenanceData(author="nobody", reason="the question was wrong")
    write_eval_log(invalidate_samples(log, [uuid], by), str(faults))
    named(
        run(MODELS[0], sums[:2], generate(), match(), "limited", token_limit=40),
        "limited_tiny-1.eval",
    )
    named(
        run(MODELS[0], sums[:2], generate(), match(), "short", max_tokens=9),
        "truncated_tiny-1.eval",
    )
    named(
        run(MODELS[0], [broken[1], broken[0]], generate(), match(), "failed", fail_on_error=True),
        "failed_tiny-1.eval",
    )
    for convert, folder in (
        (convert_eval_logs_to_chunked, "chunked"),
        (functools.partial(convert_eval_logs, to="json"), "json"),
    ):
        convert(str(one), output_dir=str(out / folder))
        for path in (out / folder).iterdir():
            path.rename(out / f"sums_tiny-1_{folder}{path.suffix}")
        (out / folder).rmdir()


def scrub_inspect(out: Path, url: str, target: Path) -> None:
    """Copy logs without what tells of this machine; members keep their compression."""
    import inspect_ai._util.zipfile as zstd  # type: ignore[import-not-found]

    _ = zstd  # makes the zipfile module read and write zstd
    for source in sorted(path for path in out.iterdir() if path.suffix in (".eval", ".json")):
        place = target / source.name
        if source.suffix == ".json":
            place.write_text(_plain_log(source.read_text(encoding="utf-8"), out, url), "utf-8")
            continue
        with zipfile.ZipFile(source) as whole, zipfile.ZipFile(place, "w") as copy:
            for info in whole.infolist():
                text = _plain_log(whole.read(info).decode("utf-8"), out, url)
                plain = zipfile.ZipInfo(info.filename, date_time=(2026, 1, 1, 0, 0, 0))
                plain.compress_type = info.compress_type
                copy.writestr(plain, text)


def _plain_log(text: str, out: Path, url: str) -> str:
    told = json.loads(scrubbed(text, out, url))
    for spec in (told, told.get("eval")) if isinstance(told, dict) else ():
        if isinstance(spec, dict):
            for private in ("revision", "sandbox", "task_file", "packages"):
                spec.pop(private, None)
    return json.dumps(_without_frames(told), indent=2, ensure_ascii=False)


def _without_frames(value: Any) -> Any:
    """``value`` without tracebacks, which hold paths and lines of the environment."""
    if isinstance(value, dict):
        return {
            key: "(left out)" if key.startswith("traceback") else _without_frames(item)
            for key, item in value.items()
        }
    return [_without_frames(item) for item in value] if isinstance(value, list) else value


# -- common -------------------------------------------------------------------------------------


def scrubbed(text: str, work: Path, url: str) -> str:
    """``text`` without this machine's address, folders and names."""
    text = text.replace(url, PUBLIC_URL)
    for folder in sorted({str(work), str(work.resolve()), str(Path.home()), sys.prefix}, key=len):
        if len(folder) > 1:
            text = text.replace(folder, "/fixtures")
    text = re.sub(r"127\.0\.0\.1:\d+", "localhost:8000", text)
    text = re.sub(r" at 0x[0-9a-f]+", "", text)
    return re.sub(rf"\b{re.escape(platform.node())}\b", "localhost", text)


def _write_jsonl(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
    path.write_text("".join(lines), encoding="utf-8")


def _run(command: Sequence[object], cwd: Path, **variables: str) -> None:
    words = [str(word) for word in command]
    print("+", *words[:6], "...", flush=True)
    subprocess.run(words, cwd=cwd, env={**os.environ, **variables}, check=True)


def _environment(work: Path, name: str) -> Path:
    """The interpreter of a virtual environment with a tool's packages."""
    folder = work / f"env-{name}"
    python = folder / "bin" / "python"
    if not python.exists():
        _run([sys.executable, "-m", "venv", folder], work)
    _run([python, "-m", "pip", "install", "--quiet", *PACKAGES[name]], work)
    return python


def main() -> None:
    """Run both tools, or one of the steps that run inside Inspect's environment."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--work", type=Path, help="Folder to work in; default: a temporary one.")
    parser.add_argument("--only", choices=tuple(PACKAGES), help="Just one tool.")
    parser.add_argument("--inside-inspect", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--scrub", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--into", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--url", default="", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.inside_inspect:
        inside_inspect(given.inside_inspect)
        return
    if given.scrub:
        scrub_inspect(given.scrub, given.url, given.into)
        return
    with tempfile.TemporaryDirectory() as temporary, serving() as url:
        work = (given.work or Path(temporary)).resolve()
        work.mkdir(parents=True, exist_ok=True)
        for name, run in (("lm-eval", run_lm_eval), ("inspect", run_inspect)):
            if given.only in (None, name):
                run(_environment(work, name), work, url)
    print(f"written to {FIXTURES}")


if __name__ == "__main__":
    main()
