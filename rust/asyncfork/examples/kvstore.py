#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""A key-value store that takes a snapshot of itself: a child of os.fork() writes
the state at the fork to a file, while the parent goes on writing. Then it
verifies the file.

    kvstore.py [--require] FILE

It loads libasyncfork.so.0, or what $LIBASYNCFORK names. On a kernel without the
feature the fork is an ordinary one, or with --require an error. Exit status: 0
the snapshot is exact, else 1.
"""

import contextlib
import ctypes
import errno
import os
import sys

KEYS = 100_000

library = ctypes.CDLL(os.environ.get("LIBASYNCFORK", "libasyncfork.so.0"), use_errno=True)
library.asyncfork_counter.argtypes = [ctypes.c_char_p, ctypes.POINTER(ctypes.c_uint64)]


def call(function, *arguments):
    """Call a function of the library; OSError if it fails."""
    result = function(*arguments)
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


@contextlib.contextmanager
def asynchronous():
    """Forks in this block are asynchronous, if the kernel can.

    Not asyncfork_fork(): Python has locks of its own, which os.fork() looks after.
    The block ends in the child, too.
    """
    try:
        before = call(library.asyncfork_process)
        call(library.asyncfork_set_process, 1)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        yield
        return
    try:
        yield
    finally:
        call(library.asyncfork_set_process, before)


def asynchronous_forks():
    """How many forks of the machine were asynchronous; 0 without the feature."""
    forks = ctypes.c_uint64()
    try:
        call(library.asyncfork_counter, b"session_start", forks)
    except OSError as error:
        if error.errno != errno.ENOENT:
            raise
    return forks.value


def write_number(store, n):
    """All writes are numbered, so that a state is known by how many there were."""
    key = n if n < KEYS else n * 2654435761 % KEYS  # each key once, then any
    store[f"key:{key}"] = f"write-{n}"


def save(store, path):
    with open(path, "w") as file:
        for key, value in store.items():
            file.write(f"{key} {value}\n")
        file.flush()
        os.fsync(file.fileno())


def load(path):
    with open(path) as file:
        return dict(line.split() for line in file)


def begin_snapshot(store, path):
    """Fork a child that saves the store. Its process id, and was it asynchronous?"""
    before = asynchronous_forks()
    sys.stdout.flush()  # or the child has it, too
    with asynchronous():
        child = os.fork()
    if child == 0:
        status = 1
        try:
            save(store, path)
            status = 0
        finally:
            os._exit(status)
    return child, asynchronous_forks() > before


def main(arguments):
    require = arguments[:1] == ["--require"]
    if len(arguments) != 1 + require:
        sys.exit("usage: kvstore.py [--require] FILE")
    path = arguments[-1]
    if not call(library.asyncfork_probe):
        if require:
            sys.exit("kvstore: this kernel has no asynchronous fork")
        print("kvstore: this kernel has no asynchronous fork, using fork()")
    live = {}
    at_fork = n = KEYS + KEYS // 2
    for i in range(at_fork):
        write_number(live, i)

    # Not in its place before it is whole.
    child, was_asynchronous = begin_snapshot(live, path + ".new")

    # The store is in use meanwhile.
    ended = 0
    while not ended:
        for n in range(n, n + 1000):
            write_number(live, n)
        n += 1
        ended, status = os.waitpid(child, os.WNOHANG)
    # By SIGKILL, if there was no memory for its page tables.
    if os.WIFSIGNALED(status):
        sys.exit("kvstore: no snapshot: the child was killed")
    if status:
        sys.exit("kvstore: no snapshot: the child could not write it")
    os.rename(path + ".new", path)
    print(f"kvstore: snapshot of {len(live)} keys, {n - at_fork} writes meanwhile")

    loaded = load(path)
    expected = {}
    for i in range(at_fork):
        write_number(expected, i)
    if loaded != expected:
        sys.exit("kvstore: WRONG: the snapshot is not the state at the fork")
    if loaded == live:
        sys.exit("kvstore: WRONG: the store has not changed since")
    print("kvstore: exact: the snapshot is the state at the fork")
    print(f"kvstore: the fork was {'' if was_asynchronous else 'not '}asynchronous")
    if require and not was_asynchronous:
        sys.exit("kvstore: asynchronous was required: see fallback_* with asyncfork status")


if __name__ == "__main__":
    main(sys.argv[1:])
