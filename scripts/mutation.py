"""Plants random small faults (mutants) into the core and the readers, and counts how many the tests notice.

    pip install mutmut==3.8.1 && OPENBLAS_NUM_THREADS=1 python scripts/mutation.py --seed 0 --count 60

The faults are mutmut's: another operator, number, text, argument, condition or value. Those that change only the words
of an error or a warning are left out, as are zip's `strict`, an assertion, and what is outside of functions. Each
mutant takes the place of its function in a fork of this process, where the file's own examples and the tests named in
mutation.toml then run up to the first failure; what they start in processes of their own is without the fault. A mutant
that makes the tests hang counts as killed.
"""

import argparse
import difflib
import gc
import importlib
import json
import multiprocessing
import os
import random
import resource
import signal
import sys
import time
import tomllib
import types
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import libcst
import pytest
from libcst import matchers
from mutmut.mutation.file_mutation import MutationVisitor, deep_replace
from mutmut.mutation.mutators import mutation_operators
from mutmut.mutation.pragma_handling import IgnoredCode

TOP = Path(__file__).resolve().parent.parent
AREAS = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
PYTEST = ["-x", "--tb=no", "-p", "no:cacheprovider", "-W", "ignore::pytest.PytestAssertRewriteWarning"]
SECONDS = 40            # of a processor, for the tests of one mutant
BYTES = 16 << 30        # of address space likewise
WORDING = matchers.Raise() | matchers.Call(func=matchers.Attribute(attr=matchers.Name("warn")))
STRICT = matchers.Arg(keyword=matchers.Name("strict"))      # of zip: an assertion, which no test should make fail


def mutants(name):
    """(file's name, its text with one fault, what changed) for every fault of a file."""
    text = (TOP / "fastmlp" / f"{name}.py").read_text(encoding="utf-8")
    visitor = MutationVisitor(mutation_operators, IgnoredCode(set(), set(), set()))
    module = libcst.MetadataWrapper(libcst.parse_module(text)).visit(visitor)
    words = {id(node) for statement in matchers.findall(module, WORDING)
             for node in matchers.findall(statement, matchers.SimpleString())}
    asserted = {id(argument.value) for argument in matchers.findall(module, STRICT)}
    for one in visitor.mutations:
        old, new = ({id(argument.value) for argument in getattr(node, "args", ())}
                    for node in (one.original_node, one.mutated_node))
        is_asserted = id(one.original_node) in asserted or (old - new and old - new <= asserted)
        if one.contained_by_top_level_function and id(one.original_node) not in words and not is_asserted:
            yield name, text, module, one


def changed(name, text, module, one):
    """The text with a fault, and the difference that it makes."""
    new = deep_replace(module, one.original_node, one.mutated_node).code
    lines = difflib.unified_diff(text.splitlines(), new.splitlines(), f"fastmlp/{name}.py", lineterm="", n=0)
    return name, new, "\n".join(line for line in lines if not line.startswith("+++"))


def take_over(module, text):
    """Give the functions of a module that is in use the code that a changed text of it has."""
    namespace = {"__name__": module.__name__}
    exec(compile(text, module.__file__, "exec"), namespace)
    for name, value in vars(module).items():
        if getattr(value, "__module__", None) != module.__name__:
            continue
        pairs = [(value, namespace[name])]
        if isinstance(value, type):
            pairs = [(old, vars(namespace[name]).get(key)) for key, old in vars(value).items()]
        for old, new in pairs:
            old, new = getattr(old, "__func__", old), getattr(new, "__func__", new)         # of class methods
            if isinstance(old, types.FunctionType) and old.__code__.co_filename == module.__file__:
                old.__code__, old.__defaults__, old.__kwdefaults__ = new.__code__, new.__defaults__, new.__kwdefaults__


def run_tests(name, text, tests):
    """In a process of its own, whose exit status is pytest's."""
    os.setsid()
    gc.freeze()         # or every collection would go through thousands of syntax trees
    resource.setrlimit(resource.RLIMIT_AS, (BYTES, BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    try:
        take_over(importlib.import_module(f"fastmlp.{name}".replace("/", ".")), text)
    except Exception:       # noqa: BLE001  # a default or a constant that cannot be
        os._exit(1)
    os._exit(pytest.main([*PYTEST, f"fastmlp/{name}.py", *(f"tests/{test}.py" for test in tests)]))


def outcome(name, text, tests, deadline=float("inf")):
    """What the tests make of a file's text; None when it is too late to ask."""
    if time.monotonic() > deadline:
        return None
    child = multiprocessing.get_context("fork").Process(target=run_tests, args=(name, text, tests))
    child.start()
    child.join(3 * SECONDS)         # it may wait instead
    if child.is_alive():
        os.killpg(child.pid, signal.SIGKILL)
        child.join()
    return {0: "survived", -signal.SIGKILL: "timed out", -signal.SIGXCPU: "timed out"}.get(child.exitcode, "killed")


def print_table(tried):
    """Of (file, outcome, difference): each file's score and that of all; then what survived."""
    print(f"| file | mutants | killed | survived | timed out | score |\n|---|{'---:|' * 5}")
    for title in [*dict.fromkeys(name for name, *_ in tried), "all"]:
        count = Counter(what for name, what, _ in tried if title in (name, "all"))
        print(f"| {title} | {count.total()} | {count['killed']} | {count['survived']} | {count['timed out']} | "
              f"{100 - 100 * count['survived'] / count.total():.1f} % |")
    print(*(difference for _, what, difference in tried if what == "survived"), sep="\n\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("areas", nargs="*", default=list(AREAS), metavar="AREA", help=f"of {', '.join(AREAS)}")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=60, help="mutants of each area")
    parser.add_argument("--log", type=Path, default=Path(os.devnull), help="keep outcomes there, and go on from them")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin no mutant after so many")
    options = parser.parse_args()
    deadline = time.monotonic() + options.seconds
    os.chdir(TOP)
    sys.path[:0] = [str(TOP)]
    files = sorted({f"tests/{test}.py" for area in options.areas for tests in AREAS[area].values() for test in tests})
    if pytest.main([*PYTEST, "-qq", "--collect-only", *files]):
        sys.exit("the tests cannot be loaded")
    tried = []
    with ProcessPoolExecutor(2, multiprocessing.get_context("fork")) as pool, options.log.open("a+") as log:
        log.seek(0)
        known = {line[2]: line for line in map(json.loads, log)}
        for area in options.areas:
            every = [mutant for name in AREAS[area] for mutant in mutants(name)]
            random.Random(f"{options.seed} {area}").shuffle(every)
            chosen = [changed(*mutant) for mutant in every[:options.count]]
            new = [(name, text, change) for name, text, change in chosen if change not in known]
            print(f"{area}: {len(chosen)} of {len(every)} mutants, {len(new)} to be tried", flush=True)
            name, text, *_ = every[0]
            tests = sorted({test for tests in AREAS[area].values() for test in tests})
            if new and area not in known and time.monotonic() < deadline:
                if (what := outcome(name, text, tests)) != "survived":
                    sys.exit(f"the tests of {area}, without a fault: {what}")
                print(json.dumps((area, what, area)), file=log, flush=True)
            running = {pool.submit(outcome, name, text, AREAS[area][name], deadline): (name, change)
                       for name, text, change in new}
            for future in as_completed(running):
                if what := future.result():
                    name, change = running[future]
                    known[change] = name, what, change
                    print(json.dumps(known[change]), file=log, flush=True)
            tried += [known[change] for *_, change in chosen if change in known]
    print_table(tried)


if __name__ == "__main__":
    main()
