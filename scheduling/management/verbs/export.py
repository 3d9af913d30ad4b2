"""export: jobs and overrides as code."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from scheduling.declarations.as_code import as_module, jobs_as_code
from scheduling.management.verbs.base import Answer, Say, Verb, find_job
from scheduling.models import Job


def export_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--job", action="append", metavar="JOB", help="may be repeated; default: all in use"
    )
    parser.add_argument(
        "--overrides", action="store_true", help="only what operators have set against the code"
    )
    parser.add_argument("--secrets", action="store_true", help="also the addresses of ping_url")


def export(options: Namespace, say: Say) -> Answer:
    names = dict.fromkeys(options.job or ())
    jobs = [find_job(name) for name in names] or list(Job.objects.active())
    written = jobs_as_code(jobs, only_overrides=options.overrides, secrets=options.secrets)
    text = as_module(written)
    return Answer(
        data={"text": text, "jobs": [each.as_json() for each in written]},
        text=text or "# No overrides." if options.overrides else text,
    )


VERBS = (Verb("export", "jobs and overrides as code to paste", export_arguments, export),)
