"""The command `actsweep`: what it takes, what it says to mistakes, how TAB completes it."""

import os
import shlex
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

import actsweep
from actsweep.cli.main import command_line, main
from actsweep.config.conf_dir import conf_dir
from actsweep.utils import invocation

ROOT = Path(__file__).parents[1]
COMMANDS = {
    *("train", "status", "resume", "retry", "table", "cancel", "job", "compare", "report"),
    *(
        "export",
        "watch",
        "board",
        "dashboard",
        "sync",
        "show",
        "rm",
        "gc",
        "data",
        "experiment",
        "claims",
        "theory",
        "race",
        "tune",
    ),
}
MISTAKES = [
    ("statsu", 'Unknown command "statsu". Did you mean "status"?'),
    ("compare --metrc x", "Unknown option: --metrc. Did you mean --metric?"),
    ("compare --margin x", 'Invalid value for --margin: unable to convert "x" into float.'),
    ("watch last --port many", 'Invalid value for --port: unable to convert "many" into int.'),
    ("job here one 0", 'Invalid value for NUMBER: unable to convert "one" into int.'),
    ("resume", 'Command "resume" parameter SWEEP requires an argument.'),
    ("compare --by", 'Command "compare" parameter --by requires an argument.'),
    ("status a b", "b: not expected here; see actsweep --help"),
    ("dashboard me/acts --push --dry-run", "--dry-run: not with --push; leave one of them out"),
    ("gc --no-dry-run", "Unknown option: --no-dry-run."),
    ("tune --json act=relu", "--json: is for --show; type for example --show last --json"),
    ("tune act=relu --show last", "act=relu: isn't for --show, which trains nothing; leave it"),
    ("export", "no format: must be one of --latex, --csv, --parquet, --json, --figures; type for"),
    ("export --csv --json", "--csv and --json: must be one of --latex, --csv, --parquet, --json,"),
    ("status", "outputs/sweeps: no sweep yet; type actsweep train -m act=relu,elu"),
]


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["actsweep"])


@pytest.mark.parametrize(("words", "line"), MISTAKES, ids=[words for words, _ in MISTAKES])
def test_a_mistake_is_one_line(words: str, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words.split()) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"error: {line}")
    assert err.count("\n") == 1


@pytest.mark.parametrize("words", ["", "data"])
def test_half_a_command_is_answered_with_help(
    words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words.split()) == 2
    assert f"Usage: actsweep {words}".strip() in capsys.readouterr().out


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    listed = [line.partition(":")[0].strip() for line in capsys.readouterr().out.splitlines()]
    assert set(listed) >= COMMANDS
    assert set(command_line()) >= COMMANDS
    assert main(["watch", "--help"]) == 0
    assert "--port INT: Of 127.0.0.1; 0 is a free one. [default: 8765]" in capsys.readouterr().out


def test_one_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == actsweep.__version__ == version("actsweep")


def test_words_may_stand_behind_options(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["experiment", "--outputs", "here", "circle", "epochs=many"]) == 2
    assert capsys.readouterr().err.startswith("error: epochs=many: must be a whole number")
    assert main(["experiment", "circle", "--outputs", "here", "epochs=many"]) == 2


@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        ("re", {"resume", "retry", "report", "rerun"}),
        ("compare --m", {"--metric", "--margin"}),
        ("data ", {"prepare"}),
        ("retry --d", {"--diverged"}),
        ("experiment --o", {"--outputs"}),
    ],
)
def test_completion_in_bash(typed: str, completed: set[str], tmp_path: Path) -> None:
    (tmp_path / "completion").write_text(command_line().generate_completion(shell="bash"))
    words = [*typed.split(), *([""] if typed.endswith(" ") else [])]
    line = f"COMP_WORDS=(actsweep {shlex.join(words)}); COMP_CWORD={len(words)}"
    script = f'. ./completion; {line}; _actsweep; printf "%s\\n" "${{COMPREPLY[@]}}"'
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) == completed


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_completion_in_other_shells_knows_the_same(shell: str) -> None:
    script = command_line().generate_completion(shell=shell)  # type: ignore[arg-type]
    for word in (*COMMANDS, "prepare", "metric", "diverged"):
        assert word in script


@pytest.mark.parametrize("words", ["--help", "status", "train --help", "train act=rleu"])
def test_answers_do_not_wait_for_jax(words: str) -> None:
    code = (
        "import atexit, sys\n"
        "heavy = {'jax', 'numpy', 'wandb', 'submitit', 'matplotlib'}\n"
        "atexit.register(lambda: print('HEAVY', sorted(heavy & set(sys.modules))))\n"
        "from actsweep.cli.main import main\n"
        f"sys.exit(main({words.split()}))\n"
    )
    env = {key: value for key, value in os.environ.items() if key != "JAX_PLATFORMS"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == (0 if "--help" in words else 2), done.stderr
    assert done.stdout.splitlines()[-1] == "HEAVY []"


def test_everything_after_train_is_hydra_s() -> None:
    command = [sys.executable, "-m", "actsweep", "train"]

    def typed(line: str) -> str:
        words = [*command, *line.split()]
        done = subprocess.run(words, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return done.stdout

    help_text = typed("--help")
    assert "actsweep train -m act=relu,elu,swish seed=0,1,2" in help_text
    assert "python train.py" not in help_text
    Path("mine/act").mkdir(parents=True)
    Path("mine/act/half.yaml").write_text("name: half\n_target_: my_acts.half\n")
    shown = typed("--config-dir mine act=half depth=7 --cfg job")
    assert "name: half" in shown
    assert "layers: 7" in shown
    Path("my_acts.py").write_text("def half(z):\n    return z / 2\n")
    small = "data=digits depth=2 depth.width=8 pack.plan=true"
    planned = typed(f"--config-dir=mine -m act=half,relu seed=0,1 {small}")
    assert planned.splitlines()[-1] == "4 runs in 2 packs"


def test_conf_is_the_checkout_s() -> None:
    assert conf_dir() == ROOT / "conf"


@pytest.mark.parametrize(
    ("program", "advised", "recorded", "again"),
    [
        ("train.py", "python train.py", ["train.py"], "python train.py -m 'act=a b'"),
        ("/x/train.py", "python train.py", ["train.py"], "python train.py -m 'act=a b'"),
        (
            "actsweep train",
            "actsweep train",
            ["actsweep", "train"],
            "actsweep train -m 'act=a b'",
        ),
        ("/x/bin/actsweep", "actsweep train", ["actsweep"], "actsweep -m 'act=a b'"),
    ],
)
def test_what_is_advised_and_recorded(
    program: str, advised: str, recorded: list[str], again: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", [program])
    assert invocation.train_command() == advised
    assert invocation.program() == recorded
    assert invocation.typed_again([*recorded, "-m", "act=a b"]) == again
