"""The command line as a process: exit codes, signals, what is loaded; and a run on the real model."""

import json
import os
import signal
import subprocess
import sys

import pytest

from rag_embeddings.cli import main
from rag_embeddings.encode.resolve import bundled_folder

RUN = "import sys; from rag_embeddings.cli import main; sys.exit(main())"
# An encoder that sends its own process a real Ctrl-C at the given call.
INTERRUPTED = """
import os, signal, sys
from rag_embeddings.cli.app import cli
from rag_embeddings.cli.models import Models
from rag_embeddings.testing.encoder import DeterministicEncoder

class Encoder(DeterministicEncoder):
    calls = 0
    def encode(self, texts, role):
        type(self).calls += 1
        if self.calls == {at}:
            os.kill(os.getpid(), signal.SIGINT)
        return super().encode(texts, role)

signal.signal(signal.SIGINT, signal.default_int_handler)  # as at a terminal: what runs in the background ignores it
cli(obj=Models(by_name=lambda _: Encoder(32), of_profile=lambda _: Encoder(32)))
"""


def process(*arguments, code: str = RUN, **options) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300, **options)


def test_help_lists_the_commands_and_loads_nothing_heavy() -> None:
    code = "import sys, json\nfrom rag_embeddings.cli import main\ncode = main(['--help'])\n"
    result = process(code=code + "print(json.dumps([code, sorted(sys.modules)]))")
    text, _, last = result.stdout.rstrip().rpartition("\n")
    exit_code, modules = json.loads(last)
    assert exit_code == 0
    assert all(f"\n  {name} " in text for name in ("index", "ask", "info", "evaluate"))
    assert "..." not in text.partition("\nCommands:")[2]  # what a command does is told to the end
    loaded = {name.split(".")[0] for name in modules}
    assert not loaded & {"torch", "numpy", "chromadb", "rich", "transformers", "langchain_core", "tiktoken", "sqlite3"}


def test_exit_codes_of_a_process(tmp_path) -> None:
    assert process("--version").returncode == 0
    usage = process("ask", "?")
    assert usage.returncode == 2
    assert "--db" in usage.stderr
    assert process("nonsense").returncode == 2
    error = process("ask", "?", "--db", tmp_path / "none")
    assert (error.returncode, error.stdout) == (1, "")
    assert error.stderr.startswith("error: there is no index")
    assert error.stderr.count("\n") == 1


@pytest.mark.skipif(os.name == "nt", reason="signals differ there")
def test_ctrl_c_ends_with_130_and_what_is_done_stays_done(tmp_path) -> None:
    text = tmp_path / "long.txt"
    text.write_text("".join(f"Sentence number {n} is about {n * n}. " for n in range(700)))
    command = ["index", text, "--db", tmp_path / "db", "--max-tokens", "200", "--json"]
    stopped = process(*command, code=INTERRUPTED.format(at=3))
    assert (stopped.returncode, stopped.stdout) == (130, "")
    assert stopped.stderr.startswith("interrupted")
    assert "Traceback" not in stopped.stderr
    resumed = json.loads(process(*command, code=INTERRUPTED.format(at=0)).stdout)
    units = resumed["sentences"] + resumed["chunks"]
    assert units > 768
    # Two slices were stored before the third was interrupted; no text is embedded again.
    assert resumed["encoded"] == units - 512
    again = json.loads(process(*command, code=INTERRUPTED.format(at=0)).stdout)
    assert (again["encoded"], len(again["unchanged"])) == (0, 1)


@pytest.mark.skipif(os.name == "nt", reason="pipes differ there")
def test_a_closed_pipe_is_no_error_message(tmp_path) -> None:
    command = [sys.executable, "-c", RUN, "--help"]
    read, write = os.pipe()
    os.close(read)
    result = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, check=False, timeout=60)
    os.close(write)
    assert "Traceback" not in result.stderr
    assert signal.SIGPIPE  # the platform has one, so the above was a test


@pytest.mark.parametrize("name", ["click", "rich"])
def test_without_its_libraries_it_says_what_to_install(name: str, monkeypatch, capsys) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    assert main(["--help"]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == f"error: the command line needs {name}. Run: pip install 'rag-embeddings[cli]'\n"


def test_main_returns_the_exit_code(tmp_path, capsys) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("rag-embeddings, version ")
    assert main(["info", "--db", str(tmp_path)]) == 1
    assert main(["info"]) == 2


FACTS = {
    "coffee": ("Coffee beans are roasted at about 220 degrees.", "How hot does one make the seeds of this drink?"),
    "bees": ("A honeybee tells the hive where flowers are by dancing.", "How do insects share the way to blossoms?"),
    "bridge": ("The suspension bridge is held by two steel cables.", "What carries the crossing over the strait?"),
    "sleep": ("Adults who rest less than six hours forget more.", "Does a short night harm memory?"),
    "volcano": ("Molten rock rose and the mountain erupted in May.", "In which month did lava break out?"),
    "chess": ("The queen moves along rows, files and diagonals.", "Which directions may the strongest piece take?"),
    "tax": ("Income below the threshold is not taxed at all.", "From what earnings does nobody pay the state?"),
    "violin": ("A violin has four strings tuned in fifths.", "How is the small bowed instrument strung?"),
    "glacier": ("The ice sheet loses a metre of thickness a year.", "How fast does the frozen mass get thinner?"),
    "bread": ("Sourdough rises through wild yeast and bacteria.", "What makes a loaf grow without bought leaven?"),
    "rail": ("Night trains to the coast leave at eleven.", "When does the last service for the sea depart?"),
    "vaccine": ("The shot has to be kept below minus 20 degrees.", "How cold is the injection stored?"),
}
FILLER = "This paragraph says nothing of interest to anyone. It only stands here. Nobody will ask about it.\n\n"


@pytest.mark.skipif(bundled_folder() is None, reason="the bundled model (extra bundled-model) is not installed")
def test_the_whole_way_on_the_real_model(tmp_path) -> None:
    """A process and the real model: index a folder, then measure questions that share hardly a word with it."""
    docs = tmp_path / "docs"
    docs.mkdir()
    for name, (fact, _) in FACTS.items():
        (docs / f"{name}.md").write_text(f"# Notes\n\n{FILLER * 2}{fact}\n\n{FILLER * 2}")
    rows = [{"question": asked, "references": [fact], "document": name} for name, (fact, asked) in FACTS.items()]
    (tmp_path / "q.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    db, saved = tmp_path / "db", tmp_path / "saved.json"
    commands = [
        ["index", docs, "--db", db, "--max-tokens", "60"],
        ["evaluate", "--questions", tmp_path / "q.jsonl", "--db", db, "--save", saved],
        ["ask", FACTS["vaccine"][1], "--db", db, "-k", "1"],
    ]
    # One process for all three, because importing torch takes seconds.
    calls = [[str(item) for item in command] for command in commands]
    done = process(code=f"from rag_embeddings.cli import main; raise SystemExit(max(map(main, {calls!r})))")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert done.stdout.startswith(f"{len(FACTS)} added, 0 unchanged, 0 replaced, 0 removed, 0 failed")
    assert f">>>{FACTS['vaccine'][0]}<<<" in done.stdout
    means = {name: interval["mean"] for name, interval in json.loads(saved.read_text())["means"].items()}
    assert means["recall@3"] >= 0.9
    assert means["mrr"] >= 0.8
