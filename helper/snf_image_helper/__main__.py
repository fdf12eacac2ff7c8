# SPDX-License-Identifier: GPL-2.0-or-later
"""The first program of the helper VM: opens the ports, lets the session do the job, says SUCCESS, powers off.

It is PID 1 and never returns. It refuses to do anything on a machine that was not booted as a helper VM.
"""

from __future__ import annotations

import ctypes
import os
import sys
import time
from pathlib import Path
from typing import NoReturn

import serial

from snf_image_helper.reporter import Reporter
from snf_image_shared import __version__
from snf_image_shared.report import RESULT_SUCCESS

ACTIVATION = "snf_image_activate_helper"
RESULT_PORT, REPORT_PORT = "/dev/ttyS1", "/dev/ttyS2"
_POWER_OFF = 0x4321FEDC  # LINUX_REBOOT_CMD_POWER_OFF, reboot(2)


def main() -> NoReturn:
    """Run as PID 1 of a helper VM; power off whatever happens."""
    command_line = Path("/proc/cmdline").read_text(encoding="ascii", errors="replace").split()
    if os.getpid() != 1 or ACTIVATION not in command_line:
        sys.exit("This is the helper of snf-image: it only runs as the first program of its own virtual machine.")
    os.umask(0o022)
    try:
        _serve(command_line)
    except BaseException as error:  # PID 1 must not end: the kernel would panic and hide the reason
        print(f"snf-image-helper: {type(error).__name__}: {error}", flush=True)
    power_off()


def power_off() -> NoReturn:
    """Flush everything and switch the VM off; QEMU then ends by itself."""
    os.sync()
    libc = ctypes.CDLL(None, use_errno=True)
    while True:
        libc.reboot(_POWER_OFF)
        time.sleep(1)


def _serve(command_line: list[str]) -> None:
    with serial.Serial(RESULT_PORT) as result_port, serial.Serial(REPORT_PORT) as report_port:
        report = Reporter(report_port.write)
        report.ready(__version__)
        result, debug = RESULT_SUCCESS, False
        # After the first word, because it imports for long; what fails in there, PID 1 says on the console.
        from snf_image_helper import session  # noqa: PLC0415

        try:
            job = session.read_job(command_line)
            debug = job.debug
            session.do(job, report)
        except Exception as error:
            result = f"ERROR: {session.explain(error, report)}"
            if debug:
                session.debug_shell()
        report_port.flush()
        result_port.write(result.encode("utf-8", "replace") + b"\n")
        result_port.flush()


if __name__ == "__main__":
    main()
