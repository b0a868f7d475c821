#!/usr/bin/env python3
"""Writes the tables of docs/eviction.md from one run of `larder sim`, and says which of its promises hold.

    bench/eviction_tables.py --larder target/release/larder --traces FOLDER --results target/eviction

Every trace (NAME.kvt.zst) is replayed through every policy and model: with every object of size one, and those that tell
sizes with these. What is in the results folder already is not run again.
"""

import argparse
import csv
import statistics
import subprocess
from collections import defaultdict
from pathlib import Path

SHARES = ["0.1%", "1%", "10%", "20%"]
# Drawn from histograms, without any locality in time: in no mean.
SYNTHETIC = "meta_fbobj_synth"
TRACES = [
    "arc_oltp", "c2k_orm_night", "c2k_web12", "cp_io", "lirs_multi3", "mooncake_conversation", "scarab_recs",
    "twitter52_a", SYNTHETIC,
]  # fmt: skip
SIZED = ["cp_io", "twitter52_a"]
BASE = "redis-lru"
BY_OBJECTS = ["exact-lru", "model-s3fifo", "arc", "model-wtinylfu", "lirs", "model-sieve", "adaptive", "belady"]
WITH_SIZES = ["exact-lru", "model-s3fifo", "arc", "model-wtinylfu", "lirs", "gdsf", "adaptive", "belady"]
OWN = ["adaptive", "s3fifo", "wtinylfu", "sieve", "gdsf", "lru", "lrm", "fifo", "lfu", "mru", "random", "redis-lfu"]
EXACT = [("lru", "exact-lru"), ("mru", "exact-mru"), ("fifo", "exact-fifo"), ("lfu", "exact-lfu")]


def results(arguments, trace, form):
    """{share: {policy: (misses, gets, bytes missed)}} of a trace."""
    path = Path(arguments.results) / f"{trace}.{form}.csv"
    if not path.exists() or path.stat().st_size == 0:
        words = [arguments.larder, "sim", str(Path(arguments.traces) / f"{trace}.kvt.zst"), "--policies", "all", "--csv"]
        words += ["--sizes", ",".join(SHARES), "--jobs", str(arguments.jobs)]
        words += ["--objects"] if form == "objects" else []
        path.write_text(subprocess.run(words, check=True, capture_output=True, text=True).stdout)
    rows = list(csv.DictReader(path.open()))
    sizes = sorted({int(row["capacity"]) for row in rows})
    cells = defaultdict(dict)
    for row in rows:
        share = SHARES[sizes.index(int(row["capacity"]))]
        cells[share][row["policy"]] = (int(row["misses"]), int(row["gets"]), int(row["bytes_missed"]))
    return cells


def saved(mine, theirs):
    return 100 * (1 - mine / max(theirs, 1))


class Cells:
    """All cells of a form: (trace, share) to what each policy missed."""

    def __init__(self, arguments, traces, form):
        self.cells = {}
        for trace in traces:
            for share, cell in results(arguments, trace, form).items():
                self.cells[trace, share] = cell

    def real(self):
        return {key: cell for key, cell in self.cells.items() if key[0] != SYNTHETIC}

    def mean(self, policy, part=0):
        """The mean of misses saved over the real traces, percent; part 2 is missed bytes."""
        return statistics.mean(saved(cell[policy][part], cell[BASE][part]) for cell in self.real().values())

    def table(self, policies, has_bytes):
        def show(objects, size):
            return f"{objects:.1f} / {size:.1f}" if has_bytes else f"{objects:.1f}"

        print(f"| trace | size | misses a get, Redis LRU | {' | '.join(policies)} |")
        print("|---" * (3 + len(policies)) + "|")
        for (trace, share), cell in self.cells.items():
            misses, gets, _ = cell[BASE]
            each = [show(saved(cell[p][0], misses), saved(cell[p][2], cell[BASE][2])) for p in policies]
            print(f"| {trace} | {share} | {misses / gets:.4f} | {' | '.join(each)} |")
        means = [f"**{show(self.mean(p), self.mean(p, 2)) if has_bytes else f'{self.mean(p):.2f}'}**" for p in policies]
        print(f"| **mean of the real traces** | | | {' | '.join(means)} |")

    def farthest(self, policy, other):
        """The cell in which a policy's misses differ most from another's: percent, and where."""
        of = lambda cell: 100 * abs(cell[policy][0] / max(cell[other][0], 1) - 1)
        key = max(self.cells, key=lambda key: of(self.cells[key]))
        return of(self.cells[key]), f"{key[0]}, {key[1]}"

    def worst(self, policy, other):
        """The cell in which a policy has most more misses than another: percent, and where."""
        of = lambda cell: 100 * (cell[policy][0] / max(cell[other][0], 1) - 1)
        key = max(self.real(), key=lambda key: of(self.cells[key]))
        return of(self.cells[key]), f"{key[0]}, {key[1]}"


