"""Read mutated files: python worker.py READER,... FIRST LAST FOLDER, or of a folder: READER,... kept FILES FOLDER.

It runs in a process of its own with little memory. A file that takes too long ends the process by SIGALRM, a crash by
another signal: the last line then tells the file.
"""

import os
import random
import resource
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

SECONDS, BYTES = 10, 2**31  # for a file; the memory is that beyond what the process has at its start
sys.path.insert(0, str(Path(__file__).parent))


def watch(folder: Path) -> list[str]:
    """Return a list that grows with everything that is written outside a folder, started or connected to."""
    found: list[str] = []
    inside = (str(folder.resolve()), "/dev/null")

    def audit(event: str, arguments: Any) -> None:
        if event == "open":
            path, _, flags = arguments
            if not flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) or isinstance(path, int):
                return
            paths = [path]
        elif event in ("os.rename", "os.link", "os.symlink"):
            paths = list(arguments[:2])
        elif event in ("os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.chmod"):
            paths = [arguments[0]]
        elif event in ("os.system", "os.exec", "os.posix_spawn", "subprocess.Popen", "socket.connect"):
            found.append(event)
            return
        else:
            return
        found.extend(f"{event} {path}" for path in paths if not os.path.abspath(os.fsdecode(path)).startswith(inside))

    sys.addaudithook(audit)
    return found


def main() -> None:
    """Read the files of the command line."""
    names, first, last, given = sys.argv[1:]
    folder = Path(given)
    os.chdir(folder)
    import torch
    from mutation import mutated
    from own_readers import OWN_READERS
    from readers import READERS

    torch.set_num_threads(1)
    readers = {name: (READERS | OWN_READERS)[name]() for name in names.split(",")}
    for reader in readers.values():
        for file, content in reader.files.items():  # imports what it needs, and is itself a test
            (folder / file).write_bytes(content)
            print("whole", file, outcome_of(reader.read, folder / file), flush=True)
    now = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (now + BYTES, now + BYTES))
    written = watch(folder)
    kept = sorted(Path(last).iterdir()) if first == "kept" else []
    for name, reader in readers.items():
        files = sorted(reader.files)
        mine = [each for each in kept if each.name.startswith(f"{name}-")]
        for number in range(len(mine)) if kept else range(int(first), int(last)):
            if kept:
                file, content = mine[number].name, mine[number].read_bytes()
            else:
                chance = random.Random(f"{name} {number}")
                file = chance.choice(files)
                content = mutated(reader.files[file], reader.files[chance.choice(files)], chance)
            (folder / file).write_bytes(content)
            print("start", name, number, file, flush=True)
            signal.alarm(SECONDS)
            outcome = outcome_of(reader.read, folder / file)
            signal.alarm(0)
            if written:
                outcome = f"wrote {' '.join(written)[:300]}"
                written.clear()
            print("done", name, number, outcome, flush=True)


def outcome_of(read: Any, path: Path) -> str:
    """Read a file; return in one line how it ended: read, refused, or a failure."""
    from readers import asked_too_much

    from stnrot.errors import InputError
    from stnrot.runs.command_line import one_line

    try:
        read(path)
        return "read"
    except InputError as error:
        try:
            asked_too_much(error)
        except MemoryError as problem:
            return " ".join(f"memory {problem!r:.300}".split())
        return "refused" if len(str(one_line(error)).splitlines()) == 1 else f"lines {error!r}"
    except BaseException as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        return " ".join(f"raised {error!r:.200} at {where.filename}:{where.lineno}".split())


if __name__ == "__main__":
    main()
