"""Install the package manager uv into a folder with Python's standard library alone.

    python3 deploy/install-uv.py VERSION FOLDER

Tries pip first, which knows the user's mirrors and certificates. A bare Debian has neither pip nor venv; there the
wheel is read straight from the package index (PIP_INDEX_URL if set) and checked against the index' sha256.
"""

import hashlib
import io
import os
import platform
import re
import shutil
import subprocess
import sys
import urllib.parse
import urllib.request
import zipfile
from pathlib import Path


def main() -> int:
    version, folder = sys.argv[1], Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    if not install_by_pip(version, folder):
        install_from_index(version, folder)
    target = folder / "uv"
    print(subprocess.run([target, "--version"], check=True, capture_output=True, text=True).stdout.strip())
    return 0


def install_by_pip(version: str, folder: Path) -> bool:
    """Install by pip into `folder`; False if this Python has no pip or pip does not find the version."""
    site = folder / "site"
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(site), f"uv=={version}"]
    if subprocess.run(command, stderr=subprocess.DEVNULL, check=False).returncode:
        return False
    shutil.copy2(site / "bin" / "uv", folder / "uv")
    shutil.rmtree(site)
    return True


def install_from_index(version: str, folder: Path) -> None:
    """Download the wheel for this machine, check it, and extract the program."""
    page = os.environ.get("PIP_INDEX_URL", "https://pypi.org/simple").rstrip("/") + "/uv/"
    with urllib.request.urlopen(page) as answer:
        # The simple index: one link per file, with its checksum after '#'.
        links = re.findall(r'href="([^"]+)#sha256=([0-9a-f]{64})"', answer.read().decode())
    name = re.compile(rf"uv-{re.escape(version)}-.*manylinux.*{platform.machine()}\.whl$")
    found = [(url, checksum) for url, checksum in links if name.match(url.rpartition("/")[2])]
    if not found:
        raise SystemExit(f"index must have a wheel of uv {version} for {platform.machine()}, got none ({page})")
    url, expected = found[0]
    with urllib.request.urlopen(urllib.parse.urljoin(page, url)) as answer:
        wheel = answer.read()
    checksum = hashlib.sha256(wheel).hexdigest()
    if checksum != expected:
        raise SystemExit(f"wheel must have sha256 {expected}, got {checksum} ({url}); try again")
    member = f"uv-{version}.data/scripts/uv"
    (folder / "uv").write_bytes(zipfile.ZipFile(io.BytesIO(wheel)).read(member))
    (folder / "uv").chmod(0o755)


if __name__ == "__main__":
    sys.exit(main())
