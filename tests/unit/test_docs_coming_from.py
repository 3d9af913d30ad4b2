"""The pages of docs/coming-from name what there is, and leave out nothing of what teams know.

In the first column of a table stands what is theirs. Every other piece of code on these pages is
ours, and is looked up here: a name, a keyword, a setting, a verb with its options, a schedule.
"""

from __future__ import annotations

import argparse
import ast
import inspect
import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import fields
from importlib import import_module
from types import ModuleType
from typing import Any

import pytest
from django.conf import settings
from django.core.management import get_commands
from django.urls import Resolver404, resolve
from django_celery_beat import models as rows
from django_celery_beat.admin import PeriodicTaskAdmin

import scheduling
from scheduling import backend, conf, context, errors, feeds, health, models, policies, runs
from scheduling import sources as enumerators
from scheduling.declarations.commands import ATTRIBUTES
from scheduling.errors import SchedulingError
from scheduling.ledger import JobState
from scheduling.management.verbs import VERBS
from scheduling.spans import parse_span
from scheduling.zones import ClockChange
from tests.unit.test_docs import PAGES, code_in, page
from workers import commands

FOLDER = "docs/coming-from/"
NAMES = sorted(
    name.removeprefix(FOLDER).removesuffix(".md") for name in PAGES if name.startswith(FOLDER)
)


def functions_of(module: ModuleType) -> list[Callable[..., Any]]:
    return [each for name in module.__all__ if inspect.isfunction(each := getattr(module, name))]


# What a word may be the name of: arguments, attributes and columns; the values of some of them.
FUNCTIONS: list[Callable[..., Any]] = [
    scheduling.job,
    scheduling.source,
    *functions_of(backend),
    *functions_of(runs),
]
VALUES = (
    *(scheduling.Feed, scheduling.Cooldowns, scheduling.Express, scheduling.Polite),
    *(scheduling.Found, scheduling.Named, backend.NewRun, backend.NewTarget, backend.RunEnd),
)
TABLES = (
    *(models.Job, models.Target, models.Run, models.Resource, models.Source, models.Listing),
    *(models.Circuit, models.Notification, models.Process, rows.PeriodicTask),
)
CHOICES = (
    *(models.State, models.Reason, models.Cause, models.Outcome, models.Event),
    *(policies.Overlap, policies.CatchUp, ClockChange, JobState),
)
ARGUMENTS = {
    *(name for function in FUNCTIONS for name in inspect.signature(function).parameters),
    *ATTRIBUTES,
}
PERMISSIONS = {f"scheduling.{name}" for name, _ in models.Job._meta.permissions}
WORDS = {
    *ARGUMENTS,
    *(field.name for value in VALUES for field in fields(value)),
    *(field.name for table in TABLES for field in table._meta.get_fields()),
    *(member.value for choices in CHOICES for member in choices),
    *(feeds.BUILT_IN),
    *PERMISSIONS,
    "ScheduledJob",
    *re.findall(r'"([A-Z_]+)"', inspect.getsource(commands.facts)),
    *health.NAMES,
    *re.findall(r"`(jobs_\w+)`", page("operate")),  # metrics: test_docs compares them
}
# What a dotted name may begin with.
ROOTS: dict[str, Any] = {
    **{name: getattr(scheduling, name) for name in scheduling.__all__},
    **{name: getattr(backend, name) for name in backend.__all__ if not name.islower()},
    **{name: getattr(enumerators, name) for name in enumerators.__all__ if "from_" in name},
    **{name: getattr(models, name) for name in models.__all__},
    **{name: value for name, value in vars(errors).items() if isinstance(value, type)},
    **{name: value for name, value in vars(rows).items() if isinstance(value, type)},
    "scheduling": scheduling,
    "backend": backend,
    "runs": runs,
    "current_run": context.CurrentRun,
    "listing": enumerators.Listing,
}


# --- looking things up ----------------------------------------------------------------------------


