"""Looks for inputs that break a target, guided by what code they reach: `./dev fuzz [TARGET] [SECONDS]`.

Without a target all of them are run in turn, each for so many seconds. An input that breaks one is kept
in `tests/fuzz/found` and is to be mended, and moved to the corpus under a name that says what it was.
New inputs that reach more code are kept beside the corpus, in `.fuzz`, and are where the next run begins;
`--grow TARGET` moves the smallest set of small ones that reaches everything into the corpus.
"""

from __future__ import annotations

import argparse
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
CORPUS, FOUND = HERE / "corpus", HERE / "found"
KEPT = HERE.parent.parent / ".fuzz"
INSTRUMENTED = ["peerway", "h11", "defusedxml", "urllib.parse", "tomllib"]
MAX_BYTES = 4096
GROWN_BYTES = 1024  # of an input; and the corpus is small, so that its replay is a moment's work
TARGET_BYTES, TARGET_INPUTS = 8_000, 60  # of all inputs of a target
MEMORY_MB = 1500
SLOWEST_S = 10  # for one input


def main() -> int:
    """0 when nothing was found, 1 otherwise."""
    parser = argparse.ArgumentParser(prog="./dev fuzz")
    parser.add_argument("target", nargs="?", help="all of them in turn, when none is given")
    parser.add_argument("seconds", nargs="?", type=int, default=60, help="for each target (60)")
    parser.add_argument("--grow", action="store_true", help="add to the corpus what earlier runs found new")
    arguments = parser.parse_args()
    names = known_targets()
    if arguments.target is not None and arguments.target.isdigit():
        arguments.target, arguments.seconds = None, int(arguments.target)
    if arguments.target is not None and arguments.target not in names:
        parser.error(f"no target {arguments.target!r}; there are: {', '.join(names)}")
    work = grow if arguments.grow else lambda name: run(name, arguments.seconds)
    return max([work(name) for name in names if arguments.target in (None, name)])


def known_targets() -> list[str]:
    from tests.fuzz.targets import TARGETS

    return list(TARGETS)


def run(name: str, seconds: int) -> int:
    """One target in a process of its own, since libFuzzer never returns; prints a line about it."""
    kept = KEPT / name
    for folder in (kept, FOUND):
        folder.mkdir(parents=True, exist_ok=True)
    done = libfuzzer(
        name,
        *(str(kept), str(CORPUS / name), f"-max_total_time={seconds}", f"-max_len={MAX_BYTES}"),
        *(f"-artifact_prefix={FOUND}/{name}-", "-print_final_stats=1"),
    )
    executed = re.search(r"stat::number_of_executed_units:\s*(\d+)", done.stdout)
    covered = re.findall(r"cov: (\d+) ft: (\d+) corp: (\d+)", done.stdout)
    verdict = "nothing found" if done.returncode == 0 else "FOUND"
    edges, features, inputs = covered[-1] if covered else ("?", "?", "?")
    count = executed.group(1) if executed else "?"
    print(
        f"{name}: {count} inputs in {seconds} s, {edges} edges, {features} features, {inputs} kept: {verdict}"
    )
    if done.returncode:
        print(done.stdout[-6000:])
    sys.stdout.flush()
    return int(done.returncode != 0)


def grow(name: str) -> int:
    """Add to the corpus what reaches code that nothing in it does: as few and as small as can be."""
    corpus, small = CORPUS / name, KEPT / f"{name}.small"
    corpus.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(small, ignore_errors=True)
    small.mkdir(parents=True)
    for path in (KEPT / name).iterdir() if (KEPT / name).exists() else ():
        if path.stat().st_size <= GROWN_BYTES:
            shutil.copy(path, small)
    before = set(corpus.iterdir())
    done = libfuzzer(name, "-merge=1", str(corpus), str(small))
    shutil.rmtree(small)
    added = sorted(set(corpus.iterdir()) - before, key=lambda path: (path.stat().st_size, path.name))
    keep_every = -(-len(added) // TARGET_INPUTS) or 1
    room = TARGET_BYTES - sum(path.stat().st_size for path in before)
    for number, path in enumerate(added):
        size = path.stat().st_size
        if number % keep_every or size > room:
            path.unlink()
        else:
            room -= size
    print(f"{name}: {len(set(corpus.iterdir()) - before)} added to {len(before)}")
    return int(done.returncode != 0)


def libfuzzer(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    limits = (f"-rss_limit_mb={MEMORY_MB}", f"-timeout={SLOWEST_S}")
    command = [sys.executable, "-m", "tests.fuzz", "--inside", name, *limits, *arguments]
    return subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        check=False,
    )


def fuzz(name: str, *arguments: str) -> None:
    """Never returns."""
    import atheris

    with atheris.instrument_imports(include=INSTRUMENTED):
        from tests.fuzz.targets import TARGETS
    ourselves = shlex.join([sys.executable, "-m", "tests.fuzz", "--inside", name])  # to be started again by
    atheris.Setup([ourselves, *arguments], TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--inside"]:
        fuzz(*sys.argv[2:])
    sys.exit(main())
