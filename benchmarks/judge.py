"""What a judge costs a GRPO step: `python benchmarks/judge.py [--quick] [--json FILE]`.

A scripted judge, a process of its own, answers every question after 2 s, 16 at one time. A step draws and learns from
128 replies of the small Qwen2.5-VL (16 groups of 8, in 8 parts of gradient accumulation). Each row is measured three
times in new processes: training without a judge; with the judge, which reads while replies are drawn and learnt from;
and with the judge waited for before the loss, as a trainer does that calls its reward once. The ratio is the step's
time over the longer of (training, replies / 16 x 2 s); below 1.2 is what is wanted. Research use only.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import asdict, dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from beside import serving
from rl import Case, dataset, model_of
from steps import step_timer

DELAY_S = 2.0
IN_FLIGHT = 16
NUM, PARTS = 8, 8
EVENTS = ("image_features", "elimination", "knowledge", "definition_error", "contradiction", "outdated")


@dataclass(frozen=True)
class Step:
    """One row.

    Attributes:
        cap: length cap of a reply in tokens.
        mean: mean length of replies that end by chance; None lets every reply run to the cap.
        generation_parts: parts in which replies are drawn.
        groups: groups of 8 replies a step.
    """

    name: str
    cap: int
    mean: int | None = None
    generation_parts: int = 1
    groups: int = 16


STEPS = [
    Step("short training, lengths vary", 48, 16),
    Step("training as long as the judge, lengths vary", 256, 96),
    Step("training as long as the judge, all at the cap", 160),
    Step("the same, drawn in 4 parts", 160, None, 4),
    Step("long training, lengths vary", 512, 200),
]
QUICK = [Step("quick", 24, 8, groups=8)]


def serve() -> None:
    """The judge: a verdict that finds nothing, after the delay, and no more than so many at one time."""
    turns = threading.Semaphore(IN_FLIGHT)
    verdict = json.dumps({name: {"happened": False, "evidence": ""} for name in EVENTS})
    answer = {
        "model": "scripted",
        "choices": [{"message": {"role": "assistant", "content": verdict}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1000, "completion_tokens": 100},
    }
    body = json.dumps(answer).encode()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

        def do_POST(self) -> None:  # noqa: N802
            self.rfile.read(int(self.headers["Content-Length"]))
            with turns:
                time.sleep(DELAY_S)
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    print(server.server_address[1], flush=True)
    server.serve_forever()


def rewards_of(url: str | None) -> Any:
    """A reward that asks the judge about every reply, whatever it says; without address the same values by rule."""
    from eosin.core.nouns.outcome import Parsed, Scored, Unscored
    from eosin.core.nouns.reply import Grammar
    from eosin.scoring import Resources, RewardSet, ScoreContext, Term
    from eosin.scoring.judge.checklist import checklist_request
    from eosin.scoring.judge.model import JudgeSettings, OpenAIJudge
    from eosin.scoring.sets.compose import Weighted

    class Asked(Term):
        name = "asked"

        def uses_server(self, resources: Resources) -> bool:
            return resources.judge is not None

        def score(self, context: ScoreContext) -> Scored:
            return Scored(len(context.item.reply) % 7 / 6)

        async def ascore(self, context: ScoreContext) -> Scored | Unscored:
            assert context.resources.judge is not None
            payload = {"question": context.item.question, "options": {}}
            found = await context.resources.judge.ask(checklist_request(payload, context.item.reply, None))
            return self.score(context) if isinstance(found, Parsed) else Unscored(found.reason)

    settings = url and JudgeSettings(url, "scripted", concurrency=IN_FLIGHT)
    resources = Resources(judge=OpenAIJudge(settings)) if settings else Resources()
    return RewardSet("asked", (Weighted("asked", Asked(), 1.0),), Grammar.of("think/answer"), resources)


def one(step: Step, url: str | None, ahead: bool, threads: int) -> dict[str, Any]:
    """Seconds of the second step, and what of it was waited for the judge."""
    import torch
    from datasets import Dataset
    from trl import GRPOConfig

    from eosin.core.nouns.sample import ImageBytes, Origin, Sample, user_prompt
    from eosin.core.settings.rl import Algorithm
    from eosin.scoring.adapters.trl import TrlReward
    from eosin.train.monitor import ClockCallback, StepClock
    from eosin.train.rl.trl_overrides import SharedPrefixTrainer

    torch.set_num_threads(threads)
    case = Case(step.name, 2, step.cap, groups=step.groups)
    model, processor = model_of(case)
    base = dataset(56, case)

    def fetch(batch: dict[str, list[int]]) -> dict[str, list[Any]]:
        rows = [base[n] for n in batch["sample_number"]]
        return {k: [r[k] for r in rows] for k in rows[0]} | {"id": [str(n) for n in batch["sample_number"]]}

    seconds: list[float] = []

    picture = (ImageBytes(data=b"unread"),)
    samples = {
        str(n): Sample(id=str(n), images=picture, messages=user_prompt("What?"), origin=Origin(source="b"))
        for n in range(64)
    }
    reward = TrlReward(rewards_of(url), samples)
    clock = StepClock()
    with tempfile.TemporaryDirectory() as folder:
        parts = min(PARTS, step.groups)
        arguments = GRPOConfig(
            output_dir=folder, per_device_train_batch_size=NUM * step.groups // parts,
            gradient_accumulation_steps=parts, num_generations=NUM, max_completion_length=step.cap, max_steps=2,
            beta=0.0, loss_type="grpo", use_cpu=True, report_to=[], disable_tqdm=True, save_strategy="no",
            logging_steps=1, top_k=0, remove_unused_columns=False, learning_rate=1e-5, bf16=False,
        )  # fmt: skip
        trainer = SharedPrefixTrainer(
            model=model, reward_funcs=[reward], args=arguments, processing_class=processor,
            train_dataset=Dataset.from_dict({"sample_number": list(range(64))}).with_transform(fetch),
            callbacks=[step_timer(seconds), ClockCallback(clock)], clock=clock,
            algorithm=Algorithm.model_validate({"name": "grpo", "beta": 0.0, "mask_truncated": False}),
            asks=reward if url and ahead else None, generation_parts=step.generation_parts if ahead else 1,
        )  # fmt: skip
        trainer.eos_token_ids = ends_of(model, step)
        trainer.train()
    assert not reward.unscored, reward.unscored
    return {"seconds": seconds[1], "waited": reward.ahead.waited_s, "split": clock.split()}


def ends_of(model: Any, step: Step) -> list[int]:
    """Tokens that end a reply: as many as make random replies of the mean length; without one none that is drawn."""
    if step.mean is None:
        return [10**9]
    size = model.config.text_config.vocab_size
    return list(range(100, 100 + max(1, round(size / step.mean))))


def measured(step: Step, url: str | None, ahead: bool, threads: int) -> dict[str, Any]:
    """The same in a new process."""
    command = [sys.executable, __file__, "--one", json.dumps([asdict(step), url, ahead, threads])]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr[-3000:])
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def row_of(step: Step, url: str, threads: int) -> dict[str, Any]:
    """All three ways of a row."""
    training = measured(step, None, False, threads)["seconds"]
    ahead = measured(step, url, True, threads)["seconds"]
    waited = measured(step, url, False, threads)["seconds"]
    judge = step.groups * NUM / IN_FLIGHT * DELAY_S
    longer = max(training, judge)
    return {
        "name": step.name, "training_s": round(training, 2), "judge_s": judge, "step_s": round(ahead, 2),
        "waited_for_s": round(waited, 2), "ratio": round(ahead / longer, 3),
        "ratio_waited_for": round(waited / longer, 3),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one small step")
    parser.add_argument("--only", help="rows whose name holds this")
    parser.add_argument("--json", type=Path, help="write the table to this file")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve()
    elif options.one:
        values, url, ahead, threads = json.loads(options.one)
        print(json.dumps(one(Step(**values), url, ahead, threads)))
    else:
        table(options)


def table(options: argparse.Namespace) -> None:
    """Measure and print the rows."""
    rows = []
    print(f"{'step':<48}{'training':>10}{'judge':>8}{'step':>9}{'ratio':>7}{'waited for':>12}{'ratio':>7}")
    with serving(__file__) as url:
        for step in QUICK if options.quick else STEPS:
            if options.only and options.only not in step.name:
                continue
            rows.append(row := row_of(step, url, options.threads))
            print(
                f"{row['name']:<48}{row['training_s']:>9.1f}s{row['judge_s']:>7.1f}s{row['step_s']:>8.1f}s"
                f"{row['ratio']:>7.2f}{row['waited_for_s']:>11.1f}s{row['ratio_waited_for']:>7.2f}",
                flush=True,
            )
    if options.json:
        options.json.write_text(json.dumps({"steps": rows}, indent=1))


if __name__ == "__main__":
    main()