def ours(text: str) -> Iterator[str]:
    """Yield the code of a page that is not in the first column of a table, nor in a block."""
    text = re.sub(r"```.*?```", "", text, flags=re.S)
    for line in text.splitlines():
        if line.startswith("|"):
            _, _, *cells = re.split(r"(?<!\\)\|", line)
            line = "|".join(cells)
        yield from re.findall(r"`([^`]+)`", line)


def theirs(text: str) -> set[str]:
    """Give the words of the first columns."""
    firsts = [line.split("|")[1] for line in text.splitlines() if line.startswith("|")]
    return {word for span in code_in("\n".join(firsts)) for word in names_in(span)}


def names_in(span: str) -> set[str]:
    return {*re.findall(r"[\w-][\w.-]*", span), *re.findall(r"\w+", span)}


def is_known(code: str) -> bool:
    return any(look(code) for look in (is_word, is_setting, is_command, is_url, is_python, is_time))


def is_word(code: str) -> bool:
    return code in WORDS


def is_setting(code: str) -> bool:
    name = code.partition(" = ")[0]
    if name.startswith(conf.PREFIX):
        return name.removeprefix(conf.PREFIX) in conf.names()
    return name.isupper() and hasattr(settings, name)


def is_command(code: str) -> bool:
    program, *words = shlex.split(code)
    if program == "celery":
        return words[:2] == ["-A", "config"] and words[2] in ("beat", "worker", "flower")
    if program == "manage.py" and words[0] != "jobs":
        return words[0] in get_commands()
    verbs = {verb.name: verb for verb in VERBS}
    words = words if program == "jobs" else words[1:]
    if program not in ("jobs", "manage.py") or not words or words[0] not in verbs:
        return False
    parser = argparse.ArgumentParser()
    parser.add_argument("--json", action="store_true")
    verbs[words[0]].add_arguments(parser)
    options = {option for action in parser._actions for option in action.option_strings}
    steps = [a.choices for a in parser._actions if a.choices and not a.option_strings]
    named = words[1:2] if steps and words[1:] and not words[1].startswith("-") else []
    return {word for word in words if word.startswith("--")} <= options and all(
        name in steps[0] for name in named
    )


def is_url(code: str) -> bool:
    try:
        return code.startswith("/") and bool(resolve(code.partition("?")[0]))
    except Resolver404:
        return False


def is_time(code: str) -> bool:
    for read in (parse_span, scheduling.parse):
        try:
            return bool(read(code))
        except SchedulingError:
            continue
    return False


def is_python(code: str) -> bool:
    """A name that leads somewhere, called as it may be; or arguments of our functions."""
    code = code.removeprefix("@")
    try:
        tree = ast.parse(code, mode="eval").body
    except SyntaxError:
        try:
            call = ast.parse(f"f({code})", mode="eval").body
        except SyntaxError:
            return False
        assert isinstance(call, ast.Call)
        return not call.args and {each.arg for each in call.keywords} <= ARGUMENTS
    if isinstance(tree, ast.Constant | ast.List | ast.Dict):
        return True
    try:
        found(tree)
    except (LookupError, AttributeError, TypeError, ImportError):
        return False
    return True


def found(tree: ast.AST) -> Any:
    """Raises an error if there is no such thing, or if it cannot be called like this."""
    if isinstance(tree, ast.Name):
        return ROOTS[tree.id]
    if isinstance(tree, ast.Attribute):
        return attribute(found(tree.value), tree.attr)
    if isinstance(tree, ast.Call):
        function = found(tree.func)
        if tree.args or tree.keywords:
            keywords = {each.arg or "": None for each in tree.keywords}
            inspect.signature(function).bind_partial(*tree.args, **keywords)
        return function
    raise LookupError(ast.dump(tree))


def attribute(owner: Any, name: str) -> Any:
    if isinstance(owner, ModuleType) and not hasattr(owner, name):
        import_module(f"{owner.__name__}.{name}")
    return getattr(owner, name)


