#!/usr/bin/env python3
"""Times opdflow against DVC, Snakemake and redun on the same graph: a hundred stages in a row that do next to nothing.

    cargo build --release && benches/compare.py [--folder DIR] [--repeat 5]

Each tool runs as a user would run it: its own file for the graph, its own command, a project of its own. Three things are timed: the
first run, a run in which nothing is to do, and the answer to the question what would run. Prints a Markdown table: wall-clock and CPU
seconds of the command with all its children; of what is repeated, the middle. The tools come from PyPI, into a virtual environment in
the folder.
"""

import argparse
import os
import pathlib
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import venv

STAGES = 100
TOOLS = {"dvc": "3.67.1", "snakemake": "9.27.1", "redun": "0.44.1"}
ROOT = pathlib.Path(__file__).resolve().parent.parent


def timed(command, folder, env):
    """Wall-clock and CPU seconds of a command; it must succeed."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    ran = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    if ran.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))} ended with {ran.returncode}\n{ran.stdout[-2000:]}\n{ran.stderr[-2000:]}")
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return wall, cpu


def opdflow(folder, env):
    shutil.copy(ROOT / "benches/recipes/chain100.yaml", folder / "chain100.yaml")
    program = ROOT / "target/release/opdflow"
    env["OPDFLOW_STORE"] = str(folder / "store")
    return [program, "run", "chain100.yaml", "--quiet"], [program, "plan", "chain100.yaml"]


def dvc(folder, env):
    stages = "\n".join(
        f"  s{i:03}:\n    cmd: (cat s{i - 1:03}.txt; echo {i}) > s{i:03}.txt\n    deps: [s{i - 1:03}.txt]\n    outs: [s{i:03}.txt]"
        for i in range(1, STAGES + 1)
    )
    (folder / "s000.txt").write_text("0\n")
    (folder / "dvc.yaml").write_text(f"stages:\n{stages}\n")
    for command in (["git", "init", "--quiet"], ["dvc", "init", "--quiet"], ["dvc", "config", "core.analytics", "false"]):
        subprocess.run(command, cwd=folder, env=env, check=True, capture_output=True)
    return ["dvc", "repro", "--quiet"], ["dvc", "status"]


def snakemake(folder, env):
    rules = "\n".join(
        f"rule s{i:03}:\n    input: 's{i - 1:03}.txt'\n    output: 's{i:03}.txt'\n"
        f"    shell: '(cat {{input}}; echo {i}) > {{output}}'"
        for i in range(1, STAGES + 1)
    )
    (folder / "s000.txt").write_text("0\n")
    (folder / "Snakefile").write_text(f"rule all:\n    input: 's{STAGES:03}.txt'\n{rules}\n")
    return ["snakemake", "--cores", "1", "--quiet", "all"], ["snakemake", "--cores", "1", "--quiet", "--dry-run"]


def redun(folder, env):
    (folder / "workflow.py").write_text(
        "from redun import File, task\n\nredun_namespace = 'bench'\n\n\n"
        "@task()\ndef step(before: File, i: int) -> File:\n"
        "    after = File(f's{i:03}.txt')\n    after.write(before.read() + f'{i}\\n')\n    return after\n\n\n"
        f"@task()\ndef main() -> File:\n    last = File('s000.txt')\n    for i in range(1, {STAGES} + 1):\n"
        "        last = step(last, i)\n    return last\n"
    )
    (folder / "s000.txt").write_text("0\n")
    # It has no dry run that looks at the whole of a lazy graph.
    return ["redun", "run", "workflow.py", "main"], None


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--folder", type=pathlib.Path, help="where to work [default: a temporary folder]")
    arguments.add_argument("--repeat", type=int, default=5, help="runs of which the middle counts")
    asked = arguments.parse_args()
    folder = asked.folder or pathlib.Path(tempfile.mkdtemp(prefix="opdflow-compare-"))
    folder.mkdir(parents=True, exist_ok=True)
    tools = folder / "venv"
    if not (tools / "bin/redun").exists():
        venv.create(tools, with_pip=True, clear=True)
        wanted = [f"{name}=={version}" for name, version in TOOLS.items()]
        subprocess.run([tools / "bin/pip", "install", "--quiet", *wanted], check=True)
    env = dict(os.environ, PATH=f"{tools / 'bin'}:{os.environ['PATH']}", OPDFLOW_GPUS="0", HOME=str(folder))

    rows = {}
    for make in (opdflow, dvc, snakemake, redun):
        place = folder / make.__name__
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        own = dict(env)
        run, look = make(place, own)
        first = timed(run, place, own)
        again = [timed(run, place, own) for _ in range(asked.repeat)]
        looks = [timed(look, place, own) for _ in range(asked.repeat)] if look else None
        rows[make.__name__] = (first, middle(again), middle(looks))
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}; load {os.getloadavg()[0]:.1f} at the end\n")
    print("| tool | first run, wall s | nothing to do, wall s | nothing to do, CPU s | CPU, times opdflow's | what would run, CPU s |")
    print("|---|---|---|---|---|---|")
    ours = rows["opdflow"][1][1]
    for name, (first, again, look) in rows.items():
        label = " ".join(filter(None, [name, TOOLS.get(name)]))
        looked = f"{look[1]:.3f}" if look else "-"
        print(f"| {label} | {first[0]:.1f} | {again[0]:.3f} | {again[1]:.3f} | {again[1] / ours:.0f} | {looked} |")


def middle(times):
    return tuple(statistics.median(column) for column in zip(*times)) if times else None


if __name__ == "__main__":
    main()
