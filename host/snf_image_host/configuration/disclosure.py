# SPDX-License-Identifier: GPL-2.0-or-later
"""What of the settings and OS parameters may be shown to whoever reads a log or a bug report."""

from __future__ import annotations

import re

from snf_image_host.configuration.settings import as_written
from snf_image_host.parameters.osparams import SECRET_PARAMETERS

HIDDEN = "(set, not shown)"
_IN_URL = re.compile(r"://[^/\s]*@")
# In CURL: an "@" as in "-x user:password@proxy:3128", or an option (or its unique beginning, which curl takes too) that
# is followed by a name and password, a header, a cookie, data or a certificate's password.
_OF_CURL = re.compile(
    r"@|(?:^|\s)(?:-[a-zA-Z]*[uUHbEdF]|"
    r"--(?:proxy-)?(?:user?(?:=|\s)|proxy-u|head|cook|oauth|pass|cert?(?:=|\s)|tlsu|tlsp|data|form|json|login|aws))"
)


def disclosed(name: str, value: object) -> str:
    """The value of a setting or OS parameter (by its name in upper case) as the files spell it, or HIDDEN."""
    text = as_written(value)
    secret = name in SECRET_PARAMETERS or _IN_URL.search(text) or (name == "CURL" and _OF_CURL.search(text))
    return HIDDEN if secret else text
