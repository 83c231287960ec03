"""The licences of all that the programs are made of: crates, as cargo knows them, and the libraries beside the programs.

    python3 scripts/licences.py PROJECT DEPS > LICENCES.txt

Of each crate the expression that it states and the texts that it brings; the same text once. A crate that states none is an error.
"""

import json
import pathlib
import subprocess
import sys


def crates(project):
    """The crates that are linked on this platform, without the project's own."""
    asked = ["cargo", "metadata", "--locked", "--format-version", "1", "--filter-platform", "x86_64-unknown-linux-gnu"]
    told = json.loads(subprocess.run(asked, cwd=project, check=True, stdout=subprocess.PIPE).stdout)
    nodes = {node["id"]: node for node in told["resolve"]["nodes"]}
    members, seen = set(told["workspace_members"]), set()
    left = list(members)
    while left:
        node = left.pop()
        if node in seen:
            continue
        seen.add(node)
        # What only tests or builds use is in no program.
        left += [d["pkg"] for d in nodes[node]["deps"] if any(kind["kind"] is None for kind in d["dep_kinds"])]
    return sorted((p for p in told["packages"] if p["id"] in seen - members), key=lambda p: (p["name"], p["version"]))


def texts(folder):
    """The files of a folder in which licences stand."""
    known = ("licen", "copying", "notice", "unlicense", "copyright")
    return sorted(p for p in folder.iterdir() if p.is_file() and p.name.lower().startswith(known))


def main(project, deps):
    print("opdflow is made of these crates, under the licences that they state:\n")
    found, known = crates(project), {}
    for crate in found:
        stated = crate["license"] or (crate["license_file"] and f"see {crate['license_file']}")
        if not stated:
            sys.exit(f"{crate['name']} {crate['version']} states no licence")
        print(f"  {crate['name']} {crate['version']}: {stated}")
        for path in texts(pathlib.Path(crate["manifest_path"]).parent):
            text = path.read_text(errors="replace").strip()
            known.setdefault(text, []).append(f"{crate['name']} {crate['version']}")
    print("\nBeside the programs lie libtorch (BSD-3-Clause, with what its own notice names), NVIDIA's CUDA runtime and CUPTI,")
    print("which libtorch's build wants to find (NVIDIA's CUDA Toolkit licence), ONNX Runtime (MIT) and the models of PP-OCR")
    print("(Apache-2.0).\n")
    for library in ("libtorch", "onnxruntime"):
        folder = pathlib.Path(deps) / library / "licences"
        if not folder.is_dir():
            # Fetched before they were kept.
            sys.exit(f"{folder} is not there: remove {folder.parent} and run scripts/setup.sh again")
        for path in sorted(folder.iterdir()):
            known.setdefault(path.read_text(errors="replace").strip(), []).append(f"{library} ({path.stem})")
    for text, names in known.items():
        print("=" * 100)
        print("of " + ", ".join(names) + "\n")
        print(text + "\n")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
