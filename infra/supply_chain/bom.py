"""The bill of materials of the wheel, and of what it runs with: ``python -m infra.supply_chain.bom``.

CycloneDX 1.6 as JSON (https://cyclonedx.org/docs/1.6/json/): every locked package with its version, licence,
package URL and the SHA-256 of each of its files. The same locks give the same bytes.
"""

from __future__ import annotations

import json
import re
import tomllib
import uuid
from typing import Any, Final

from infra.supply_chain.locks import ROOT, SHIPPED, Package, packages, stated

SPECIFICATION: Final = "1.6"
_NAMESPACE: Final = uuid.uuid5(uuid.NAMESPACE_URL, "urn:freshet:bom")


def bom() -> dict[str, Any]:
    """The document. Errors: KeyError for a package without a licence in packages.toml."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    found, licences = packages(*SHIPPED), stated()["licences"]
    components = [_component(it, licences[it.name]) for it in found]
    subject = f"pkg:pypi/{project['name']}@{project['version']}"
    content = json.dumps([subject, components], sort_keys=True)
    return {
        "$schema": f"http://cyclonedx.org/schema/bom-{SPECIFICATION}.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": SPECIFICATION,
        "serialNumber": f"urn:uuid:{uuid.uuid5(_NAMESPACE, content)}",
        "version": 1,
        "metadata": {
            "component": {
                "type": "application",
                "bom-ref": subject,
                "name": project["name"],
                "version": project["version"],
                "description": project["description"],
                "licenses": [{"expression": project["license"]}],
                "purl": subject,
            }
        },
        "components": components,
        "dependencies": [{"ref": subject, "dependsOn": _direct(project, found)}],
    }


def _component(package: Package, licence: str) -> dict[str, Any]:
    properties = [{"name": "freshet:lock", "value": package.lock}]
    if package.marker:
        properties.append({"name": "freshet:marker", "value": package.marker})
    return {
        "type": "library",
        "bom-ref": package.purl,
        "name": package.name,
        "version": package.version,
        "scope": "optional" if package.lock == "train" else "required",
        # of each file that the lock allows: a wheel of each platform, and the source
        "hashes": [{"alg": "SHA-256", "content": it} for it in package.sha256],
        "licenses": [{"expression": licence}],
        "purl": package.purl,
        "properties": properties,
    }


def _direct(project: dict[str, Any], found: list[Package]) -> list[str]:
    """The package URLs of what pyproject.toml names."""
    lines = [*project["dependencies"], *project["optional-dependencies"]["train"]]
    # an extra in brackets names what it brings: kafka-python[crc32c,lz4]
    named = {_plain(it) for line in lines for it in re.findall(r"[A-Za-z][\w.-]*", line)}
    return [it.purl for it in found if _plain(it.name) in named]


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    print(json.dumps(bom(), indent=2))
