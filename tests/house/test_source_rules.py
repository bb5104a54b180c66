"""What no file of the project may contain: remote code, eval, pickle, silent excepts, endless files."""

from __future__ import annotations

import ast

import pytest

from .source import REPOSITORY, Module, imports, modules

UNSAFE_MODULES = {"pickle", "cPickle", "cloudpickle", "dill", "marshal", "shelve", "joblib"}
MAX_LINES = 600

every_module = pytest.mark.parametrize("module", modules(), ids=lambda module: module.name)


def _problems(tree: ast.Module) -> list[str]:
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            keywords = {item.arg: item.value for item in node.keywords}
            if called in {"eval", "exec"}:
                found.append(f"line {node.lineno}: {called}()")
            if "trust_remote_code" in keywords and ast.unparse(keywords["trust_remote_code"]) != "False":
                found.append(f"line {node.lineno}: trust_remote_code")
            if (
                called == "torch.load"
                and ast.unparse(keywords.get("weights_only", ast.Constant(None))) != "True"
            ):
                found.append(f"line {node.lineno}: torch.load without weights_only=True is pickle")
            if called in {"yaml.load", "yaml.full_load", "yaml.unsafe_load"}:
                found.append(f"line {node.lineno}: {called}; use yaml.safe_load")
            if ast.unparse(keywords.get("shell", ast.Constant(None))) == "True":
                found.append(f"line {node.lineno}: a shell")
        if isinstance(node, ast.ExceptHandler):
            broad = node.type is None or ast.unparse(node.type) in {"Exception", "BaseException"}
            if broad and all(isinstance(item, ast.Pass | ast.Continue) for item in node.body):
                found.append(f"line {node.lineno}: swallows every exception")
    return found


@every_module
def test_no_unsafe_calls(module: Module) -> None:
    assert not _problems(module.tree)


@every_module
def test_no_pickle(module: Module) -> None:
    assert not [(line, name) for line, name in imports(module) if name.split(".")[0] in UNSAFE_MODULES]


@every_module
def test_files_stay_readable(module: Module) -> None:
    assert len(module.path.read_text(encoding="utf-8").splitlines()) <= MAX_LINES


@every_module
def test_every_module_says_what_it_is(module: Module) -> None:
    assert ast.get_docstring(module.tree)


@pytest.mark.parametrize(
    "code",
    [
        "eval(text)",
        "AutoModel.from_pretrained(x, trust_remote_code=True)",
        "AutoModel.from_pretrained(x, trust_remote_code=flag)",
        "torch.load(path)",
        "yaml.load(file)",
        "subprocess.run(command, shell=True)",
        "try:\n    f()\nexcept Exception:\n    pass",
        "for x in y:\n    try:\n        f()\n    except:\n        continue",
    ],
)
def test_the_check_sees_it(code: str) -> None:
    assert len(_problems(ast.parse(code))) == 1


@pytest.mark.parametrize(
    "code", ["model.eval()", "torch.load(path, weights_only=True)", "yaml.safe_load(file)"]
)
def test_the_check_leaves_the_innocent_alone(code: str) -> None:
    assert not _problems(ast.parse(code))


def test_no_test_is_skipped_for_want_of_a_package() -> None:
    """The tests' packages are in the extra `dev`: a skip would hide what was never run."""
    skipping = "pytest." + "importorskip"
    found = [
        path for path in (REPOSITORY / "tests").rglob("*.py") if skipping in path.read_text(encoding="utf-8")
    ]
    assert not found
