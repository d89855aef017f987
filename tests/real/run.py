#!/usr/bin/env python3
"""Runs the real stories: every function of stories/*.py whose only parameter is `run`.

usage: run.py [--binary PATH] [--picture PATH] [--seed N] [--point WORD] [--list] [--keep] [WORD ...]

WORDs choose the stories whose file or name holds one of them. Prints each story with its time and ends with
'N passed, N failed'. Exit code 0 when none failed.
"""
import argparse
import importlib.util
import inspect
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from contextlib import ExitStack
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.dont_write_bytecode = True  # the checksums of the cached parts cover every file in them
sys.path.insert(0, str(HERE))

import parts  # noqa: E402

sys.path.append(str(parts.PYTHON_PART))


class Run:
    """What a story gets: the binary, its own folder, and the counterparts, the slow ones shared between stories."""

    def __init__(self, options, folder):
        self.binary, self.picture, self.seed, self.point = options.binary, options.picture, options.seed, options.point
        self.all_work, self.work = folder, folder
        self.shared, self.story = ExitStack(), ExitStack()
        self._cluster = None

    def start(self, part):
        """Enters a context manager that ends with this story."""
        return self.story.enter_context(part)

    def cluster(self):
        """The control plane that all stories share; a story works in namespaces of its own."""
        if self._cluster is None:
            self._cluster = self.shared.enter_context(parts.control_plane(self.all_work))
        return self._cluster


def stories(words):
    """(file, name, function) of every chosen story, in file and source order."""
    for path in sorted((HERE / "stories").glob("*.py")):
        spec = importlib.util.spec_from_file_location(f"stories_{path.stem}", path)
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module  # dataclasses look themselves up
        spec.loader.exec_module(module)
        functions = [f for n, f in inspect.getmembers(module, inspect.isfunction)
                     if f.__module__ == module.__name__ and not n.startswith("_") and list(inspect.signature(f).parameters) == ["run"]]
        for function in sorted(functions, key=lambda f: f.__code__.co_firstlineno):
            if not words or any(w in path.stem or w in function.__name__ for w in words):
                yield path.stem, function.__name__, function


def tell(run, file, name, function):
    """Runs one story; True when it held."""
    run.work = run.all_work / f"{file}.{name}"
    run.work.mkdir(parents=True)
    run.story = ExitStack()
    began = time.monotonic()
    failure = None
    print(f"   {file}: {name.replace('_', ' ')} ...", flush=True)
    try:
        with run.story:
            function(run)
    except Exception as e:  # a story may fail in any way; the next one still runs
        failure = e
    print(f"{'ok  ' if failure is None else 'FAIL'} {file}: {name.replace('_', ' ')}  {time.monotonic() - began:.1f} s", flush=True)
    if isinstance(failure, parts.CannotStart):
        print(f"     a part could not start: {failure}", flush=True)
    elif failure is not None:
        traceback.print_exception(failure, file=sys.stdout)
        for log in sorted(run.work.glob("*.log"))[:4]:
            print(f"--- the end of {log.name}\n{parts.tail(log)}", flush=True)
    return failure is None


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--binary", type=Path, default=parts.CACHE / "target" / "debug" / "firstlook")
    options.add_argument("--picture", type=Path, help="keep the demo page's screenshot of the card here")
    options.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32), help="of the random crash points")
    options.add_argument("--point", default="", help="only the crash points whose name holds this")
    options.add_argument("--list", action="store_true")
    options.add_argument("--keep", action="store_true", help="keep the work folder, and say where it is")
    options.add_argument("words", nargs="*")
    options = options.parse_args()
    chosen = list(stories(options.words))
    if options.list:
        print("\n".join(f"{file}.{name}" for file, name, _ in chosen))
        return 0
    if not options.binary.exists():
        print(f"firstlook: no binary at {options.binary}; build it, or give --binary", file=sys.stderr)
        return 2
    options.binary = options.binary.resolve()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that every part is ended as at the end of a story
    folder = Path(tempfile.mkdtemp(prefix="firstlook-real-", dir=os.environ.get("FIRSTLOOK_RUN_DIR")))
    folder.chmod(0o755)
    run, results = Run(options, folder), []
    try:
        with run.shared:
            for story in chosen:
                results.append(tell(run, *story))
    finally:
        if options.keep:
            print(f"work folder: {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    passed = sum(results)
    print(f"{passed} passed, {len(results) - passed} failed")
    return 0 if passed == len(results) and results else 1


if __name__ == "__main__":
    sys.exit(main())