# --- what is there --------------------------------------------------------------------------------


def test_there_is_a_page_for_each_of_them_and_all_are_linked() -> None:
    assert sorted(THEIRS) == NAMES
    links = re.findall(r"\]\(coming-from/([\w-]+)\.md\)", page("index"))
    assert sorted(links) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_what_a_page_calls_ours_is_there(name: str) -> None:
    text = page(f"coming-from/{name}")
    shown = re.findall(r"^\$ python (manage.py .*)$", text, re.M)
    assert [code for code in [*ours(text), *shown] if not is_known(code)] == []


def test_what_is_not_there_would_be_noticed() -> None:
    made_up = (
        *("backend.no_such", "backend.select(strategie=1)", "runs.name", "no_such", "no_such=1"),
        *("jobs no-such", "jobs list --no-such", "jobs sources no-such NAME", "manage.py no_such"),
        *("JOBS_NO_SUCH", "CELERY_NO_SUCH", "/no/such", "every now and then"),
    )
    assert [code for code in made_up if is_known(code)] == []


def test_every_field_of_a_row_and_every_action_on_it_has_a_row() -> None:
    fields = {field.name for field in rows.PeriodicTask._meta.get_fields()} - {"id"}
    known = {*fields, *PeriodicTaskAdmin.actions}
    assert known - theirs(page("coming-from/django-celery-beat")) == set()


@pytest.mark.parametrize("name", NAMES)
def test_all_of_theirs_has_a_row_or_a_reason(name: str) -> None:
    assert set(THEIRS[name].split()) - theirs(page(f"coming-from/{name}")) == set()


