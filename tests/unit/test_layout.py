import operator
import sysconfig
from pathlib import Path


def test_the_stdlib_operator_module_is_not_shadowed() -> None:
    stdlib = Path(sysconfig.get_path("stdlib")).resolve()
    assert Path(str(operator.__file__)).resolve().is_relative_to(stdlib)


def test_the_source_roots_are_no_packages() -> None:
    root = Path(__file__).parents[2]
    assert not (root / "worker" / "__init__.py").exists()
    assert not (root / "operator" / "__init__.py").exists()
