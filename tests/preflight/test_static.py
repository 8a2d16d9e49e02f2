"""``mixacm check --static``: what a recipe would do, told without running any of it."""

import sys
from pathlib import Path

import pytest

from mixacm_plugin import RecipeError
from mixacm_plugin.common.files import recipe_file
from mixacm_plugin.preflight.static import list_recipe
from mixacm_plugin.reading.library import override_names, recipe_names
from mixacm_plugin.reading.read import parse_recipe
from recipes import run

SHIPPED = Path(recipe_file("quickstart/mixacm")).read_text(encoding="utf-8")
STUDENT = "runs/quickstart/mixacm/student.pt"


def written(addition="", old=None, new=None):
    """Write a shipped recipe with something added at its end, or something else in its place."""
    text = SHIPPED
    if old is not None:
        assert old in text
        text = text.replace(old, new, 1)
    Path("recipe.yaml").write_text(f"{text}\n{addition}\n", encoding="utf-8")
    return "recipe.yaml"


def listed(*args, **kwargs):
    return list_recipe(parse_recipe(written(*args, **kwargs)))


def call(key, init="{}"):
    return f"_x: !import_call {{key: {key}, init: {init}}}"


def method(name):
    return f"_x: !import_call_method {{package: {name}, init: {{args: [touch executed]}}}}"


@pytest.mark.parametrize("name", recipe_names())
def test_nothing_is_said_against_a_shipped_recipe(name):
    assert list_recipe(parse_recipe(name)).warnings == []


@pytest.mark.parametrize("name", override_names())
def test_nothing_is_said_against_a_shipped_method(name):
    scratch = name in ("compare/fast_at", "compare/free_at", "compare/pgd7_at", "compare/trades")
    base = "quickstart/scratch" if scratch else "quickstart/mixacm"
    assert list_recipe(parse_recipe(base, [name])).warnings == []


