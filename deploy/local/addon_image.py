"""The image of this project that docs/install.md describes, made without a builder: an ordinary installation.

    with written("localhost/slicewise:here") as archive:
        node.import_image(archive)

pip installs this checkout. What the project requires, by the requirements' own words and nothing more, is
taken from the environment of this process: a package that is needed but not required is missed in a pod as
it would be elsewhere. The base is this machine's Python with its standard library and what both link to;
there is no shell. Fetches nothing.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from deploy.local import images
from deploy.local.machine_python import NAMES

PREFIX = "/opt/slicewise"
_REPOSITORY = Path(__file__).parents[2]
_PROJECT = "slicewise"
_BUILT_FROM = ("pyproject.toml", "README.md", "LICENSE")
# Of the standard library: what the usual images of Python leave out too.
_LEFT_OUT = frozenset(
    {"ensurepip", "idlelib", "lib2to3", "site-packages", "dist-packages", "test", "tkinter", "turtledemo"}
)
_PACKAGES = f"{PREFIX}/lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages"


class AddonImageFailed(RuntimeError):
    """The image could not be made; the message has what the failing program said."""


@contextmanager
def written(name: str) -> Iterator[Path]:
    """The archive of the image under this name, in a file that goes afterwards. Raises AddonImageFailed."""
    with tempfile.TemporaryDirectory(prefix="slicewise-image-") as folder:
        files = {**_python(), **_required(), **_installed(Path(folder)), **NAMES}
        files |= _libraries(files)
        archive = Path(folder, "image.tar")
        path = (f"{PREFIX}/bin", *images.COMMAND_FOLDERS)
        with archive.open("w+b") as out:
            images.write(out, name, files, (f"{PREFIX}/bin/python",), path=path)
        yield archive


def _python() -> dict[str, images.Content]:
    """The interpreter and its standard library, at their paths on this machine."""
    base = Path(os.path.realpath(sys.executable))
    found: dict[str, images.Content] = {str(base): base}
    of_base = {"platbase": sys.base_exec_prefix}
    for folder in {sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib", vars=of_base)}:
        for place, folders, names in os.walk(folder):
            folders[:] = [one for one in folders if one not in _LEFT_OUT and not one.startswith("config-")]
            found |= {f"{place}/{name}": Path(place, name) for name in names if "tkinter" not in name}
    return found


def _required() -> dict[str, images.Content]:
    """The packages that the project requires, and those that these do."""
    found: dict[str, images.Content] = {}
    for one in _requirements(_distribution(_PROJECT), {}).values():
        for file in one.files or ():
            source = Path(str(one.locate_file(file)))
            # What packages test themselves with is many files, and is never imported.
            if not {"..", "tests"} & set(file.parts) and source.is_file():
                found[f"{_PACKAGES}/{file}"] = source
    return found


def _requirements(
    of: Distribution, found: dict[str, Distribution], extras: Iterable[str] = ()
) -> dict[str, Distribution]:
    for line in of.requires or ():
        wanted = Requirement(line)
        name = canonicalize_name(wanted.name)
        conditions = [{"extra": extra} for extra in ("", *extras)]
        if wanted.marker is not None and not any(wanted.marker.evaluate(one) for one in conditions):
            continue
        if name not in found or wanted.extras:
            found[name] = _distribution(name)
            _requirements(found[name], found, wanted.extras)
    return found


def _distribution(name: str) -> Distribution:
    try:
        return distribution(name)
    except PackageNotFoundError as missing:
        raise AddonImageFailed(
            f"{name} is not installed in {sys.prefix}: `make install` puts everything there"
        ) from missing


def _installed(folder: Path) -> dict[str, images.Content]:
    """What pip makes of the project: its packages and its commands, with what tells Python where they are."""
    source, prefix = _source(folder / "source"), folder / "prefix"
    options = ("--quiet", "--no-deps", "--no-index", "--no-build-isolation", "--ignore-installed")
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "install")
    _run(*pip, *options, f"--prefix={prefix}", "--no-warn-script-location", str(source))
    base = os.path.realpath(sys.executable)
    found: dict[str, images.Content] = {
        f"{PREFIX}/pyvenv.cfg": f"home = {os.path.dirname(base)}\n".encode(),
        f"{PREFIX}/bin/python": images.Link(base),
    }
    [packages] = prefix.glob("lib*/python*/site-packages")
    for path in packages.rglob("*"):
        if path.is_file():
            found[f"{_PACKAGES}/{path.relative_to(packages)}"] = path
    for script in (prefix / "bin").iterdir():
        text = script.read_text()
        # Before it stands how the interpreter of this environment is found.
        body = text[text.index("import ") :]
        found[f"{PREFIX}/bin/{script.name}"] = f"#!{PREFIX}/bin/python\n{body}".encode()
    return found


def _source(target: Path) -> Path:
    """A copy of what the wheel is made of: a build leaves files beside its sources."""
    target.mkdir()
    for name in _BUILT_FROM:
        shutil.copy(_REPOSITORY / name, target)
    packages = tomllib.loads((target / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    for top in {package.partition(".")[0] for package in packages}:
        shutil.copytree(_REPOSITORY / top, target / top, ignore=shutil.ignore_patterns("__pycache__"))
    return target


def _libraries(files: Mapping[str, images.Content]) -> dict[str, images.Content]:
    """The machine's shared libraries that the interpreter and the files' own libraries are linked to."""
    # Each package's largest stands for its others: asking for all of them takes longer than the rest.
    asked: dict[str, Path] = {}
    for inside, one in files.items():
        if isinstance(one, Path) and ".so" in one.suffixes:
            package = inside.removeprefix(f"{_PACKAGES}/").split("/")[0] if _PACKAGES in inside else inside
            asked[package] = max(asked.get(package, one), one, key=lambda path: path.stat().st_size)
    told = _run("ldd", os.path.realpath(sys.executable), *map(str, asked.values()))
    places = {word for line in told.splitlines() for word in line.split() if word.startswith("/")}
    # A package brings some of its own, and a line that names a file asked about ends with a colon.
    found = {place for place in places if not place.endswith(":") and not place.startswith(sys.prefix)}
    return {place: Path(place) for place in found}


def _run(*argv: str) -> str:
    answer = subprocess.run(argv, capture_output=True, text=True, errors="replace", check=False)
    if answer.returncode != 0:
        said = (answer.stderr or answer.stdout).strip()
        raise AddonImageFailed(f"`{' '.join(argv[:4])} ...` ended with status {answer.returncode}: {said}")
    return answer.stdout
