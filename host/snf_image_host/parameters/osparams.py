# SPDX-License-Identifier: GPL-2.0-or-later
"""The registry of the OS parameters, and their values for one run before anything is read into them.

parameters.list, the manual and the checks follow this list; the order is that of the manual.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from snf_image_host.parameters.spec import with_spec

if TYPE_CHECKING:
    from snf_image_host.configuration.settings import Settings

RESET = "default"  # what Ganeti's users write for "back to the default"; reinstall passes it on as it is


@dataclass(frozen=True)
class OsParameter:
    """One OS parameter, by its name in Ganeti. A secret one is never shown, for it may hold or carry a secret."""

    name: str
    description: str
    is_secret: bool = False


REGISTRY = (
    OsParameter("img_id", "The image: a name below IMAGE_DIR, a URL, or null to customise what is on the disk"),
    OsParameter(
        "img_format",
        "The image's format: diskdump (a whole disk), extdump, ntfsdump, qcow2, vmdk, vhdx, vdi, auto, tarball, dump",
    ),
    OsParameter(
        "img_checksum", "Checksum of the image: sha256:HEX, sha512:HEX; content-sha256:HEX for what is on the disk"
    ),
    OsParameter("img_passwd", "Password for the users that the property USERS names (root by default)", True),
    OsParameter("img_passwd_hash", "The same as a crypt(5) hash, taken as it is; excludes img_passwd", True),
    OsParameter("img_properties", 'JSON object of image properties, such as {"OSFAMILY": "linux", "SWAP": "2:512"}'),
    OsParameter("inst_properties", "JSON object of properties of this instance; they override those of img_properties"),
    OsParameter(
        "img_personality",
        'JSON array of files for the guest: [{"path": ..., "contents": base64, "owner", "group", "mode"}]',
        True,
    ),
    OsParameter("auth_keys", "OpenSSH public keys, one a line, for the same users as the password", True),
    OsParameter("cloud_userdata", "User data for the guest's cloud-init, in base64", True),
    OsParameter("os_product_key", "Product key for Windows: XXXXX-XXXXX-XXXXX-XXXXX-XXXXX", True),
    OsParameter("os_answer_file", "URL of an answer file for Windows; fetched by the node", True),
    OsParameter("config_url", "URL of a JSON document with any of these parameters; it overrides them", True),
    OsParameter("hostname", "The guest's host name, if it is not to be the instance's name"),
    OsParameter("network", "JSON document about network cards: addresses, gateways, DNS, search, MTU, routes"),
    OsParameter("spec", "JSON document with any of these parameters, those that are JSON without quoting", True),
)
OS_PARAMETERS = tuple(parameter.name.upper() for parameter in REGISTRY)
SECRET_PARAMETERS = frozenset(parameter.name.upper() for parameter in REGISTRY if parameter.is_secret)


def os_parameters(env: Mapping[str, str], settings: Settings) -> dict[str, str]:
    """The OS parameters by upper-case name: what the files preset, overridden by every OSP_ variable that is set.

    The members of an OSP_SPEC count as OSP_ variables that are not set themselves.
    """
    given = {name: env[f"OSP_{name}"] for name in OS_PARAMETERS if env.get(f"OSP_{name}", RESET) != RESET}
    return {**settings.parameters, **with_spec(given)}


def parameters_list() -> str:
    """The text of parameters.list. Ganeti wants a description in each line, and no line without a parameter."""
    return "".join(f"{parameter.name} {parameter.description}\n" for parameter in REGISTRY)
