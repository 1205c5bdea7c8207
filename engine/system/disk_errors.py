"""What the operating system refused, as one sentence that names the file and says what to do."""

from __future__ import annotations

import errno

ROOM = "make room there"
ADVICE = {
    errno.ENOSPC: ROOM,
    getattr(errno, "EDQUOT", -1): "make room, or have the quota raised",
    errno.EIO: "the disk or its connection is faulty: look at the system's log",
    errno.EROFS: "choose a folder that can be written, or mount this one writable",
    errno.EACCES: "choose another folder, or have its permissions changed",
    errno.EPERM: "choose another folder, or have its permissions changed",
    errno.EMFILE: "raise the limit of open files (ulimit -n 4096)",
    errno.ENFILE: "the whole system has too many files open: stop another program",
    errno.ENOMEM: "stop another program, or ask for less",
    errno.EAGAIN: "too many processes or threads: stop another program, or raise the limit (ulimit -u)",
    errno.EFBIG: "the file is larger than is allowed here (ulimit -f)",
    getattr(errno, "ESTALE", -2): "the network file system has gone: mount it again",
}

# Only these say something about the file that was to be read; any other is of the disk or the system.
OF_THE_FILE = {
    getattr(errno, name, -1)
    for name in ("ENOENT", "ENOTDIR", "EISDIR", "EACCES", "EPERM", "ELOOP", "ENAMETOOLONG", "EINVAL", "EFBIG", "ENXIO")
}


def is_passing(error: OSError) -> bool:
    """Whether the fault lies with the system: then a file is neither refused nor put aside, and the command stops."""
    return error.errno is not None and error.errno not in OF_THE_FILE


def sentence(error: OSError, then: str = "") -> str:
    """For example: runs/a/log.jsonl: No space left on device: make room there. `then`: what to do afterwards."""
    where = str(error.filename or error.filename2 or "the output")
    words = " ".join(str(error.strerror or error).split()).rstrip(".")
    advice = ADVICE.get(error.errno or 0, "")
    ways = ", then ".join(part for part in (advice, then) if part)
    return f"{where}: {words}: {ways}." if ways else f"{where}: {words}."
