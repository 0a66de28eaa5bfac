"""The commands of fidelity, as a user types them."""

from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner

from sim.cli import main
from sim.fidelity.validation_files import FILES
from sim.specs.library import Library, builtin_root

COLUMNS = (
    "row_id source accelerator n_accel tp model precision framework isl_mean osl_mean concurrency_or_rate metric value"
)
HEADER = ",".join(COLUMNS.split())
POINTS = f"""{HEADER}
a,own,H100,1,1,Llama-3.1-8B,bf16,vllm 0.15,1000,200,conc=1,tpot_mean_ms,8
b,own,H100,1,1,Llama-3.1-8B,bf16,vllm 0.15,1000,200,conc=16,tpot_mean_ms,11
c,own,H100,4,4,Llama-3.1-70B,bf16,vllm 0.15,1000,200,conc=16,tpot_mean_ms,24
d,own,Toaster,4,4,Llama-3.1-70B,bf16,vllm 0.15,1000,200,conc=16,tpot_mean_ms,24
"""


def test_validate_prints_tables_and_json_and_writes(tmp_path: Path) -> None:
    points = tmp_path / "points.csv"
    points.write_text(POINTS)
    shown = CliRunner().invoke(main, ["validate", str(points), "--quiet"])
    assert shown.exit_code == 0, shown.output
    assert "By accelerator" in shown.output
    assert "no hardware profile for 'Toaster'" in shown.output
    command = ["validate", str(points), "--json", "--quiet", "-o", str(tmp_path / "out")]
    answered = CliRunner().invoke(main, command)
    answer = json.loads(answered.stdout)
    assert answer["overall"]["tpot"]["n"] == 3
    assert answer["unmapped"]["n"] == 1
    assert json.loads((tmp_path / "out" / "summary.json").read_text()) == answer
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(FILES)
    again = CliRunner().invoke(main, command)
    assert again.exit_code == 2
    assert "--overwrite" in again.stderr
    assert CliRunner().invoke(main, [*command, "--overwrite"]).exit_code == 0


def test_calibrate_writes_a_stack_that_the_library_reads(tmp_path: Path) -> None:
    points = tmp_path / "points.csv"
    points.write_text(POINTS)
    (tmp_path / "serving_stacks").mkdir()
    output = tmp_path / "serving_stacks" / "mine.yaml"
    done = CliRunner().invoke(main, ["calibrate", str(points), "-o", str(output), "--quiet"])
    assert done.exit_code == 0, done.output
    assert "3 numbers determine" in done.output
    stack = Library((tmp_path, builtin_root())).serving_stack("mine").spec
    assert stack.families
    again = CliRunner().invoke(main, ["calibrate", str(points), "-o", str(output), "--quiet"])
    assert again.exit_code == 2
    replaced = CliRunner().invoke(
        main, ["calibrate", str(points), "-o", str(output), "--quiet", "--overwrite", "--json"]
    )
    assert json.loads(replaced.stdout)["numbers"] == 3


def test_import_model_writes_a_model(tmp_path: Path) -> None:
    config = {
        "num_hidden_layers": 32, "hidden_size": 4096, "num_attention_heads": 32, "num_key_value_heads": 8,
        "intermediate_size": 14336, "vocab_size": 128256, "max_position_embeddings": 131072,
    }  # fmt: skip
    (tmp_path / "models").mkdir()
    (tmp_path / "config.json").write_text(json.dumps(config))
    output = tmp_path / "models" / "mine.yaml"
    done = CliRunner().invoke(main, ["import", "model", str(tmp_path / "config.json"), "-o", str(output)])
    assert done.exit_code == 0, done.output
    assert "8.03 billion parameters" in done.output
    assert Library((tmp_path, builtin_root())).model("mine").spec.architecture.layers == 32
