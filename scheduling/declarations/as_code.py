"""Jobs as the code that would declare them: what the database says, for a person to paste."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from celery import Task, current_app
from django.core.management import get_commands, load_command_class
from django_celery_beat.models import PeriodicTask

from scheduling import declarations
from scheduling.declarations.columns import (
    DECLARED_AS,
    SECRET,
    as_json,
    columns_of,
    from_json,
)
from scheduling.declarations.python_text import escaped, literal
from scheduling.declared_keywords import FOLLOWING, OF_COMMANDS, OF_FUNCTIONS
from scheduling.models import FollowUp, Job, Target
from scheduling.models.job import DeclaredIn, Kind
from scheduling.registry import LONGEST_DESCRIPTION, Declaration
from scheduling.schedules import Manual

# Decided by hand below, or not a column.
HOOKS = ("should_run", "ready", "status")
APART = frozenset({*HOOKS, "keyed", "queue", "options", "description"})
# How the other job's run ended -> keyword, of rules that wait for nothing else
AFTER = {on: keyword for keyword, on in FOLLOWING.items() if keyword != "after_all"}
COLUMNS = {field: column for column, field in DECLARED_AS.items()} | {"runs": "runs_left"}
WIDTH = 100
BLANK = Declaration(name="", kind="task", declared_in="function", schedule=Manual())


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """A keyword and its value; `override`: who has set it, when, and what the code says."""

    keyword: str
    value: Any
    column: str = ""
    override: Mapping[str, Any] | None = None

    def comment(self) -> str:
        if self.override is None:
            return ""
        code = literal(from_json(self.column, self.override["code"]))
        by, at = self.override.get("by"), self.override.get("at")
        return f"overridden by {by} at {at}; the code says {code}"


@dataclass(frozen=True, slots=True, kw_only=True)
class JobCode:
    """One job as code. `notes` are what code cannot say; then `text` may be nothing but them."""

    job: Job
    said: list[Said]
    notes: list[str]
    text: str
    imports: frozenset[str] = frozenset()

    @property
    def is_overridden(self) -> bool:
        return bool(self.job.overrides)

    def as_json(self) -> dict[str, Any]:
        return {
            "name": self.job.name,
            "declared_in": self.job.declared_in,
            "kind": self.job.kind,
            "calls": self.job.task or self.job.command,
            "keywords": {each.keyword: as_json(each.value) for each in self.said},
            "overrides": {each.keyword: dict(each.override) for each in self.said if each.override},
            "notes": self.notes,
            "text": self.text,
        }


def jobs_as_code(
    jobs: Iterable[Job], *, only_overrides: bool = False, secrets: bool = False
) -> list[JobCode]:
    """Give each job as the declaration that has its present values, by name.

    `only_overrides`: only what operators have set, and no job without. Without `secrets`, ping
    addresses are left out.
    """
    writer = _Writer(only_overrides=only_overrides, secrets=secrets)
    written = [writer.write(job) for job in sorted(jobs, key=lambda job: job.name)]
    return [each for each in written if each.is_overridden or not only_overrides]


def as_module(written: Iterable[JobCode]) -> str:
    """Give all of it as one text, with the imports that it needs."""
    written = list(written)
    body = "\n\n\n".join(each.text for each in written)
    calls = {"datetime": "datetime.fromisoformat(", "timedelta": "timedelta("}
    times = [name for name, call in calls.items() if call in body]
    # Whole modules first, as tools sort them.
    lines = {line for each in written for line in each.imports}
    imports = sorted(lines, key=lambda line: (line.startswith("from"), line))
    head = [f"from datetime import {', '.join(times)}\n"] if times else []
    return "\n".join([*head, *imports, *(["\n"] if imports else []), body])


class _Writer:
    def __init__(self, *, only_overrides: bool, secrets: bool) -> None:
        self.only_overrides = only_overrides
        self.secrets = secrets
        self.declared = declarations.collect().declarations
        solar = PeriodicTask.objects.filter(solar__isnull=False)
        self.solar = set(solar.values_list("pk", flat=True))
        # Tasks that a job has the name of: that is the one that the decorator has made.
        pairs = Job.objects.filter(kind=Kind.TASK).values_list("name", "task")
        self.named = {task for name, task in pairs if name == task.rpartition(".")[2]}
        self.plain = set(
            Target.objects.filter(key="", retired_at=None).values_list("job_id", flat=True)
        )
        self.rules: dict[int, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
        rules = FollowUp.objects.order_by("job__name")
        for follower, on, join, name in rules.values_list("follower", "on", "join", "job__name"):
            self.rules[follower]["after_all" if join else AFTER[on]].append(name)

    def write(self, job: Job) -> JobCode:
        notes = [] if self.only_overrides else list(self._origin(job))
        if why := self._not_in_code(job):
            head = _comments([f"{job.name}: {why}", *notes])
            return JobCode(job=job, said=[], notes=[why, *notes], text=head)
        said = list(self._said(job))
        if self.only_overrides:
            said = [each for each in said if each.override is not None]
        for column in sorted(set(job.overrides) - {each.column for each in said}):
            notes.append(f"{column} is overridden too, which this form cannot say")
        for each in [] if self.secrets else [each for each in said if each.column in SECRET]:
            said.remove(each)
            notes.append(f"{each.keyword} is set; --secrets shows it")
        if job.kind == Kind.COMMAND:
            return _command(job, said, notes)
        if self._is_function(job):
            return _function(job, said, notes, self._doc_of(job, said))
        return _task(job, said, notes)

    # --- what is said

    def _said(self, job: Job) -> Iterator[Said]:
        is_command = job.kind == Kind.COMMAND
        defaults = {**columns_of(BLANK), "runs_left": None} | (
            {"internal": False} if is_command else {}
        )
        keywords = OF_COMMANDS if is_command else OF_FUNCTIONS
        for keyword, (field, _) in keywords.items():
            column = COLUMNS.get(field, field)
            if keyword == "description":
                yield from self._description(job)
            elif keyword == "options":
                yield from self._options(job)
            elif keyword not in APART:
                override = job.override_of(column)
                value = getattr(job, column)
                if keyword == "runs" and override is None and job.declared_runs is not None:
                    # The same number goes on counting; what is left would begin anew.
                    value = job.declared_runs
                if override is not None or value != defaults[column]:
                    yield Said(keyword=keyword, value=value, column=column, override=override)
        if not is_command and job.pk not in self.plain:
            yield Said(keyword="keyed", value=True)
        for keyword in FOLLOWING:
            if names := self.rules[job.pk][keyword]:
                yield Said(keyword=keyword, value=names)

    def _description(self, job: Job) -> Iterator[Said]:
        override = job.override_of("description")
        own = _own_words(job)
        if own is None:
            # The docstring of the function that is shown will say it.
            own = _first_line(job.description) if self._is_function(job) else ""
        if override is not None or job.description != own:
            yield Said(
                keyword="description",
                value=job.description,
                column="description",
                override=override,
            )

    def _options(self, job: Job) -> Iterator[Said]:
        override = job.override_of("options")
        # By its mark an import knows the job again; that is nothing for code to say.
        options = {name: each for name, each in job.options.items() if name != "crontab"}
        if override is None and not options:
            return
        if set(options) == {"queue"} and override is None:
            yield Said(keyword="queue", value=job.queue, column="options")
        else:
            yield Said(keyword="options", value=options, column="options", override=override)

    # --- what cannot be said

    def _not_in_code(self, job: Job) -> str:
        if job.kind == Kind.PROGRAM:
            return "a program, which code does not declare; it stays in the admin"
        if job.schedule_error:
            return f"its schedule cannot be read: {job.schedule_error}"
        if job.periodic_task_id in self.solar:
            return "a solar event, which only a periodic task knows; it stays there"
        return ""

    def _origin(self, job: Job) -> Iterator[str]:
        declared = self.declared.get(job.name)
        if job.retired_at is not None:
            yield "retired"
        elif job.declared_in == DeclaredIn.ADMIN:
            yield "made in the admin: retire it there before this is deployed"
        elif job.declared_in == DeclaredIn.SETTINGS:
            yield "from CELERY_BEAT_SCHEDULE: take it out there"
        if job.periodic_task_id is not None:
            yield "it has a periodic task: delete that before this is deployed"
        if job.kind == Kind.COMMAND and job.name != job.command:
            yield (
                f"its name is {job.name!r}; in code a job has its command's, and no more history"
            )
        for hook in HOOKS:
            if declared is not None and getattr(declared, hook) is not None:
                yield f"{hook} stays as it is in the code"
        if not job.lock_resource:
            yield "lock_resource is off, which only the admin can say"
        if job.runs_left is not None:
            yield f"runs left: {job.runs_left}"

    def _is_function(self, job: Job) -> bool:
        own = job.task.rpartition(".")[2]
        return (
            job.declared_in == DeclaredIn.FUNCTION
            and own.isidentifier()
            and (job.name == own or job.task not in self.named)
        )

    def _doc_of(self, job: Job, said: Iterable[Said]) -> str:
        """The docstring to show; not if the description is said by a keyword."""
        return "" if any(each.keyword == "description" for each in said) else job.description


def _own_words(job: Job) -> str | None:
    """What a task or command says of itself, where the job says nothing else; None: unknown."""
    if job.kind == Kind.COMMAND:
        app = get_commands().get(job.command)
        try:
            command = load_command_class(app, job.command) if isinstance(app, str) else app
        except Exception:  # the team's code: it may raise anything
            return None
        return None if command is None else str(command.help).strip()
    task = current_app.tasks.get(job.task)
    return None if task is None else _first_line(task.run.__doc__)


def _first_line(text: str | None) -> str:
    return (text or "").strip().partition("\n")[0][:LONGEST_DESCRIPTION]


# --- text -----------------------------------------------------------------------------------------


def _function(job: Job, said: list[Said], notes: list[str], doc: str) -> JobCode:
    name = job.task.rpartition(".")[2]
    named = [] if job.name == name else [Said(keyword="name", value=job.name)]
    body = f"    {literal(doc)}" if doc else "    ..."
    if doc and not set('"\\') & set(doc) and doc.isprintable():
        body = f'    """{doc}"""'
    text = "\n".join(
        [
            *_comment_lines([job.task, *notes]),
            f"@{_call([*said, *named])}",
            f"def {name}(*args, **kwargs):",
            body,
        ]
    )
    imports = frozenset({"from scheduling import job"})
    return JobCode(job=job, said=[*said, *named], notes=notes, text=text, imports=imports)


def _task(job: Job, said: list[Said], notes: list[str]) -> JobCode:
    named = (
        [] if job.name == job.task.rpartition(".")[2] else [Said(keyword="name", value=job.name)]
    )
    where = _importable(job.task)
    if where is None:
        notes = [*notes, "its task is looked up by name, as it could not be found in a module"]
        task, line = f"current_app.tasks[{literal(job.task)}]", "from celery import current_app"
    else:
        task, line = ".".join(where), f"import {where[0]}"
    text = "\n".join([*_comment_lines([job.task, *notes]), f"{_call([*said, *named])}({task})"])
    imports = frozenset({"from scheduling import job", line})
    return JobCode(job=job, said=[*said, *named], notes=notes, text=text, imports=imports)


def _command(job: Job, said: list[Said], notes: list[str]) -> JobCode:
    lines = [*_comment_lines([f"manage.py {job.command}", *notes]), "class ScheduledJob:"]
    for each in said:
        lines += [f"    {line}" for line in _comment_lines([each.comment()])]
        lines.append(f"    {each.keyword} = {literal(each.value)}")
    text = "\n".join(lines if said else [*lines, "    pass"])
    return JobCode(job=job, said=said, notes=notes, text=text)


def _importable(task_name: str) -> tuple[str, str] | None:
    """(module, name) of a task that Python finds, so that a paste need not wait for Celery."""
    task = current_app.tasks.get(task_name)
    module, name = getattr(task, "__module__", ""), getattr(task, "__name__", "")
    found = getattr(sys.modules.get(module), name, None) if name else None
    return (module, name) if isinstance(found, Task) and found.name == task_name else None


def _call(said: list[Said]) -> str:
    """`job(...)`: the schedule first, which needs no keyword."""
    shown = [
        (
            each.comment(),
            ("" if each.keyword == "schedule" else f"{each.keyword}=") + literal(each.value),
        )
        for each in said
    ]
    line = f"job({', '.join(text for _, text in shown)})"
    if len(line) < WIDTH and not any(comment for comment, _ in shown):
        return line
    lines = ["job("]
    for comment, text in shown:
        lines += [f"    {each}" for each in _comment_lines([comment])]
        lines.append(f"    {text},")
    return "\n".join([*lines, ")"])


def _comment_lines(comments: Iterable[str]) -> list[str]:
    return [f"# {escaped(comment)}" for comment in comments if comment]


def _comments(comments: Iterable[str]) -> str:
    return "\n".join(_comment_lines(comments))
