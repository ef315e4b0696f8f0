"""Compiles the kernel with the packages; all else is in pyproject.toml.

The kernel is optional: without a C compiler the installation succeeds, and numpy runs in its place.
"""

import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

sys.path.insert(0, str(Path(__file__).resolve().parent / "models" / "kernels"))
import build  # type: ignore[import-not-found]


class BuildKernel(build_ext):
    """Builds the extension by `models.kernels.build`."""

    def build_extension(self, ext: Extension) -> None:
        to = Path(self.get_ext_fullpath(ext.name))
        to.parent.mkdir(parents=True, exist_ok=True)
        try:
            build.build(to)
        except build.NotBuilt as error:
            print(f"no kernel was built, numpy will run: {error}", file=sys.stderr)


kernel = Extension("models.kernels._kernel", [*build.SOURCES], optional=True)
setup(ext_modules=[kernel], cmdclass={"build_ext": BuildKernel})
