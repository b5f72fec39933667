"""The documentation says what the code does: commands, options, links, stores, versions, deployment."""

from __future__ import annotations

import ast
import re
import runpy
from pathlib import Path

import click
import pytest
import typer
import yaml

import ecgbatch
from ecgbatch import cli
from ecgbatch.cli import exit_codes
from ecgbatch.formats.header import REASONS, WARNINGS
from ecgbatch.scores.scorable import REASONS as SCORING_REASONS
from ecgbatch.terms import NOTICE

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS_PAGE = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
PAGES = [
    *sorted(ROOT.glob("*.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
    *(ROOT / "deploy").glob("*.md"),
    *(ROOT / "benchmarks").glob("*.md"),
    *(ROOT / "examples").glob("*.md"),
]
PICTURES = {"docs/images/record-report.png", "docs/images/cohort-report.png"}
COMMANDS: dict[str, click.Command] = dict(typer.main.get_command(cli.app).commands)


def options_of(command: str) -> set[str]:
    return {option for parameter in COMMANDS[command].params for option in parameter.opts if option.startswith("--")} | {"--help"}


def commands_in(text: str) -> list[tuple[str, str]]:
    """Return command and arguments of every ``ecgbatch ...`` in code."""
    code = re.findall(r"`([^`\n]+)`", text) + [
        line for block in re.findall(r"```\w*\n(.*?)```", text, re.S) for line in block.splitlines()
    ]
    found = [re.match(r"(?:\.venv/bin/)?ecgbatch ([a-z]+)(.*)", snippet.strip()) for snippet in code]
    return [(match[1], match[2]) for match in found if match]


def test_table_of_commands_lists_exactly_those_that_exist():
    assert re.findall(r"^\| `ecgbatch (\w+)", COMMANDS_PAGE, re.M) == list(COMMANDS)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_command_and_option_on_a_page_exists(page):
    for command, arguments in commands_in(page.read_text(encoding="utf-8")):
        assert command in COMMANDS, command
        assert set(re.findall(r"--[a-z][a-z-]*", arguments)) <= options_of(command), f"{command}{arguments}"


def test_every_benchmark_on_a_page_exists():
    named = {name for page in PAGES for name in re.findall(r"python -m (benchmarks[a-z_.]*)", page.read_text(encoding="utf-8"))}
    assert {"benchmarks", "benchmarks.reliability", "benchmarks.accuracy.beat_detection"} <= named
    for name in named:
        place = ROOT.joinpath(*name.rstrip(".").split("."))
        assert place.with_suffix(".py").is_file() or (place / "__main__.py").is_file(), name


def test_readme_of_the_benchmarks_names_every_command():
    """A module is one if it can be run; each has a row that says what it measures."""
    text = (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")
    runs = [path for path in (ROOT / "benchmarks").glob("[as]*/*.py") if '__name__ == "__main__"' in path.read_text()]
    names = {path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".") for path in runs} - {"benchmarks.speed.__main__"}
    assert {name for name in names if name not in text} == set()
    assert len(names) >= 8


def test_options_in_the_table_of_commands_belong_to_their_command():
    for command, row in re.findall(r"^\| `ecgbatch (\w+)(.*)$", COMMANDS_PAGE, re.M):
        assert set(re.findall(r"--[a-z][a-z-]*", row)) <= options_of(command), row


def test_page_of_commands_states_every_exit_code():
    stated = COMMANDS_PAGE[COMMANDS_PAGE.index("Exit codes") :].split("\n\n")[0]
    assert [int(code) for code in re.findall(r"\*\*(\d)\*\*", stated)] == [
        exit_codes.OK,
        exit_codes.FAILED,
        exit_codes.USAGE,
        exit_codes.SET_ASIDE,
    ]


def test_readme_says_that_it_is_no_medical_device():
    for sentence in NOTICE.split(". ")[:3]:
        assert sentence in README


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_link_points_at_something(page):
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        path, _, anchor = target.partition("#")
        if re.match(r"[a-z]+:", target):
            assert target.startswith("https://"), target
            continue
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), f"{target} is linked and not there"
        assert not anchor or anchor in anchors(linked), f"{target}: no such heading"


def test_every_page_that_code_points_at_exists():
    for path in [file for floor in ("storage", "ecgbatch", "flows") for file in (ROOT / floor).rglob("*.py")]:
        for name in re.findall(r"\bdocs/[\w/-]+\.(?:md|json)\b", path.read_text(encoding="utf-8")):
            assert (ROOT / name).exists(), f"{path.name} points at {name}"


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_pictures_stay_small():
    for name in PICTURES:
        path = ROOT / name
        assert not path.exists() or path.stat().st_size < 200_000, name


def test_every_decision_is_listed_once():
    pages = sorted(path.name for path in (ROOT / "docs" / "adr").glob("[0-9]*.md"))
    assert re.findall(r"\((\d{4}-[\w-]+\.md)\)", (ROOT / "docs" / "adr" / "README.md").read_text(encoding="utf-8")) == pages
    assert [name[:4] for name in pages] == [f"{number:04d}" for number in range(1, len(pages) + 1)]


def test_store_pages_say_what_the_schemas_say():
    maker = runpy.run_path(str(ROOT / "docs" / "make_stores_md.py"))
    page = (ROOT / "docs" / "stores.md").read_text(encoding="utf-8")
    assert page == maker["stores_page"](), "run: python docs/make_stores_md.py"


def test_field_pages_say_what_the_reports_schemas_say():
    maker = runpy.run_path(str(ROOT / "docs" / "make_fields_md.py"))
    page = (ROOT / "docs" / "fields.md").read_text(encoding="utf-8")
    assert page == maker["fields_page"](), "run: python docs/make_fields_md.py"


def test_runbook_names_only_reasons_that_exist():
    text = (ROOT / "deploy" / "RUNBOOK.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`([A-Z]+(?:_[A-Z]+)+)`", text))
    variables = {name for name in named if name.startswith(("PREFECT_", "ECGBATCH_", "AWS_", "XDG_"))}
    assert named - variables <= REASONS.keys() | SCORING_REASONS.keys()


