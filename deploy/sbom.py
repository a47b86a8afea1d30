#!/usr/bin/env python3
"""Prints the software bill of materials of the binary `beluga`, in the JSON of CycloneDX 1.5.

    deploy/sbom.py [--features FEATURES] [--target TRIPLE] > beluga.cdx.json

It tells every crate that the binary is built from, with its version, licence and checksum, and which asks for which: as the lock file and
Cargo tell. What only tests and benchmarks use is left out; what runs while building, and only then, has the scope `excluded`. The C and
C++ that crates bring along (librdkafka, AWS-LC, zstd) is inside these. Nothing in it depends on when or where it is made.
"""

import argparse
import json
import subprocess
import tomllib
import uuid
from pathlib import Path
from urllib.parse import quote

ROOT = Path(__file__).resolve().parent.parent


def metadata(features, target):
    command = ["cargo", "metadata", "--locked", "--format-version", "1", "--filter-platform", target]
    if features:
        command += ["--no-default-features", "--features", features]
    return json.loads(subprocess.check_output([*command, "--manifest-path", str(ROOT / "api/Cargo.toml")]))


def host():
    lines = subprocess.check_output(["rustc", "-vV"], text=True).splitlines()
    return next(line.removeprefix("host: ") for line in lines if line.startswith("host: "))


def checksums():
    """The SHA-256 of each crate's archive, by name and version."""
    lock = tomllib.loads((ROOT / "Cargo.lock").read_text())
    return {(package["name"], package["version"]): package.get("checksum") for package in lock["package"]}


def reached(nodes, start, kinds):
    """What is reached from a package by edges of some kinds."""
    found, left = set(), [start]
    while left:
        package = left.pop()
        if package not in found:
            found.add(package)
            left += edges(nodes[package], kinds)
    return found


def edges(node, kinds):
    return [edge["pkg"] for edge in node["deps"] if any(kind["kind"] in kinds for kind in edge["dep_kinds"])]


def reference(package):
    return f"pkg:cargo/{quote(package['name'])}@{quote(package['version'])}"


def component(package, scope, checksum):
    told = {
        "type": "library",
        "bom-ref": reference(package),
        "name": package["name"],
        "version": package["version"],
        "scope": scope,
        "purl": reference(package),
    }
    if package["description"]:
        told["description"] = " ".join(package["description"].split())
    if package["license"]:
        # An older way to write OR, which no standard knows.
        told["licenses"] = [{"expression": " OR ".join(part.strip() for part in package["license"].split("/"))}]
    if checksum:
        told["hashes"] = [{"alg": "SHA-256", "content": checksum}]
    if package["repository"]:
        told["externalReferences"] = [{"type": "vcs", "url": package["repository"]}]
    return told


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--features", default="", help="those of the build, instead of the default ones")
    arguments.add_argument("--target", default=host(), help="the system that is built for; this one without it")
    arguments = arguments.parse_args()

    cargo = metadata(arguments.features, arguments.target)
    packages = {package["id"]: package for package in cargo["packages"]}
    nodes = {node["id"]: node for node in cargo["resolve"]["nodes"]}
    api = next(package["id"] for package in packages.values() if package["name"] == "api" and not package["source"])
    linked = reached(nodes, api, {None})
    everything = reached(nodes, api, {None, "build"})
    sums = checksums()

    def order(ids):
        return sorted(ids, key=lambda each: (packages[each]["name"], packages[each]["version"]))

    components = []
    for each in order(everything - {api}):
        package = packages[each]
        scope = "required" if each in linked else "excluded"
        components.append(component(package, scope, sums.get((package["name"], package["version"]))))
    beluga = component(packages[api], "required", None) | {"type": "application", "name": "beluga"}
    depends = [
        {
            "ref": reference(packages[each]),
            "dependsOn": sorted({reference(packages[other]) for other in edges(nodes[each], {None, "build"})}),
        }
        for each in order(everything)
    ]
    bill = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": beluga, "properties": [{"name": "beluga:target", "value": arguments.target}]},
        "components": components,
        "dependencies": depends,
    }
    content = json.dumps(bill, sort_keys=True)
    bill["serialNumber"] = f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_OID, content)}"
    print(json.dumps(bill, indent=1))


if __name__ == "__main__":
    main()
