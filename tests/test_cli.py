"""Transcripts of the command line: answers on stdout, complaints on stderr, exit codes, and nothing half-written."""

from __future__ import annotations

import datetime
import hashlib
import io
import json
import os
import pty
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import jsonschema
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import yaml
from click.testing import CliRunner, Result
from rich.console import Console

import sim
from sim.cli import main
from sim.engine.compiled_engine import CompiledEngine
from sim.reporting.listing import listing
from sim.reporting.terminal import library_table
from sim.results.tables import TABLES
from sim.specs.library import KINDS, default_library

ROOT = Path(__file__).resolve().parent.parent
BRIEF = ("--set", "duration=2 min", "--set", "warm_up=10 s", "--set", "drain=1 min", "--quiet")
ALONE = (*BRIEF, "--set", "alternatives={}")
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT)}


def fleetcast(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


def answer(*arguments: str) -> str:
    """Return stdout of a command that succeeds and says nothing else."""
    result = fleetcast(*arguments)
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    assert "\x1b" not in result.stdout
    return result.stdout


def strict_json(text: str) -> Any:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(text, parse_constant=refuse)


def complaint(*arguments: str) -> str:
    """Return stderr of a command that is refused as bad input, without an answer."""
    result = fleetcast(*arguments)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    return result.stderr


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


# What it offers


def commands(group: click.Group, *above: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Yield every command, of groups below too, with the words that call it."""
    for name, command in group.commands.items():
        yield (*above, name), command
        if isinstance(command, click.Group):
            yield from commands(command, *above, name)


def test_help_names_every_command_and_loads_nothing_heavy() -> None:
    for words, command in commands(main):
        assert re.search(rf"^  {words[-1]} ", answer(*words[:-1], "--help"), re.MULTILINE)
        assert command.short_help, words
        assert len(command.short_help) <= 60, "longer ones are cut in the list"
        text = answer(*words, "-h")
        assert isinstance(command, click.Group) or f"fleetcast {' '.join(words)}" in text, "there is an example"
    loaded = "import sys, sim.cli; print([each for each in ('numpy', 'pydantic', 'rich') if each in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", loaded], capture_output=True, text=True, env=ENVIRONMENT, check=True, cwd=ROOT
    )
    assert done.stdout == "[]\n"


def test_version() -> None:
    assert answer("--version") == f"fleetcast, version {sim.__version__}\n"


def test_list_shows_every_entry_of_every_kind() -> None:
    text = answer("list")
    entries = strict_json(answer("list", "--json"))
    assert list(entries) == list(KINDS)
    for kind, rows in entries.items():
        assert [row["name"] for row in rows] == list(default_library().names(kind))
        assert re.search(rf"^{kind}$", text, re.MULTILINE)
        for row in rows:
            assert re.search(rf"^{re.escape(row['name'])} ", text, re.MULTILINE)


def test_list_gives_numbers_to_programs_and_units_to_people() -> None:
    h100 = next(
        row for row in strict_json(answer("list", "hardware", "--json"))["hardware"] if row["name"] == "h100-sxm"
    )
    assert h100["memory_bytes_per_s"] == 3.35e12
    assert h100["fp4_flop_per_s"] is None
    assert h100["purchasable"] is True
    line = next(line for line in answer("list", "hardware").splitlines() if line.startswith("h100-sxm"))
    assert "3.35" in line.split()


@pytest.mark.parametrize("word", ["hardware", "hardware_profiles", "models", "serving_stacks", "scenario"])
def test_list_understands_a_kind_its_plural_and_its_folder(word: str) -> None:
    assert len(strict_json(answer("list", word, "--json"))) == 1


@pytest.mark.parametrize("width", [40, 80, 120, 200])
@pytest.mark.parametrize("kind", ["hardware", "model"])
def test_no_digit_is_lost_in_a_narrow_terminal(kind: str, width: int) -> None:
    """Every line fits, and every number stands whole in some line that begins with its entry."""
    rows = listing(default_library(), kind)
    out = io.StringIO()
    Console(file=out, width=width, force_terminal=False).print(library_table(kind, rows))
    lines = out.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    table = library_table(kind, rows)
    for row in table.rows:
        shown = {cell for line in lines if line.startswith(f"{row[0]} ") for cell in line.split()}
        numbers = {cell for cell, column in zip(row, table.columns, strict=True) if column.is_number and cell}
        assert numbers <= shown, row[0]


@pytest.mark.parametrize("kind", KINDS)
def test_show_prints_every_file_as_it_is_and_what_follows_from_it(kind: str) -> None:
    for name, path in default_library().names(kind).items():
        text = answer("show", name, "--kind", kind)
        assert text.startswith(path.read_text(encoding="utf-8").rstrip())
        document = strict_json(answer("show", name, "--kind", kind, "--json"))
        assert document["document"]["name"] == name
        for key in document["computed"]:
            assert f"# {key}: " in text


@pytest.mark.parametrize("kind", KINDS)
def test_check_finds_every_entry_of_the_library_in_order(kind: str) -> None:
    for name in default_library().names(kind):
        assert f"{name}: {kind} is in order" in answer("check", name)
        if kind != "scenario":
            assert strict_json(answer("check", name, "--json")) == {"ok": True, "kind": kind}


def test_check_shows_the_pools_of_every_alternative_without_running() -> None:
    pools = strict_json(answer("check", "quickstart", "--json"))["pools"]
    assert [pool["scenario"] for pool in pools] == [
        variant.scenario_id for variant in sim.load("quickstart").variants()
    ]
    assert all(pool["kv_capacity_tokens"] > 0 for pool in pools)


def as_editors_read(value: Any) -> Any:
    """Return YAML as JSON has it: dates are text, and so are keys."""
    if isinstance(value, dict):
        return {str(key): as_editors_read(each) for key, each in value.items()}
    if isinstance(value, list):
        return [as_editors_read(each) for each in value]
    return str(value) if isinstance(value, datetime.date) else value


@pytest.mark.parametrize("kind", KINDS)
def test_every_file_of_the_library_fits_the_schema_that_editors_get(kind: str) -> None:
    schema = strict_json(answer("schema", kind))
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    assert strict_json(answer("schema"))[kind] == schema
    for path in default_library().names(kind).values():
        document = as_editors_read(yaml.safe_load(path.read_text(encoding="utf-8")))
        validator.validate(document)
        assert not validator.is_valid(document | {"titel": "a typo"})


# Running


def test_two_runs_give_byte_identical_parquet_and_the_same_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts, digests = [], []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        texts.append(
            answer("run", "quickstart", "-o", "result", *BRIEF) + answer("run", "quickstart", "--json", *ALONE)
        )
        digests.append([hashlib.sha256(Path("result", f"{each}.parquet").read_bytes()).hexdigest() for each in TABLES])
    assert texts[0] == texts[1]
    assert digests[0] == digests[1]


def test_another_seed_gives_other_bytes_and_the_engine_does_not() -> None:
    digests = {}
    for name, options in {
        "one": (),
        "seed": ("--seed", "2"),
        "set": ("--set", "seed=2"),
        "simpy": ("--engine", "simpy"),
    }.items():
        answer("run", "quickstart", "-o", name, *ALONE, *options)
        digests[name] = hashlib.sha256(Path(name, "requests.parquet").read_bytes()).hexdigest()
    assert digests["one"] == digests["simpy"]
    assert digests["one"] != digests["seed"] == digests["set"]


def test_every_request_is_accounted_for() -> None:
    """Overloaded and cut short: offered is finished, rejected and unfinished, the same for every fleet."""
    load = ("--set", "traffic.agent.rate=60 requests/s")
    shown = strict_json(answer("run", "quickstart", "-o", "result", "--json", *BRIEF, *load))
    requests = pq.read_table("result/requests.parquet")
    per_fleet = set()
    for variant in sim.load("quickstart").variants():
        mine = requests.filter(pc.field("scenario_id") == variant.scenario_id)
        ids = mine["request_id"].to_pylist()
        assert ids == list(range(len(ids)))
        per_fleet.add(len(ids))
        metrics = {
            row["metric"]: row["value"]
            for row in shown["summary"]
            if row["scenario_id"] == variant.scenario_id and row["class"] == row["pool"] == "all"
        }
        outcomes = [metrics[f"requests_{each}"] for each in ("finished", "rejected", "timed_out", "unfinished")]
        assert sum(outcomes) == metrics["requests_offered"]
        assert metrics["requests_unfinished"] > 0
    assert len(per_fleet) == 1
    assert {flag["name"] for flag in shown["flags"]} >= {"saturated"}
    assert any(row["value"] is None and "count as infinite" in (row["note"] or "") for row in shown["summary"])


def test_a_class_without_requests_meets_no_service_level() -> None:
    text = answer("run", "quickstart", *ALONE, "--set", "traffic.chat.rate=0 requests/s")
    levels = [
        line
        for line in text.splitlines()
        if line.startswith("quickstart  chat ") and ("TTFT" in line or "TPOT" in line)
    ]
    assert len(levels) == 2
    assert all(line.endswith("no requests") and "nan" not in line for line in levels)


def test_replications_widen_nothing_away() -> None:
    shown = strict_json(answer("run", "quickstart", "--json", *ALONE, "--replications", "3"))
    assert shown["replications"] == 3
    means = [row for row in shown["summary"] if row["metric"] == "ttft_s" and row["quantile"] is None]
    assert {row["method"] for row in means} == {"replications"}
    assert all(row["low"] < row["value"] < row["high"] for row in means)


def test_progress_and_the_time_that_it_took_go_to_stderr() -> None:
    result = fleetcast("run", "quickstart", *(each for each in ALONE if each != "--quiet"))
    assert re.fullmatch(r"[\d,]+ requests, [\d,]+ events, [\d.]+ s, compiled engine\n", result.stderr)
    assert "compiled" not in result.stdout


def test_overwrite_replaces_a_result_and_nothing_else(tmp_path: Path) -> None:
    answer("run", "quickstart", "-o", "result", *ALONE)
    first = Path("result", "manifest.json").read_bytes()
    assert "--overwrite" in complaint("run", "quickstart", "-o", "result", *ALONE)
    assert Path("result", "manifest.json").read_bytes() == first
    answer("run", "quickstart", "-o", "result", "--overwrite", "--seed", "9", *ALONE)
    assert json.loads(Path("result", "manifest.json").read_text(encoding="utf-8"))["seed"] == 9
    Path("result", "notes.txt").touch()
    assert "notes.txt" in complaint("run", "quickstart", "-o", "result", "--overwrite", *ALONE)
    assert [path.name for path in tmp_path.iterdir()] == ["result"]


# Recorded traces


def trace(rows: str, name: str = "trace.csv") -> str:
    Path(name).write_text(f"arrival_s,prompt_tokens,output_tokens\n{rows}", encoding="utf-8")
    return name


def test_a_recorded_trace_is_replayed_request_by_request() -> None:
    file = trace("0.0,100,20\n0.5,3000,1\n61.25,7,300\n", "with=sign.csv")
    for option in (f"chat={file}", file):
        answer(
            "run",
            "quickstart",
            "--trace",
            option,
            "--set",
            "warm_up=0 s",
            *ALONE[-2:],
            "-o",
            "result",
            "--overwrite",
            "--quiet",
        )
        table = pq.read_table("result/requests.parquet").to_pydict()
        assert table["arrival_s"] == [0.0, 0.5, 61.25]
        assert table["prompt_tokens"] == [100, 3000, 7]
        assert table["output_tokens"] == [20, 1, 300]
        assert set(table["outcome"]) == {"finished"}
        assert set(table["class"]) == {"chat" if option != file else "trace"}


def test_the_public_azure_hour_is_replayed_on_every_fleet(shared: Path) -> None:
    file = shared / "traces" / "azure2023" / "AzureLLMInferenceTrace_conv.csv"
    rows = len(file.read_text(encoding="utf-8").splitlines()) - 1
    text = answer("run", "quickstart", "--trace", f"chat={file}", "-o", "azure", "--quiet")
    requests = pq.read_table("azure/requests.parquet")
    assert requests.num_rows == 4 * rows
    assert set(requests["outcome"].to_pylist()) == {"finished"}
    assert "TTFT p99" in text


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ("", "trace.csv: holds no requests"),
        ("0,1,1\n5,1,1\n3,1,1\n", "trace.csv:4: arrival_s: is earlier than the row above it"),
        ("0,1,1\n1,x,1\n", "trace.csv:3: prompt_tokens: is not a whole number (got 'x')"),
        ("0,1,1\n1,-4,1\n", "trace.csv:3: prompt_tokens"),
        ("nan,1,1\n", "trace.csv:2: arrival_s: is not a number of seconds (got 'nan')"),
        ("0,1\n", "trace.csv:2"),
        ("0,0,1\n", "trace.csv:2: prompt_tokens"),
        ("0,1,1\n400,9000000,1\n", "can never be served: the longest has 9000001 tokens"),
        ("0,1,1\n5,1,1\n", "all of it warm-up"),
    ],
)
def test_a_bad_trace_is_refused_with_its_line(tmp_path: Path, rows: str, expected: str) -> None:
    file = trace(rows)
    assert expected in complaint("run", "quickstart", "--trace", file, "-o", "result", "--quiet")
    assert expected in complaint("check", "quickstart", "--trace", file)
    assert [path.name for path in tmp_path.iterdir()] == [file]


def test_all_bad_rows_are_told_at_once() -> None:
    message = complaint("run", "quickstart", "--trace", trace("0,1,x\n1,y,1\n2,1,-1\n"))
    assert message.startswith("3 problems:\n")


# Bad input


def changed(*changes: str) -> tuple[str, ...]:
    return ("run", "quickstart", *(part for change in changes for part in ("--set", change)))


BAD = {
    "unknown name": (("run", "quickstrat"), "Did you mean quickstart?"),
    "unknown file": (("run", "nowhere.yaml"), "nowhere.yaml"),
    "file of the library": (("run", "quickstart.yaml"), "write its name alone"),
    "unknown entry": (("show", "h100"), "Did you mean h100-sxm"),
    "another kind": (("run", "h100-sxm"), "there is no scenario of this name"),
    "unknown kind": (("list", "hardwar"), "Did you mean hardware?"),
    "unknown kind of schema": (("schema", "scenaro"), "Did you mean scenario?"),
    "unknown command": (("rum", "quickstart"), "Did you mean 'run'?"),
    "unknown option": (("run", "quickstart", "--sed", "3"), "--seed"),
    "missing name": (("run",), "Missing argument"),
    "unknown hardware": (changed("fleet.serving.hardware=gb200"), "Did you mean gb200-nvl72"),
    "unknown model": (changed("fleet.serving.model=mistral-small-4"), "or mistral-small-4-119b-a6b?"),
    "unknown workload": (changed("traffic.chat.workload=chat"), "realtime-chat"),
    "unknown key": (changed("fleet.serving.replica=3"), "Did you mean replicas"),
    "unknown path": (changed("fleet.serv.replicas=3"), "Did you mean serving?"),
    "unknown alternative": (changed("alternatives.rubin.fleet.serving.replicas=3"), "Did you mean vera-rubin?"),
    "unknown class to replay": (("run", "quickstart", "--trace", "chta=x.csv"), "Did you mean chat?"),
    "missing trace": (("run", "quickstart", "--trace", "chat=x.csv"), "x.csv: cannot be read: no such file"),
    "bare number": (changed("duration=10"), "a bare number has no unit"),
    "wrong unit": (changed("duration=10 GB"), "'GB' is a unit of data size, not of duration"),
    "unknown unit": (changed("duration=10 fortnights"), "unknown unit 'fortnights'"),
    "negative": (changed("duration=-10 min"), "cannot be negative"),
    "NaN": (changed("duration=nan s"), "must be finite"),
    "NaN of YAML": (changed("start_hour=.nan"), "must be a finite number"),
    "infinite": (changed("traffic.chat.rate=inf requests/s"), "must be finite"),
    "no replicas": (changed("fleet.serving.replicas=0"), "must be greater than 0"),
    "part of a replica": (changed("fleet.serving.replicas=2.5"), "must be a whole number"),
    "warm-up of everything": (changed("warm_up=2 h"), "must be shorter than duration"),
    "no format": (
        changed("alternatives={}", "fleet.serving.hardware=h100-sxm", "fleet.serving.weight_format=fp4"),
        "fp4",
    ),
    "does not fit": (
        changed("alternatives={}", "fleet.serving.hardware=tpu-v6e", "fleet.serving.weight_format=bf16"),
        "does not fit",
    ),
    "can never serve": (changed("alternatives={}", "traffic.agent.workload=agent"), "can never be served"),
    "service level of nobody": (changed("service_levels.voise=[]"), "Did you mean voice"),
    "change of the traffic": (changed("alternatives.tpu.seed=3"), "an alternative cannot change seed"),
    "not a change": (changed("fleet.serving.replicas"), "Write PATH=VALUE"),
    "not YAML": (changed("seed={["), "not valid YAML"),
    "set twice": (changed("seed=1", "seed=2"), "given twice"),
    "seed twice": (("run", "quickstart", "--seed", "1", "--set", "seed=2"), "given twice"),
    "negative seed": (("run", "quickstart", "--seed", "-1"), "--seed"),
    "no replications": (("run", "quickstart", "--replications", "0"), "--replications"),
    "overwrite nothing": (("run", "quickstart", "--overwrite"), "--overwrite needs --output"),
    "change of an entry": (("check", "h100-sxm", "--set", "name=x"), "are for scenarios"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_exits_2_with_one_message_and_writes_nothing(tmp_path: Path, case: str) -> None:
    arguments, expected = BAD[case]
    output = ("-o", "result") if arguments[0] == "run" and "--overwrite" not in arguments else ()
    message = complaint(*arguments, *output)
    assert expected in message
    assert len([line for line in message.splitlines() if expected in line]) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_broken_file_is_told_with_all_its_problems_and_their_lines() -> None:
    Path("broken.yaml").write_text(
        "kind: scenario\nname: broken\ntitle: x\nduratoin: 1 h\nwarm_up: 5\nseed: -1\n", encoding="utf-8"
    )
    for verb in ("run", "check", "show"):
        message = complaint(verb, "broken.yaml")
        assert "broken.yaml:4: duratoin: unknown key. Did you mean duration" in message
        assert "broken.yaml:5: warm_up: a bare number has no unit" in message
        assert "broken.yaml:6: seed: must be greater than or equal to 0" in message
        assert "broken.yaml: fleet: missing" in message
    Path("broken.yaml").write_text("kind: scenario\nname: [x\n", encoding="utf-8")
    assert "broken.yaml:3: not valid YAML" in complaint("run", "broken.yaml")
    Path("broken.yaml").write_text("kind: scenaro\n", encoding="utf-8")
    assert "broken.yaml:1: kind: unknown kind of file (got 'scenaro'). Did you mean scenario?" in complaint(
        "check", "broken.yaml"
    )


def test_a_delta_is_checked_as_what_it_extends() -> None:
    Path("slower.yaml").write_text("extends: h100-sxm\nname: slower\ntitle: Slower\n", encoding="utf-8")
    assert "slower.yaml: hardware is in order" in answer("check", "slower.yaml")


def test_a_place_that_cannot_be_written_is_refused_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("the simulation must not start")

    monkeypatch.setattr("sim.simulation.simulate", never)
    Path("file").touch()
    Path("folder").mkdir()
    Path("folder", "mine").touch()
    assert "file: exists and is no directory" in complaint("run", "quickstart", "-o", "file")
    assert "not a directory" in complaint("run", "quickstart", "-o", "file/result")
    assert "'mine', which is no part of a result" in complaint("run", "quickstart", "-o", "folder", "--overwrite")

    def forbidden(*_: object, dir: Path, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(dir))

    monkeypatch.setattr(tempfile, "TemporaryDirectory", forbidden)
    assert f"cannot be written: {tmp_path}: permission denied" in complaint("run", "quickstart", "-o", "new/result")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "folder", "mine"]


def test_more_than_memory_holds_is_said_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def simulate(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr("sim.simulation.simulate", simulate)
    assert "more requests than memory holds" in complaint("run", "quickstart")


# Signals, pipes and terminals


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Let interrupts be heard also where the tests run in the background, which a shell makes deaf to them."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def interrupted_at(call: int, function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that receives a real interrupt when it is called the n-th time."""
    calls = iter(range(1, 10**6))

    def wrapper(*arguments: Any, **options: Any) -> Any:
        if next(calls) == call:
            signal.raise_signal(signal.SIGINT)
        return function(*arguments, **options)

    return wrapper


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("place", ["in the middle of a run", "in the middle of writing"])
def test_an_interrupt_leaves_nothing_and_exits_130(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    if place == "in the middle of a run":
        monkeypatch.setattr(CompiledEngine, "advance", interrupted_at(30, CompiledEngine.advance))
    else:
        monkeypatch.setattr(pq, "write_table", interrupted_at(2, pq.write_table))
    result = fleetcast("run", "quickstart", "-o", "result", *BRIEF)
    assert result.exit_code == 130
    assert result.stdout == ""
    assert result.stderr == "Interrupted: no part of a result was left behind.\n"
    assert list(tmp_path.iterdir()) == []


def test_a_process_that_is_interrupted_says_so_without_a_traceback(tmp_path: Path) -> None:
    program = (
        "import os, signal, sys\n"
        "from sim.engine.compiled_engine import CompiledEngine\n"
        "from sim.cli import main\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "advance = CompiledEngine.advance\n"
        "CompiledEngine.advance = lambda self, until: (os.kill(os.getpid(), signal.SIGINT), advance(self, until))\n"
        "main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "run", "quickstart", "-o", "result"],
        capture_output=True, text=True, env=ENVIRONMENT, check=False, timeout=120,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr == "Interrupted: no part of a result was left behind.\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", [["list", "serving_stack"], ["schema", "scenario"], ["show", "quickstart"]])
def test_a_reader_that_has_gone_is_no_error_to_talk_about(arguments: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "sim.cli", *arguments],
        stdout=writing, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT, check=False,
    )  # fmt: skip
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, "")


def test_a_terminal_gets_no_colour_where_none_is_wanted() -> None:
    controller, terminal = pty.openpty()
    environment = ENVIRONMENT | {"NO_COLOR": "1", "TERM": "xterm-256color", "COLUMNS": "100"}
    subprocess.run([sys.executable, "-m", "sim.cli", "list", "hardware"], stdout=terminal, env=environment, check=True)
    os.close(terminal)
    shown = b""
    while True:
        try:
            part = os.read(controller, 65536)
        except OSError:  # what a terminal gives at its end on Linux
            break
        if not part:
            break
        shown += part
    os.close(controller)
    assert b"h100-sxm" in shown
    assert not re.search(rb"\x1b\[[0-9;]*(3[0-8]|4[0-8]|9[0-7])m", shown)
    assert max(len(re.sub(r"\x1b\[[0-9;]*m", "", line)) for line in shown.decode().splitlines()) <= 100


def test_signs_that_a_terminal_cannot_write_are_replaced() -> None:
    Path("hardware_profiles").mkdir()
    Path("hardware_profiles", "sign.yaml").write_text("extends: h100-sxm\nname: sign\ntitle: 3 ± 1\n", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "sim.cli", "list", "hardware"],
        env=ENVIRONMENT | {"PYTHONIOENCODING": "ascii", "FLEETCAST_PATH": "."}, capture_output=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"3 ? 1" in done.stdout
