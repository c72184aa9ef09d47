"""The processes of a job that srun, torchrun or a person has started meet before any of them writes.

The first process tells the others its folder, because the name of a folder has the time in it. If they do not meet,
nothing is written. See `refused` if the first does not come.
"""

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

from stnrot.errors import InputError, reason_of
from stnrot.runs.postponed_imports import import_lightning
from stnrot.runs.processes.launched import Launched

PATIENCE = 300.0  # seconds in which all have to come
GRACE = 10.0  # seconds in which a first process that was refused waits for the others
REFUSED = ""  # in the place of the folder
began = False  # whether this process is the first and has come to the meeting


def meet(launched: Launched, folder: str, patience: float | None = None) -> str:
    """Wait for the other processes of the job; return the folder of the first.

    Args:
        folder: absolute path of the folder that this process would write to.
        patience: seconds to wait; None: `PATIENCE`.

    Raises:
        InputError: if the other processes do not come, end meanwhile, or the first cannot be reached.
    """
    global began
    began = began or launched.rank == 0
    if launched.count == 1:
        return folder
    if launched.by == "torchrun":
        return _checked(_by_store(launched, folder))
    patience = PATIENCE if patience is None else patience
    address, port = _place(launched)
    deadline = time.monotonic() + patience
    if launched.rank == 0:
        _tell(launched, folder, port, deadline, f"{address}:{port} within {patience:g} s")
        return folder
    return _checked(_ask(launched, address, port, deadline, patience))


def refuse(first: Launched) -> None:
    """Tell each process that comes within the grace time that the first was refused."""
    if first.by == "torchrun":
        _by_store(first, REFUSED)
    else:
        _, port = _place(first)
        _tell(first, REFUSED, port, time.monotonic() + GRACE, "")


def _checked(folder: str) -> str:
    if folder == REFUSED:
        raise InputError("the first process of this job was refused, so this one ends: see the message of the first")
    return folder


def _place(launched: Launched) -> tuple[str, int]:
    """Return address and port of the first process, which Lightning uses again later."""
    if launched.by == "srun":
        import_lightning()
        from lightning.fabric.plugins.environments import SLURMEnvironment

        place = SLURMEnvironment()
        address, port = place.main_address, str(place.main_port)  # from the names of the machines and the job
    else:
        address, port = os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"]
    try:
        if not 0 < int(port) < 2**16:
            raise ValueError("no number of a port, 1 to 65535")
        socket.getaddrinfo(address, int(port))
    except (OSError, ValueError, OverflowError) as error:
        raise InputError(
            f"MASTER_ADDR={address} MASTER_PORT={port}: {reason_of(error)}; expected the name or address of the "
            "machine of the first process, and a free port of it"
        ) from error
    return address, int(port)


def _tell(launched: Launched, folder: str, port: int, deadline: float, where: str) -> None:
    """Wait until each of the other processes has connected and said its number, then send each the folder."""
    come: dict[int, socket.socket] = {}
    with _listening(port) as server, _telling(come, folder):
        while len(come) < launched.count - 1:
            server.settimeout(max(0.01, deadline - time.monotonic()))
            try:
                connection, _ = server.accept()
            except TimeoutError as error:
                missing = ", ".join(str(rank) for rank in range(1, launched.count) if rank not in come)
                raise InputError(
                    f"process {missing} of this job did not come to {where}: expected {launched.count} processes; "
                    "start the same command on every machine, and see that each can reach that address"
                ) from error
            connection.settimeout(10)
            try:
                rank = int(connection.makefile().readline(20))
            except (OSError, ValueError):
                rank = 0
            if not 0 < rank < launched.count:  # someone else
                connection.close()
                continue
            come[rank] = connection


@contextmanager
def _telling(come: dict[int, socket.socket], folder: str) -> Iterator[None]:
    """Send the folder to all that have come in the block, or that the first was refused if one is missing.

    Raises:
        InputError: if one has ended before it was told. Those that were told before it go on.
    """
    lost = set[int]()
    try:
        yield
        lost = {rank for rank, connection in come.items() if _has_ended(connection)}
        folder = REFUSED if lost else folder
    except BaseException:  # also Ctrl-C: they would wait for this process
        folder = REFUSED
        raise
    finally:
        for rank, connection in come.items():
            if not _was_sent(connection, folder):
                lost.add(rank)
                folder = REFUSED
    if lost:
        ranks = ", ".join(map(str, sorted(lost)))
        raise InputError(
            f"process {ranks} of this job has ended while the processes met: see its message, and start the job again "
            "on every machine"
        )


def _was_sent(connection: socket.socket, folder: str) -> bool:
    """Send the folder to a process; return False if it cannot be reached any more."""
    try:
        with connection:
            connection.sendall(f"{folder}\n".encode())
            connection.recv(1)  # it closes first, so that the port is free at once
    except OSError:
        return False
    return True


def _has_ended(connection: socket.socket) -> bool:
    """Return whether a process that waits for the folder has closed its connection."""
    patience = connection.gettimeout()
    connection.setblocking(False)
    try:
        return not connection.recv(1)
    except BlockingIOError:
        return False
    except OSError:
        return True
    finally:
        connection.settimeout(patience)


@contextmanager
def _listening(port: int) -> Iterator[socket.socket]:
    try:
        server = socket.create_server(("", port))
    except OSError as error:
        raise InputError(
            f"MASTER_PORT={port}: {reason_of(error)}; expected a free port of the machine of the first process"
        ) from error
    with server:
        yield server


def _ask(launched: Launched, address: str, port: int, deadline: float, patience: float) -> str:
    """Connect to the first process, again and again, and return what it sends."""
    why: OSError | None = None
    while (left := deadline - time.monotonic()) > 0:
        try:
            with socket.create_connection((address, port), timeout=left) as connection:
                connection.sendall(f"{launched.rank}\n".encode())
                if (line := connection.makefile().readline()).endswith("\n"):
                    return line[:-1]
        except OSError as error:
            why = error
        time.sleep(0.2)
    raise InputError(
        f"process {launched.rank} of this job could not reach the first process at {address}:{port} within "
        f"{patience:g} s{f' ({reason_of(why)})' if why else ''}: expected MASTER_ADDR and MASTER_PORT of the machine "
        "of the first process, which runs the same command"
    )


def _by_store(launched: Launched, folder: str) -> str:
    """Meet at the store of torchrun, which all processes of the job can reach."""
    from torch.distributed import DistError, PrefixStore, TCPStore

    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    restart = os.environ.get("TORCHELASTIC_RESTART_COUNT", 0)
    try:
        store = PrefixStore(f"stnrot/{restart}", TCPStore(address, port, is_master=False))
        if launched.rank == 0:
            store.set("folder", folder)
        found = store.get("folder").decode()
        if found == REFUSED:  # the store ends soon after the first process
            told, deadline = store.add("told", int(launched.rank > 0)), time.monotonic() + GRACE
            while launched.rank == 0 and told < launched.count - 1 and time.monotonic() < deadline:
                time.sleep(0.1)
                told = store.add("told", 0)
    except DistError as error:
        raise InputError(
            f"process {launched.rank} of this job did not meet the others at the store of torchrun, {address}:{port} "
            f"({reason_of(error)}): see which process has ended, and start the job again"
        ) from error
    return found
