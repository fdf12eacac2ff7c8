# SPDX-License-Identifier: GPL-2.0-or-later
"""Programs that the tenant brings, custom task and overriding tasks: their environment, and how they are run.

They run in the helper as its root, with the guest mounted at SNF_IMAGE_TARGET; the VM is their cage.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from snf_image_helper.files.scratch import program_file
from snf_image_helper.guest import Guest
from snf_image_shared.errors import GuestError
from snf_image_shared.job import Job
from snf_image_shared.process import Finished, Limits, ProcessError, run

TIMEOUT = 600.0  # seconds
_LONGEST = 120 * 1024  # bytes: the kernel refuses an environment string of 128 KiB (MAX_ARG_STRLEN)
_NAME = re.compile(r"[A-Z_][A-Z0-9_]*")
_STARTED_BY_KERNEL = (b"#!", b"\x7fELF")
_ANY_STATUS = frozenset(range(256))


def environment(guest: Guest, job: Job) -> Mapping[str, str]:
    """SNF_IMAGE_* as custom tasks of snf-image 0.23 know them.

    Properties whose names are no shell variables are left out, and so is what is too long to be handed over.
    """
    devices = guest.disk.devices
    found = {
        "SNF_IMAGE_TARGET": guest.root,
        "SNF_IMAGE_HOSTNAME": job.hostname,
        "SNF_IMAGE_TYPE": job.image_format,
        "SNF_IMAGE_DEV": devices[0],
        "SNF_IMAGE_DEV_COUNT": str(len(devices)),
        **{f"SNF_IMAGE_DEV_{number}": device for number, device in enumerate(devices)},
        **{f"SNF_IMAGE_PROPERTY_{name}": value for name, value in job.properties.items() if _NAME.fullmatch(name)},
        "SNF_IMAGE_PROPERTY_OSFAMILY": str(guest.system.family),
        "SNF_IMAGE_PROPERTY_ROOT_PARTITION": str(guest.system.root_partition),
        **job.environment,
        **_secrets(job),
    }
    return {name: value for name, value in found.items() if len(value.encode("utf-8", "replace")) < _LONGEST}


def run_program(content: bytes, arguments: tuple[str, ...], guest: Guest, job: Job) -> Finished:
    """Run a copy of the program, show its output on the console, and give how it ended, whatever its status.

    Raises GuestError when it cannot be started, and ProcessError when it is killed or takes longer than TIMEOUT.
    """
    # A script without #! is a shell's, as execvp(3) and the shell that started it in snf-image 0.23 have it.
    shell = () if content.startswith(_STARTED_BY_KERNEL) else ("bash",)
    guest.programs_ran = True
    with program_file(content) as path:
        try:
            done = run(
                [*shell, str(path), *arguments],
                env=dict(environment(guest, job)),
                limits=Limits(timeout=TIMEOUT, accept=_ANY_STATUS),
            )
        except ProcessError as error:
            if isinstance(error.__cause__, OSError):
                raise GuestError(_not_started(error.__cause__)) from error
            raise
    for output in (done.stdout, done.stderr):
        if output:
            print(output, end="" if output.endswith("\n") else "\n", flush=True)
    return done


def _not_started(error: OSError) -> str:
    return (
        f"the program cannot be started ({error.strerror}); begin it with #!/bin/sh, #!/usr/bin/python3 or another "
        "interpreter of the helper, on a line that ends without a carriage return"
    )


def _secrets(job: Job) -> Mapping[str, str]:
    """The tenant's own secrets under upstream's names: set, perhaps empty, exactly when they were given."""
    given = {
        "SNF_IMAGE_PASSWD": job.secrets.password,
        "SNF_IMAGE_PASSWD_HASH": job.secrets.password_hash,
        "SNF_IMAGE_AUTH_KEYS": job.secrets.authorized_keys,
        "SNF_IMAGE_CLOUD_USERDATA": job.secrets.cloud_userdata,
    }
    return {name: value for name, value in given.items() if value is not None}
