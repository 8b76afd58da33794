"""setup.cfg against the tree: what is there is installed, what is installed is there and used."""

import ast
import configparser
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("proto", "solvers", "tools", "zoo")
IMPORT_NAMES = {"protobuf": "google", "Pillow": "PIL"}


def read_setup():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    return setup


def lines(text):
    return [line.strip() for line in text.strip().splitlines()]


def source_files():
    return [path for room in ("blobnet", *ROOMS) for path in (ROOT / room).rglob("*.py")]


def package_of(path):
    parts = path.parent.relative_to(ROOT).parts
    return ".".join(parts if parts[0] == "blobnet" else ("blobnet", *parts))


def imported_modules():
    for path in source_files():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                yield node.module


def test_package_list_is_the_tree():
    assert lines(read_setup()["options"]["packages"]) == sorted({package_of(path) for path in source_files()})


def test_every_package_has_an_init():
    assert [path.parent for path in source_files() if not (path.parent / "__init__.py").is_file()] == []


def test_package_dirs_are_the_outer_rooms():
    folders = dict(line.split(" = ") for line in lines(read_setup()["options"]["package_dir"]))
    assert folders == {"blobnet": "blobnet"} | {f"blobnet.{room}": room for room in ROOMS}


def test_dependencies_are_what_is_imported():
    """llvmlite comes with numba; grpc_tools, which makes the messages anew, with the extra ``proto``."""
    requirements = lines(read_setup()["options"]["install_requires"])
    needed = {requirement.partition(">")[0] for requirement in requirements}
    imported = {module.partition(".")[0] for module in imported_modules()} - sys.stdlib_module_names - {"blobnet"}
    assert {IMPORT_NAMES.get(name, name) for name in needed} == imported - {"llvmlite", "grpc_tools"}


def test_data_files_of_the_zoo_are_installed():
    patterns = read_setup()["options.package_data"]["blobnet.zoo"].split(", ")
    installed = {path for pattern in patterns for path in (ROOT / "zoo").glob(pattern)}
    files = {path for path in (ROOT / "zoo").glob("*/*") if path.is_file() and path.suffix not in (".py", ".pyc")}
    assert files - installed == set()


@pytest.mark.parametrize("room", ROOMS)
def test_outer_rooms_refuse_their_bare_name(room):
    outcome = subprocess.run([sys.executable, "-c", f"import {room}"], cwd=ROOT, capture_output=True, text=True)
    assert f"import blobnet.{room}, not {room}" in outcome.stderr


def test_readme_names_the_test_line_once():
    """.ci/run runs that line."""
    found = [line for line in (ROOT / "README.md").read_text(encoding="utf-8").splitlines() if "bin/pytest" in line]
    assert len(found) == 1
