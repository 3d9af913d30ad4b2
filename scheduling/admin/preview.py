"""What a schedule that is being typed would mean: its fires, and whom they would meet."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import Any

from django import forms
from django.http import QueryDict
from django.utils import timezone

from scheduling import clock, parse
from scheduling.admin import display
from scheduling.admin.fields import LinesField
from scheduling.admin.sharing import Sharing, sharing_with
from scheduling.calendars import DaysOff
from scheduling.clashes import MOST_FIRES, Clash, clashes
from scheduling.errors import InvalidSchedule
from scheduling.models import Calendar, Job
from scheduling.runs.cursors import by_rules, compiled
from scheduling.schedules import Schedule, Union, require_supported
from scheduling.zones import ClockChange, load_zone

MOST_DAYS_SHOWN = 10
LONGEST_TEXT = 1000
_TICK = timedelta.resolution


class Typed(forms.Form):
    """The fields of the job's form that matter here."""

    clock_change = forms.ChoiceField(choices=[(rule.value, rule.value) for rule in ClockChange])
    calendar = forms.ModelChoiceField(Calendar.objects.all(), required=False, to_field_name="name")
    starts_at = forms.SplitDateTimeField(required=False)
    ends_at = forms.SplitDateTimeField(required=False)
    runs_left = forms.IntegerField(required=False, min_value=0)
    locks = LinesField(required=False)
    lock_resource = forms.NullBooleanField(required=False)


@dataclass(slots=True, kw_only=True)
class Coming:
    """The next fires, ascending, and the days off that leave out others before the last."""

    fires: list[datetime] = field(default_factory=list)
    days_left_out: list[date] = field(default_factory=list)
    more_left_out: bool = False


def preview(query: QueryDict, *, may_see_jobs: bool) -> dict[str, Any]:
    """Give what the template shows; what cannot be read is a problem, no error.

    `text` is the schedule, `name` draws `H` and `spread`; `job` is the key of a stored job, which
    has what the form has no field for. Who may not see jobs is shown neither that nor clashes.
    """
    now = clock.now()
    name = query.get("name", "")
    try:
        bare = require_supported(parse(" ".join(query.get("text", "")[:LONGEST_TEXT].split())))
        job = _job_as_typed(query, _stored(query) if may_see_jobs else None)
        schedule = by_rules(str(bare), job)
        coming = next_fires(str(bare), job, name=name, now=now)
    except InvalidSchedule as error:
        return {"problem": str(error)}
    zone = _zone_of(bare)
    sharing = sharing_with(job) if coming.fires and may_see_jobs else Sharing()
    met = clashes(coming.fires, sharing.others, locks=sharing.locks, duration=sharing.duration)
    before = [now, *coming.fires]  # one more than there are fires
    return {
        "sentence": schedule.sentence(),
        "text": str(bare),
        "zone": str(zone),
        "is_utc": str(zone) in ("UTC", "Etc/UTC"),
        "rows": [
            {
                "local": _clock_text(fire, zone),
                "utc": _clock_text(fire, UTC),
                "away": display.relative(fire, now),
                "mark": clock_mark(fire, last, zone),
                "clashes": [_words(clash, fire, zone) for clash in found],
            }
            for fire, last, found in zip(coming.fires, before, met, strict=False)
        ],
        "days_left_out": [day.isoformat() for day in coming.days_left_out],
        "more_left_out": coming.more_left_out,
        "over": schedule.is_anchored and not coming.fires,
        "from_ends": schedule.is_joinable and schedule.after_end(now) is not None,
    }


def next_fires(text: str, job: Job, *, name: str, now: datetime) -> Coming:
    """The fires after now within the job's life; each day off costs at most one question more."""
    plain = compiled(text, job.clock_change)
    days_off = DaysOff.parse("") if job.calendar is None else job.calendar.days_off
    wanted = MOST_FIRES if job.runs_left is None else min(MOST_FIRES, job.runs_left)
    after = max(now, (job.starts_at or now) - _TICK)  # a fire exactly at the start counts
    coming = Coming()
    while len(coming.fires) < wanted:
        fire = plain.next(after, name=name)
        opens = fire and days_off.first_open(fire)
        if fire is None or opens is None or (job.ends_at is not None and fire > job.ends_at):
            break
        if opens == fire:
            coming.fires.append(fire)
            after = fire
        elif len(coming.days_left_out) < MOST_DAYS_SHOWN:
            local = fire.astimezone(load_zone(days_off.timezone))
            coming.days_left_out.append(local.date())
            midnight = datetime.combine(local.date() + timedelta(days=1), time(), local.tzinfo)
            after = max(fire, min(opens, midnight.astimezone(UTC)) - _TICK)
        else:
            coming.more_left_out = True
            after = opens - _TICK
    return coming


def clock_mark(fire: datetime, before: datetime, zone: tzinfo) -> str:
    """What a clock change does near a fire: it lies between `before` and it, or repeats it."""
    local = fire.astimezone(zone)
    if local.replace(fold=0).utcoffset() != local.replace(fold=1).utcoffset():
        return f"the hour comes twice: {'second' if local.fold else 'first'} time"
    now, then = local.utcoffset(), before.astimezone(zone).utcoffset()
    if now is None or then is None or now == then:
        return ""
    return "clock goes forward" if now > then else "clock goes back"


def _stored(query: QueryDict) -> Job | None:
    pk = query.get("job", "")
    if not (pk.isascii() and pk.isdigit() and len(pk) < 19):
        return None
    return Job.objects.select_related("calendar").filter(pk=pk).first()


def _job_as_typed(query: QueryDict, job: Job | None) -> Job:
    """The job with what is typed and can be read; nobody saves it."""
    job = job or Job()
    typed = Typed(query)
    typed.is_valid()
    for name, typed_field in typed.fields.items():
        is_there = not typed_field.widget.value_omitted_from_data(query, typed.files, name)
        if is_there and name in typed.cleaned_data:
            setattr(job, name, typed.cleaned_data[name])
    return job


def _zone_of(schedule: Schedule) -> tzinfo:
    """The one zone that the text names; otherwise the project's."""
    members = schedule.members if isinstance(schedule, Union) else (schedule,)
    named = {str(zone) for each in members if (zone := getattr(each, "tz", None))}
    return load_zone(named.pop()) if len(named) == 1 else timezone.get_current_timezone()


def _clock_text(moment: datetime, zone: tzinfo) -> str:
    local = moment.astimezone(zone)
    return f"{local:%a %Y-%m-%d} {_time_text(local)}"


def _time_text(local: datetime) -> str:
    return f"{local:%H:%M:%S}" if local.second else f"{local:%H:%M}"


def _words(clash: Clash, fire: datetime, zone: tzinfo) -> str:
    theirs = clash.fire.astimezone(zone)
    is_same_day = theirs.date() == fire.astimezone(zone).date()
    when = _time_text(theirs) if is_same_day else _clock_text(theirs, zone)
    held = ", ".join(map(repr, clash.locks))
    return f"at {when} {clash.name} fires too and holds {held}"
