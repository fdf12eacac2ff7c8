# SPDX-License-Identifier: GPL-2.0-or-later
"""snf-image-inspect: what is in an image, and what a deployment of it would do.

The image is opened as create opens it, with the same checks, and its disk given to the helper VM, which may only read
it. A file that is a disk already is given as it is; of anything else the disk is made in CACHE_DIR first, in a file
without a name. Nothing of the image is interpreted here.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from snf_image_host.configuration.backends import built_in
from snf_image_host.configuration.settings import Settings
from snf_image_host.copying.courtesy import Courtesy
from snf_image_host.copying.pipeline import Opened, Terms, copy
from snf_image_host.ganeti import Request
from snf_image_host.images.cache_directory import Scratch, cache_directory, read_only, room, unnamed_file
from snf_image_host.images.names import NO_IMAGE, WantedImage
from snf_image_host.images.opening import image_of, opened_image
from snf_image_host.images.prologue import size_on_disk, start_of_image
from snf_image_host.images.recipes import Recipe
from snf_image_host.images.sources import Source
from snf_image_host.inspection.document import InspectedImage, Inspection, read_findings
from snf_image_host.inspection.job import Hardware, inspection_job, request_for
from snf_image_host.inspection.table import lines
from snf_image_host.operator_log import log_of
from snf_image_host.parameters.config_url import read_document
from snf_image_host.progress import Progress, printable
from snf_image_host.vm.deadlines import FAILED
from snf_image_host.vm.floppy import config_floppy, device_for
from snf_image_host.vm.helper_vm import HelperVM, Payload
from snf_image_shared.errors import ConfigurationError, DiskError, HelperError, ImageError, RequestError
from snf_image_shared.job import JOB_FILE, Job

_MIB = 1 << 20
_LARGEST_DOCUMENT = 16 << 20  # bytes of the file of --plan
_DOCUMENT = "--plan: the document"
_ANY_FORMAT = "auto"
_PATHS = ("/", "./", "../")  # with which an IMAGE begins that is no img_id


def parser() -> argparse.ArgumentParser:
    """The options; the manual page is made of them."""
    top = argparse.ArgumentParser(
        prog="snf-image-inspect", description="Tell what is in an image, and what a deployment of it would do."
    )
    top.add_argument(
        "image",
        nargs="?",
        metavar="IMAGE",
        help="as img_id: a name below IMAGE_DIR or a URL; or a file's path that begins with /, ./ or ../. "
        "Not needed if JOB has it",
    )
    top.add_argument("--format", metavar="FORMAT", help="as img_format; auto if nothing else says it")
    top.add_argument("--variant", default="", metavar="NAME", help="with the settings of this variant")
    top.add_argument("--json", action="store_true", help="print one JSON object")
    top.add_argument(
        "--plan", metavar="JOB", help="a file with OS parameters as a JSON object, or -: tell what each task would do"
    )
    top.add_argument("--disks", type=int, default=1, metavar="N", help="for a plan: how many disks the instance has")
    top.add_argument("--nics", type=int, default=1, metavar="N", help="for a plan: how many network cards it has")
    top.add_argument("-v", "--verbose", action="store_true", help="show the log, with the helper VM's console")
    return top


def run(options: argparse.Namespace, root: Path) -> None:
    """Do what the options say, with the settings below `root`.

    Raises SnfImageError, also when the report is printed: ImageError if nothing was recognised in the image,
    HelperError if a deployment as planned would fail.
    """
    if os.geteuid() != 0:
        raise ConfigurationError("the helper VM's jail can only be made by root: run snf-image-inspect as root")
    settings, request = asked(options, Settings.load(options.variant, root))
    with Progress.start("", None, log=log_of(verbose=options.verbose)) as progress:
        for warning in settings.warnings:
            progress.warning(warning)
        found = inspected(request.image, inspection_job(request, settings), settings, progress)
    if not options.plan:
        found = found.model_copy(update={"disk": replace(found.disk, plan=None)})
    if _is_path(options.image):
        found = found.model_copy(update={"image": found.image.model_copy(update={"name": printable(options.image)})})
    _say([found.model_dump_json(indent=2)] if options.json else lines(found))
    _judge(found, printable(found.image.name))


def asked(options: argparse.Namespace, settings: Settings) -> tuple[Settings, Request]:
    """What create would be asked, and with which settings: a path is an image directory of its own and a name in it.

    Raises RequestError.
    """
    parameters = {**settings.parameters, **(_document(options.plan) if options.plan else {})}
    if options.format or "IMG_FORMAT" not in parameters:
        parameters["IMG_FORMAT"] = options.format or _ANY_FORMAT
    image = options.image or parameters.get("IMG_ID", "")
    if not image:
        raise RequestError("no IMAGE is given, and no img_id by --plan: say which image is to be inspected")
    if _is_path(options.image):
        path = Path(image).resolve()
        if not path.is_file():
            raise RequestError(f"there is no file {printable(image)}: correct IMAGE")
        settings = settings.model_copy(update={"image_dir": path.parent, "backends": built_in()})
        image = f"local://{path.name}"
    request = request_for(parameters | {"IMG_ID": image}, Hardware(options.disks, options.nics), settings)
    if request.image.id == NO_IMAGE:
        raise RequestError("null is no image: give the image that is to be inspected")
    return settings, request


def inspected(wanted: WantedImage, job: Job, settings: Settings, progress: Progress) -> Inspection:
    """What the helper VM finds in the image. Raises SnfImageError."""
    files = {JOB_FILE: job.dump()}
    device_for(files, settings.helper_config_device)  # refuses what is too much for a floppy
    with (
        HelperVM.ready(settings) as helper_vm,
        opened_image(wanted, settings, progress) as opened,
        _disk_of(opened, settings, progress) as disk,
        config_floppy(files, helper_vm.config_device) as floppy,
    ):
        try:
            said = helper_vm.run(Payload((disk,), floppy, None, "kvm"), progress)
        except HelperError as error:
            reason = str(error).removeprefix(FAILED).strip()
            raise HelperError(
                f"{disk.name} cannot be inspected: {reason} (-v shows the helper VM's console)"
            ) from error
        disk.check_unchanged()
        image = InspectedImage(
            name=printable(opened.content.name),
            format=wanted.format,
            container=opened.recipe.container,
            compression=opened.recipe.compression or "",
            size=opened.content.size,
        )
    return Inspection(image=image, disk=read_findings(said))


@contextmanager
def _disk_of(opened: Opened, settings: Settings, progress: Progress) -> Iterator[Source]:
    """The disk that the image makes, for reading alone. Raises ImageError, ConfigurationError."""
    content = opened.content
    if isinstance(content, Source) and opened.recipe == Recipe() and not start_of_image(opened.img_format):
        opened.integrity.fetched_is_content()
        if not opened.integrity.is_wanted:
            yield content
            return
    path = settings.cache_dir
    with cache_directory(path) as directory, unnamed_file(directory, path) as fd:
        free = room(directory)
        limit = min(settings.spool_size * _MIB, free)
        too_large = ImageError(
            f"the disk of {content.name} takes more than the {limit // _MIB} MiB that there are for it in CACHE_DIR "
            f"{path}: raise SPOOL_SIZE, or make space there"
        )
        courtesy = Courtesy(settings.copy_bandwidth * _MIB, settings.copy_idle)
        with image_of(opened, settings, progress) as image:
            if image.size is not None and size_on_disk(image.img_format, image.size) > limit:
                raise too_large
            scratch = Scratch(path, fd, limit, lambda: too_large)
            try:
                size = copy(image, scratch, progress, Terms(courtesy=courtesy))
                scratch.finish(size_on_disk(image.img_format, size))
            except DiskError as error:
                raise ConfigurationError(f"{content.name}: {error}") from error
        with read_only(fd, content.name) as disk:
            yield disk


def _is_path(image: str | None) -> bool:
    return image is not None and image.startswith(_PATHS)


def _document(name: str) -> Mapping[str, str]:
    """The OS parameters in a file, or on standard input. Raises RequestError, which shows nothing of them."""
    try:
        with sys.stdin.buffer if name == "-" else Path(name).open("rb") as file:
            content = file.read(_LARGEST_DOCUMENT + 1)
    except OSError as error:
        raise RequestError(
            f"--plan: {name} cannot be read: {error.strerror}; name a file, or - for standard input"
        ) from error
    if len(content) > _LARGEST_DOCUMENT:
        raise RequestError(f"{_DOCUMENT} has more than {_LARGEST_DOCUMENT} bytes; is it one?")
    return read_document(content, _DOCUMENT)


def _judge(found: Inspection, name: str) -> None:
    """Say by an error that the report, which is printed, tells of nothing, or of a failure."""
    disk = found.disk
    if disk.table is None and not disk.content.type:
        raise ImageError(f"nothing was recognised in {name}: is img_format {found.image.format} right?")
    if disk.plan and disk.plan.refusal:
        raise HelperError(f"a deployment would fail: {disk.plan.refusal}")


def _say(text: Iterable[str]) -> None:
    """A reader that has gone is no fault."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        sys.stdout.writelines(f"{line}\n" for line in text)
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC), sys.stdout.fileno())
