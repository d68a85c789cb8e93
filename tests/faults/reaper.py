"""`python reaper.py USER COMMAND…`: runs it as that user (-: as whoever asks), and takes in whatever it leaves behind when it is killed, so that nothing of it seems to live."""

import ctypes
import os
import pwd
import signal
import sys
import warnings  # noqa: F401 -- wanted by exec, and out of reach for another user

PR_SET_CHILD_SUBREAPER = 36
PR_SET_PDEATHSIG = 1


def main() -> None:
    """Until nothing runs any more. It ends with whoever started it."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    first = os.fork()
    if first == 0:
        if sys.argv[1] != "-":
            user = pwd.getpwnam(sys.argv[1])
            os.setgroups([])
            os.setgid(user.pw_gid)
            os.setuid(user.pw_uid)
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        os.execvp(sys.argv[2], sys.argv[2:])
    while True:
        try:
            os.wait()
        except ChildProcessError:
            return


if __name__ == "__main__":
    main()