HOSTILE = {  # an addition to a shipped recipe, and words of the warning
    "a program": (call("os.system", "{args: [touch executed]}"), "os.system can run"),
    "of another module": (method("posixpath.os.system"), "posix.system can run"),
    "of another library": (method("torch.os.system"), "posix.system can run"),
    "package beside key": (
        "_x: !import_call {package: os, key: system, init: {args: [touch executed]}}",
        "os.system can run",
    ),
    "put together": (
        "_x: !import_call {key: !join [o, s.sys, tem], init: {args: [touch executed]}}",
        "os.system can run",
    ),
    "by an alias": ("_k: &k os.system\n_x: !import_call {key: *k, init: {args: [a]}}", "os.system"),
    "by a merge": (
        "_k: &k {key: os.system}\n_x: !import_call {<<: *k, init: {args: [a]}}",
        "os.system can run",
    ),
    "in a key": ("? !import_call {key: os.system, init: {args: [a]}}\n: 1", "os.system can run"),
    "in a dependency": (
        "",
        "os.system can run",
        "- name: mixacm_plugin",
        "- !import_call {key: os.system}",
    ),
    "eval": (call("builtins.eval", "{args: ['1']}"), "builtins.eval can run"),
    "exec of another module": (call("torch.nn.__builtins__"), "reaches into Python itself"),
    "subprocess": (call("subprocess.run", "{args: [[touch, executed]]}"), "subprocess.run can run"),
    "importlib": (call("importlib.import_module", "{args: [antigravity]}"), "importlib"),
    "ctypes": (call("ctypes.CDLL", "{args: [a]}"), "ctypes.CDLL can run"),
    "rmtree": (call("shutil.rmtree", "{args: [a]}"), "shutil.rmtree can write or delete"),
    "open": (call("builtins.open", "{args: [executed, w]}"), "can write or delete files"),
    "unlink": (method("pathlib.Path.unlink"), "pathlib.Path.unlink can write or delete"),
    "pickle": (call("pickle.loads", "{args: [a]}"), "pickle.loads reads pickles"),
    "torch.load": (call("torch.load", "{args: [a]}"), "torch.serialization.load reads pickles"),
    "torch.save": (call("torch.save", "{args: [1, executed]}"), "torch.serialization.save"),
    "numpy.load": (call("numpy.load", "{args: [a]}"), "numpy.load reads pickles"),
    "a file of torch": (call("torch.from_file", "{args: [a]}"), "torch.from_file can write"),
    "compiled code": (call("torch.utils.cpp_extension.load"), "cpp_extension.load can run"),
    "socket": (
        call("socket.create_connection", "{args: [[a, 1]]}"),
        "socket.create_connection can",
    ),
    "urllib": (call("urllib.request.urlretrieve", "{args: [a]}"), "urlretrieve can open"),
    "torch.hub": (call("torch.hub.load", "{args: [a, b]}"), "torch.hub.load can run"),
    "what calls anything": (
        call("torchdistill.common.main_util.import_call", "{args: [os.system]}"),
        "import_call can run",
    ),
    "another recipe": (call("mixacm_plugin.read_recipe", "{args: [a]}"), "read_recipe can run"),
    "handed on": (
        "_x: !import_call {key: torchvision.transforms.Lambda, "
        "init: {args: [!import_get {key: os.system}]}}",
        "os.system can run",
    ),
    "as Python's own tag": ("_x: !!python/name:os.system ''", "os.system can run"),
    "an attribute": ("_x: !getattr [!import_get {key: torch.nn}, __builtins__]", "Python itself"),
    "an attribute, further": (
        "_x: !getattr [!getattr [!import_get {key: torch.os}, path], join]",
        "only a run would tell",
    ),
    "a method": (
        "_x: !call_method {obj: !import_call {key: torch.nn.Identity}, method_name: half}",
        "uses half of something that only a run would tell",
    ),
    "a changed attribute": ("_x: !setattr [!import_get {key: torch.nn}, a, 1]", "changes a of"),
    "a made-up name": (
        "_x: !import_call {key: !import_call {key: builtins.str, init: {args: [os.system]}}}",
        "only a run would tell",
    ),
    "a window": (call("antigravity.geohash"), "can open connections"),
    "unknown": (call("calendar.month", "{args: [1, 1]}"), "isn't known here to be harmless"),
    "not installed": (call("surely_not_installed.f"), "runs code of surely_not_installed"),
    "itself": (call("mixacm_plugin.__main__.main"), "isn't known here to be harmless"),
    "hub's repository": (
        "",
        "runs the code of them/theirs",
        "key: dm_wide_resnet",
        "key: dm_wide_resnet\n    repo_or_dir: them/theirs",
    ),
    "file at home": ("", "writes /", STUDENT, "~/student.pt"),
    "file above": ("", "outside of the working folder", STUDENT, "runs/../../student.pt"),
    "unknown file": (
        "",
        "writes a file whose name only a run would tell",
        STUDENT,
        "!import_call {key: builtins.str, init: {args: [a]}}",
    ),
}


@pytest.mark.parametrize("case", HOSTILE.values(), ids=HOSTILE)
def test_what_could_do_harm_is_warned_of_and_not_run(case, capsys):
    addition, words, *change = case
    assert run("main", "check", "--static", written(addition, *change)) == 3
    out = capsys.readouterr().out
    assert words in out.split("warning")[-1]
    assert "not a sandbox" in out
    assert [path.name for path in Path().iterdir()] == ["recipe.yaml"]
    assert "antigravity" not in sys.modules


@pytest.mark.parametrize("where", ["recipe.yaml", "elsewhere/recipe.yaml"])
@pytest.mark.parametrize("file", ["mine.py", "mine/__init__.py"])
def test_a_module_beside_the_recipe_is_named_and_not_run(where, file):
    for path in (Path(where), Path(where).parent / file):
        path.parent.mkdir(parents=True, exist_ok=True)
    (Path(where).parent / file).write_text("raise SystemExit('was run')")
    text = SHIPPED.replace("- name: mixacm_plugin", "- name: mixacm_plugin\n  - mine")
    Path(where).write_text(f"{text}\n{call('mine.f')}\n")
    listing = list_recipe(parse_recipe(where))
    assert "mine" in listing.imports
    assert len(listing.warnings) == 2
    assert all("mine" in line and "isn't looked into" in line for line in listing.warnings)
    assert "mine" not in sys.modules