@pytest.mark.parametrize(
    ("heading", "codes"),
    [("set aside", REASONS), ("not scored", SCORING_REASONS), ("Warnings", WARNINGS)],
)
def test_reason_codes_and_their_table_agree_and_each_says_what_to_do(heading, codes):
    sections = (ROOT / "docs" / "reason-codes.md").read_text(encoding="utf-8").split("\n## ")
    (section,) = [section for section in sections[1:] if heading in section.split("\n")[0]]
    rows = re.findall(r"^\| `(\w+)` \| (.+?) \| (.+?) \|$", section, re.M)
    assert {code: meaning for code, meaning, _ in rows} == dict(codes)
    assert len(rows) == len(codes)
    assert all(action.endswith(".") for _, _, action in rows)


def test_citation_names_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == ecgbatch.__version__
    assert citation["cff-version"] == "1.2.0"
    assert {"message", "title", "authors", "license", "references"} <= citation.keys()


def test_changelog_names_this_version():
    assert f"## {ecgbatch.__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_deployment_starts_a_flow_that_exists_with_parameters_that_it_has():
    deployments = yaml.safe_load((ROOT / "deploy" / "prefect.yaml").read_text(encoding="utf-8"))["deployments"]
    assert [deployment["name"] for deployment in deployments] == ["nightly", "nightly-docker", "nightly-kubernetes"]
    for deployment in deployments:
        path, _, name = deployment["entrypoint"].partition(":")
        (flow,) = [
            node for node in ast.parse((ROOT / path).read_text()).body if isinstance(node, ast.FunctionDef) and node.name == name
        ]
        taken = {argument.arg for argument in [*flow.args.args, *flow.args.kwonlyargs]}
        assert {"archive", "work"} <= deployment["parameters"].keys() <= taken
        assert deployment["concurrency_limit"]["limit"] == 1
        assert deployment["schedules"]


def test_image_installs_the_same_locks_and_runs_as_nobody_special():
    lines = (ROOT / "deploy" / "Dockerfile").read_text(encoding="utf-8")
    final = lines[lines.rindex("\nFROM") :]
    assert "--require-hashes --no-deps -r requirements/image.txt" in lines
    assert "-r requirements/torch.txt" in lines
    assert re.findall(r"^USER (\d+)$", final, re.M) == ["10001"]
    assert "pip install" not in final
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", lines, re.M)
    for source in " ".join(copied).split():
        assert (ROOT / source).exists(), source
    packages = set(re.findall(r"^COPY (\w+) \1$", lines, re.M))
    assert packages == {"storage", "ecgbatch", "flows"}