# Their calls, classes, settings and commands: a row for each of them, or why there is none.
THEIRS = {
    "software-heritage": """
        create_task_type get_task_type get_task_types backend_name default_interval min_interval
        max_interval backoff_factor max_queue_length num_retries retry_delay create_tasks
        set_status_tasks disable_tasks except_completed_tasks next_run search_tasks get_tasks
        get_task_runs peek_ready_tasks grab_ready_tasks peek_ready_priority_tasks
        grab_ready_priority_tasks schedule_task_run mass_schedule_task_runs start_task_run
        end_task_run high normal low eventful uneventful failed permfailed lost
        filter_task_to_archive delete_archived_tasks get_or_create_lister get_lister get_listers
        get_listers_by_id update_lister record_listed_origins get_listed_origins
        get_visit_types_for_listed_origins origin_visit_stats_upsert origin_visit_stats_get
        visit_scheduler_queue_position_get visit_scheduler_queue_position_set create_origin_task
        create_origin_tasks grab_next_visits absolute_cooldown scheduled_cooldown failed_cooldown
        not_found_cooldown tablesample dry_run oldest_scheduled_first stop_after_success
        never_visited_oldest_update_first already_visited_order_by_lag origins_without_last_update
        first_visits_after_listing first_visits_queue_prefix scheduling_policy
        no_origins_scheduled_backoff get_available_slots update_metrics get_metrics start-runner
        start-listener schedule-recurrent start-runner-first-visits --period --task-type
        --task-type-pattern --with-priority task-type list add register task schedule
        schedule_origins list-pending respawn archive origin grab-next peek-next schedule-next
        send-origins-from-scheduler-to-celery send-origins-from-file-to-celery update-metrics
        check-listed-origins check-ingested-origins add-forge-now register-lister
        schedule-first-visits celery-monitor ping-workers list-running rpc-serve journal-client
        extra_loader_arguments enabled first_seen last_seen last_update is_fork forked_from_url
        last_visit last_successful last_scheduled last_snapshot successive_visits
        next_position_offset next_visit_queue_position
    """,
    "geohealthcheck": """
        Resource run_frequency active ResourceLock owner start_time end_time Run checked_datetime
        success message report run_count ProbeVars CheckVars Recipient email webhook start_schedule
        stop_schedule add_job get_job update_job stop_job check_schedule run_job run_resource
        run_resources run_test_resource db_commit lifecycle_listener error_listener flush_runs
        coalesce max_instances misfire_grace_time validate get_or_create set_recipients
        get_recipients clear_recipients get_suggestions dump_recipients GHC_RETENTION_DAYS
        GHC_NOTIFICATIONS GHC_NOTIFICATIONS_VERBOSITY GHC_MINIMAL_RUN_FREQUENCY_MINS
        GHC_RUNNER_IN_WEBAPP GHC_LOG_LEVEL GHC_PROBE_HTTP_TIMEOUT_SECS GHC_VERIFY_SSL
        GHC_RELIABILITY_MATRIX GHC_METADATA_CACHE_SECS SQLALCHEMY_ENGINE_OPTION_PRE_PING Failing
        Fixed Still Passing
    """,
    "flyte": """
        schedulable_entities project domain name version cron_expression fixed_rate_value MINUTE
        HOUR DAY start_time kickoff_time_input_arg active Activate Deactivate GetAll Updater
        GetScheduledTime GetCatchUpTimes CatchUpSingleSchedule CatchupAll ScheduleJob AddCronJob
        AddFixedIntervalJob UpdateSchedules DeScheduleJob RemoveCronJob RemoveFixedIntervalJob
        BootStrapSchedulesFromSnapShot CalculateSnapshot Snapshotrunner schedule_entities_snapshots
        AlreadyExists run precheck adminRateLimit.tps adminRateLimit.burst useUTCTz profilerPort
        eventScheduler.scheme workflowExecutor.scheme job_func_panic_counter
        job_schedule_failed_counter catchup_error_counter failed_execution_counter
        successful_execution_counter checkpoint_save_error_counter
        checkpoint_creation_error_counter initialization_panic
    """,
    "axway": """
        RegisterSingleRunJob RegisterRetryJob RegisterIntervalJob RegisterScheduledJob
        RegisterChannelJob RegisterDetachedChannelJob RegisterDetachedIntervalJob
        RegisterSingleRunJobWithName RegisterRetryJobWithName RegisterIntervalJobWithName
        RegisterScheduledJobWithName RegisterChannelJobWithName RegisterDetachedChannelJobWithName
        RegisterDetachedIntervalJobWithName UnregisterJob JobLock JobUnlock GetJob GetJobStatus
        GetStatus UpdateDurations WithJobTimeout SetStatus GetID GetName Ready Lock Unlock Execute
        Status Initializing Running Retrying Stopped Failed Finished jobTimeout healthCheckInterval
    """,
    "pgeu": """
        scheduled_interval scheduled_times internal timeout should_run trigger_next_jobs
        default_notify_on_success help app command description enabled notifyonsuccess nextrun
        lastrun lastrunsuccess lastskip override_times override_interval JobHistory time success
        runtime output SchedulerConfig hold_all_jobs reschedule_job trigger_immediate_job_run
        notify_job_change list_unscheduled_commands run_pending_jobs scheduled_jobs_runner
        SCHEDULED_JOBS_EMAIL SCHEDULED_JOBS_EMAIL_SENDER LISTEN NOTIFY
    """,
    "django-celery-beat": """
        PeriodicTask IntervalSchedule CrontabSchedule SolarSchedule ClockedSchedule PeriodicTasks
        changed update_changed last_change last_update schedule due_start_time from_schedule
        validate_unique DatabaseScheduler ModelEntry setup_schedule update_from_dict
        install_default_entries enabled_models all_as_schedule schedule_changed sync reserve
        CELERY_BEAT_SCHEDULE beat_schedule add_periodic_task beat_max_loop_interval beat_sync_every
        beat_cron_starting_deadline DJANGO_CELERY_BEAT_TZ_AWARE PeriodicTaskForm
        crontab_translation
    """,
}