def test_a_file_named_as_a_library_is_not_run():
    Path("statistics_of_mine.py").write_text("raise SystemExit")
    warning = listed(call("statistics_of_mine.mean")).warnings
    assert "statistics_of_mine.py, which isn't looked into" in warning[0]


HARMLESS = [
    "_x: !import_call {key: functools.partial, init: {args: [!import_get "
    "{key: torchvision.io.decode_image}], kwargs: {mode: RGB}}}",
    call("torch.nn.Linear", "{args: [1, 1]}"),
    call("torch.ones", "{args: [1]}"),
    call("os.path.join", "{args: [a, b]}"),
    call("numpy.array", "{args: [[1]]}"),
    call("builtins.dict"),
    method("torchvision.transforms.InterpolationMode.BILINEAR"),
    "_x: !import_get {key: torch.float32}",
    "_x: !import_get {key: torch.nn.functional.relu}",
    "_x: !getattr [!import_get {key: torch.nn}, Linear]",
]


@pytest.mark.parametrize("addition", HARMLESS)
def test_what_is_known_to_be_harmless_is_only_listed(addition):
    listing = listed(addition)
    assert listing.warnings == []
    assert len(listing.calls) > len(listed().calls)


@pytest.mark.parametrize(
    "old, new, what, expected",
    [
        (STUDENT, "out/mine.pt", "writes", "out/best_mine.pt"),
        (STUDENT, "out/mine.pt\nema: {decay: 0.9}", "writes", "out/ema_mine.pt"),
        (STUDENT, "!pathjoin [out, mine.pt]", "writes", "out/mine.pt"),
        ("key: dm_wide_resnet", "key: robust_teacher", "parts", "robust_teacher"),
    ],
)
def test_what_is_written_and_named_is_listed(old, new, what, expected):
    assert expected in getattr(listed(old=old, new=new), what)


@pytest.mark.parametrize(
    "addition, what, expected",
    [
        ("_x: {src_ckpt: https://a.org/b.pt}", "downloads", "https://a.org/b.pt"),
        ("_x: {src_ckpt: !join [a, .pt]}", "reads", "a.pt"),
        ("_x: {key: resnet18, kwargs: {weights: IMAGENET1K_V1}}", "downloads", "trained weights"),
        ("_x: {key: robust_teacher, kwargs: {name: gowal2020_wrn34_20}}", "downloads", "https://"),
        ("_x: {key: robust_teacher, kwargs: {checkpoint: a.pt}}", "reads", "a.pt"),
        (
            call("torchvision.datasets.CIFAR10", "{args: [data, True, null, null, True]}"),
            "downloads",
            "torchvision.datasets.CIFAR10, to data",
        ),
        (call("torchvision.datasets.ImageFolder", "{kwargs: {root: data}}"), "reads", "data"),
    ],
)
def test_what_is_read_and_downloaded_is_listed(addition, what, expected):
    found = set(getattr(listed(addition), what)) - set(getattr(listed(), what))
    assert any(name.startswith(expected) for name in found)


@pytest.mark.parametrize(
    "addition, words",
    [
        ("_x: !import_cal {key: os.system}", "there is no tag !import_cal"),
        ("_x: !!python/object/apply:os.system ['touch executed']", "there is no tag"),
        ("_x: !import_call {kee: os.system}", "!import_call needs key"),
        ("_x: [", "YAML syntax"),
        ("models: {}", "given twice"),
    ],
)
def test_a_recipe_that_cannot_be_read_is_refused(addition, words, capsys):
    with pytest.raises(RecipeError, match=words):
        listed(addition)
    assert run("main", "check", "--static", "recipe.yaml") == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_the_command_lists_and_exits_with_0_where_nothing_is_warned_of(capsys):
    assert run("main", "check", "--static", "quickstart/mixacm") == 0
    out = capsys.readouterr().out
    for line in (
        "calls mixacm_plugin.Digits ",
        f"  {STUDENT} ",
        "downloads: nothing",
        "no warnings",
    ):
        assert line in out
    assert not list(Path().iterdir())