def promise(text, value, holds):
    print(f"- {'holds' if holds else '**does not hold**'}: {text}: {value}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--larder", default="target/release/larder", help="the program")
    parser.add_argument("--traces", required=True, help="the folder of the traces")
    parser.add_argument("--results", required=True, help="a folder for what each replay counted")
    parser.add_argument("--jobs", type=int, default=1, help="threads (1)")
    arguments = parser.parse_args()
    Path(arguments.results).mkdir(parents=True, exist_ok=True)
    objects = Cells(arguments, TRACES, "objects")
    sizes = Cells(arguments, SIZED, "sizes")

    print("## Misses by objects\n")
    objects.table(BY_OBJECTS, False)
    print("\nMeans of the server's own policies: " + ", ".join(f"{p} {objects.mean(p):.2f}" for p in OWN) + ".")
    print("\n## Misses with sizes\n")
    sizes.table(WITH_SIZES, True)
    print("\n## Server policies against exact ones\n\n| policy | by objects | with sizes |\n|---|---|---|")
    far = {}
    for policy, exact in EXACT:
        far[policy] = (objects.farthest(policy, exact), sizes.farthest(policy, exact))
        print(f"| {policy} | " + " | ".join(f"{off:.2f} ({where})" for off, where in far[policy]) + " |")

    print("\n## What holds\n")
    adaptive = objects.mean("adaptive")
    promise("adaptive saves at least 6.5% of the misses of Redis' LRU on the average", f"{adaptive:.2f}%", adaptive >= 6.5)
    rivals = {name: objects.mean(name) for name in ["model-s3fifo", "arc", "model-wtinylfu"]}
    told = ", ".join(f"{name} {value:.2f}%" for name, value in rivals.items())
    promise("at least what S3-FIFO, ARC and adaptive W-TinyLFU save", told, adaptive >= max(rivals.values()))
    more, where = objects.worst("adaptive", "exact-lru")
    promise("in no cell over 5% more misses than exact LRU", f"{more:+.2f}% ({where})", more <= 5)
    part = 100 * adaptive / objects.mean("belady")
    told = f"{part:.0f}% of {objects.mean('belady'):.2f}%"
    promise("a larger part of what Belady's optimum saves than 6.6 of 23", told, part > 660 / 23)
    of_sizes, of_bytes = sizes.mean("adaptive"), sizes.mean("adaptive", 2)
    promise("with sizes at least 6% fewer misses", f"{of_sizes:.2f}%", of_sizes >= 6)
    promise("and 5% fewer missed bytes", f"{of_bytes:.2f}%", of_bytes >= 5)
    gdsf = sizes.mean("gdsf")
    promise("the size-aware policy (gdsf) at least 9% fewer misses", f"{gdsf:.2f}%", gdsf >= 9)
    for policy, _ in EXACT:
        off, where = max(far[policy])
        promise(f"{policy} within 1% of the exact algorithm", f"{off:.2f}% ({where})", off <= 1)


if __name__ == "__main__":
    main()
