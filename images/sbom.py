"""Lists what an image holds, in a build on that image (Containerfile.sbom): Python distributions and Debian packages by their metadata.

Scanners of vulnerabilities read it; OpenSSL and the C library are Debian's, so Python's half alone would miss what matters most.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output import make_outputter
from cyclonedx.schema import OutputFormat, SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL

ENVIRONMENT = Path("/opt/earthself/bin/python")
VERSION = SchemaVersion.V1_6


def python_distributions() -> Bom:
    """Give what is installed in the image's environment; an empty list for an image without one."""
    if not ENVIRONMENT.exists():
        return Bom()
    command = [sys.executable, "-m", "cyclonedx_py", "environment", str(ENVIRONMENT), "--output-reproducible", "--sv", VERSION.to_version()]
    return Bom.from_json(json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout))  # type: ignore[no-any-return]


def debian_packages(status: str, release: str) -> list[Component]:
    """Read dpkg's status file; packages that are not installed any more stand in it, too."""
    found = []
    for paragraph in status.split("\n\n"):
        fields = dict(re.findall(r"^([A-Za-z-]+): (.*)$", paragraph, re.MULTILINE))
        if fields.get("Status") != "install ok installed":
            continue
        name, version = fields["Package"], fields["Version"]
        purl = PackageURL("deb", "debian", name, version, {"arch": fields["Architecture"], "distro": release})
        found.append(Component(name=name, version=version, purl=purl, bom_ref=purl.to_string(), type=ComponentType.LIBRARY))
    return found


def main(image: str, version: str, status: Path, out: Path) -> None:
    """Write the list, checked against the schema; raises `ValueError` for one that is not valid."""
    bom = python_distributions()
    said = dict(re.findall(r'^(\w+)="?(.*?)"?$', Path("/etc/os-release").read_text(), re.MULTILINE))
    for package in debian_packages(status.read_text(), f"{said['ID']}-{said['VERSION_ID']}"):
        bom.components.add(package)
    bom.metadata.component = root = Component(name=image, version=version, bom_ref=image, type=ComponentType.CONTAINER)
    bom.register_dependency(root, bom.components)
    bom.metadata.timestamp = None  # type: ignore[assignment] - the same contents give the same list
    text = make_outputter(bom, OutputFormat.JSON, VERSION).output_as_string(indent=1)
    if problem := JsonStrictValidator(VERSION).validate_str(text):
        raise ValueError(str(problem))
    out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4]))
