"""Say of a packed folder how to unpack it: images are read from folders. No torch."""

import os
import shlex
from pathlib import Path

TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst")


def unpack_hint(path: Path, key: str) -> str:
    """Return the command that unpacks an archive and what to name afterwards; "" for a file that is none by its name, or is not there.

    Args:
        path: A path that the user named in place of a folder.
        key: The key that names it; "" where the folder itself stands on the command line.
    """
    suffix = next((suffix for suffix in (".zip", *TAR_SUFFIXES) if path.name.lower().endswith(suffix)), "")
    if not suffix or not os.path.isfile(path):
        return ""
    folder = path.with_name(path.name[: -len(suffix)] or "unpacked")
    packed, unpacked = shlex.quote(str(path)), shlex.quote(str(folder))
    command = f"unzip {packed} -d {unpacked}" if suffix == ".zip" else f"mkdir {unpacked} && tar -xf {packed} -C {unpacked}"
    return f"an archive; unpack it: {command}, and then {f'set {key}=' if key else 'name '}{unpacked}"
